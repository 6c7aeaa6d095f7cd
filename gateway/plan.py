"""The difference between what is wanted and what there is. Pure: it reads and writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from accounts.money import dollars
from gateway.rows import LIMIT_COUNTS, SEALED, Kind, Mistakes, Name, RouteTo, Row, Values, called
from gateway.state import Keyed, State

_HIDDEN = {"digest": "secret", **{name: name for name in SEALED}}
_DERIVED = "prefix"
_AMOUNT = "amount_nano_usd"
_SEALED_TO = {"base_url", "tenant"}  # what an upstream's key is bound to
_ORDER = {kind: number for number, kind in enumerate(Kind)}


@dataclass(frozen=True, slots=True)
class Change:
    """One row to make (`before` is None) or to alter; `after` holds only what becomes different."""

    kind: Kind
    name: Name
    before: Values | None
    after: Values

    def __str__(self) -> str:
        """A line for people; secrets are told by name alone."""
        parts = [self._part(name, value) for name, value in self.after.items() if name != _DERIVED]
        told = f" ({'; '.join(parts)})" if parts else ""
        return f"{'+' if self.before is None else '~'} {self.kind} {called(self.name)}{told}"

    def _part(self, name: str, value: object) -> str:
        if name in _HIDDEN:
            return f"{_HIDDEN[name]}: {'removed' if value is None else 'set'}"
        if name == _AMOUNT:
            return self._amount(value)
        if self.before is None:
            return f"{name}: {_shown(value)}"
        return f"{name}: {_shown(self.before.get(name))} → {_shown(value)}"

    def _amount(self, value: object) -> str:
        amounts = [value] if self.before is None else [self.before.get(_AMOUNT), value]
        return f"amount: {' → '.join(dollars(nano) for nano in amounts if isinstance(nano, int))}"


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(str(item) for item in value)}]"
    return "none" if value is None else str(value)


def differences(rows: Sequence[Row], state: State) -> list[Change]:
    """What has to change, in the order in which it can be. Raises `Mistakes`."""
    wanted = {(row.kind, row.name) for row in rows}
    known = wanted | state.rows.keys()
    sentences = [sentence for row in rows for sentence in _mistakes(row, state, known)]
    sentences += _shared_secrets(rows, state)
    if sentences:
        raise Mistakes(sentences)
    in_order = sorted(rows, key=lambda row: _ORDER[row.kind])
    changes = {(row.kind, row.name): _change(row, state) for row in in_order}
    return [change for change in changes.values() if change is not None]


def _change(row: Row, state: State) -> Change | None:
    there = state.rows.get((row.kind, row.name))
    if there is None:
        return Change(row.kind, row.name, None, {**row.initial, **row.values})
    different = {name: value for name, value in row.values.items() if there.get(name) != value}
    if not different:
        return None
    if _SEALED_TO & different.keys():  # the same ones perhaps, sealed anew
        different.update((name, row.values[name]) for name in SEALED if name in row.values)
    return Change(row.kind, row.name, {name: there.get(name) for name in different}, different)


def _mistakes(row: Row, state: State, known: Collection[Keyed]) -> Iterator[str]:
    there = state.rows.get((row.kind, row.name))
    values: Mapping[str, object] = row.values if there is not None else {**row.initial, **row.values}
    found: Iterator[str] = iter(())
    if row.kind is Kind.API_KEY:
        found = _api_key_mistakes(row, values, there, known)
    elif row.kind is Kind.LIMIT:
        found = chain(_subject_mistakes(row, known), _limit_mistakes(values, there))
    elif row.kind is Kind.BUDGET:
        found = _subject_mistakes(row, known)
    elif row.kind is Kind.UPSTREAM:
        found = _upstream_mistakes(values, there, known)
    elif row.kind is Kind.MODEL:
        found = _model_mistakes(values, known)
    return (f"{row.place}: {sentence}" for sentence in found)


def _api_key_mistakes(
    row: Row, values: Values, there: Values | None, known: Collection[Keyed]
) -> Iterator[str]:
    user = values.get("user")
    if user is None and there is None:
        yield "user is missing: a new key is somebody's"
    if user is not None and (Kind.MEMBER, (row.name[0], str(user))) not in known:
        yield f"user: {user} is not among the members of {row.name[0]}"


def _subject_mistakes(row: Row, known: Collection[Keyed]) -> Iterator[str]:
    """A limit or budget that names somebody who is not there would hold for nobody."""
    slug, scope, name = row.name[:3]
    if not name:
        return
    if scope == "user" and (Kind.MEMBER, (slug, name)) not in known:
        yield f"name: {name} is not among the members of {slug}"
    keys = ((kind, (slug, name)) for kind in (Kind.API_KEY, Kind.SECURITY_KEY))
    if scope == "key" and not any(key in known for key in keys):
        yield f"name: {slug} has no key {name}"


def _limit_mistakes(values: Values, there: Values | None) -> Iterator[str]:
    merged: Values = {**(there or {}), **values}
    if all(merged.get(name) is None for name in LIMIT_COUNTS):
        yield f"limits nothing: name one of {', '.join(LIMIT_COUNTS)}"
    if "queue_seconds" in values and merged.get("when_exceeded") != "queue":
        yield "queue_seconds: only a limit with when_exceeded: queue has it"


def _upstream_mistakes(values: Values, there: Values | None, known: Collection[Keyed]) -> Iterator[str]:
    tenant = values.get("tenant")
    if tenant is not None and (Kind.TENANT, (str(tenant),)) not in known:
        yield f"tenant: there is no tenant {tenant}"
    merged: Values = {**(there or {}), **values}
    if merged.get("dialect", "openai") != "demo" and not merged.get("base_url"):
        yield "base_url is missing"
    left = [name for name in SEALED if there is not None and there[name] and name not in values]
    for name in sorted(_SEALED_TO):
        if there is not None and left and name in values and values[name] != there[name]:
            secrets = " and ".join(left)
            yield f"{name} changes: name its {secrets} too; a key goes only where it was given for"


def _model_mistakes(values: Values, known: Collection[Keyed]) -> Iterator[str]:
    routes = values.get("routes", ())
    assert isinstance(routes, tuple)
    seen = set()
    for route in routes:
        assert isinstance(route, RouteTo)
        if (Kind.UPSTREAM, (route.upstream,)) not in known:
            yield f"routes: there is no upstream {route.upstream}"
        if (route.upstream, route.upstream_model) in seen:
            yield f"routes: {route.upstream} is named twice for the same model there"
        seen.add((route.upstream, route.upstream_model))


def _shared_secrets(rows: Sequence[Row], state: State) -> Iterator[str]:
    """A credential says who calls, so two keys of a kind cannot be the same."""
    owners = dict(state.digests)
    for row in rows:
        digest = row.values.get("digest")
        if not isinstance(digest, str):
            continue
        owner = owners.setdefault((row.kind, digest), row.name)
        if owner != row.name:
            yield f"{row.place}: its secret is already that of the {row.kind} {called(owner)}"
