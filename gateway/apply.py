"""Makes the database what was asked for: one transaction, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import models

from accounts.keys import new_secret
from accounts.models import ApiKey, Budget, Limit, Membership, SecurityKey, Tenant, User
from accounts.tenancy import operator_scope
from gateway.plan import Change, differences
from gateway.rows import SEALED, Kind, Name, Prices, RouteTo, Row, Secret, secret_values
from gateway.state import state_of, user_named
from proxy.models import Model, Price, Upstream
from proxy.sealing import seal, upstream_context


@dataclass(frozen=True, slots=True)
class Made:
    """A credential that was made because none was given: to be shown now, and never again."""

    kind: Kind
    name: Name
    secret: str = field(repr=False)


def plan(rows: Sequence[Row]) -> list[Change]:
    """What `apply` would change. Raises `Mistakes`."""
    with operator_scope():
        return differences(rows, state_of(rows))


def apply(rows: Sequence[Row]) -> tuple[list[Change], list[Made]]:
    """Changes what has to be changed, and says what it was. Raises `Mistakes`, and then changed nothing."""
    with operator_scope():
        changes = differences(rows, state_of(rows))
        made = [secret for change in changes for secret in _carry_out(change)]
    return changes, made


def _carry_out(change: Change) -> Iterable[Made]:
    values = dict(change.after)
    match change.kind:
        case Kind.TENANT:
            _tenant(change.name[0], values)
        case Kind.USER:
            _user(change.name[0])
        case Kind.MEMBER:
            _member(change.name, values)
        case Kind.SECURITY_KEY:
            return _credential(SecurityKey, change, values)
        case Kind.API_KEY:
            if "user" in values:
                values["user"] = _person(str(values["user"]))
            return _credential(ApiKey, change, values)
        case Kind.LIMIT:
            _scoped(Limit, change, values)
        case Kind.BUDGET:
            _scoped(Budget, change, values)
        case Kind.UPSTREAM:
            _upstream(change.name[0], values)
        case Kind.MODEL:
            _model(change.name[0], values)
    return ()


def _save(row: models.Model, values: Mapping[str, object]) -> None:
    for name, value in values.items():
        setattr(row, name, value)
    row.save()


def _tenant(slug: str, values: Mapping[str, object]) -> None:
    _save(Tenant.objects.filter(slug=slug).first() or Tenant(slug=slug), values)


def _user(email: str) -> None:
    """Somebody who calls; signing in needs a password, which an operator gives them."""
    user = User(username=email, email=email)
    user.set_unusable_password()
    user.save()


def _person(name: str) -> User:
    user = user_named(name)
    assert user is not None  # the plan made sure
    return user


def _member(name: Name, values: Mapping[str, object]) -> None:
    tenant, user = Tenant.objects.get(slug=name[0]), _person(name[1])
    row = Membership.objects.of(tenant).filter(user=user).first()
    _save(row or Membership(tenant=tenant, user=user), values)


def _credential(
    table: type[ApiKey] | type[SecurityKey], change: Change, values: dict[str, object]
) -> Iterable[Made]:
    """A new value holds even where the old one was revoked; the same value stays revoked."""
    tenant = Tenant.objects.get(slug=change.name[0])
    row: Any = table.objects.of(tenant).filter(name=change.name[1]).first()
    if row is None:
        row = table(tenant=tenant, name=change.name[1])
    made = ""
    if change.before is None and "digest" not in values:
        made = new_secret()
        values.update(secret_values(made))
    if "digest" in values:
        values["revoked_at"] = None
    _save(row, values)
    return (Made(change.kind, change.name, made),) if made else ()


def _scoped(table: type[Limit] | type[Budget], change: Change, values: Mapping[str, object]) -> None:
    tenant = Tenant.objects.get(slug=change.name[0])
    named = dict(zip(("scope", "name", "period"), change.name[1:], strict=False))
    row = table.objects.of(tenant).filter(**named).first()
    _save(row or table(tenant=tenant, **named), values)


def _upstream(name: str, values: dict[str, object]) -> None:
    upstream = Upstream.objects.filter(name=name).first() or Upstream(name=name)
    if "tenant" in values:
        slug = values.pop("tenant")
        upstream.tenant = None if slug is None else Tenant.objects.get(slug=slug)
    if "base_url" in values:
        upstream.base_url = str(values["base_url"])
    for secret in SEALED:  # sealed to where it may be sent, hence after the two above
        if secret in values:
            given = values.pop(secret)
            sealed = seal(given.text, upstream_context(upstream)) if isinstance(given, Secret) else None
            setattr(upstream, f"sealed_{secret}", sealed)
    _save(upstream, values)


def _model(name: str, values: Mapping[str, object]) -> None:
    model, _ = Model.objects.get_or_create(name=name)
    if "reasoning_effort" in values:
        _save(model, {"reasoning_effort": values["reasoning_effort"]})
    routes, prices = values.get("routes"), values.get("prices")
    if isinstance(routes, tuple):
        _routes(model, routes)
    if isinstance(prices, Prices):
        Price.objects.create(model_name=name, source=Price.Source.OPERATOR, **asdict(prices))


def _routes(model: Model, wanted: Sequence[RouteTo]) -> None:
    """Those listed, and no others; a route that stays keeps its row."""
    left = {(route.upstream, route.upstream_model): route for route in wanted}
    for row in model.routes.select_related("upstream"):
        route = left.pop((row.upstream.name, row.upstream_model), None)
        if route is None:
            row.delete()
        else:
            _save(row, {"priority": route.priority, "weight": route.weight})
    upstreams = {upstream.name: upstream for upstream in Upstream.objects.all()}
    for route in left.values():
        model.routes.create(
            upstream=upstreams[route.upstream],
            upstream_model=route.upstream_model,
            priority=route.priority,
            weight=route.weight,
        )
