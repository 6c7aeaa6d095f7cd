"""Holds a call to its tenant's limits and budgets: reserves before it is admitted, settles after.

With Redis the counts are shared by every replica. While Redis is away, each replica counts for itself, to its
share of each limit: an equal part of it, at least one; and a call under a budget is refused, for money fails
closed. Nobody waits for Redis longer than its client's own deadlines (accounts/redis_pipeline.py).

Invariant: a call under way is counted wherever calls are let in. What Redis forgot of it, or never knew,
since the call was let in while Redis was away, it is told within EXTEND_SECONDS; and a replica that is on its
own counts the calls that Redis let in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID
from weakref import WeakValueDictionary

from accounts import database
from accounts.keys import Caller
from accounts.limits import (
    Amounts,
    Bucket,
    Demands,
    Grant,
    HoldState,
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
from proxy.budgets import Charge, QuotaExceeded, Unpriced, capped, worst
from proxy.call import Call
from proxy.demands import Asked, Plan, Plans, RateLimited, headers, refused, share, standing, token_cost
from proxy.http import Header, Reply, Request, TotalTimeout, Watch
from proxy.usage import Price

LEASE_SECONDS = 20.0
EXTEND_SECONDS = 1.0
EXTENDED_AT_ONCE = 100
COUNT_REPLICAS_SECONDS = 5.0
HOLD_PATIENCE_SECONDS = 5.0
SHORTEST_PAUSE_SECONDS = 0.002
SETTLING_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.25
_SEEDINGS = 10  # each process that begins, or hears of a change, makes one more necessary
_NO_RULES = TenantRules((), ())

logger = logging.getLogger(__name__)


class BudgetUnavailable(Exception):
    """A budget applies, and nobody can tell what is left of it."""


class BudgetBusy(Exception):
    """What is left of the budget is held by calls under way, and they did not settle in time."""


@dataclass(slots=True, eq=False)
class Reservation:
    """What a call took. Settle it. `call` is the call as its budgets let it go upstream, `limiters` are those
    that count it, the first of them the one that let it in."""

    call: Call
    plan: Plan
    limiters: list[Limiter]
    grant: Grant
    reserved_tokens: int
    tokens_so_far: Callable[[], int] = lambda: 0

    @property
    def charges(self) -> tuple[Charge, ...]:
        """Where its cost is added up."""
        return self.plan.charges


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
        self._first: Limiter = self._own if shared is None else shared
        self._alone = False
        self._count_replicas = count_replicas
        self._replicas = 1
        self._open: set[Reservation] = set()
        # A queue is there for as long as somebody stands in it: those who wait hold its lock.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._renewing = asyncio.Lock()
        self._known_rules: dict[UUID, TenantRules] = {}
        self._plans: dict[UUID, Plans] = {}

    async def reserve(
        self, call: Call, caller: Caller, price: Price | None, request: Request, reply: Reply
    ) -> Reservation | None:
        """None for a call that no limit and no budget applies to.

        Raises RateLimited, QuotaExceeded, BudgetBusy, BudgetUnavailable, Unpriced, ClientLeft,
        DatabaseUnavailable.
        """
        plans = await self._plans_of(caller.tenant_id)
        if plans is None:
            return None
        plan = plans.of(caller, request.client_ip if plans.by_ip else "", call.model, time.time())
        most = worst(call, price) if plan.budgets else None
        if plan.budgets and most is None:
            if not all(rule.allow_unpriced for rule in plan.budgets):
                raise Unpriced(call.model)
            plan = plan.without_budgets()
        if plan.demands_nothing:
            return None
        tokens = token_cost(call)
        amounts = plan.amounts(tokens, most)
        limiter, grant = await self._let_in(plan, amounts, request, reply)
        reply.add(headers(plan, grant))
        if most is not None:
            call, cap = capped(call, most, grant.held)
            reply.add([(b"x-tollgate-output-cap", b"%d" % cap)] if cap is not None else [])
        reservation = Reservation(call, plan, [limiter], grant, tokens)
        self._open.add(reservation)
        return reservation

    async def settle(self, reservation: Reservation, tokens: int, spent: int) -> None:
        """Gives back what was not used; `spent` nano-dollars are in the database by now. Never raises, and is
        done even if the task that called it is cancelled, for it is handed over before anything is waited
        for."""
        self._open.discard(reservation)
        costs = reservation.plan.costs(1, tokens)
        if self._own in reservation.limiters:
            await self._own.settle(reservation.grant, costs, spent)  # waits for nothing
        if self._shared is not None and self._shared in reservation.limiters:
            await self._shared.settle(reservation.grant, costs, spent)

    async def explain(self, call: Call, caller: Caller, client_ip: str) -> Explained:
        """How everything stands that applies to such a call, taking nothing.

        Raises BudgetUnavailable while Redis is away, DatabaseUnavailable.
        """
        rules = (await self.rules.get()).get(caller.tenant_id, _NO_RULES)
        plan = Plans(rules).of(caller, client_ip, call.model, time.time())
        try:
            states = await self.states(plan.demands)
        except LimiterUnavailable:
            raise BudgetUnavailable from None
        spent = await database.run(_read_spent, plan.charges) if plan.charges else []
        told = [state for state in states[len(plan.asked) :] if isinstance(state, HoldState)]
        known = tuple(replace(state, spent=amount) for state, amount in zip(told, spent, strict=True))
        return Explained(plan.asked, states[: len(plan.asked)], plan.budgets, known)

    async def states(self, demands: Demands) -> list[State]:
        """How each of `demands.all()` stands, taking nothing. Raises LimiterUnavailable."""
        return await self._first.explain(demands)

    async def close(self) -> None:
        """Lets Redis go."""
        if self._shared is not None:
            await self._shared.close()

    async def _plans_of(self, tenant_id: UUID) -> Plans | None:
        """None for a tenant without limits and budgets."""
        if await self.rules.get() is not self._known_rules:
            async with self._renewing:
                await self._renew()
        return self._plans.get(tenant_id)

    async def _renew(self) -> None:
        """Has the limiter forget what was spent: rows changed, and whoever changes that, such as the reaper,
        announces it too. Until it has, nobody goes on, since it would let in by what it is to forget."""
        rules = await self.rules.get()
        if rules is self._known_rules:
            return  # somebody else saw to it meanwhile
        await self._first.forget()
        self._plans = {tenant: Plans(of_tenant) for tenant, of_tenant in rules.items()}
        self._known_rules = rules

    # Calls under way

    async def keep(self) -> None:
        """For ever: keeps what calls under way have reserved, and takes more for those that outgrew it."""
        counted_at = 0.0
        while True:
            await self._extend()
            await asyncio.sleep(EXTEND_SECONDS)
            if time.monotonic() - counted_at > COUNT_REPLICAS_SECONDS:
                await self._count()
                counted_at = time.monotonic()

    async def _extend(self) -> None:
        if self._shared is not None:
            try:
                await self._extend_on(self._shared)
                self._alone = False
            except LimiterUnavailable:  # its pipeline has said so
                await self._stand_alone()
        if self._shared is None or self._alone:
            await self._extend_on(self._own)

    async def _extend_on(self, limiter: Limiter) -> None:
        """Has all calls under way counted there, whichever limiter let them in. A few at a time, and each of
        them while it is open: what comes after its settlement would count it again."""
        remaining = list(self._open)
        while True:
            batch, remaining = remaining[:EXTENDED_AT_ONCE], remaining[EXTENDED_AT_ONCE:]
            batch = [reservation for reservation in batch if reservation in self._open]
            for reservation in batch:
                if limiter not in reservation.limiters:
                    reservation.limiters.append(limiter)
            await limiter.extend([reservation.grant for reservation in batch], LEASE_SECONDS)
            for reservation in batch:
                if reservation in self._open:
                    await _grow(reservation)
            if not remaining:
                return

    async def _stand_alone(self) -> None:
        """From now on this replica counts for itself, and first what Redis counted of it."""
        if not self._alone:
            self._alone = True
            await self._extend_on(self._own)

    async def _count(self) -> None:
        try:
            self._replicas = max(1, await database.run(self._count_replicas))
        except database.DatabaseUnavailable:
            logger.warning("The database is away: the number of replicas is taken to be %d.", self._replicas)

    # Letting calls in

    async def _let_in(
        self, plan: Plan, amounts: Amounts, request: Request, reply: Reply
    ) -> tuple[Limiter, Grant]:
        """At once, or in its turn. Who is refused is told how the limits stand that were not in the way."""
        try:
            taken = await self._take(request.id.hex, plan, amounts)
            if isinstance(taken, Refusal):
                return await self._queue(taken, plan, amounts, request, reply)
            return taken
        except (RateLimited, QuotaExceeded, BudgetBusy) as refusal:
            but = refusal.counts if isinstance(refusal, RateLimited) else ""
            reply.add(await self._standing(plan, but))
            raise

    async def _standing(self, plan: Plan, but: str) -> list[Header]:
        """The headers of a refusal, but for one kind. Without that kind there may be nothing to ask."""
        if not (plan.requests and but != "requests") and not (plan.tokens and but != "tokens"):
            return []
        if self._alone:
            states = await self._own.explain(share(plan.demands, self._replicas))
            return standing(plan, states, but)
        with suppress(LimiterUnavailable):
            return standing(plan, await self.states(plan.demands), but)
        return []

    async def _take(self, lease_id: str, plan: Plan, amounts: Amounts) -> tuple[Limiter, Grant] | Refusal:
        if self._shared is None:
            return await _reserved(self._own, lease_id, plan, amounts)
        try:
            return await _reserved(self._shared, lease_id, plan, amounts)
        except LimiterUnavailable:
            if plan.charges:
                raise BudgetUnavailable from None
        await self._stand_alone()
        demands = share(plan.demands, self._replicas)
        pairs = zip(amounts.costs, demands.buckets, strict=True)
        smaller = Amounts(tuple(min(cost, bucket.capacity) for cost, bucket in pairs))
        taken = await self._own.reserve(lease_id, demands, smaller, LEASE_SECONDS)
        return taken if isinstance(taken, Refusal) else (self._own, taken)

    async def _queue(
        self, refusal: Refusal, plan: Plan, amounts: Amounts, request: Request, reply: Reply
    ) -> tuple[Limiter, Grant]:
        """Waits its turn where there is one: in order, until the client leaves or patience ends."""
        patience = _patience(plan, refusal)
        until = time.monotonic() - request.started + patience
        key = plan.demands.all()[refusal.index].key
        turn = self._turns.get(key) or self._turns.setdefault(key, asyncio.Lock())
        try:
            async with Watch(request, reply, streams=False, total_seconds=until), turn:
                return await self._wait(request.id.hex, plan, amounts)
        except TotalTimeout:
            raise _impatient(plan, refusal) from None

    async def _wait(self, lease_id: str, plan: Plan, amounts: Amounts) -> tuple[Limiter, Grant]:
        """At the head of the queue. Raises what `_patience` raises for anything else in the way."""
        while True:
            taken = await self._take(lease_id, plan, amounts)
            if not isinstance(taken, Refusal):
                return taken
            _patience(plan, taken)
            await asyncio.sleep(_pause(plan, taken))


def _patience(plan: Plan, refusal: Refusal) -> float:
    """Seconds to wait for what stood in the way. Raises RateLimited, QuotaExceeded where none help."""
    if refusal.index >= len(plan.asked):
        if refusal.retry_after_seconds is None:
            rule = plan.budgets[refusal.index - len(plan.asked)]
            raise QuotaExceeded(rule, datetime.now(UTC))
        return HOLD_PATIENCE_SECONDS
    seconds = plan.asked[refusal.index].rule.queue_seconds
    if seconds is None:
        raise refused(plan.asked, refusal)
    return seconds


def _pause(plan: Plan, refusal: Refusal) -> float:
    """Seconds until the head of a queue asks again. When calls settle, nobody knows beforehand."""
    demand = plan.demands.all()[refusal.index]
    if isinstance(demand, Bucket) and refusal.retry_after_seconds is not None:
        return min(max(refusal.retry_after_seconds, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
    return SETTLING_PAUSE_SECONDS


def _impatient(plan: Plan, refusal: Refusal) -> Exception:
    """What to say when that was too long."""
    return BudgetBusy() if refusal.index >= len(plan.asked) else refused(plan.asked, refusal)


async def _reserved(
    limiter: Limiter, lease_id: str, plan: Plan, amounts: Amounts
) -> tuple[Limiter, Grant] | Refusal:
    """Reserves, having told the limiter what the database says was spent where it does not know.

    Raises LimiterUnavailable.
    """
    taken = await limiter.reserve(lease_id, plan.demands, amounts, LEASE_SECONDS)
    for _ in range(_SEEDINGS):
        if not isinstance(taken, Refusal):
            return limiter, taken
        if not taken.unseeded:
            return taken
        spent = await database.run(_read_spent, [plan.charges[index] for index in taken.unseeded])
        amounts = taken.answered(amounts, spent)
        taken = await limiter.reserve(lease_id, plan.demands, amounts, LEASE_SECONDS)
    raise LimiterUnavailable("The limiter asks again and again what was spent.")


def _read_spent(charges: Sequence[Charge]) -> list[int]:
    """What the database says that each of these budgets has spent in its window."""
    with operator_scope():
        return [_read_one(charge) for charge in charges]


def _read_one(charge: Charge) -> int:
    start = datetime.fromisoformat(charge.window_start).replace(tzinfo=UTC)
    rows = Spend.objects.filter(budget_id=UUID(charge.budget), subject=charge.subject, window_start=start)
    return int(rows.values_list("amount_nano_usd", flat=True).first() or 0)


async def _grow(reservation: Reservation) -> None:
    """A stream that outgrew its reservation takes more; what it cannot have becomes a debt when it ends."""
    extra = reservation.tokens_so_far() - reservation.reserved_tokens
    if extra <= 0 or not reservation.plan.tokens:
        return
    with suppress(LimiterUnavailable):
        costs = reservation.plan.costs(0, extra)
        grown = await reservation.limiters[0].grow(reservation.grant, costs)
        if isinstance(grown, Grant):
            reservation.grant = grown
            reservation.reserved_tokens += extra
