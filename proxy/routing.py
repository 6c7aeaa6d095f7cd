"""From a model's public name to the upstreams that answer for it, in the order to try them.

The table is a snapshot of the database, loaded off the loop and dropped when a row changes. What a caller
may not reach is not in its list: an upstream of another tenant does not exist.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import UUID

from django.db.models import Prefetch

from accounts.keys import Caller, matches
from accounts.snapshot import Snapshot
from proxy.addresses import NotSendable, cookies_in, headers_in, is_link_local
from proxy.call import Account, NotOffered
from proxy.health import Counts, Report
from proxy.models import Model, Price, Route, Upstream
from proxy.sealing import SealBroken, unseal, upstream_context
from proxy.usage import Price as TokenPrice

logger = logging.getLogger(__name__)

COOLDOWN_SECONDS = 30.0
MAX_COOLDOWN_SECONDS = 60.0
FAILURES_TO_COOL = 3
_SHORTEST_SECRET = 8


class ModelNotFound(Exception):
    """No route serves this name to this caller."""


class ModelForbidden(Exception):
    """The caller's key is not for this model."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for each phase of one upstream call."""

    connect: float
    first_byte: float
    idle: float
    total: float


@dataclass(frozen=True, slots=True)
class Target:
    """One upstream and the model's name there.

    `own` says that it is one tenant's alone. `headers` bear its key, `private` are words that no caller may
    see (address, key, cookies); neither is printed. `effort` is the model's where a caller names none.
    """

    upstream_id: UUID
    upstream: str
    dialect: str
    base_url: str
    model: str
    responses: str
    own: bool
    timeouts: Timeouts
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    private: tuple[str, ...] = field(repr=False)
    cookies: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    effort: str = ""
    session_prefix: str = ""
    repeats_reasoning: bool = False
    takes_caller_keys: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """For one call: the targets in the order to try, and what the model costs now, if that is known."""

    targets: tuple[Target, ...]
    price: TokenPrice | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A route as the table keeps it; `tenant_id` is None for an upstream that all tenants share."""

    target: Target
    tenant_id: UUID | None
    priority: int
    weight: int


@dataclass(frozen=True, slots=True)
class Pattern:
    """A model name with `*` in it."""

    name: str
    candidates: tuple[Candidate, ...]

    def fits(self, model: str) -> bool:
        """Whether the model is one of these."""
        return matches(self.name, model)


@dataclass(frozen=True, slots=True)
class Table:
    """Everything routing needs, as it stood at one moment."""

    exact: dict[str, tuple[Candidate, ...]]
    patterns: tuple[Pattern, ...]
    prices: dict[str, tuple[tuple[datetime, TokenPrice], ...]]

    def candidates(self, model: str, tenant_id: UUID) -> list[Candidate]:
        """The routes of that name that this tenant may use: of the exact name, else of a pattern. What leads
        to other tenants' upstreams alone is as if it was not there."""
        for found in self._named(model):
            theirs = _usable(found, tenant_id)
            if theirs or not found:
                return theirs
        return []

    def names(self, tenant_id: UUID) -> set[str]:
        """The names, no patterns, that lead somewhere for this tenant."""
        return {name for name, found in self.exact.items() if _usable(found, tenant_id)}

    def _named(self, model: str) -> Iterator[Sequence[Candidate]]:
        if model in self.exact:
            yield self.exact[model]
        for pattern in self.patterns:
            if pattern.fits(model):
                yield pattern.candidates

    def price(self, model: str, now: datetime) -> TokenPrice | None:
        """What the model costs at `now`; None when no price is known."""
        dated = self.prices.get(model, ())
        return next((price for effective_at, price in dated if effective_at <= now), None)


def _usable(found: Sequence[Candidate], tenant_id: UUID) -> list[Candidate]:
    """Those by way of an upstream that is everybody's, or this tenant's."""
    return [c for c in found if c.tenant_id is None or c.tenant_id == tenant_id]


class Routing:
    """The current table, which targets are failing, and how upstreams are doing.

    With a route for a pattern, a target's name is one that a caller wrote: nothing that is remembered by it
    is remembered for long.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.table = Snapshot(load)
        self.counts = Counts()
        self._clock = clock
        self._failures: dict[tuple[UUID, str], tuple[int, float]] = {}  # in a row, and when the last one was
        self._cool_until: dict[tuple[UUID, str], float] = {}

    async def plan(self, model: str, caller: Caller) -> Plan:
        """Where this call may go. Raises ModelForbidden, ModelNotFound, DatabaseUnavailable."""
        if not caller.may_use(model):
            raise ModelForbidden(model)
        table = await self.table.get()
        candidates = table.candidates(model, caller.tenant_id)
        if not candidates:
            raise ModelNotFound(model)
        targets = [_renamed(c.target, model) for c in _shuffled(candidates)]
        if len(targets) > 1:
            now = self._clock()
            targets.sort(key=lambda target: self._cool_until.get(_key(target), 0.0) > now)
        return Plan(tuple(targets), table.price(model, datetime.now(UTC)))

    def succeeded(self, target: Target) -> None:
        """A target answered: it is well."""
        self.counts.answered(target.upstream_id, self._clock())
        if self._failures:
            self._failures.pop(_key(target), None)

    def failed(self, target: Target, outcome: str, retry_after: float | None = None) -> None:
        """A target failed; often enough in a row, or by its own word, it is tried last for a while. `outcome`
        as in a record's `attempts`."""
        key, now = _key(target), self._clock()
        self.counts.failed(target.upstream_id, outcome, now)
        failures = self._failures.get(key, (0, now))[0] + 1
        self._failures[key] = failures, now
        if failures < FAILURES_TO_COOL and retry_after is None:
            return
        seconds = min(retry_after or COOLDOWN_SECONDS, MAX_COOLDOWN_SECONDS)
        self._cool_until[key] = now + seconds

    def leaked(self, target: Target, control_tokens: int) -> None:
        """So many control tokens of gpt-oss were taken out of a target's answer."""
        if control_tokens:
            self.counts.leaked(target.upstream_id, control_tokens, self._clock())

    def report(self) -> Report:
        """How upstreams are doing, for the heartbeat; what has cooled down is forgotten, and what failed so
        long ago that it would have."""
        now = self._clock()
        self._cool_until = {key: until for key, until in self._cool_until.items() if until > now}
        recent = now - MAX_COOLDOWN_SECONDS
        self._failures = {key: failed for key, failed in self._failures.items() if failed[1] > recent}
        return self.counts.report(self._cool_until, now, datetime.now(UTC))


def _key(target: Target) -> tuple[UUID, str]:
    return target.upstream_id, target.model


def with_account(target: Target, account: Account) -> Target:
    """The target, called with what its caller brings in place of the operator's key; only OpenAI's language
    has a place for it. Raises NotOffered where the operator does not want that."""
    if target.dialect != "openai":
        return target
    if not target.takes_caller_keys:
        raise NotOffered("This model's upstream takes no key of its callers.", "openai_api_key")
    given = {
        "authorization": f"Bearer {account.api_key}" if account.api_key else "",
        "openai-organization": account.organization,
        "openai-project": account.project,
    }
    kept = [(name, value) for name, value in target.headers if not given.get(name)]
    if account.api_key:  # The operator's project and organization go with the operator's key, not with this.
        kept = [(name, value) for name, value in kept if name not in given]
    brought = ((name, value) for name, value in given.items() if value)
    private = (*target.private, account.api_key) if account.api_key else target.private
    return replace(target, headers=(*kept, *brought), private=private)


def _renamed(target: Target, model: str) -> Target:
    """A route without a name of its own sends the name that was asked for."""
    if target.model:
        return target
    return replace(target, model=model)


def _shuffled(candidates: list[Candidate]) -> list[Candidate]:
    """By priority; among equals by lot, each as likely to be first as its weight (Efraimidis–Spirakis)."""
    if len(candidates) == 1:
        return candidates
    return sorted(candidates, key=lambda c: (c.priority, -(random.random() ** (1 / max(c.weight, 1e-9)))))


def load() -> Table:
    """Reads the table from the database."""
    routes = Route.objects.filter(upstream__enabled=True).select_related("upstream")
    models = list(Model.objects.prefetch_related(Prefetch("routes", queryset=routes)))
    exact = {m.name: _candidates(m.routes.all()) for m in models if "*" not in m.name}
    patterns = [Pattern(m.name, _candidates(m.routes.all())) for m in models if "*" in m.name]
    patterns.sort(key=lambda pattern: len(pattern.name.replace("*", "")), reverse=True)
    return Table(exact, tuple(patterns), _prices())


def _candidates(routes: Iterable[Route]) -> tuple[Candidate, ...]:
    return tuple(candidate for route in routes if (candidate := _candidate(route)) is not None)


def _candidate(route: Route) -> Candidate | None:
    """None for an upstream that cannot be called: the others go on serving."""
    if is_link_local(urlsplit(route.upstream.base_url).hostname or ""):
        logger.error("Upstream %s has a link-local address: it is not called.", route.upstream.name)
        return None
    try:
        target = target_of(route.upstream, route.upstream_model, route.model.reasoning_effort)
    except (SealBroken, NotSendable):
        logger.error("The key of upstream %s cannot be opened: set it again.", route.upstream.name)
        return None
    return Candidate(target, route.upstream.tenant_id, route.priority, route.weight)


def target_of(upstream: Upstream, model: str = "", effort: str = "") -> Target:
    """How the upstream is called. Raises SealBroken, NotSendable."""
    base_url = upstream.base_url.rstrip("/")
    context = upstream_context(upstream)
    key = _unsealed(upstream.sealed_api_key, context)
    extra = headers_in(_unsealed(upstream.sealed_headers, context))
    cookies = cookies_in(_unsealed(upstream.sealed_cookies, context))
    return Target(
        upstream_id=upstream.id,
        upstream=upstream.name,
        dialect=upstream.dialect,
        base_url=base_url,
        model=model,
        responses=upstream.responses,
        own=upstream.tenant_id is not None,
        timeouts=Timeouts(
            upstream.connect_timeout_seconds,
            upstream.first_byte_timeout_seconds,
            upstream.idle_timeout_seconds,
            upstream.total_timeout_seconds,
        ),
        headers=(*_headers(upstream, key), *extra, *_cookie(cookies)),
        private=_private(base_url, key, [value for _, value in (*extra, *cookies)]),
        cookies=cookies,
        effort=effort,
        session_prefix=upstream.session_prefix,
        repeats_reasoning=upstream.repeats_reasoning,
        takes_caller_keys=upstream.takes_caller_keys,
    )


def _unsealed(sealed: bytes | memoryview | None, context: bytes) -> str:
    return unseal(bytes(sealed), context) if sealed is not None else ""


def _private(base_url: str, key: str, secrets: Iterable[str]) -> tuple[str, ...]:
    """A host's name in one word, as containers have them, is left: it may be a word of any sentence. So is a
    short value of a header that an operator adds."""
    host = urlsplit(base_url).hostname or ""
    words = (base_url, urlsplit(base_url).netloc, host if "." in host or ":" in host else "", key)
    return (*filter(None, words), *(secret for secret in secrets if len(secret) >= _SHORTEST_SECRET))


def _headers(upstream: Upstream, key: str) -> tuple[tuple[str, str], ...]:
    """Source: OpenAI API reference, "Authentication", 2026-11."""
    given = {
        "authorization": f"Bearer {key}" if key else "",
        "openai-organization": upstream.organization,
        "openai-project": upstream.project,
    }
    return tuple((name, value) for name, value in given.items() if value)


def _cookie(cookies: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return (("cookie", "; ".join(f"{name}={value}" for name, value in cookies)),) if cookies else ()


def _prices() -> dict[str, tuple[tuple[datetime, TokenPrice], ...]]:
    """Per name, newest first; an operator's price wins over the list's, whatever their dates."""
    prices: dict[str, list[tuple[bool, datetime, TokenPrice]]] = {}
    for row in Price.objects.all():
        price = TokenPrice(
            row.input_nano_usd_per_million,
            row.cached_input_nano_usd_per_million,
            row.output_nano_usd_per_million,
            row.nano_usd_per_minute,
        )
        own = row.source == Price.Source.OPERATOR
        prices.setdefault(row.model_name, []).append((own, row.effective_at, price))
    return {
        name: tuple((at, price) for _, at, price in sorted(rows, key=lambda r: r[:2], reverse=True))
        for name, rows in prices.items()
    }
