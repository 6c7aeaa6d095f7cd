"""Reads from the database the rows that others are about to be compared with, in the same names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

from django.utils import timezone

from accounts.models import ApiKey, Budget, Limit, Membership, SecurityKey, Tenant, User
from gateway.rows import LIMIT_COUNTS, SEALED, Kind, Name, Prices, RouteTo, Row, Secret, Values
from proxy.models import Model, Price, Upstream
from proxy.sealing import SealBroken, unseal, upstream_context

TENANT_COLUMNS = ("name", "timezone", "public", "system_prompt", "retention_days", "continue_dropped")
LIMIT_COLUMNS = (*LIMIT_COUNTS, "when_exceeded", "queue_seconds")
BUDGET_COLUMNS = ("amount_nano_usd", "allow_unpriced")
UPSTREAM_COLUMNS = (
    *("dialect", "base_url", "organization", "project", "responses", "enabled"),
    *("takes_caller_keys", "repeats_reasoning", "session_prefix"),
    *("connect_timeout_seconds", "first_byte_timeout_seconds"),
    *("idle_timeout_seconds", "total_timeout_seconds"),
)
PRICE_COLUMNS = tuple(column.name for column in fields(Prices))

Keyed = tuple[Kind, Name]
Entry = tuple[Keyed, Values]


@dataclass(frozen=True, slots=True)
class State:
    """What there is. `digests` says whose each credential is that somebody asked for."""

    rows: Mapping[Keyed, Values]
    digests: Mapping[tuple[Kind, str], Name]


def state_of(rows: Sequence[Row]) -> State:
    """What there is of what `rows` name; call it in operator scope."""
    people = _people(rows)
    found: dict[Keyed, Values] = {(Kind.USER, (name,)): {} for name in people}
    for tenant in Tenant.objects.filter(slug__in=_slugs(rows)):
        found.update(_of_tenant(tenant, rows, people))
    found.update(_upstreams())
    found.update(_models([row.name[0] for row in rows if row.kind is Kind.MODEL]))
    return State(found, _owners(rows))


def user_named(name: str) -> User | None:
    """By user name, which is the e-mail address of those that a file made, or by e-mail address."""
    return User.objects.named([name]).get(name)


def _people(rows: Sequence[Row]) -> dict[str, User]:
    names = {row.name[-1] for row in rows if row.kind in (Kind.USER, Kind.MEMBER)}
    names |= {str(row.values["user"]) for row in rows if row.values.get("user")}
    names |= {row.name[2] for row in rows if row.kind in (Kind.LIMIT, Kind.BUDGET) and row.name[1] == "user"}
    return User.objects.named(names - {""})


def _slugs(rows: Sequence[Row]) -> set[str]:
    owned = (Kind.TENANT, Kind.SECURITY_KEY, Kind.MEMBER, Kind.API_KEY, Kind.LIMIT, Kind.BUDGET)
    slugs = {row.name[0] for row in rows if row.kind in owned}
    return slugs | {str(row.values["tenant"]) for row in rows if row.values.get("tenant")}


def _of_tenant(tenant: Tenant, rows: Sequence[Row], people: Mapping[str, User]) -> Iterator[Entry]:
    slug = tenant.slug
    yield (Kind.TENANT, (slug,)), {column: getattr(tenant, column) for column in TENANT_COLUMNS}
    roles = dict(Membership.objects.of(tenant).filter(user__in=people.values()).values_list("user", "role"))
    for name, user in people.items():
        if user.pk in roles:
            yield (Kind.MEMBER, (slug, name)), {"role": roles[user.pk]}
    yield from _keys(tenant, rows, people)
    for limit in Limit.objects.of(tenant):
        values = {column: getattr(limit, column) for column in LIMIT_COLUMNS}
        yield (Kind.LIMIT, (slug, limit.scope, limit.name)), values
    for budget in Budget.objects.of(tenant):
        values = {column: getattr(budget, column) for column in BUDGET_COLUMNS}
        yield (Kind.BUDGET, (slug, budget.scope, budget.name, budget.period)), values


def _keys(tenant: Tenant, rows: Sequence[Row], people: Mapping[str, User]) -> Iterator[Entry]:
    slug = tenant.slug
    shared = SecurityKey.objects.of(tenant).filter(name__in=_names(rows, Kind.SECURITY_KEY, slug))
    for name, digest, prefix in shared.values_list("name", "digest", "prefix"):
        yield (Kind.SECURITY_KEY, (slug, name)), {"digest": digest, "prefix": prefix}
    own = ApiKey.objects.of(tenant).filter(name__in=_names(rows, Kind.API_KEY, slug))
    for key in own.select_related("user"):
        yield (Kind.API_KEY, (slug, key.name)), _api_key(key, people)


def _names(rows: Sequence[Row], kind: Kind, slug: str) -> list[str]:
    """Those of that kind of key that rows are for, and those that limits and budgets name."""
    own = [row for row in rows if row.name[0] == slug]
    names = [row.name[1] for row in own if row.kind is kind]
    return names + [row.name[2] for row in own if row.kind in (Kind.LIMIT, Kind.BUDGET)]


def _api_key(key: ApiKey, people: Mapping[str, User]) -> Values:
    """Its user goes by the name that was asked for, where that is the same person."""
    names = [name for name, user in people.items() if user.pk == key.user_id]
    return {
        "user": names[0] if names else key.user.username,
        "digest": key.digest,
        "prefix": key.prefix,
        "allowed_models": key.allowed_models,
        "expires_at": key.expires_at,
    }


def _upstreams() -> Iterator[Entry]:
    for upstream in Upstream.objects.select_related("tenant"):
        values: dict[str, object] = {column: getattr(upstream, column) for column in UPSTREAM_COLUMNS}
        values["tenant"] = upstream.tenant.slug if upstream.tenant else None
        values |= {name: _opened(upstream, name) for name in SEALED}
        yield (Kind.UPSTREAM, (upstream.name,)), values


def _opened(upstream: Upstream, name: str) -> Secret | None:
    """An unreadable secret equals none that could be asked for, so that it gets replaced."""
    sealed = getattr(upstream, f"sealed_{name}")
    if sealed is None:
        return None
    try:
        return Secret(unseal(bytes(sealed), upstream_context(upstream)))
    except SealBroken:
        return Secret("")


def _models(names: list[str]) -> Iterator[Entry]:
    for model in Model.objects.filter(name__in=names).prefetch_related("routes__upstream"):
        routes = (
            RouteTo(route.upstream.name, route.upstream_model, route.priority, route.weight)
            for route in model.routes.all()
        )
        values = {
            "routes": tuple(sorted(routes)),
            "prices": _prices(model.name),
            "reasoning_effort": model.reasoning_effort,
        }
        yield (Kind.MODEL, (model.name,)), values


def _prices(name: str) -> Prices | None:
    """What an operator said last; the price list's rows do not count."""
    said = Price.objects.filter(model_name=name, source=Price.Source.OPERATOR)
    latest = said.filter(effective_at__lte=timezone.now()).order_by("-effective_at")
    columns = latest.values_list(*PRICE_COLUMNS).first()
    return None if columns is None else Prices(*columns)


def _owners(rows: Sequence[Row]) -> dict[tuple[Kind, str], Name]:
    owners: dict[tuple[Kind, str], Name] = {}
    tables = ((Kind.API_KEY, ApiKey.objects), (Kind.SECURITY_KEY, SecurityKey.objects))
    for kind, table in tables:
        digests = [row.values["digest"] for row in rows if row.kind is kind and "digest" in row.values]
        for key in table.filter(digest__in=digests).select_related("tenant"):
            owners[kind, key.digest] = (key.tenant.slug, key.name)
    return owners
