"""What limits and budgets mean, on the limiter of one process; test_limits_twins.py compares the other."""

from __future__ import annotations

import pytest

from accounts.limits import (
    HOLD_GRACE_SECONDS,
    SECOND,
    SEED_SECONDS,
    SILENCE_SECONDS,
    Amounts,
    Bucket,
    Demands,
    Grant,
    Hold,
    HoldState,
    Lease,
    LeaseState,
    LimiterUnavailable,
    Refusal,
    level,
)
from accounts.memory_limits import MemoryLimiter

LEASE_SECONDS = 30.0
BUDGET = Hold("budget", amount=1000)
MONEY = Demands(holds=(BUDGET,))
MUCH = Amounts(wanted=1000, least=10)


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


async def reserve(
    limiter: MemoryLimiter, lease_id: str, demands: Demands, cost: int = 1, spent: int = 0
) -> Grant | Refusal:
    """As a caller does whose database says that much was spent."""
    amounts = Amounts((cost,) * len(demands.buckets), MUCH.wanted, MUCH.least)
    answer = await limiter.reserve(lease_id, demands, amounts, LEASE_SECONDS)
    if isinstance(answer, Refusal) and answer.unseeded:
        told = answer.answered(amounts, [spent] * len(answer.unseeded))
        answer = await limiter.reserve(lease_id, demands, told, LEASE_SECONDS)
    return answer


async def granted(
    limiter: MemoryLimiter, lease_id: str, demands: Demands, cost: int = 1, spent: int = 0
) -> Grant:
    answer = await reserve(limiter, lease_id, demands, cost, spent)
    assert isinstance(answer, Grant)
    return answer


async def pass_with_others(limiter: MemoryLimiter, clock: Clock, seconds: float, *grants: Grant) -> None:
    """Lets so much time pass in which the limiter is reached, and these grants are extended."""
    end = clock.now + round(seconds * SECOND)
    while clock.now < end:
        clock.now = min(end, clock.now + 10 * SECOND)
        await limiter.extend(grants, LEASE_SECONDS)


def left(grant: Grant) -> list[int]:
    """What is left in each bucket."""
    buckets = zip(grant.demands.buckets, grant.units, strict=True)
    return [level(bucket, units).remaining for bucket, units in buckets]


async def test_it_admits_as_many_as_fit_and_says_when_the_next_one_does(
    limiter: MemoryLimiter, clock: Clock
) -> None:
    bucket = Demands((Bucket("requests", 2, 2, 1),))
    assert left(await granted(limiter, "1", bucket)) == [1]
    await granted(limiter, "2", bucket)
    assert await reserve(limiter, "3", bucket) == Refusal(0, 0.5)
    clock.pass_(0.499_999)
    assert await reserve(limiter, "3", bucket) == Refusal(0, 0.000_001)
    clock.pass_(0.000_001)
    await granted(limiter, "3", bucket)


async def test_it_takes_nothing_when_one_demand_is_refused(limiter: MemoryLimiter) -> None:
    demands = Demands((Bucket("requests", 5, 5, 60),), (Lease("calls", 1),), (BUDGET,))
    await granted(limiter, "1", Demands(leases=demands.leases))
    await reserve(limiter, "2", MONEY)
    before = await limiter.explain(demands)
    assert await reserve(limiter, "3", demands) == Refusal(1, 1.0)
    assert await limiter.explain(demands) == before


async def test_it_never_admits_what_no_bucket_can_hold(limiter: MemoryLimiter) -> None:
    assert await reserve(limiter, "1", Demands((Bucket("tokens", 10, 10, 60),)), cost=11) == Refusal(0, None)


async def test_it_trues_tokens_up_into_debt_and_back(limiter: MemoryLimiter) -> None:
    tokens = Demands((Bucket("tokens", 100, 100, 60),))
    more, less = await granted(limiter, "1", tokens, 60), await granted(limiter, "2", tokens, 40)
    await limiter.settle(more, (90,), 0)
    assert await reserve(limiter, "3", tokens, 0) == Refusal(0, 18.0)
    await limiter.settle(less, (10,), 0)
    await limiter.settle(less, (10,), 0)
    assert left(await granted(limiter, "3", tokens, 0)) == [0]


async def test_it_lets_a_stream_take_more_or_nothing(limiter: MemoryLimiter) -> None:
    tokens = Demands((Bucket("tokens", 100, 100, 60),))
    grant = await granted(limiter, "1", tokens, 60)
    grown = await limiter.grow(grant, (40,))
    assert isinstance(grown, Grant)
    assert left(grown) == [0]
    assert await limiter.grow(grown, (1,)) == Refusal(0, 0.6)
    await limiter.settle(grown, (50,), 0)
    assert left(await granted(limiter, "2", tokens, 0)) == [50]


async def test_it_takes_back_the_leases_of_those_who_do_not_extend_them(
    limiter: MemoryLimiter, clock: Clock
) -> None:
    calls = Demands(leases=(Lease("calls", 2),))
    dead, alive = await granted(limiter, "dead", calls), await granted(limiter, "alive", calls)
    clock.pass_(25)
    await limiter.extend([alive], LEASE_SECONDS)
    clock.pass_(10)
    assert await limiter.explain(calls) == [LeaseState(2, 1)]
    await granted(limiter, "next", calls)
    await limiter.settle(dead, (), 0)
    assert await limiter.explain(calls) == [LeaseState(2, 2)]


async def test_it_counts_calls_again_that_it_took_for_dead(limiter: MemoryLimiter, clock: Clock) -> None:
    demands = Demands((), (Lease("calls", 2),), (BUDGET,))
    grant = await granted(limiter, "cut off", demands)
    clock.pass_(LEASE_SECONDS + HOLD_GRACE_SECONDS)
    assert await limiter.explain(demands) == [LeaseState(2, 0), HoldState(1000, None, 0, 0)]
    for _ in range(2):
        await limiter.extend([grant], LEASE_SECONDS)
        assert await limiter.explain(demands) == [LeaseState(2, 1), HoldState(1000, None, 125, 1)]
    await limiter.settle(grant, (), 100)
    assert await limiter.explain(demands) == [LeaseState(2, 0), HoldState(1000, None, 0, 0)]


async def test_a_store_that_nobody_reached_holds_nothing_before_all_had_the_time_to_restore(
    clock: Clock,
) -> None:
    limiter = MemoryLimiter(clock, recovery_seconds=2.0)
    clock.pass_(SILENCE_SECONDS)
    await limiter.extend([], LEASE_SECONDS)
    clock.pass_(2)
    await granted(limiter, "before", MONEY)
    clock.pass_(SILENCE_SECONDS - 3)
    await limiter.extend([], LEASE_SECONDS)
    clock.pass_(SILENCE_SECONDS - 1)
    await granted(limiter, "somebody was there", MONEY)
    clock.pass_(1)
    with pytest.raises(LimiterUnavailable):
        await reserve(limiter, "nobody was there", MONEY)
    clock.pass_(2)
    await granted(limiter, "after", MONEY)


async def test_it_holds_no_more_than_a_share_of_what_is_free(limiter: MemoryLimiter) -> None:
    held = [(await granted(limiter, str(number), MONEY)).held for number in range(3)]
    assert held == [125, 109, 95]


async def test_it_tells_a_spent_budget_from_one_that_is_held(limiter: MemoryLimiter) -> None:
    whole = Demands(holds=(Hold("budget", amount=1000, share=1),))
    grant = await granted(limiter, "1", whole)
    assert await reserve(limiter, "2", whole) == Refusal(0, 1.0)
    await limiter.settle(grant, (), 995)
    assert await reserve(limiter, "2", whole) == Refusal(0, None)


async def test_it_counts_what_is_settled_while_the_database_is_asked(
    limiter: MemoryLimiter, clock: Clock
) -> None:
    grant = await granted(limiter, "1", MONEY)
    await pass_with_others(limiter, clock, SEED_SECONDS, grant)
    question = await limiter.reserve("2", MONEY, MUCH, LEASE_SECONDS)
    assert isinstance(question, Refusal)
    assert question.unseeded == (0,)
    await limiter.settle(grant, (), 100)
    await limiter.reserve("2", MONEY, question.answered(MUCH, [0]), LEASE_SECONDS)
    [state] = await limiter.explain(MONEY)
    assert isinstance(state, HoldState)
    assert state.spent == 100


async def test_it_asks_anew_after_a_hold_that_nobody_settled(limiter: MemoryLimiter, clock: Clock) -> None:
    grant = await granted(limiter, "dead", MONEY)
    await pass_with_others(limiter, clock, LEASE_SECONDS + HOLD_GRACE_SECONDS - 1)
    assert await limiter.explain(MONEY) == [HoldState(1000, 0, 125, 1)]
    clock.pass_(1)
    assert await limiter.explain(MONEY) == [HoldState(1000, None, 0, 0)]
    await granted(limiter, "next", MONEY, spent=70)
    await limiter.settle(grant, (), 70)  # the database knows already: it is asked again
    assert await limiter.explain(MONEY) == [HoldState(1000, None, 116, 1)]


async def test_it_asks_anew_when_the_database_may_know_more(limiter: MemoryLimiter, clock: Clock) -> None:
    await granted(limiter, "1", MONEY)
    clock.pass_(1)
    await limiter.forget()
    assert await limiter.explain(MONEY) == [HoldState(1000, None, 125, 1)]
    await granted(limiter, "2", MONEY, spent=70)
    assert await limiter.explain(MONEY) == [HoldState(1000, 70, 225, 2)]


async def test_it_believes_no_answer_to_what_was_asked_before_it_forgot(
    limiter: MemoryLimiter, clock: Clock
) -> None:
    question = await limiter.reserve("1", MONEY, MUCH, LEASE_SECONDS)
    assert isinstance(question, Refusal)
    clock.pass_(1)
    await limiter.forget()
    answer = await limiter.reserve("1", MONEY, question.answered(MUCH, [0]), LEASE_SECONDS)
    assert isinstance(answer, Refusal)
    assert answer.unseeded == (0,)


async def test_it_believes_no_answer_that_comes_late(limiter: MemoryLimiter, clock: Clock) -> None:
    question = await limiter.reserve("1", MONEY, MUCH, LEASE_SECONDS)
    assert isinstance(question, Refusal)
    clock.pass_(11)
    answer = await limiter.reserve("1", MONEY, question.answered(MUCH, [0]), LEASE_SECONDS)
    assert isinstance(answer, Refusal)
    assert answer.unseeded == (0,)


async def test_it_forgets_keys_that_say_nothing_any_more(limiter: MemoryLimiter, clock: Clock) -> None:
    for number in range(1000):
        demands = Demands((Bucket(f"ip {number}", 2, 2, 1),), (Lease(f"ip {number}", 1),))
        grant = await granted(limiter, str(number), demands)
        await limiter.settle(grant, (1,), 0)
        clock.pass_(1)
    assert len(limiter) < 20


async def test_it_refuses_a_lease_that_would_outlive_its_keys(limiter: MemoryLimiter) -> None:
    with pytest.raises(ValueError, match="at most 600 s"):
        await limiter.reserve("1", MONEY, MUCH, 601.0)
