"""Signing in through the identity provider that OIDC_ISSUER names (OpenID Connect, code flow with PKCE).

Invariants: whom the provider names is known by issuer and subject, and by a verified e-mail address only
when they come the first time. What a user is by the provider's claims follows them at each sign-in; what
somebody else gave them is left alone. Docs: docs/sign-in.md.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any, NoReturn

import requests
from allauth.account.utils import get_next_redirect_url
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp, SocialLogin
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST

from accounts.ids import uuid7
from accounts.models import Membership, Tenant, User
from accounts.tenancy import operator_scope
from gateway.models import Claims
from gateway.sign_in import notes
from gateway.sign_in.roles import Given, claimed, given

_LONGEST_NAME = 150
_NO_ROLE = "You are known there, but nobody has given you a role here. Ask an operator of this gateway."
_NO_PROVIDER = "The identity provider does not answer as it should. Try again, or sign in with a password."

logger = logging.getLogger(__name__)


def provider_id() -> str:
    """What accounts of this issuer are kept under: another issuer's subjects are other people."""
    return f"oidc-{hashlib.sha256(settings.OIDC_ISSUER.encode()).hexdigest()[:16]}"


class Provider(OpenIDConnectProvider):  # type: ignore[misc]
    """OIDC_ISSUER."""

    def get_oauth2_adapter(self, request: HttpRequest) -> Wire:
        return Wire(request, provider_id())


class Wire(OpenIDConnectOAuth2Adapter):  # type: ignore[misc]
    """Allauth's, at a path of our own that does not change with the issuer."""

    def get_callback_url(self, request: HttpRequest, app: SocialApp) -> str:
        return request.build_absolute_uri(reverse("single_sign_on_callback"))


class SingleSignOn(DefaultSocialAccountAdapter):  # type: ignore[misc]
    """The one provider there is, from the environment, and what becomes of those whom it sends."""

    def list_apps(
        self, request: HttpRequest, provider: str | None = None, client_id: str | None = None
    ) -> list[SocialApp]:
        return [_app()] if settings.OIDC_ISSUER else []

    def get_provider(self, request: HttpRequest, provider: str, client_id: str | None = None) -> Provider:
        return Provider(request, app=_app())

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return False  # who may come is made by `pre_social_login`

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        claims = _claims(sociallogin.account.extra_data)
        if claims is None:
            _refuse(request, 401, _NO_PROVIDER)
        gives = given(claimed(claims, settings.OIDC_ROLE_CLAIM), settings.OIDC_ROLES)
        with operator_scope():
            user = sociallogin.user if sociallogin.is_existing else _user_of(claims, gives)
            if user is None:
                _refuse(request, 403, _NO_ROLE)
            if not sociallogin.is_existing:
                sociallogin.connect(request, user)
                notes.note(user, "single-sign-on", via="sso")
            if user.is_active:
                follow(user, gives)

    def on_authentication_error(
        self, request: HttpRequest, provider: Any, error: Any = None, exception: Any = None, **_: Any
    ) -> None:
        kind = type(exception).__name__ if exception else error
        logger.warning("single sign-on failed: %s", kind)  # never the exception, which repeats what came


def _app() -> SocialApp:
    return SocialApp(
        provider="openid_connect",
        provider_id=provider_id(),
        name=settings.OIDC_NAME,
        client_id=settings.OIDC_CLIENT_ID,
        secret=settings.OIDC_CLIENT_SECRET,
        settings={
            "server_url": settings.OIDC_ISSUER,
            "oauth_pkce_enabled": True,
            "scope": ["openid", "profile", "email", *settings.OIDC_SCOPES],
        },
    )


def _claims(data: dict[str, Any]) -> dict[str, Any] | None:
    """What the two tokens say together; None where they are not of one person, or not of this issuer."""
    identity, told = data.get("id_token"), data.get("userinfo") or {}
    if not identity or identity["iss"].rstrip("/") != settings.OIDC_ISSUER.rstrip("/"):
        return None
    if told.get("sub", identity["sub"]) != identity["sub"]:  # OpenID Connect Core 1.0, section 5.3.2
        return None
    return {**identity, **told}


def _user_of(claims: dict[str, Any], gives: Given) -> User | None:
    """Whoever has that address, if the provider has verified it; else somebody new who is to be anything."""
    verified = claims.get("email_verified") in (True, "true")  # some say it as a text
    email = str(claims.get("email") or "").strip().lower() if verified else ""
    found = User.objects.filter(email__iexact=email).first() if email else None
    if found or not gives:
        return found
    name = email if email and not User.objects.filter(username=email).exists() else f"sso-{uuid7()}"
    user = User(username=name[:_LONGEST_NAME], email=email)
    user.first_name = str(claims.get("given_name") or claims.get("name") or "")[:_LONGEST_NAME]
    user.last_name = str(claims.get("family_name") or "")[:_LONGEST_NAME]
    user.set_unusable_password()
    user.save()
    return user


def follow(user: User, gives: Given) -> None:
    """Gives the user what the claims give, and takes what earlier ones gave and these do not."""
    claims, _ = Claims.objects.select_for_update().get_or_create(user=user)
    tenants = {each.slug: each for each in Tenant.objects.filter(slug__in=gives.roles)}
    ours = {each.tenant_id: each for each in Membership.objects.filter(user=user, id__in=claims.memberships)}
    kept = []
    for slug, tenant in tenants.items():
        membership = ours.pop(tenant.id, None) or _not_by_hand(user, tenant, gives.roles[slug])
        if membership is not None:
            _set_role(user, membership, gives.roles[slug])
            kept.append(str(membership.id))
    for membership in ours.values():
        notes.note_membership(user, "delete", membership)
        membership.delete()
    claims.memberships = kept
    _follow_operator(user, claims, operator=gives.operator)
    claims.save()


def _not_by_hand(user: User, tenant: Tenant, role: str) -> Membership | None:
    """A new membership; None where somebody else made one, whose role then stays what they said."""
    membership, made = Membership.objects.get_or_create(tenant=tenant, user=user, defaults={"role": role})
    if not made:
        return None
    notes.note_membership(user, "create", membership)
    return membership


def _set_role(user: User, membership: Membership, role: str) -> None:
    if membership.role != role:
        membership.role = role
        membership.save()
        notes.note_membership(user, "update", membership, "role")


def _follow_operator(user: User, claims: Claims, *, operator: bool) -> None:
    """An operator whom somebody else made stays one."""
    if operator and not user.is_superuser:
        claims.operator = True
    elif claims.operator and not operator:
        claims.operator = False
    else:
        return
    user.is_superuser = user.is_staff = operator
    user.save()
    notes.note(user, "update", "is_superuser", via="sso")


def _refuse(request: HttpRequest, status: int, message: str) -> NoReturn:
    context = {"status": status, "message": message}
    raise ImmediateHttpResponse(render(request, "gateway/sign_in/refused.html", context, status=status))


@require_POST
def begin(request: HttpRequest) -> HttpResponse:
    """Leads to the provider by a page that is left: a form may not, since it is held to `form-action`."""
    if not settings.OIDC_ISSUER:
        raise Http404
    try:
        provider = Provider(request, app=_app())
        there = provider.redirect(request, "login", next_url=get_next_redirect_url(request))
    except (requests.RequestException, KeyError, TypeError):
        logger.warning("the identity provider at OIDC_ISSUER cannot be asked where to sign in")
        context = {"status": 503, "message": _NO_PROVIDER}
        return render(request, "gateway/sign_in/refused.html", context, status=503)
    return render(request, "gateway/sign_in/leaving.html", {"there": there["location"]})


def callback(request: HttpRequest) -> HttpResponse:
    """Where the provider sends people back to."""
    if not settings.OIDC_ISSUER:
        raise Http404
    answer: HttpResponse = OAuth2CallbackView.adapter_view(Wire(request, provider_id()))(request)
    return answer
