"""Random histories on both limiters, in process and in Redis: every answer and every state is the same."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.limits import (
    SECOND,
    Amounts,
    Bucket,
    Demands,
    Grant,
    Hold,
    HoldState,
    Lease,
    LeaseState,
    Limiter,
    LimiterUnavailable,
    Refusal,
    level,
)
from accounts.memory_limits import MemoryLimiter
from accounts.redis_limits import RedisLimiter

HISTORIES = 5_000 if os.environ.get("CI") == "true" else 150
Answer = TypeVar("Answer")

INSTALLATION = f"twins-{os.getpid()}"
RECOVERY_SECONDS = 2.0
REACHED_MICROSECONDS = 110 * SECOND  # just often enough

BUCKETS = (
    Bucket("burst", capacity=3, limit=3, period_seconds=1),
    Bucket("queue", capacity=1, limit=7, period_seconds=60, slack_microseconds=20_001),
    Bucket("tokens", capacity=10_000, limit=10_000, period_seconds=60),
    Bucket("huge", capacity=10**12 + 1, limit=10**12 + 1, period_seconds=60),  # past 2**53 units
)
SHELF = (
    Bucket("second", capacity=5, limit=5, period_seconds=1, shelf="both"),
    Bucket("minute", capacity=60, limit=60, period_seconds=60, shelf="both"),
)
LEASES = (Lease("one", 1), Lease("three", 3))
HOLDS = (
    Hold("day", amount=1_000),
    Hold("month", amount=10**9 + 7, share=3),
)
EVERYTHING = Demands((*BUCKETS, *SHELF), LEASES, HOLDS)


# The steps of a history; `which` picks among what was granted so far, settled or not.


@dataclass(frozen=True)
class Reserve:
    demands: Demands
    amounts: Amounts
    lease_seconds: float
    spent: int | None  # what the database says, should it be asked at once


@dataclass(frozen=True)
class Told:
    """The database answers the last question that was left open."""

    spent: int


@dataclass(frozen=True)
class Grow:
    which: int
    costs: tuple[int, ...]


@dataclass(frozen=True)
class Settle:
    which: int
    costs: tuple[int, ...]
    spent: int


@dataclass(frozen=True)
class Extend:
    which: int
    lease_seconds: float


@dataclass(frozen=True)
class Pass:
    microseconds: int
    reached: bool  # once a second, or so, as by others


@dataclass(frozen=True)
class Forget:
    """The database may know more."""


@dataclass(frozen=True)
class Flush:
    """The store loses everything."""


Step: TypeAlias = Reserve | Told | Grow | Settle | Extend | Pass | Forget | Flush

costs = st.sampled_from([0, 1, 2, 3, 4, 700, 9_999, 10_000, 10**12])
sizes = st.sampled_from([0, 1, 1, 1, 2, 3, 6, 7])
money = st.one_of(st.integers(0, 300), st.sampled_from([1_000, 125, 10**8]))
leases = st.sampled_from([1.0, 30.0, 0.000_001, 600.0])
passing = st.sampled_from(
    [
        *(0, 1, 999, 142_857, 333_334, -1_000, 29_999_999),
        *(seconds * SECOND for seconds in (1, 3, 10, 60, 119, 121, 300, 4_000)),
    ]
)


@st.composite
def reservations(draw: st.DrawFn) -> Reserve:
    """Some of everything, each bucket by so many sixths of the whole, so that most calls fit."""
    kinds = draw(st.lists(st.sampled_from(CHOICES), min_size=1, max_size=draw(st.sampled_from([1, 1, 2, 5]))))
    chosen = [demand for kind in dict.fromkeys(kinds) for demand in kind]
    buckets = tuple(demand for demand in chosen if isinstance(demand, Bucket))
    demands = Demands(
        buckets,
        tuple(demand for demand in chosen if isinstance(demand, Lease)),
        tuple(demand for demand in chosen if isinstance(demand, Hold)),
    )
    sixths = [draw(sizes) for _ in buckets]
    sized = zip(buckets, sixths, strict=True)
    taken = tuple(max(1, bucket.capacity * size // 6) if size else 0 for bucket, size in sized)
    amounts = Amounts(taken, draw(money), draw(st.sampled_from([0, 1, 1, 10, 150])))
    return Reserve(demands, amounts, draw(leases), draw(st.one_of(money, money, st.none())))


CHOICES = (*((demand,) for demand in (*BUCKETS, *LEASES, *HOLDS)), SHELF)
which = st.sampled_from([-1, -1, -1, -2, -3, 0, 1])
several_costs = st.tuples(*[costs] * len(EVERYTHING.buckets))
steps = st.one_of(
    reservations(),
    reservations(),
    reservations(),
    st.builds(Settle, which, several_costs, money),
    st.builds(Grow, which, several_costs),
    st.builds(Extend, which, leases),
    st.builds(Pass, passing, st.just(True)),
    st.builds(Pass, passing, st.booleans()),
    st.builds(Told, money),
    st.one_of(st.just(Forget()), st.just(Flush())),
)


class Twins:
    """Both limiters, given the same time, and what is known of them without asking them."""

    def __init__(self, distant: RedisLimiter, clock: Clock) -> None:
        self.clock = clock
        self.near = MemoryLimiter(clock, RECOVERY_SECONDS)
        self.distant = distant
        self.grants: list[Grant] = []
        self.asked: tuple[Reserve, Refusal] | None = None
        self.leases: dict[str, dict[str, int]] = {}  # by key and lease id: until when
        self.born_at = self.forgot_at = clock.now

    async def take(self, step: Step) -> None:
        match step:
            case Reserve():
                await self.reserve(step)
            case Told() if self.asked is not None:
                wanted, refusal = self.asked
                answer = refusal.answered(wanted.amounts, [step.spent] * len(refusal.unseeded))
                await self.reserve(Reserve(wanted.demands, answer, 30.0, None))
            case Grow() | Settle() | Extend() if self.grants:
                await self.follow(step, step.which % len(self.grants))
            case Pass():
                await self.pass_(step)
            case Forget():
                self.forgot_at = max(self.forgot_at, self.clock.now)
                await self.both(lambda limiter: limiter.forget())
            case Flush():
                self.clock.now = max(self.clock.now, self.born_at) + 1  # no two stores are born at once
                self.born_at = self.clock.now
                self.clock.flush()
                self.near = MemoryLimiter(self.clock, RECOVERY_SECONDS)
                self.leases.clear()
        await self.compare()

    async def pass_(self, step: Pass) -> None:
        end = self.clock.now + step.microseconds
        while step.reached and self.clock.now + REACHED_MICROSECONDS < end:
            self.clock.now += REACHED_MICROSECONDS
            await self.both(lambda limiter: limiter.extend([], 30.0))
        self.clock.now = end

    async def both(self, ask: Callable[[Limiter], Awaitable[Answer]]) -> Answer | None:
        """What both answer; None when neither can."""
        near, distant = await answer_of(ask(self.near)), await answer_of(ask(self.distant))
        assert near == distant
        return near

    async def reserve(self, wanted: Reserve) -> None:
        lease_id, amounts, seconds = f"call-{len(self.grants)}", wanted.amounts, wanted.lease_seconds
        answer = await self.both(lambda it: it.reserve(lease_id, wanted.demands, amounts, seconds))
        if isinstance(answer, Refusal) and answer.unseeded:
            self.asked = (wanted, answer)
            if wanted.spent is not None:
                told = answer.answered(amounts, [wanted.spent] * len(answer.unseeded))
                answer = await self.both(lambda it: it.reserve(lease_id, wanted.demands, told, seconds))
        if isinstance(answer, Grant):
            self.grants.append(answer)
            await self.check_grant(answer)
            self.renew(answer, seconds)

    async def check_grant(self, grant: Grant) -> None:
        """What was granted had been there to take."""
        buckets = zip(grant.demands.buckets, grant.units, strict=True)
        assert all(level(bucket, units).remaining >= 0 for bucket, units in buckets)
        for state in await self.near.explain(grant.demands):
            if isinstance(state, HoldState) and self.clock.now >= self.forgot_at:  # or else it is asked again
                assert state.spent is not None
                assert state.spent + state.held <= state.amount

    async def follow(self, step: Grow | Settle | Extend, which: int) -> None:
        grant = self.grants[which]
        buckets = len(grant.demands.buckets)
        match step:
            case Grow():
                answer = await self.both(lambda limiter: limiter.grow(grant, step.costs[:buckets]))
                if isinstance(answer, Grant):
                    self.grants[which] = answer
            case Settle():
                await self.both(lambda limiter: limiter.settle(grant, step.costs[:buckets], step.spent))
                for ids in self.leases.values():
                    ids.pop(grant.lease_id, None)
            case Extend():
                await self.both(lambda limiter: limiter.extend([grant], step.lease_seconds))
                self.renew(grant, step.lease_seconds)

    def renew(self, grant: Grant, lease_seconds: float) -> None:
        until = self.clock.now + round(lease_seconds * SECOND)
        for lease in grant.demands.leases:
            self.leases.setdefault(lease.key, {})[grant.lease_id] = until

    async def compare(self) -> None:
        states = await self.both(lambda limiter: limiter.explain(EVERYTHING))
        assert states is not None
        for demand, state in zip(EVERYTHING.all(), states, strict=True):
            if isinstance(state, HoldState):
                assert state.held >= 0
                assert state.spent is None or state.spent >= 0
                assert state.calls > 0 or state.held == 0
            elif isinstance(state, LeaseState):
                assert isinstance(demand, Lease)
                known = self.leases.get(demand.key, {}).items()
                living = {lease_id: end for lease_id, end in known if end > self.clock.now}
                self.leases[demand.key] = (
                    living  # what has ended does not begin again with the clock set back
                )
                assert state.leases == len(living)


async def answer_of(asked: Awaitable[Answer]) -> Answer | None:
    try:
        return await asked
    except LimiterUnavailable:
        return None


class Clock:
    """The time that both are given; and the store of one of them."""

    def __init__(self, url: str) -> None:
        self.now = 0
        self.client = redis.Redis.from_url(url)

    def __call__(self) -> int:
        return self.now

    def flush(self) -> None:
        keys = list(self.client.scan_iter(f"tollgate:{INSTALLATION}:*", count=1000))
        if keys:
            self.client.delete(*keys)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def clock(redis_url: str) -> Iterator[Clock]:
    clock = Clock(redis_url)
    yield clock
    clock.flush()
    clock.client.close()


@pytest.fixture(scope="module")
def distant(redis_url: str, runner: asyncio.Runner, clock: Clock) -> Iterator[RedisLimiter]:
    async def make() -> RedisLimiter:
        return RedisLimiter(redis_url, INSTALLATION, clock, RECOVERY_SECONDS, call_seconds=10.0)

    limiter = runner.run(make())
    yield limiter
    runner.run(limiter.close())


@pytest.mark.redis
@pytest.mark.timeout(900)
@settings(
    max_examples=HISTORIES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(history=st.lists(steps, min_size=10, max_size=40))
def test_both_limiters_answer_the_same(
    history: list[Step], runner: asyncio.Runner, clock: Clock, distant: RedisLimiter
) -> None:
    async def run() -> None:
        clock.flush()
        clock.now = 1_800_000_000 * SECOND
        twins = Twins(distant, clock)
        for step in history:
            await twins.take(step)

    runner.run(run())
