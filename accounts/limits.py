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
whose hold it does not know, a `forget`, a store that is new, five minutes. Endings of a reservation:
  - settled                      its leases are free, its buckets trued up, its holds turned into spending
  - settled twice                the second time finds nothing; a budget is asked for anew
  - neither settled nor extended leases come back after `lease_seconds`; holds HOLD_GRACE_SECONDS later, when
                                 the reaper has written the call down, and the budget is asked for anew
  - forgotten by the store       `extend` restores its leases and holds. A store is new that lost everything,
                                 or that nobody reached for SILENCE_SECONDS: no budget is believed in it, and
                                 nothing is held, until everybody had the time to restore
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias

SECOND = 1_000_000  # times are whole microseconds
HOLD_GRACE_SECONDS = 120  # longer than the reaper takes to settle what a dead worker left open
SILENCE_SECONDS = 120  # no longer than the grace: a hold that lapsed unextended is that of a dead worker
SEED_SECONDS = 300  # how long a budget's counter is believed
MARK_SECONDS = 10  # how long the database may take to say what was spent
WAIT_SECONDS = 1  # to wait for others to settle: nobody knows when they will
LONGEST_LEASE_SECONDS = 600
COUNTER_SECONDS = 3600  # unused for longer, a budget's counter is dropped

NEVER = -1

Mark = tuple[int, int, int]  # when a budget's counter was asked for: settled so far, time, birth of the store
Told = tuple[int, Mark]  # what the database answers that was spent, and to which question


class LimiterUnavailable(Exception):
    """The limiter's store does not answer, or cannot tell yet what is held: whether the call may go ahead is
    for the caller to decide."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """`limit` a period, at most `capacity` at once.

    Those who wait for their turn at a bucket of depth 1 come a moment late, each time, and what a full
    bucket was given meanwhile is lost. `slack_microseconds` is how late they may be without that loss: so
    much closer than even may two starts be. Those on the same `shelf` are kept together, which is cheaper:
    whoever demands one of them demands all, in the same order. Without a name it has one of its own.
    """

    key: str
    capacity: int
    limit: int
    period_seconds: int
    slack_microseconds: int = 0
    shelf: str = ""
    period: float = field(init=False, repr=False, compare=False)  # microseconds; in units, a cost of one
    whole: float = field(init=False, repr=False, compare=False)  # in units, `limit`
    full: float = field(init=False, repr=False, compare=False)  # in units, as much as it holds

    def __post_init__(self) -> None:
        """Works out, once for all calls, what each would need. Never is a bucket filled over its limit, for
        that would let in more than the limit says."""
        period = float(self.period_seconds * SECOND)
        object.__setattr__(self, "whole", self.limit * period)
        most = max(float(self.limit), self.capacity) * period
        slack = float(self.slack_microseconds) * self.limit
        object.__setattr__(self, "period", period)
        object.__setattr__(self, "full", min(float(self.capacity) * period + slack, most))


@dataclass(frozen=True, slots=True)
class Lease:
    """One of `limit` calls at a time."""

    key: str
    limit: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Money set aside under a budget, in nano-dollars: spent + held never passes `amount`.

    No call is given more than a `share`-th of what is free, unless it needs as much. `key` names the budget's
    window too: a new one begins with nothing spent.
    """

    key: str
    amount: int
    share: int = 8


Demand: TypeAlias = Bucket | Lease | Hold


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Demands:
    """All that applies to a call, whatever the call takes of it. Keys are unique among those of a kind.

    Made once for many calls: limiters remember what they worked out for it.
    """

    buckets: tuple[Bucket, ...] = ()
    leases: tuple[Lease, ...] = ()
    holds: tuple[Hold, ...] = ()

    def all(self) -> tuple[Demand, ...]:
        """In the order by which a Refusal counts."""
        return (*self.buckets, *self.leases, *self.holds)


@dataclass(frozen=True, slots=True)
class Amounts:
    """What one call takes: `costs` of each Bucket, and under each Hold `wanted`, but refuses less than
    `least`. `told` is what the database says that was spent, by the Holds' index, answering a Refusal's marks
    (see `Refusal.answered`); a counter that is known has no use for it."""

    costs: tuple[int, ...] = ()
    wanted: int = 0
    least: int = 0
    told: Mapping[int, Told] | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """How full a bucket is: what is left in it (a debt is negative), and the time until it is full."""

    limit: int
    remaining: int
    full_seconds: float


@dataclass(frozen=True, slots=True)
class Grant:
    """Everything was reserved. `held` is what each Hold holds; `units` is what is left in each Bucket."""

    lease_id: str
    demands: Demands
    costs: tuple[int, ...]
    held: int
    units: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing was taken, because of the demand at `index`: of several the one to wait longest for.

    `retry_after_seconds` is None when waiting will not help. `unseeded` are the indices of the Holds whose
    counter has to be seeded, which is all that stands in the way: ask the database, then reserve `answered`.
    """

    index: int
    retry_after_seconds: float | None
    unseeded: tuple[int, ...] = ()
    marks: tuple[Mark, ...] = ()

    def answered(self, amounts: Amounts, spent: Sequence[int]) -> Amounts:
        """The same amounts, telling of each of `unseeded` what the database says was spent."""
        answers = zip(spent, self.marks, strict=True)
        return replace(amounts, told=dict(zip(self.unseeded, answers, strict=True)))


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
    """A lease id belongs to one call. All but `settle` and `forget` raise LimiterUnavailable."""

    async def reserve(
        self, lease_id: str, demands: Demands, amounts: Amounts, lease_seconds: float
    ) -> Grant | Refusal:
        """Takes everything, or nothing."""

    async def grow(self, grant: Grant, costs: Sequence[int]) -> Grant | Refusal:
        """Takes that much more of each Bucket, or nothing. The grant that comes back stands for both."""

    async def extend(self, grants: Sequence[Grant], lease_seconds: float) -> None:
        """Keeps leases and holds from expiring, and restores those that a store lost. Once a second, without
        grants too: it shows that the store is reached. The grants must be open, and none be settled before it
        is called: what comes after a settlement would take again what that gave back."""

    async def settle(self, grant: Grant, costs: Sequence[int], spent: int) -> None:
        """Gives everything back but the true cost of each Bucket, which may be more than was taken, and
        `spent` nano-dollars, which the database has to know by now."""

    async def forget(self) -> None:
        """Has all budgets asked for anew: the database may know of spending that the limiter does not."""

    async def explain(self, demands: Demands) -> list[State]:
        """How things stand for each of `demands.all()`, taking nothing."""


def level(bucket: Bucket, units: float) -> Level:
    """What that many units in the bucket come to."""
    missing = bucket.full - units
    seconds = max(0, math.ceil(missing / bucket.limit)) / SECOND
    return Level(bucket.limit, math.floor(units / bucket.period), seconds)


def lease_microseconds(lease_seconds: float) -> int:
    """Raises ValueError for a lease that would outlive what it is kept in."""
    if not 0 < lease_seconds <= LONGEST_LEASE_SECONDS:
        raise ValueError(f"A lease is for at most {LONGEST_LEASE_SECONDS} s, not {lease_seconds:g} s.")
    return round(lease_seconds * SECOND)


def grown(grant: Grant, costs: Sequence[int], units: tuple[float, ...]) -> Grant:
    """The grant with that much more taken from its Buckets."""
    both = tuple(taken + more for taken, more in zip(grant.costs, costs, strict=True))
    return replace(grant, costs=both, units=units)


@dataclass(slots=True)
class Verdict:
    """What stands in the way of a call, as its demands are looked at one by one."""

    index: int = -1
    wait: int = 0  # microseconds, or NEVER
    recovering: bool = False
    unseeded: list[int] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    def blame(self, index: int, wait: int) -> None:
        """The demand does not fit for that long. A longer wait counts for more, the first of equals."""
        if self.wait != NEVER and (wait == NEVER or wait > self.wait):
            self.index, self.wait = index, wait

    def ask(self, hold: int, mark: Mark) -> None:
        """Nobody knows whether that Hold fits."""
        self.unseeded.append(hold)
        self.marks.append(mark)

    def refusal(self, first_hold: int) -> Refusal | None:
        """Raises LimiterUnavailable when nothing else is in the way than a store that recovers."""
        if self.wait:
            return Refusal(self.index, None if self.wait == NEVER else self.wait / SECOND)
        if self.recovering:
            raise LimiterUnavailable("Those who hold money have not all said so yet.")
        if self.unseeded:
            index = first_hold + self.unseeded[0]
            return Refusal(index, 0.0, tuple(self.unseeded), tuple(self.marks))
        return None
