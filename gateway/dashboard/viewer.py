"""Who looks at usage, at whose, and what they may see of it: by the permission table."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import Http404

from accounts.actors import Actor, NoSuchTenant, NotManaging, actor_of_user, names_of
from accounts.models import ApiKey, Membership, SecurityKey, Tenant, User
from accounts.permissions import Role
from accounts.tenancy import operator_scope
from proxy.rollups import UTC_ZONE
from proxy.usage_query import Scope, Value

MOST_TENANTS = 500
NONE = "none"  # in a query: who called with no user, or with no key
_TENANT_OF_ALL = ""
_NOBODY = {"user": "no user", "key": "no key", "upstream": "no upstream"}


@dataclass(frozen=True, slots=True)
class Viewer:
    """`tenant` is whose usage they look at; None is everybody's, which operators may. `choices` are the
    tenants that they may look at."""

    actor: Actor
    scope: Scope
    tenant: Tenant | None
    choices: tuple[Tenant, ...]

    @property
    def zone(self) -> str:
        return self.tenant.timezone if self.tenant else UTC_ZONE

    @property
    def is_operator(self) -> bool:
        return self.actor.role is Role.OPERATOR

    @property
    def manages(self) -> bool:
        """Whether they may make keys, and so what comes first."""
        return self.actor.role in (Role.OPERATOR, Role.OWNER, Role.ADMIN)


def viewer_of(user: User, slug: str) -> Viewer:
    """Raises Http404 for a tenant that is not there or not theirs; NotManaging for a member of none, and
    for one who may see no usage."""
    choices = _choices(user)
    if not user.is_superuser and not choices:
        raise NotManaging
    try:
        actor = actor_of_user(user, slug if user.is_superuser else slug or choices[0].slug)
    except NoSuchTenant:
        raise Http404 from None
    tenant = _tenant(actor, slug)
    scope = Scope.of(actor, tenant.pk if tenant else None)
    if scope is None:
        raise NotManaging
    return Viewer(actor, scope, tenant, choices)


def _choices(user: User) -> tuple[Tenant, ...]:
    with operator_scope():
        if user.is_superuser:
            return tuple(Tenant.objects.order_by("slug")[:MOST_TENANTS])
        found = Membership.objects.select_related("tenant").filter(user=user, tenant__active=True)
        return tuple(membership.tenant for membership in found.order_by("id"))


def _tenant(actor: Actor, slug: str) -> Tenant | None:
    """The one that is looked at."""
    with operator_scope():
        if actor.tenant_id is not None:
            return Tenant.objects.get(id=actor.tenant_id)
        if slug == _TENANT_OF_ALL:
            return None
        tenant: Tenant | None = Tenant.objects.filter(slug=slug).first()
    if tenant is None:
        raise Http404
    return tenant


class Names:
    """What people call the tenants, users and keys whose ids these are; asked for at once."""

    def __init__(self, values: Mapping[str, Iterable[Value]]) -> None:
        users = {value for value in values.get("user", ()) if isinstance(value, int)}
        self._names: dict[str, dict[Any, str]] = {"user": dict(names_of(users))}
        with operator_scope():
            keys = _uuids(values.get("key", ()))
            found: dict[Any, str] = dict(SecurityKey.objects.filter(id__in=keys).values_list("id", "name"))
            found |= dict(ApiKey.objects.filter(id__in=keys).values_list("id", "name"))
            self._names["key"] = found
            tenants = Tenant.objects.filter(id__in=_uuids(values.get("tenant", ())))
            self._names["tenant"] = dict(tenants.values_list("id", "slug"))

    def of(self, group: str, value: Value) -> str:
        """For people's eyes; what is gone is called by its id."""
        if value is None or value == "":
            return _NOBODY.get(group, "none")
        if group == "failure":
            return str(value).strip().replace(" ", ": ", 1)
        return self._names.get(group, {}).get(value, str(value))


def _uuids(values: Iterable[Value]) -> set[UUID]:
    return {value for value in values if isinstance(value, uuid.UUID)}


def as_text(value: Value) -> str:
    """A value in a query."""
    return NONE if value is None else str(value)


def from_text(group: str, text: str) -> Value:
    """Back. Raises Http404 for what no such value is."""
    if group not in ("tenant", "user", "key"):
        return text
    if text == NONE:
        return None
    try:
        value: Value = int(text) if group == "user" else UUID(text)
    except ValueError:
        raise Http404 from None
    if isinstance(value, int) and not 0 <= value < 2**63:
        raise Http404
    return value
