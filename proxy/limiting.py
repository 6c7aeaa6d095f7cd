"""Holds a call to its tenant's limits and budgets: reserves before it is admitted, settles after.

With Redis the counts are shared by every replica. While Redis is away, each replica counts for itself, to its
share of each limit: an equal part of it, at least one; and a call under a budget is refused, for money fails
closed. Nobody waits for Redis longer than its client's own deadlines (accounts/redis_limits.py).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from accounts import database
from accounts.keys import Caller
from accounts.limits import (
    Bucket,
    Demand,
    Grant,
    Hold,
    HoldState,
    Lease,
    Limiter,
    LimiterUnavailable,
    Refusal,
    State,
)
from accounts.memory_limits import MemoryLimiter
from accounts.models import Spend
from accounts.redis_limits import RedisLimiter
from accounts.rules import BudgetRule, TenantRules, load_rules
from accounts.snapshot import Snapshot
from accounts.tenancy import operator_scope
from proxy.budgets import Charge, QuotaExceeded, Unpriced, Worst, applying, capped, hold, worst
from proxy.call import Call
from proxy.demands import Asked, asked_of, headers, refused, token_cost
from proxy.http import Reply, Request, TotalTimeout, Watch
from proxy.usage import Price

LEASE_SECONDS = 20.0
EXTEND_SECONDS = 1.0
SETTLE_SECONDS = 0.05  # with the limiter's own deadline this stays below 300 ms
COUNT_REPLICAS_SECONDS = 5.0
HOLD_PATIENCE_SECONDS = 5.0
SHORTEST_PAUSE_SECONDS = 0.002
SETTLING_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.25
_SEEDINGS = 3
_NO_RULES = TenantRules((), ())

logger = logging.getLogger(__name__)


class BudgetUnavailable(Exception):
    """A budget applies, and nobody can tell what is left of it."""


class BudgetBusy(Exception):
    """What is left of the budget is held by calls under way, and they did not settle in time."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that one call demands: by its limits first, then by its budgets."""

    asked: tuple[Asked, ...]
    holds: tuple[Hold, ...]

    @property
    def demands(self) -> tuple[Demand, ...]:
        return (*(each.demand for each in self.asked), *self.holds)

    def patience(self, refusal: Refusal) -> float:
        """Seconds to wait for what stood in the way. Raises RateLimited, QuotaExceeded where none help."""
        if refusal.index >= len(self.asked):
            if refusal.retry_after_seconds is None:
                raise QuotaExceeded
            return HOLD_PATIENCE_SECONDS
        seconds = self.asked[refusal.index].rule.queue_seconds
        if seconds is None:
            raise refused(self.asked, refusal)
        return seconds

    def pause(self, refusal: Refusal) -> float:
        """Seconds until the head of a queue asks again. When calls settle, nobody knows beforehand."""
        demand = self.demands[refusal.index]
        if isinstance(demand, Bucket) and refusal.retry_after_seconds is not None:
            return min(max(refusal.retry_after_seconds, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
        return SETTLING_PAUSE_SECONDS

    def impatient(self, refusal: Refusal) -> Exception:
        """What to say when that was too long."""
        return BudgetBusy() if refusal.index >= len(self.asked) else refused(self.asked, refusal)


@dataclass(slots=True, eq=False)
class Reservation:
    """What a call took. Settle it. `call` is the call as its budgets let it go upstream."""

    call: Call
    limiter: Limiter
    grant: Grant
    charges: tuple[Charge, ...]
    reserved_tokens: int
    tokens_so_far: Callable[[], int] = lambda: 0

    def costs(self, tokens: int) -> list[int]:
        """For each bucket: `tokens` where it counts tokens, else the one request."""
        buckets = [demand for demand in self.grant.demands if isinstance(demand, Bucket)]
        return [tokens if bucket.key.endswith(":t60") else 1 for bucket in buckets]

    def extra_costs(self, tokens: int) -> list[int]:
        """As `costs`, of tokens alone."""
        buckets = [demand for demand in self.grant.demands if isinstance(demand, Bucket)]
        return [tokens if bucket.key.endswith(":t60") else 0 for bucket in buckets]


@dataclass(frozen=True, slots=True)
class Explained:
    """Each limit's demand and its state; each budget and its state, with what the database says was spent."""

    asked: tuple[Asked, ...]
    limits: list[State]
    rules: tuple[BudgetRule, ...]
    budgets: tuple[HoldState, ...]


class Limits:
    """One process's side of the limits. `shared` is None without Redis."""

    def __init__(self, shared: RedisLimiter | None, count_replicas: Callable[[], int]) -> None:
        self.rules: Snapshot[dict[UUID, TenantRules]] = Snapshot(load_rules)
        self._shared = shared
        self._own: Limiter = MemoryLimiter()
        self._count_replicas = count_replicas
        self._replicas = 1
        self._open: set[Reservation] = set()
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def reserve(
        self, call: Call, caller: Caller, price: Price | None, request: Request, reply: Reply
    ) -> Reservation | None:
        """None for a call that no limit and no budget applies to.

        Raises RateLimited, QuotaExceeded, BudgetBusy, BudgetUnavailable, Unpriced, ClientLeft,
        DatabaseUnavailable.
        """
        rules = (await self.rules.get()).get(caller.tenant_id)
        if rules is None:
            return None
        asked = asked_of(rules.limits, call, caller, request.client_ip)
        charges, holds, most = _charges(rules, call, caller, price)
        if not asked and not holds:
            return None
        wanted = Wanted(asked, holds)
        taken = await self._take(request.id.hex, wanted)
        if isinstance(taken, Refusal):
            taken = await self._queue(taken, wanted, request, reply)
        limiter, grant = taken
        reply.add(headers(asked, grant))
        if most is not None:
            call, cap = capped(call, most, grant.held)
            reply.add([(b"x-tollgate-output-cap", b"%d" % cap)] if cap is not None else [])
        reservation = Reservation(call, limiter, grant, charges, token_cost(call))
        self._open.add(reservation)
        return reservation

    async def settle(self, reservation: Reservation, tokens: int, spent: int) -> None:
        """Gives back what was not used; `spent` nano-dollars are in the database by now. Never raises.

        It goes on by itself where Redis takes longer: the answer of the call waits for it.
        """
        self._open.discard(reservation)
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await reservation.limiter.settle(reservation.grant, reservation.costs(tokens), spent)

    async def explain(self, call: Call, caller: Caller, client_ip: str) -> Explained:
        """How everything stands that applies to such a call, taking nothing.

        Raises BudgetUnavailable while Redis is away, DatabaseUnavailable.
        """
        rules = (await self.rules.get()).get(caller.tenant_id, _NO_RULES)
        asked = asked_of(rules.limits, call, caller, client_ip)
        budgets = applying(rules.budgets, caller)
        now = datetime.now(UTC)
        holds = tuple(hold(rule, subject, Worst(0, 0, 0), now) for rule, subject in budgets)
        limiter = self._shared or self._own
        try:
            states = await limiter.explain((*(each.demand for each in asked), *holds))
        except LimiterUnavailable:
            raise BudgetUnavailable from None
        spent = await database.run(_read_spent, holds) if holds else []
        told = [s for s in states[len(asked) :] if isinstance(s, HoldState)]
        known = tuple(replace(state, spent=amount) for state, amount in zip(told, spent, strict=True))
        return Explained(asked, states[: len(asked)], tuple(rule for rule, _ in budgets), known)

    async def close(self) -> None:
        """Lets Redis go."""
        if self._shared is not None:
            await self._shared.close()

    async def keep(self) -> None:
        """For ever: keeps what calls under way have reserved, and takes more for those that outgrew it."""
        counted_at = 0.0
        while True:
            await self._touch()
            await asyncio.sleep(EXTEND_SECONDS)
            for limiter in (self._shared, self._own):
                await self._extend(limiter, [each for each in self._open if each.limiter is limiter])
            if time.monotonic() - counted_at > COUNT_REPLICAS_SECONDS:
                await self._count()
                counted_at = time.monotonic()

    async def _touch(self) -> None:
        """Has an empty Redis begin to count its recovery now, and not when the first call comes."""
        if self._shared is not None:
            with suppress(LimiterUnavailable):
                await self._shared.explain(())

    async def _extend(self, limiter: Limiter | None, reservations: list[Reservation]) -> None:
        if limiter is None or not reservations:
            return
        with suppress(LimiterUnavailable):  # its pipeline has said so
            await limiter.extend([each.grant for each in reservations], LEASE_SECONDS)
            for each in reservations:
                await _grow(limiter, each)

    async def _count(self) -> None:
        try:
            self._replicas = max(1, await database.run(self._count_replicas))
        except database.DatabaseUnavailable:
            logger.warning("The database is away: the number of replicas is taken to be %d.", self._replicas)

    async def _take(self, lease_id: str, wanted: Wanted) -> tuple[Limiter, Grant] | Refusal:
        if self._shared is None:
            return await _reserved(self._own, lease_id, wanted.demands)
        try:
            return await _reserved(self._shared, lease_id, wanted.demands)
        except LimiterUnavailable:
            if wanted.holds:
                raise BudgetUnavailable from None
        demands = tuple(share(demand, self._replicas) for demand in wanted.demands)
        return await _reserved(self._own, lease_id, demands)

    async def _queue(
        self, refusal: Refusal, wanted: Wanted, request: Request, reply: Reply
    ) -> tuple[Limiter, Grant]:
        """Waits its turn where there is one: in order, until the client leaves or patience ends."""
        patience = wanted.patience(refusal)
        until = time.monotonic() - request.started + patience
        key = wanted.demands[refusal.index].key
        turn = self._turns[key]
        try:
            async with Watch(request, reply, streams=False, total_seconds=until), turn:
                return await self._wait(request.id.hex, wanted)
        except TotalTimeout:
            raise wanted.impatient(refusal) from None
        finally:
            if not turn.locked():
                self._turns.pop(key, None)

    async def _wait(self, lease_id: str, wanted: Wanted) -> tuple[Limiter, Grant]:
        """At the head of the queue. Raises what `Wanted.patience` raises for anything else in the way."""
        while True:
            taken = await self._take(lease_id, wanted)
            if not isinstance(taken, Refusal):
                return taken
            wanted.patience(taken)
            await asyncio.sleep(wanted.pause(taken))


async def _reserved(
    limiter: Limiter, lease_id: str, demands: tuple[Demand, ...]
) -> tuple[Limiter, Grant] | Refusal:
    """Reserves, having told the limiter what the database says was spent where it does not know."""
    for _ in range(_SEEDINGS):
        taken = await limiter.reserve(lease_id, demands, LEASE_SECONDS)
        if not isinstance(taken, Refusal):
            return limiter, taken
        if not taken.unseeded:
            return taken
        unknown = {index: demands[index] for index in taken.unseeded}
        spent = await database.run(_read_spent, [h for h in unknown.values() if isinstance(h, Hold)])
        demands = taken.seeded(demands, dict(zip(unknown, spent, strict=True)))
    raise BudgetUnavailable


def _read_spent(holds: Sequence[Hold]) -> list[int]:
    """What the database says each of these budgets has spent in its window."""
    with operator_scope():
        return [_read_one(hold) for hold in holds]


def _read_one(hold: Hold) -> int:
    budget, _, subject = hold.key.partition(":")
    rows = Spend.objects.filter(budget_id=UUID(budget), subject=subject, window_start=hold.generation)
    return int(rows.values_list("amount_nano_usd", flat=True).first() or 0)


async def _grow(limiter: Limiter, reservation: Reservation) -> None:
    """A stream that outgrew its reservation takes more; what it cannot have becomes a debt when it ends."""
    extra = reservation.tokens_so_far() - reservation.reserved_tokens
    if extra <= 0 or not any(reservation.extra_costs(1)):
        return
    grown = await limiter.grow(reservation.grant, reservation.extra_costs(extra), 0)
    if isinstance(grown, Grant):
        reservation.grant = grown
        reservation.reserved_tokens += extra


def _charges(
    rules: TenantRules, call: Call, caller: Caller, price: Price | None
) -> tuple[tuple[Charge, ...], tuple[Hold, ...], Worst | None]:
    """The budgets that the call spends from, and what each holds for it. Raises Unpriced."""
    spent_from = applying(rules.budgets, caller)
    if not spent_from:
        return (), (), None
    most = worst(call, price)
    if most is None:
        if not all(rule.allow_unpriced for rule, _ in spent_from):
            raise Unpriced(call.model)
        return (), (), None
    now = datetime.now(UTC)
    charges = tuple(Charge.of(rule, subject, now) for rule, subject in spent_from)
    return charges, tuple(hold(rule, subject, most, now) for rule, subject in spent_from), most


def share(demand: Demand, replicas: int) -> Demand:
    """This replica's part of a limit."""
    if isinstance(demand, Hold):
        return demand
    limit = max(1, demand.limit // replicas)
    if isinstance(demand, Lease):
        return replace(demand, limit=limit)
    capacity = max(1, demand.capacity // replicas)
    return replace(demand, limit=limit, capacity=capacity, cost=min(demand.cost, capacity))
