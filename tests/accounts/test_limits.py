"""What limits and budgets mean, on the limiter of one process; test_limits_twins.py compares the other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accounts.limits import (
    HOLD_GRACE_SECONDS,
    SECOND,
    SEED_SECONDS,
    Bucket,
    Demand,
    Demands,
    Grant,
    Hold,
    HoldState,
    Lease,
    LeaseState,
    Refusal,
)
from accounts.memory_limits import MemoryLimiter

LEASE_SECONDS = 30.0
BUDGET = Hold("budget", "1", amount=1000, wanted=1000, least=10)


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> MemoryLimiter:
    return MemoryLimiter(clock)


async def reserve(limiter: MemoryLimiter, lease_id: str, *demands: Demand, spent: int = 0) -> Grant | Refusal:
    """As a caller does whose database says that much was spent."""
    answer = await limiter.reserve(lease_id, demands, LEASE_SECONDS)
    if isinstance(answer, Refusal) and answer.unseeded:
        told = answer.seeded(demands, dict.fromkeys(answer.unseeded, spent))
        answer = await limiter.reserve(lease_id, told, LEASE_SECONDS)
    return answer


async def granted(limiter: MemoryLimiter, lease_id: str, *demands: Demand, spent: int = 0) -> Grant:
    answer = await reserve(limiter, lease_id, *demands, spent=spent)
    assert isinstance(answer, Grant)
    return answer


async def test_it_admits_as_many_as_fit_and_says_when_the_next_one_does(
    limiter: MemoryLimiter, clock: Clock
) -> None:
    bucket = Bucket("requests", 2, 2, 1)
    assert [level.remaining for level in (await granted(limiter, "1", bucket)).levels] == [1]
    await granted(limiter, "2", bucket)
    assert await reserve(limiter, "3", bucket) == Refusal(0, 0.5)
    clock.pass_(0.499_999)
    assert await reserve(limiter, "3", bucket) == Refusal(0, 0.000_001)
    clock.pass_(0.000_001)
    await granted(limiter, "3", bucket)


async def test_it_takes_nothing_when_one_demand_is_refused(limiter: MemoryLimiter) -> None:
    demands: Demands = (Bucket("requests", 5, 5, 60), Lease("calls", 1), BUDGET)
    await granted(limiter, "1", Lease("calls", 1))
    await reserve(limiter, "2", BUDGET)
    before = await limiter.explain(demands)
    assert await reserve(limiter, "3", *demands) == Refusal(1, 1.0)
    assert await limiter.explain(demands) == before


async def test_it_never_admits_what_no_bucket_can_hold(limiter: MemoryLimiter) -> None:
    assert await reserve(limiter, "1", Bucket("tokens", 10, 10, 60, cost=11)) == Refusal(0, None)


async def test_it_trues_tokens_up_into_debt_and_back(limiter: MemoryLimiter) -> None:
    tokens = Bucket("tokens", 100, 100, 60, cost=60)
    more, less = await granted(limiter, "1", tokens), await granted(limiter, "2", replace(tokens, cost=40))
    await limiter.settle(more, (90,), 0)
    assert await reserve(limiter, "3", replace(tokens, cost=0)) == Refusal(0, 18.0)
    await limiter.settle(less, (10,), 0)
    await limiter.settle(less, (10,), 0)
    assert (await granted(limiter, "3", replace(tokens, cost=0))).levels[0].remaining == 0


async def test_it_lets_a_stream_take_more_or_nothing(limiter: MemoryLimiter) -> None:
    tokens = Bucket("tokens", 100, 100, 60, cost=60)
    grant = await granted(limiter, "1", tokens, BUDGET)
    assert grant.held == 125
    grown = await limiter.grow(grant, (40,), 375)
    assert isinstance(grown, Grant)
    assert grown.held == 500
    assert await limiter.grow(grown, (1,), 1) == Refusal(0, 0.6)
    await limiter.settle(grown, (50,), 450)
    assert await limiter.explain((BUDGET,)) == [HoldState(1000, 450, 0, 0)]


async def test_it_takes_back_the_leases_of_those_who_do_not_extend_them(
    limiter: MemoryLimiter, clock: Clock
) -> None:
    calls = Lease("calls", 2)
    dead, alive = await granted(limiter, "dead", calls), await granted(limiter, "alive", calls)
    clock.pass_(20)
    await limiter.extend([alive], LEASE_SECONDS)
    clock.pass_(10)
    assert await limiter.explain((calls,)) == [LeaseState(2, 1)]
    await granted(limiter, "next", calls)
    await limiter.settle(dead, (), 0)
    await limiter.extend([dead], LEASE_SECONDS)
    assert await limiter.explain((calls,)) == [LeaseState(2, 2)]


async def test_it_holds_no_more_than_a_share_of_what_is_free(limiter: MemoryLimiter) -> None:
    held = [(await granted(limiter, str(number), BUDGET)).held for number in range(3)]
    assert held == [125, 109, 95]


async def test_it_tells_a_spent_budget_from_one_that_is_held(limiter: MemoryLimiter) -> None:
    whole = replace(BUDGET, share=1)
    grant = await granted(limiter, "1", whole)
    assert await reserve(limiter, "2", whole) == Refusal(0, 1.0)
    await limiter.settle(grant, (), 995)
    assert await reserve(limiter, "2", whole) == Refusal(0, None)


async def test_it_counts_what_is_settled_while_the_database_is_asked(
    limiter: MemoryLimiter, clock: Clock
) -> None:
    grant = await granted(limiter, "1", BUDGET)
    clock.pass_(SEED_SECONDS)
    await limiter.extend([grant], LEASE_SECONDS)
    question = await limiter.reserve("2", (BUDGET,), LEASE_SECONDS)
    assert isinstance(question, Refusal)
    assert question.unseeded == (0,)
    await limiter.settle(grant, (), 100)
    await limiter.reserve("2", question.seeded((BUDGET,), {0: 0}), LEASE_SECONDS)
    [state] = await limiter.explain((BUDGET,))
    assert isinstance(state, HoldState)
    assert state.spent == 100


async def test_it_asks_anew_after_a_hold_that_nobody_settled(limiter: MemoryLimiter, clock: Clock) -> None:
    grant = await granted(limiter, "dead", BUDGET)
    clock.pass_(LEASE_SECONDS + HOLD_GRACE_SECONDS - 1)
    assert await limiter.explain((BUDGET,)) == [HoldState(1000, 0, 125, 1)]
    clock.pass_(1)
    assert await limiter.explain((BUDGET,)) == [HoldState(1000, None, 0, 0)]
    await granted(limiter, "next", BUDGET, spent=70)
    await limiter.settle(grant, (), 70)  # the database knows already: it is asked again
    assert await limiter.explain((BUDGET,)) == [HoldState(1000, None, 116, 1)]


async def test_it_believes_no_answer_that_comes_late(limiter: MemoryLimiter, clock: Clock) -> None:
    question = await limiter.reserve("1", (BUDGET,), LEASE_SECONDS)
    assert isinstance(question, Refusal)
    clock.pass_(11)
    answer = await limiter.reserve("1", question.seeded((BUDGET,), {0: 0}), LEASE_SECONDS)
    assert isinstance(answer, Refusal)
    assert answer.unseeded == (0,)


async def test_it_forgets_keys_that_say_nothing_any_more(limiter: MemoryLimiter, clock: Clock) -> None:
    for number in range(1000):
        grant = await granted(limiter, str(number), Bucket(f"ip {number}", 2, 2, 1), Lease(f"ip {number}", 1))
        await limiter.settle(grant, (1,), 0)
        clock.pass_(1)
    assert len(limiter) < 20


async def test_it_refuses_a_lease_that_would_outlive_its_keys(limiter: MemoryLimiter) -> None:
    with pytest.raises(ValueError, match="at most 600 s"):
        await limiter.reserve("1", (BUDGET,), 601.0)
