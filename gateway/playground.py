"""The playground: a page to talk to the models on, and the key that it calls the public API with.

Everything that is said goes over /v1, by the browser. The page gets a key of the signed-in user's that works
for minutes, and asks for another before it ends (accounts/playground_keys.py, docs/decisions/0016).
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.signals import user_logged_out
from django.core.cache import caches
from django.db.models import Q
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.shortcuts import render, resolve_url
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts import playground_keys
from accounts.errors import ApiError
from accounts.models import Membership, Tenant, User
from accounts.permissions import roles_for
from accounts.tenancy import operator_scope

KEYS_PER_MINUTE = 30
MOST_TENANTS = 200


@require_safe
@never_cache
@login_required
def page(request: HttpRequest) -> HttpResponse:
    """`?tenant=` says in which, by its slug."""
    user = _user(request)
    tenants = tenants_of(user)
    try:
        tenant = chosen(user, tenants, request.GET.get("tenant", ""))
    except ApiError as refusal:
        context = {"status": refusal.status, "message": refusal.message}
        return render(request, "gateway/refusal.html", context, status=refusal.status)
    data = {
        "tenant": tenant.slug,
        "base_url": request.build_absolute_uri("/v1"),
        "csrf_token": get_token(request),
        "default_model": settings.DEFAULT_MODEL,
        "sign_in": resolve_url(settings.LOGIN_URL),
    }
    context = {"data": data, "tenant": tenant, "tenants": tenants if len(tenants) > 1 else ()}
    return render(request, "gateway/playground.html", context)


@require_POST
@never_cache
def key(request: HttpRequest) -> HttpResponse:
    """A new secret, for `?tenant=`: `{"id", "secret", "expires_at", "lasts_seconds"}`."""
    try:
        return JsonResponse(_renewed(request))
    except ApiError as refusal:
        answer = HttpResponse(refusal.body(), status=refusal.status, content_type="application/json")
        for name, value in refusal.headers:
            answer[name.decode()] = value.decode()
        return answer


def _renewed(request: HttpRequest) -> dict[str, Any]:
    if not request.user.is_authenticated:
        raise ApiError(401, "Sign in first.", code="missing_api_key")
    user = _user(request)
    tenant = chosen(user, tenants_of(user), request.GET.get("tenant", ""))
    if _asks_too_often(user):
        message = "The key was made anew too often. Try again in a minute."
        raise ApiError(429, message, code="rate_limit_exceeded", headers=((b"retry-after", b"60"),))
    made, secret = playground_keys.renew(user, tenant)
    assert made.expires_at is not None
    return {
        "id": str(made.id),
        "secret": secret,
        "expires_at": made.expires_at.isoformat(),
        "lasts_seconds": int(playground_keys.LIFETIME.total_seconds()),
    }


def tenants_of(user: User) -> list[Tenant]:
    """Those in which somebody may use the playground, their own first; an operator may anywhere."""
    playing = Q(user=user, tenant__active=True)
    if not user.is_superuser:
        playing &= Q(role__in=roles_for("playground", "use"))
    with operator_scope():
        memberships = Membership.objects.filter(playing).select_related("tenant").order_by("id")
        own = [membership.tenant for membership in memberships[:MOST_TENANTS]]
        if not user.is_superuser:
            return own
        others = Tenant.objects.filter(active=True).exclude(id__in=[tenant.id for tenant in own])
        return [*own, *others.order_by("id")[:MOST_TENANTS]]


def chosen(user: User, tenants: list[Tenant], slug: str) -> Tenant:
    """The tenant that is meant; the first, where none is named. Raises ApiError."""
    for tenant in tenants:
        if slug in ("", tenant.slug):
            return tenant
    with operator_scope():
        named = Tenant.objects.filter(active=True, **({"slug": slug} if slug else {}))
        if user.is_superuser:
            found: Tenant | None = named.first()
        else:
            found = None
            named = named.filter(id__in=Membership.objects.filter(user=user).values("tenant"))
        if found is None:
            raise _refusal(slug, is_member=named.exists())
    return found


def _refusal(slug: str, *, is_member: bool) -> ApiError:
    """The one for what is another's is that for what never was."""
    if is_member:
        return ApiError(403, "Your role is to look at things, not to call models. Ask an owner or an admin.")
    return ApiError(404, "No such tenant.") if slug else ApiError(403, "You are a member of no tenant.")


def _asks_too_often(user: User) -> bool:
    """Counted in each process: every new secret has all processes look keys up anew."""
    cache, name = caches["process"], f"playground:{user.pk}"
    cache.add(name, 0, timeout=60)
    try:
        return cache.incr(name) > KEYS_PER_MINUTE
    except ValueError:  # the minute is over just now
        return False


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


@receiver(user_logged_out)
def _sign_out(sender: Any, request: HttpRequest, user: User | None, **_: Any) -> None:
    if user is not None:
        playground_keys.end(user)
