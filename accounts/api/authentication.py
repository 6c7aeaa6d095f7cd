"""Whom a request of the management API comes from: an API key as a bearer, or somebody who signed in."""

from __future__ import annotations

from collections.abc import Iterable

from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.request import Request

from accounts.actors import Actor, NoSuchTenant, NotManaging, TenantWanted, actor_of_key, actor_of_user
from accounts.errors import ApiError
from accounts.keys import InvalidCredential
from accounts.models import User

_CHALLENGE = "Bearer"


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer <API key>`. A header that holds no key lets nobody in, signed in or not."""

    def authenticate(self, request: Request) -> tuple[User, Actor] | None:
        header = request.headers.get("authorization")
        if header is None:
            return None
        scheme, _, secret = header.partition(" ")
        try:
            if scheme.lower() != "bearer":
                raise InvalidCredential
            return actor_of_key(secret.strip())
        except InvalidCredential:
            raise _refused() from None
        except NotManaging:
            raise ApiError(403, "This key manages nothing: send a member's API key.") from None

    def authenticate_header(self, request: Request) -> str:
        return _CHALLENGE


class SignedIn(SessionAuthentication):
    """The session of the admin. What changes anything has to bear the CSRF token."""

    def authenticate(self, request: Request) -> tuple[User, Actor] | None:
        found = super().authenticate(request)
        if found is None:
            return None
        user = found[0]
        assert isinstance(user, User)
        return user, signed_in(user, request.query_params.get("tenant", ""))

    def authenticate_header(self, request: Request) -> str:
        return _CHALLENGE


def signed_in(user: User, tenant: str) -> Actor:
    """As what somebody acts who signed in, and names a tenant or "". Raises ApiError."""
    try:
        return actor_of_user(user, tenant)
    except NotManaging:
        raise ApiError(403, "You are a member of no tenant.") from None
    except TenantWanted:
        raise ApiError(400, "Say of which of your tenants: ?tenant=…", param="tenant") from None
    except NoSuchTenant:
        raise no_such("tenant") from None


def no_such(what: str) -> ApiError:
    """The one refusal for what never was, what is gone, and what is another tenant's."""
    return ApiError(404, f"No such {what}.")


def _refused() -> ApiError:
    challenge = ((b"www-authenticate", _CHALLENGE.encode()),)
    return ApiError(401, "The API key provided is not valid.", code="invalid_api_key", headers=challenge)


AUTHENTICATION: Iterable[type[BaseAuthentication]] = (KeyAuthentication, SignedIn)
