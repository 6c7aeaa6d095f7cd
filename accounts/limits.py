"""What a call may take before it is let in: limits' and budgets' demands, and what a limiter answers.

One step reserves everything that a call demands, or takes nothing; one step settles it. There are two
limiters: of one process (accounts/memory_limits.py), and of many (accounts/redis_limits.py, limits.lua). They
are one machine, operation for operation: whoever changes one changes both.

A bucket's level is counted in units of one microsecond's share of a period: a call that costs n takes
n × period, a microsecond gives back `limit`. All of them are whole numbers in doubles, so that below 2**53
nothing is rounded, and a bucket never lets in one call too many.

Invariant: a budget's counter is a cache of the database, and never below it. It is known only once it was
seeded with what the database says, plus what was settled since the question was asked. It becomes unknown
again whenever money may have been spent that it did not hear of: a hold that nobody settled, a settlement
whose hold it does not know, five minutes. Endings of a reservation:
  - settled                      its leases are free, its buckets trued up, its holds turned into spending
  - settled twice                the second time finds nothing; a budget is asked for anew
  - neither settled nor extended leases come back after `lease_seconds`; holds HOLD_GRACE_SECONDS later, when
                                 the reaper has written the call down, and the budget is asked for anew
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

SECOND = 1_000_000  # times are whole microseconds
HOLD_GRACE_SECONDS = 120  # longer than the reaper takes to settle what a dead worker left open
SEED_SECONDS = 300  # how long a budget's counter is believed
MARK_SECONDS = 10  # how long the database may take to say what was spent
WAIT_SECONDS = 1  # to wait for others to settle: nobody knows when they will
LONGEST_LEASE_SECONDS = 600
COUNTER_SECONDS = 3600  # unused for longer, a budget's counter is dropped

NEVER = -1

Mark = tuple[int, int, int]  # when a budget's counter was asked for: settled so far, time, birth of the store


class LimiterUnavailable(Exception):
    """The limiter's store does not answer: whether the call may go ahead is for the caller to decide."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """`limit` a period, at most `capacity` at once, of which this call takes `cost`.

    Those who wait for their turn at a bucket of depth 1 come a moment late, each time, and what a full
    bucket was given meanwhile is lost. `slack_microseconds` is how late they may be without that loss: so
    much closer than even may two starts be.
    """

    key: str
    capacity: int
    limit: int
    period_seconds: int
    cost: int = 1
    slack_microseconds: int = 0

    @property
    def full(self) -> float:
        """In units. Never over the limit, for that would let in more than the limit says."""
        period = self.period_seconds * SECOND
        slack = float(self.slack_microseconds) * self.limit
        return min(float(self.capacity) * period + slack, max(float(self.limit), self.capacity) * period)


@dataclass(frozen=True, slots=True)
class Lease:
    """One of `limit` calls at a time."""

    key: str
    limit: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Money set aside under a budget, in nano-dollars: spent + held never passes `amount`.

    It takes `wanted`, but no more than a `share`-th of what is free, unless `least` needs it; below `least`
    the call is refused. `generation` is the start of the budget's window. `spent` is what the database
    says, answering a Refusal's `mark` (see `Refusal.seeded`); a counter that is known has no use for it.
    """

    key: str
    generation: str
    amount: int
    wanted: int
    least: int
    share: int = 8
    spent: int | None = None
    mark: Mark | None = None

    @property
    def name(self) -> str:
        return f"{self.key}@{self.generation}"


Demand: TypeAlias = Bucket | Lease | Hold
Demands = tuple[Demand, ...]


@dataclass(frozen=True, slots=True)
class Level:
    """How full a bucket is: what is left in it (a debt is negative), and the time until it is full."""

    limit: int
    remaining: int
    full_seconds: float


@dataclass(frozen=True, slots=True)
class Grant:
    """Everything was reserved. `held` is what each Hold holds; `levels` are the Buckets', in their order."""

    lease_id: str
    demands: Demands
    held: int
    levels: tuple[Level, ...]
    birth: int  # of the store that granted it: another one has forgotten it


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing was taken, because of the demand at `index`: of several the one to wait longest for.

    `retry_after_seconds` is None when waiting will not help. `unseeded` are the Holds whose counter has to
    be seeded, which is all that stands in the way: ask the database, then reserve `seeded(…)`.
    """

    index: int
    retry_after_seconds: float | None
    unseeded: tuple[int, ...] = ()
    marks: tuple[Mark, ...] = ()

    def seeded(self, demands: Demands, spent: Mapping[int, int]) -> Demands:
        """The same demands, telling for each index in `unseeded` what the database says was spent."""
        told = list(demands)
        for index, mark in zip(self.unseeded, self.marks, strict=True):
            hold = told[index]
            assert isinstance(hold, Hold)
            told[index] = replace(hold, spent=spent[index], mark=mark)
        return tuple(told)


@dataclass(frozen=True, slots=True)
class LeaseState:
    limit: int
    leases: int


@dataclass(frozen=True, slots=True)
class HoldState:
    """`spent` is None while the counter is unknown; `calls` hold `held` between them."""

    amount: int
    spent: int | None
    held: int
    calls: int


State: TypeAlias = Level | LeaseState | HoldState


class Limiter(Protocol):
    """Keys are unique among the demands of a call; a lease id belongs to one call.

    All but `settle` raise LimiterUnavailable.
    """

    async def reserve(self, lease_id: str, demands: Demands, lease_seconds: float) -> Grant | Refusal:
        """Takes everything, or nothing."""

    async def grow(self, grant: Grant, bucket_costs: Sequence[int], hold_extra: int) -> Grant | Refusal:
        """Takes more: `bucket_costs` of each Bucket, `hold_extra` under each Hold, or nothing. The grant
        that comes back stands for both."""

    async def extend(self, grants: Sequence[Grant], lease_seconds: float) -> None:
        """Keeps leases and holds from expiring, and restores those that a store lost. Once a second."""

    async def settle(self, grant: Grant, bucket_costs: Sequence[int], spent: int) -> None:
        """Gives everything back but the true cost of each Bucket, which may be more than was taken, and
        `spent` nano-dollars, which the database has to know by now. Never raises LimiterUnavailable."""

    async def forget(self, holds: Sequence[Hold]) -> None:
        """Has these budgets asked for anew: the database knows of spending that the limiter does not."""

    async def explain(self, demands: Demands) -> list[State]:
        """How things stand for each demand, taking nothing."""


def level(bucket: Bucket, units: float) -> Level:
    """What that many units in the bucket come to."""
    period = bucket.period_seconds * SECOND
    missing = bucket.full - units
    return Level(bucket.limit, math.floor(units / period), max(0, math.ceil(missing / bucket.limit)) / SECOND)


def lease_microseconds(lease_seconds: float) -> int:
    """Raises ValueError for a lease that would outlive what it is kept in."""
    if not 0 < lease_seconds <= LONGEST_LEASE_SECONDS:
        raise ValueError(f"A lease is for at most {LONGEST_LEASE_SECONDS} s, not {lease_seconds:g} s.")
    return round(lease_seconds * SECOND)


def regrown(grant: Grant, bucket_costs: Sequence[int]) -> Demands:
    """A grant's demands with that much more taken from its Buckets."""
    costs = iter(bucket_costs)
    return tuple(
        replace(demand, cost=demand.cost + next(costs)) if isinstance(demand, Bucket) else demand
        for demand in grant.demands
    )


@dataclass(slots=True)
class Verdict:
    """What stands in the way of a call, as its demands are looked at one by one."""

    index: int = -1
    wait: int = 0  # microseconds, or NEVER
    unseeded: list[int] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    def blame(self, index: int, wait: int) -> None:
        """The demand does not fit for that long. A longer wait counts for more, the first of equals."""
        if self.wait != NEVER and (wait == NEVER or wait > self.wait):
            self.index, self.wait = index, wait

    def ask(self, index: int, mark: Mark) -> None:
        """Nobody knows whether the demand fits."""
        self.unseeded.append(index)
        self.marks.append(mark)

    def refusal(self) -> Refusal | None:
        if self.wait:
            return Refusal(self.index, None if self.wait == NEVER else self.wait / SECOND)
        if self.unseeded:
            return Refusal(self.unseeded[0], 0.0, tuple(self.unseeded), tuple(self.marks))
        return None
