"""What every page of our own shows around its content, and the admin panel's menu."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.urls import reverse

from accounts.actors import Actor, called, memberships_of
from accounts.models import Tenant, User
from accounts.permissions import Reach, Role, reach
from gateway.sign_in.requirement import is_wanting


@dataclass(frozen=True, slots=True)
class Place:
    """An entry of the menu."""

    path: str
    title: str
    text: str


PLACES = (
    Place("/dashboard/", "Dashboard", "what was used, and what it cost"),
    Place("/dashboard/live/", "Live", "calls as they start, stream and end"),
    Place("/playground/", "Playground", "talk to the models"),
    Place("/admin/", "Admin", "tenants, members, keys, limits, and what happened"),
    Place("/api/docs/", "API", "the same for programs"),
)
_PLAYGROUND = "/playground/"
_OF_MEMBERS = PLACES[:-1]


def places(request: HttpRequest) -> dict[str, object]:
    """Context of every template: the menu, and what there is to know of who looks at it, asked for when it is
    shown."""
    return {
        "places": lambda: places_for(request.user),
        "who": lambda: called(request.user) if isinstance(request.user, User) else "",
        "single_sign_on": settings.OIDC_NAME if settings.OIDC_ISSUER else "",
        "second_factor_wanting": lambda: is_wanting(request.user, request.session),
    }


def places_for(user: User | AnonymousUser) -> tuple[Place, ...]:
    """Those that would not refuse somebody; all of them for nobody, who may sign in there."""
    if not isinstance(user, User) or user.is_superuser:
        return PLACES
    roles = {Role(membership.role) for membership in memberships_of(user)}
    talks = any(reach(role, "playground", "use") is not Reach.NONE for role in roles)
    closed = {_PLAYGROUND} if roles else {place.path for place in _OF_MEMBERS}
    return PLACES if talks else tuple(place for place in PLACES if place.path not in closed)


# The admin panel's menu: groups of tables, each with its symbol (Material Symbols, which the theme brings).
ADMIN_MENU = (
    (
        "Who may call",
        (
            ("accounts.tenant", "apartment"),
            ("accounts.membership", "group"),
            ("accounts.apikey", "key"),
            ("accounts.securitykey", "vpn_key"),
            ("accounts.user", "person"),
        ),
    ),
    ("How much", (("accounts.limit", "speed"), ("accounts.budget", "savings"))),
    (
        "Where to",
        (("proxy.upstream", "dns"), ("proxy.model", "deployed_code"), ("proxy.price", "sell")),
    ),
    (
        "What happened",
        (
            ("proxy.opencall", "bolt"),
            ("proxy.usagerecord", "receipt_long"),
            ("threads.thread", "forum"),
            ("threads.storedresponse", "chat"),
            ("accounts.auditentry", "history"),
        ),
    ),
)
_SYMBOLS = {
    "/dashboard/": "monitoring",
    "/dashboard/live/": "sensors",
    _PLAYGROUND: "science",
    "/api/docs/": "api",
}


def admin_menu(request: HttpRequest) -> list[dict[str, Any]]:
    """The theme's sidebar: the other places, then every table that whoever asks may see."""
    elsewhere = [
        {"title": place.title, "icon": _SYMBOLS[place.path], "link": place.path}
        for place in places_for(request.user)
        if place.path in _SYMBOLS
    ]
    groups = [
        {"title": title, "separator": True, "items": _tables(request, tables)} for title, tables in ADMIN_MENU
    ]
    return [{"items": elsewhere}, *(group for group in groups if group["items"])]


def _tables(request: HttpRequest, tables: tuple[tuple[str, str], ...]) -> list[dict[str, Any]]:
    items = []
    for label, symbol in tables:
        model = apps.get_model(label)
        if admin.site.get_model_admin(model).has_view_permission(request):
            name = str(model._meta.verbose_name_plural)
            link = reverse(f"admin:{label.replace('.', '_')}_changelist")
            items.append({"title": name[:1].upper() + name[1:], "icon": symbol, "link": link})
    return items


def whereabouts(request: HttpRequest) -> str:
    """In which tenant somebody is at the panel, and as what."""
    actor: Actor | None = getattr(request, "actor", None)
    if actor is None:
        return ""
    if actor.tenant_id is None:
        return "every tenant, as operator"
    with actor.scope():
        tenant = Tenant.objects.filter(id=actor.tenant_id).first()
    return f"{tenant.name if tenant else ''}, as {actor.role}"
