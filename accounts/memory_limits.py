"""The limiter of a process that is alone: the machine of accounts/limits.py, whose twin is limits.lua.

It works on demands by kind, all buckets, then all leases, then all holds: a call may have twenty of them, and
what is done for each is most of what limits cost.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from accounts.limits import (
    COUNTER_SECONDS,
    HOLD_GRACE_SECONDS,
    MARK_SECONDS,
    NEVER,
    SECOND,
    SEED_SECONDS,
    SILENCE_SECONDS,
    WAIT_SECONDS,
    Amounts,
    Bucket,
    Demands,
    Grant,
    Hold,
    HoldState,
    Lease,
    LeaseState,
    Refusal,
    State,
    Told,
    Verdict,
    grown,
    lease_microseconds,
    level,
)

_GRACE = HOLD_GRACE_SECONDS * SECOND
_WAIT = WAIT_SECONDS * SECOND


class _Entry(Protocol):
    def over(self, now: int) -> bool:
        """Whether it says no more than if it were not there, and has not for a while."""


@dataclass(slots=True)
class _Filling:
    bucket: Bucket  # as it was drawn from last
    units: float
    at: int

    def over(self, now: int) -> bool:
        full_at = self.at + (self.bucket.full - self.units) / self.bucket.limit
        return full_at + 2 * self.bucket.period <= now


@dataclass(slots=True)
class _Leases:
    until: dict[str, int] = field(default_factory=dict)  # by lease id
    earliest: int = 0  # none of them ends before

    def over(self, now: int) -> bool:
        return not self.living(now)

    def living(self, now: int) -> dict[str, int]:
        """Without those that ended."""
        if self.until and self.earliest <= now:
            self.until = {key: until for key, until in self.until.items() if until > now}
            self.earliest = min(self.until.values(), default=0)
        return self.until

    def add(self, lease_id: str, until: int) -> None:
        self.earliest = min(self.earliest, until) if self.until else until
        self.until[lease_id] = until


@dataclass(slots=True)
class _Counter:
    spent: int | None = None
    seeded_at: int = 0
    settled: int = 0  # all that was ever settled here: only its growth means anything
    held: int = 0
    earliest: int = 0  # none of the holds ends before
    holds: dict[str, tuple[int, int]] = field(default_factory=dict)  # by lease id: amount, until
    used_at: int = 0

    def over(self, now: int) -> bool:
        return not self.holds and self.used_at + COUNTER_SECONDS * SECOND <= now


@dataclass(slots=True)
class _Reservation:
    """That the buckets of a call may be trued up, once."""

    until: int

    def valid(self, now: int) -> bool:
        return self.until + _GRACE > now

    def over(self, now: int) -> bool:
        return not self.valid(now - SECOND)


Entry = TypeVar("Entry", bound=_Entry)


class _Table(Generic[Entry]):
    """Entries by key. Those that are over go: two are looked at for each that is added."""

    def __init__(self) -> None:
        self.entries: OrderedDict[str, Entry] = OrderedDict()

    def add(self, key: str, entry: Entry, now: int) -> Entry:
        entries = self.entries
        entries[key] = entry
        for _ in range(2):
            oldest = next(iter(entries))
            if entries[oldest].over(now) and oldest != key:
                del entries[oldest]
            else:
                entries.move_to_end(oldest)
        return entry


def _microseconds() -> int:
    return time.monotonic_ns() // 1000


class MemoryLimiter:
    """`clock` tells microseconds. For `recovery_seconds` after its first use it seeds no budget's counter:
    as long as others, were there any, would take to `extend` what they hold."""

    def __init__(self, clock: Callable[[], int] = _microseconds, recovery_seconds: float = 0.0) -> None:
        self._clock = clock
        self._recovery = round(recovery_seconds * SECOND)
        self._birth = -1
        self._forgot_at = -1
        self._reached_at = -1
        self._fillings: _Table[_Filling] = _Table()
        self._leases: _Table[_Leases] = _Table()
        self._counters: _Table[_Counter] = _Table()
        self._reservations: _Table[_Reservation] = _Table()

    def __len__(self) -> int:
        """How many keys it remembers."""
        tables = (self._fillings, self._leases, self._counters, self._reservations)
        return sum(len(table.entries) for table in tables)

    async def reserve(
        self, lease_id: str, demands: Demands, amounts: Amounts, lease_seconds: float
    ) -> Grant | Refusal:
        duration, now, verdict = lease_microseconds(lease_seconds), self._now(), Verdict()
        units = self._judge_buckets(verdict, demands.buckets, amounts.costs, now)
        self._judge_leases(verdict, demands, now)
        held = self._judge_holds(verdict, demands, amounts, now)
        refusal = verdict.refusal(len(demands.buckets) + len(demands.leases))
        if refusal is not None:
            return refusal
        left = self._draw(demands.buckets, amounts.costs, units, now)
        if left:
            self._reservations.add(lease_id, _Reservation(now + duration), now)
        self._restore(lease_id, demands, held, now + duration, now)
        return Grant(lease_id, demands, amounts.costs, held, left)

    async def grow(self, grant: Grant, costs: Sequence[int]) -> Grant | Refusal:
        now, buckets, verdict = self._now(), grant.demands.buckets, Verdict()
        units = self._judge_buckets(verdict, buckets, costs, now)
        return verdict.refusal(0) or grown(grant, costs, self._draw(buckets, costs, units, now))

    async def extend(self, grants: Sequence[Grant], lease_seconds: float) -> None:
        duration, now = lease_microseconds(lease_seconds), self._now()
        self._reached_at = now
        for grant in grants:
            self._restore(grant.lease_id, grant.demands, grant.held, now + duration, now)
            reservation = self._reservations.entries.get(grant.lease_id)
            if reservation is not None and reservation.valid(now):
                reservation.until = now + duration

    async def settle(self, grant: Grant, costs: Sequence[int], spent: int) -> None:
        now, demands = self._now(), grant.demands
        reservation = self._reservations.entries.pop(grant.lease_id, None)
        if reservation is not None and reservation.valid(now):
            self._true_up(demands.buckets, grant.costs, costs, now)
        for lease in demands.leases:
            leases = self._leases.entries.get(lease.key)
            if leases is not None:
                leases.until.pop(grant.lease_id, None)
        for hold in demands.holds:
            self._spend(hold, grant.lease_id, spent, now)

    async def forget(self) -> None:
        self._forgot_at = self._now()

    async def explain(self, demands: Demands) -> list[State]:
        now = self._now()
        units = self._units(demands.buckets, now)
        states: list[State] = [level(*each) for each in zip(demands.buckets, units, strict=True)]
        states += [LeaseState(lease.limit, len(self._living(lease, now))) for lease in demands.leases]
        for hold in demands.holds:
            counter = self._counter(hold, None, now)
            states.append(HoldState(hold.amount, counter.spent, counter.held, len(counter.holds)))
        return states

    def _now(self) -> int:
        """The time; a store that nobody reached for long is born again."""
        now = self._clock()
        if self._birth < 0 or now >= self._reached_at + SILENCE_SECONDS * SECOND:
            self._birth = self._forgot_at = self._reached_at = now
        return now

    def _restore(self, lease_id: str, demands: Demands, held: int, until: int, now: int) -> None:
        """Takes leases and holds, or keeps them, until then."""
        for lease in demands.leases:
            leases = self._leases.entries.get(lease.key) or self._leases.add(lease.key, _Leases(), now)
            leases.add(lease_id, until)
        for hold in demands.holds:
            self._hold(hold, lease_id, held, until, now)

    # Buckets

    def _units(self, buckets: Sequence[Bucket], now: int) -> list[float]:
        """What is in each bucket by now."""
        units, entries = [], self._fillings.entries
        for bucket in buckets:
            filling = entries.get(bucket.key)
            if filling is None:
                units.append(bucket.full)
                continue
            there, passed = filling.units, now - filling.at
            if passed > 0:
                there += float(passed) * bucket.limit
            units.append(there if there < bucket.full else bucket.full)
        return units

    def _judge_buckets(
        self, verdict: Verdict, buckets: Sequence[Bucket], costs: Sequence[int], now: int
    ) -> list[float]:
        """What is in each bucket before anything is taken."""
        units = self._units(buckets, now)
        for index, (bucket, cost, there) in enumerate(zip(buckets, costs, units, strict=True)):
            missing = cost * bucket.period - there
            if cost > bucket.capacity:
                verdict.blame(index, NEVER)
            elif missing > 0:
                verdict.blame(index, math.ceil(missing / bucket.limit))
        return units

    def _draw(
        self, buckets: Sequence[Bucket], costs: Sequence[int], units: Sequence[float], now: int
    ) -> tuple[float, ...]:
        """Takes the costs, into debt if need be, and gives back those below zero; what is left."""
        left, fillings = [], self._fillings
        for bucket, cost, there in zip(buckets, costs, units, strict=True):
            if not cost:
                left.append(there)
                continue
            rest = there - cost * bucket.period
            if rest > bucket.full:
                rest = bucket.full
            left.append(rest)
            filling = fillings.entries.get(bucket.key)
            if filling is None:
                fillings.add(bucket.key, _Filling(bucket, rest, now), now)
            else:
                filling.bucket, filling.units, filling.at = bucket, rest, now
        return tuple(left)

    def _true_up(
        self, buckets: Sequence[Bucket], taken: Sequence[int], costs: Sequence[int], now: int
    ) -> None:
        """Takes what was not taken enough, and gives back what was too much."""
        more = [cost - before for cost, before in zip(costs, taken, strict=True)]
        wrong = [bucket for bucket, extra in zip(buckets, more, strict=True) if extra]
        self._draw(wrong, [extra for extra in more if extra], self._units(wrong, now), now)

    # Leases

    def _living(self, lease: Lease, now: int) -> dict[str, int]:
        leases = self._leases.entries.get(lease.key)
        return leases.living(now) if leases is not None else {}

    def _judge_leases(self, verdict: Verdict, demands: Demands, now: int) -> None:
        for index, lease in enumerate(demands.leases, len(demands.buckets)):
            if len(self._living(lease, now)) >= lease.limit:
                verdict.blame(index, _WAIT)

    # Budgets

    def _counter(self, hold: Hold, told: Told | None, now: int) -> _Counter:
        """The budget's counter, which is a new one where nobody knows it; seeded with what it is told."""
        counter = self._counters.entries.get(hold.key) or self._counters.add(hold.key, _Counter(), now)
        counter.used_at = now
        if counter.holds and counter.earliest + _GRACE <= now:
            self._lapse(counter, now)
        if counter.seeded_at + SEED_SECONDS * SECOND <= now or counter.seeded_at < self._forgot_at:
            counter.spent = None
        if counter.spent is None and told is not None and self._believes(told, counter, now):
            spent, (settled, *_) = told
            counter.spent = spent + counter.settled - settled
            counter.seeded_at = now
        return counter

    def _lapse(self, counter: _Counter, now: int) -> None:
        """Lets go of holds that nobody settled; what became of them is for the database to say."""
        kept = {key: hold for key, hold in counter.holds.items() if hold[1] + _GRACE > now}
        if len(kept) < len(counter.holds):
            counter.spent = None
        counter.holds = kept
        counter.held = sum(amount for amount, _ in kept.values())
        counter.earliest = min((until for _, until in kept.values()), default=0)

    def _believes(self, told: Told, counter: _Counter, now: int) -> bool:
        """Whether what the database said is an answer to a question asked lately, of this very store."""
        _, (settled, asked_at, birth) = told
        return (
            now >= self._birth + self._recovery
            and birth == self._birth
            and self._forgot_at <= asked_at
            and now <= asked_at + MARK_SECONDS * SECOND
            and counter.settled >= settled
        )

    def _judge_holds(self, verdict: Verdict, demands: Demands, amounts: Amounts, now: int) -> int:
        """How much every budget can hold for the call."""
        first, offers = len(demands.buckets) + len(demands.leases), []
        for index, hold in enumerate(demands.holds):
            counter = self._counter(hold, amounts.told.get(index) if amounts.told else None, now)
            if counter.spent is None:
                if now < self._birth + self._recovery:
                    verdict.recovering = True
                else:
                    verdict.ask(index, (counter.settled, now, self._birth))
                continue
            unspent = hold.amount - counter.spent
            free = unspent - counter.held
            if free < amounts.least:
                verdict.blame(first + index, _WAIT if unspent >= amounts.least else NEVER)
            else:
                offers.append(min(amounts.wanted, max(free // hold.share, amounts.least)))
        return min(offers, default=0)

    def _hold(self, hold: Hold, lease_id: str, amount: int, until: int, now: int) -> None:
        """Holds the amount for the call, or what it holds already, until then."""
        counter = self._counter(hold, None, now)
        before = counter.holds.get(lease_id)
        if before is None:
            counter.held += amount
        else:
            amount = before[0]
        counter.earliest = min(counter.earliest, until) if counter.holds else until
        counter.holds[lease_id] = (amount, until)

    def _spend(self, hold: Hold, lease_id: str, spent: int, now: int) -> None:
        """Turns the call's hold into spending. Where it has none, only the database knows what was spent."""
        counter = self._counter(hold, None, now)
        counter.settled += spent
        own = counter.holds.pop(lease_id, None)
        if own is not None:
            counter.held -= own[0]
            if counter.spent is not None:
                counter.spent += spent
        elif spent:
            counter.spent = None
