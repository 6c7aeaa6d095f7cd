"""Random histories on both limiters, in process and in Redis: every answer and every state is the same."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.limits import (
    SECOND,
    Bucket,
    Demand,
    Demands,
    Grant,
    Hold,
    HoldState,
    Lease,
    LeaseState,
    Limiter,
    Refusal,
)
from accounts.memory_limits import MemoryLimiter
from accounts.redis_limits import RedisLimiter

HISTORIES = 5_000 if os.environ.get("CI") == "true" else 150
Answer = TypeVar("Answer")

INSTALLATION = f"twins-{os.getpid()}"
RECOVERY_SECONDS = 2.0

BUCKETS = (
    Bucket("burst", capacity=3, limit=3, period_seconds=1),
    Bucket("queue", capacity=1, limit=7, period_seconds=60, slack_microseconds=20_001),
    Bucket("tokens", capacity=10_000, limit=10_000, period_seconds=60),
    Bucket("huge", capacity=10**12 + 1, limit=10**12 + 1, period_seconds=60),  # past 2**53 units
)
LEASES = (Lease("one", 1), Lease("three", 3))
HOLDS = (
    Hold("day", "1", amount=1_000, wanted=0, least=0),
    Hold("month", "1", amount=10**9 + 7, wanted=0, least=0, share=3),
)
EVERYTHING: Demands = (*BUCKETS, *LEASES, *HOLDS)


# The steps of a history; `which` picks among what was granted so far, settled or not.


@dataclass(frozen=True)
class Reserve:
    demands: Demands
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
    extra: int


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


@dataclass(frozen=True)
class Forget:
    hold: Hold


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
def demands(draw: st.DrawFn) -> Demands:
    """Some of everything, in any order, for a call of that size."""
    most = draw(st.sampled_from([1, 1, 2, 5]))
    kinds = draw(st.lists(st.sampled_from(EVERYTHING), min_size=1, max_size=most, unique=True))
    wanted, least = draw(money), draw(st.sampled_from([0, 1, 1, 10, 150]))
    return tuple(_sized(demand, draw(sizes), wanted, least) for demand in kinds)


def _sized(demand: Demand, size: int, wanted: int, least: int) -> Demand:
    """`size` in sixths of a whole bucket, so that most calls fit."""
    if isinstance(demand, Bucket):
        return replace(demand, cost=max(1, demand.capacity * size // 6) if size else 0)
    if isinstance(demand, Hold):
        return replace(demand, wanted=wanted, least=least)
    return demand


which = st.sampled_from([-1, -1, -1, -2, -3, 0, 1])
several_costs = st.tuples(*[costs] * len(BUCKETS))
reservations = st.builds(Reserve, demands(), leases, st.one_of(money, money, st.none()))
steps = st.one_of(
    reservations,
    reservations,
    reservations,
    st.builds(Settle, which, several_costs, money),
    st.builds(Grow, which, several_costs, money),
    st.builds(Extend, which, leases),
    st.builds(Pass, passing),
    st.builds(Pass, passing),
    st.builds(Told, money),
    st.one_of(st.builds(Forget, st.sampled_from(HOLDS)), st.just(Flush())),
)


class Twins:
    """Both limiters, given the same time, and what is known of them without asking them."""

    def __init__(self, distant: RedisLimiter, clock: Clock) -> None:
        self.clock = clock
        self.near = MemoryLimiter(clock, RECOVERY_SECONDS)
        self.distant = distant
        self.grants: list[Grant] = []
        self.asked: tuple[Demands, Refusal] | None = None
        self.leases: dict[str, dict[str, int]] = {}  # by key and lease id: until when
        self.born_at = clock.now
        self.lost: set[str] = set()  # leases granted before the store lost everything

    async def take(self, step: Step) -> None:
        match step:
            case Reserve():
                await self.reserve(step.demands, step.lease_seconds, step.spent)
            case Told() if self.asked is not None:
                wanted, refusal = self.asked
                answer = refusal.seeded(wanted, dict.fromkeys(refusal.unseeded, step.spent))
                await self.reserve(answer, 30.0, None)
            case Grow() | Settle() | Extend() if self.grants:
                await self.follow(step, step.which % len(self.grants))
            case Pass():
                self.clock.now += step.microseconds
            case Forget():
                await self.both(lambda limiter: limiter.forget([step.hold]))
            case Flush():
                self.clock.now = max(self.clock.now, self.born_at) + 1  # no two stores are born at once
                self.born_at = self.clock.now
                self.clock.flush()
                self.near = MemoryLimiter(self.clock, RECOVERY_SECONDS)
                self.lost |= {grant.lease_id for grant in self.grants}
                self.leases.clear()
        await self.compare()

    async def both(self, ask: Callable[[Limiter], Awaitable[Answer]]) -> Answer:
        near, distant = await ask(self.near), await ask(self.distant)
        assert near == distant
        return near

    async def reserve(self, wanted: Demands, lease_seconds: float, spent: int | None) -> None:
        lease_id = f"call-{len(self.grants)}"
        answer = await self.both(lambda limiter: limiter.reserve(lease_id, wanted, lease_seconds))
        if isinstance(answer, Refusal) and answer.unseeded:
            self.asked = (wanted, answer)
            if spent is not None:
                wanted = answer.seeded(wanted, dict.fromkeys(answer.unseeded, spent))
                answer = await self.both(lambda limiter: limiter.reserve(lease_id, wanted, lease_seconds))
        if isinstance(answer, Grant):
            self.grants.append(answer)
            await self.check_grant(answer)
            self.renew(answer, lease_seconds)

    async def check_grant(self, grant: Grant) -> None:
        """What was granted had been there to take."""
        assert all(level.remaining >= 0 for level in grant.levels)
        for state in await self.near.explain(grant.demands):
            if isinstance(state, HoldState):
                assert state.spent is not None
                assert state.spent + state.held <= state.amount

    async def follow(self, step: Grow | Settle | Extend, which: int) -> None:
        grant = self.grants[which]
        buckets = sum(isinstance(demand, Bucket) for demand in grant.demands)
        match step:
            case Grow():
                held = step.extra if any(isinstance(demand, Hold) for demand in grant.demands) else 0
                answer = await self.both(
                    lambda limiter: limiter.grow(grant, step.costs[:buckets], held),
                )
                if isinstance(answer, Grant):
                    self.grants[which] = answer
            case Settle():
                await self.both(lambda limiter: limiter.settle(grant, step.costs[:buckets], step.spent))
                for ids in self.leases.values():
                    ids.pop(grant.lease_id, None)
            case Extend():
                await self.both(lambda limiter: limiter.extend([grant], step.lease_seconds))
                self.renew(grant, step.lease_seconds, again=True)

    def renew(self, grant: Grant, lease_seconds: float, again: bool = False) -> None:
        until = self.clock.now + round(lease_seconds * SECOND)
        for demand in grant.demands:
            if isinstance(demand, Lease):
                ids = self.leases.setdefault(demand.key, {})
                if not again or ids.get(grant.lease_id, 0) > self.clock.now or grant.lease_id in self.lost:
                    ids[grant.lease_id] = until

    async def compare(self) -> None:
        states = await self.both(lambda limiter: limiter.explain(EVERYTHING))
        for demand, state in zip(EVERYTHING, states, strict=True):
            if isinstance(state, HoldState):
                assert state.held >= 0
                assert state.spent is None or state.spent >= 0
                assert state.calls > 0 or state.held == 0
            elif isinstance(state, LeaseState):
                living = [end for end in self.leases.get(demand.key, {}).values() if end > self.clock.now]
                assert state.leases == len(living)


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
