"""Who acts on what there is to manage, and in which tenant: by an API key, or signed in."""

from __future__ import annotations

import uuid
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime

from accounts import keys
from accounts.models import ApiKey, Membership, User
from accounts.permissions import Role
from accounts.tenancy import operator_scope, tenant_scope

CHOSEN = "tenant_id"  # in a session: the tenant that a member of several acts in


class NotManaging(Exception):
    """The credential is good, and nobody manages anything by it: it is no user's, no member's, or the
    playground's."""


class TenantWanted(Exception):
    """A member of several tenants does not say which one is meant."""


class NoSuchTenant(Exception):
    """The tenant is not there, or not the actor's. It never says which."""


@dataclass(frozen=True, slots=True)
class Actor:
    """A user in a role. `home_id` is the tenant that they act in: an operator's is only where what they make
    belongs when they name no other, and None where they are a member of none."""

    user_id: int
    name: str
    role: Role
    home_id: uuid.UUID | None
    key_id: uuid.UUID | None = None

    @property
    def tenant_id(self) -> uuid.UUID | None:
        """The one tenant that they are kept to; None for an operator."""
        return None if self.role is Role.OPERATOR else self.home_id

    def scope(self) -> AbstractContextManager[None]:
        """A transaction that reaches what they may reach at all."""
        return operator_scope() if self.tenant_id is None else tenant_scope(self.tenant_id)


def actor_of_key(secret: str) -> tuple[User, Actor]:
    """Raises keys.InvalidCredential and NotManaging."""
    keys.check_syntax(secret)
    found = keys.find(keys.digest(secret), datetime.now(UTC))
    if isinstance(found, keys.Refused):
        raise keys.InvalidCredential
    caller = found.caller
    with operator_scope():
        user = User.objects.filter(id=caller.user_id, is_active=True).first()
        if user is None or caller.api_key_id is None or _is_playgrounds(caller.api_key_id):
            raise NotManaging
        membership = Membership.objects.of(caller.tenant_id).filter(user=user).first()
    role = Role.OPERATOR if user.is_superuser else Role(membership.role) if membership else None
    if role is None:
        raise NotManaging
    return user, Actor(user.pk, called(user), role, caller.tenant_id, caller.api_key_id)


def _is_playgrounds(key_id: uuid.UUID) -> bool:
    """Its key calls, and manages nothing: less is lost with it."""
    return ApiKey.objects.filter(id=key_id, playground=True).exists()


def memberships_of(user: User) -> list[Membership]:
    """In tenants that are active, those of longest standing first."""
    with operator_scope():
        found = Membership.objects.select_related("tenant").filter(user=user, tenant__active=True)
        return list(found.order_by("id"))


def actor_of_user(user: User, tenant: str) -> Actor:
    """Somebody who signed in. `tenant` is the slug or id that they name, or "".

    Raises NotManaging, TenantWanted, NoSuchTenant.
    """
    memberships = memberships_of(user)
    if user.is_superuser:
        return _operator(user, memberships)
    if not memberships:
        raise NotManaging
    if tenant:
        memberships = [each for each in memberships if tenant in (each.tenant.slug, str(each.tenant_id))]
        if not memberships:
            raise NoSuchTenant
    if len(memberships) > 1:
        raise TenantWanted
    return Actor(user.pk, called(user), Role(memberships[0].role), memberships[0].tenant_id)


def actor_of_session(user: User, chosen: str | None) -> Actor | None:
    """Somebody who looks at pages: in the tenant whose id their session has (`CHOSEN`), else in their first.
    None for nobody's member."""
    memberships = memberships_of(user)
    if user.is_superuser:
        return _operator(user, memberships)
    if not memberships:
        return None
    meant = next((each for each in memberships if str(each.tenant_id) == chosen), memberships[0])
    return Actor(user.pk, called(user), Role(meant.role), meant.tenant_id)


def _operator(user: User, memberships: list[Membership]) -> Actor:
    home_id = memberships[0].tenant_id if memberships else None
    return Actor(user.pk, called(user), Role.OPERATOR, home_id)


def called(user: User) -> str:
    """What people know a user by."""
    return user.email or user.username


def names_of(user_ids: set[int]) -> dict[int, str]:
    """What users are called, of whichever tenant. Steps up, since no tenant may read the table."""
    with operator_scope():
        return {user.pk: called(user) for user in User.objects.filter(id__in=user_ids)}


def role_of(user: User, tenant_id: uuid.UUID) -> Role | None:
    """Whose rights a key of that user has in the tenant; None for no member's."""
    with operator_scope():
        membership = Membership.objects.of(tenant_id).filter(user=user).first()
    if membership is None:
        return None
    return Role.OPERATOR if user.is_superuser else Role(membership.role)
