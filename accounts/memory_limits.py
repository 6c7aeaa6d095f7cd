"""The limiter of a process that is alone: the machine of accounts/limits.py, whose twin is limits.lua."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from accounts.limits import (
    COUNTER_SECONDS,
    HOLD_GRACE_SECONDS,
    LONGEST_LEASE_SECONDS,
    MARK_SECONDS,
    NEVER,
    SECOND,
    SEED_SECONDS,
    WAIT_SECONDS,
    Bucket,
    Demands,
    Grant,
    Hold,
    HoldState,
    Lease,
    LeaseState,
    Level,
    Refusal,
    State,
    Verdict,
    lease_microseconds,
    level,
    regrown,
)

_GRACE = HOLD_GRACE_SECONDS * SECOND
_WAIT = WAIT_SECONDS * SECOND


@dataclass(slots=True)
class _Filling:
    units: float
    at: int
    expires_at: int = 0


@dataclass(slots=True)
class _Leases:
    until: dict[str, int] = field(default_factory=dict)  # by lease id
    earliest: int = 0  # none of them ends before
    expires_at: int = 0


@dataclass(slots=True)
class _Counter:
    spent: int | None = None
    seeded_at: int = 0
    settled: int = 0  # all that was ever settled here: only its growth means anything
    held: int = 0
    earliest: int = 0  # none of the holds ends before
    holds: dict[str, tuple[int, int]] = field(default_factory=dict)  # by lease id: amount, until
    expires_at: int = 0


@dataclass(slots=True)
class _Reservation:
    """That the buckets of a call may be trued up, once."""

    until: int
    expires_at: int = 0


Entry = TypeVar("Entry", _Filling, _Leases, _Counter, _Reservation)


class _Table(Generic[Entry]):
    """Entries by key. Those that say nothing any more go: two are looked at for each that is kept."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, key: str, entry: Entry, now: int, seconds: float) -> None:
        entry.expires_at = now + math.ceil(seconds * SECOND)
        entries = self._entries
        entries[key] = entry
        entries.move_to_end(key)
        for _ in range(2):
            oldest = next(iter(entries))
            if entries[oldest].expires_at > now:
                entries.move_to_end(oldest)
            else:
                del entries[oldest]

    def pop(self, key: str) -> Entry | None:
        return self._entries.pop(key, None)


def _microseconds() -> int:
    return time.monotonic_ns() // 1000


class MemoryLimiter:
    """`clock` tells microseconds. For `recovery_seconds` after its first use it seeds no budget's counter:
    as long as others, were there any, would take to `extend` what they hold."""

    def __init__(self, clock: Callable[[], int] = _microseconds, recovery_seconds: float = 0.0) -> None:
        self._clock = clock
        self._recovery = round(recovery_seconds * SECOND)
        self._birth = -1
        self._fillings: _Table[_Filling] = _Table()
        self._leases: _Table[_Leases] = _Table()
        self._counters: _Table[_Counter] = _Table()
        self._reservations: _Table[_Reservation] = _Table()

    def __len__(self) -> int:
        """How many keys it remembers."""
        return len(self._fillings) + len(self._leases) + len(self._counters) + len(self._reservations)

    async def reserve(self, lease_id: str, demands: Demands, lease_seconds: float) -> Grant | Refusal:
        duration, now = lease_microseconds(lease_seconds), self._now()
        verdict, held = Verdict(), -1
        for index, demand in enumerate(demands):
            if isinstance(demand, Bucket):
                verdict.blame(index, self._bucket_wait(demand, demand.cost, now))
            elif isinstance(demand, Lease):
                verdict.blame(index, self._lease_wait(demand, now))
            else:
                offer = self._offer(verdict, index, demand, now)
                held = offer if held < 0 else min(held, offer)
        refusal = verdict.refusal()
        if refusal is not None:
            return refusal
        levels = self._take(lease_id, demands, max(held, 0), now, now + duration)
        return Grant(lease_id, demands, max(held, 0), levels, self._birth)

    async def grow(self, grant: Grant, bucket_costs: Sequence[int], hold_extra: int) -> Grant | Refusal:
        now, costs, verdict = self._now(), iter(bucket_costs), Verdict()
        for index, demand in enumerate(grant.demands):
            if isinstance(demand, Bucket):
                verdict.blame(index, self._bucket_wait(demand, next(costs), now))
            elif isinstance(demand, Hold) and hold_extra:
                self._judge_growth(verdict, index, demand, grant.lease_id, hold_extra, now)
        refusal = verdict.refusal()
        if refusal is not None:
            return refusal
        levels, costs = [], iter(bucket_costs)
        for demand in grant.demands:
            if isinstance(demand, Bucket):
                levels.append(self._draw(demand, next(costs), now))
            elif isinstance(demand, Hold) and hold_extra:
                self._hold(demand, grant.lease_id, hold_extra, now, None)
        demands = regrown(grant, bucket_costs)
        return Grant(grant.lease_id, demands, grant.held + hold_extra, tuple(levels), grant.birth)

    async def extend(self, grants: Sequence[Grant], lease_seconds: float) -> None:
        duration, now = lease_microseconds(lease_seconds), self._now()
        for grant in grants:
            lost = grant.birth != self._birth
            for demand in grant.demands:
                if isinstance(demand, Lease):
                    if lost or grant.lease_id in self._leases_of(demand, now).until:
                        self._lease(demand, grant.lease_id, now, now + duration)
                elif isinstance(demand, Hold):
                    held = grant.lease_id in self._counter(demand, now).holds
                    if lost or held:
                        extra = 0 if held else grant.held
                        self._hold(demand, grant.lease_id, extra, now, now + duration)
            if self._reservation(grant.lease_id, now):
                self._remember(grant.lease_id, now, now + duration)

    async def settle(self, grant: Grant, bucket_costs: Sequence[int], spent: int) -> None:
        now, costs = self._now(), iter(bucket_costs)
        known = self._reservation(grant.lease_id, now)
        self._reservations.pop(grant.lease_id)
        for demand in grant.demands:
            if isinstance(demand, Bucket):
                cost = next(costs)
                if known and cost != demand.cost:
                    self._draw(demand, cost - demand.cost, now)
            elif isinstance(demand, Lease):
                self._free(demand, grant.lease_id)
            else:
                self._spend(demand, grant.lease_id, spent, now)

    async def forget(self, holds: Sequence[Hold]) -> None:
        for hold in holds:
            counter = self._counters.get(hold.name)
            if counter is not None:
                counter.spent = None

    async def explain(self, demands: Demands) -> list[State]:
        now = self._now()
        return [self._explain(demand, now) for demand in demands]

    def _now(self) -> int:
        now = self._clock()
        if self._birth < 0:
            self._birth = now
        return now

    def _take(self, lease_id: str, demands: Demands, held: int, now: int, until: int) -> tuple[Level, ...]:
        levels = []
        for demand in demands:
            if isinstance(demand, Bucket):
                levels.append(self._draw(demand, demand.cost, now))
            elif isinstance(demand, Lease):
                self._lease(demand, lease_id, now, until)
            else:
                self._hold(demand, lease_id, held, now, until)
        if levels:
            self._remember(lease_id, now, until)
        return tuple(levels)

    # Buckets

    def _units(self, bucket: Bucket, now: int) -> float:
        """What is in the bucket by now."""
        full = bucket.full
        filling = self._fillings.get(bucket.key)
        if filling is None:
            return full
        return min(full, filling.units + float(max(0, now - filling.at)) * bucket.limit)

    def _bucket_wait(self, bucket: Bucket, cost: int, now: int) -> int:
        if cost > bucket.capacity:
            return NEVER
        missing = float(cost) * (bucket.period_seconds * SECOND) - self._units(bucket, now)
        return math.ceil(missing / bucket.limit) if missing > 0 else 0

    def _draw(self, bucket: Bucket, cost: int, now: int) -> Level:
        """Takes the cost, into debt if need be; gives it back where it is negative."""
        period = bucket.period_seconds * SECOND
        full = bucket.full
        units = min(full, self._units(bucket, now) - float(cost) * period)
        seconds = (full - units) / bucket.limit / SECOND + 2 * bucket.period_seconds
        self._fillings.keep(bucket.key, _Filling(units, now), now, seconds)
        return level(bucket, units)

    # Leases

    def _leases_of(self, lease: Lease, now: int) -> _Leases:
        leases = self._leases.get(lease.key)
        if leases is None:
            return _Leases()
        if leases.until and leases.earliest <= now:
            leases.until = {key: until for key, until in leases.until.items() if until > now}
            leases.earliest = min(leases.until.values(), default=0)
        return leases

    def _lease_wait(self, lease: Lease, now: int) -> int:
        return _WAIT if len(self._leases_of(lease, now).until) >= lease.limit else 0

    def _lease(self, lease: Lease, lease_id: str, now: int, until: int) -> None:
        leases = self._leases_of(lease, now)
        leases.earliest = min(leases.earliest, until) if leases.until else until
        leases.until[lease_id] = until
        self._leases.keep(lease.key, leases, now, LONGEST_LEASE_SECONDS)

    def _free(self, lease: Lease, lease_id: str) -> None:
        leases = self._leases.get(lease.key)
        if leases is not None:
            leases.until.pop(lease_id, None)
            if not leases.until:
                self._leases.pop(lease.key)

    # Budgets

    def _counter(self, hold: Hold, now: int) -> _Counter:
        """The budget's counter, which is a new one where nobody knows it; seeded where the hold can."""
        counter = self._counters.get(hold.name) or _Counter()
        if counter.holds and counter.earliest + _GRACE <= now:
            self._lapse(counter, now)
        if counter.spent is not None and counter.seeded_at + SEED_SECONDS * SECOND <= now:
            counter.spent = None
        if counter.spent is None and hold.spent is not None and self._believes(hold, counter, now):
            assert hold.mark is not None
            counter.spent = hold.spent + counter.settled - hold.mark[0]
            counter.seeded_at = now
            self._counters.keep(hold.name, counter, now, COUNTER_SECONDS)
        return counter

    def _lapse(self, counter: _Counter, now: int) -> None:
        """Lets go of holds that nobody settled; what became of them is for the database to say."""
        kept = {key: hold for key, hold in counter.holds.items() if hold[1] + _GRACE > now}
        if len(kept) < len(counter.holds):
            counter.spent = None
        counter.holds = kept
        counter.held = sum(amount for amount, _ in kept.values())
        counter.earliest = min((until for _, until in kept.values()), default=0)

    def _believes(self, hold: Hold, counter: _Counter, now: int) -> bool:
        """Whether what the database said is an answer to a question asked lately, of this very store."""
        if hold.mark is None or now < self._birth + self._recovery:
            return False
        settled, asked_at, birth = hold.mark
        return birth == self._birth and now <= asked_at + MARK_SECONDS * SECOND and counter.settled >= settled

    def _known(self, verdict: Verdict, index: int, hold: Hold, now: int) -> tuple[_Counter, int | None]:
        """The counter and what it says was spent; None where the verdict now says why it is unknown."""
        counter = self._counter(hold, now)
        if counter.spent is None:
            recovered_at = self._birth + self._recovery
            if now < recovered_at:
                verdict.blame(index, recovered_at - now)
            else:
                verdict.ask(index, (counter.settled, now, self._birth))
                self._counters.keep(hold.name, counter, now, COUNTER_SECONDS)
        return counter, counter.spent

    def _offer(self, verdict: Verdict, index: int, hold: Hold, now: int) -> int:
        """How much the budget can hold for the call."""
        counter, spent = self._known(verdict, index, hold, now)
        if spent is None:
            return 0
        free = hold.amount - spent - counter.held
        if free < hold.least:
            verdict.blame(index, _WAIT if hold.amount - spent >= hold.least else NEVER)
            return 0
        return min(hold.wanted, max(math.floor(free / hold.share), hold.least))

    def _judge_growth(
        self, verdict: Verdict, index: int, hold: Hold, lease_id: str, extra: int, now: int
    ) -> None:
        counter, spent = self._known(verdict, index, hold, now)
        own = counter.holds.get(lease_id)
        if own is None:
            verdict.blame(index, NEVER)
        elif spent is not None and hold.amount - spent - counter.held < extra:
            verdict.blame(index, _WAIT if hold.amount - spent - own[0] >= extra else NEVER)

    def _hold(self, hold: Hold, lease_id: str, extra: int, now: int, until: int | None) -> None:
        """Holds that much more for the call; until then, or for as long as before."""
        counter = self._counter(hold, now)
        amount, before = counter.holds.get(lease_id, (0, 0))
        until = before if until is None else until
        counter.earliest = min(counter.earliest, until) if counter.holds else until
        counter.holds[lease_id] = (amount + extra, until)
        counter.held += extra
        self._counters.keep(hold.name, counter, now, COUNTER_SECONDS)

    def _spend(self, hold: Hold, lease_id: str, spent: int, now: int) -> None:
        """Turns the call's hold into spending. Where it has none, only the database knows what was spent."""
        counter = self._counter(hold, now)
        counter.settled += spent
        own = counter.holds.pop(lease_id, None)
        if own is not None:
            counter.held -= own[0]
            if counter.spent is not None:
                counter.spent += spent
        elif spent:
            counter.spent = None
        self._counters.keep(hold.name, counter, now, COUNTER_SECONDS)

    # Reservations

    def _reservation(self, lease_id: str, now: int) -> bool:
        reservation = self._reservations.get(lease_id)
        return reservation is not None and reservation.until + _GRACE > now

    def _remember(self, lease_id: str, now: int, until: int) -> None:
        seconds = (until - now) / SECOND + HOLD_GRACE_SECONDS
        self._reservations.keep(lease_id, _Reservation(until), now, seconds)

    def _explain(self, demand: Bucket | Lease | Hold, now: int) -> State:
        if isinstance(demand, Bucket):
            return level(demand, self._units(demand, now))
        if isinstance(demand, Lease):
            return LeaseState(demand.limit, len(self._leases_of(demand, now).until))
        counter = self._counter(demand, now)
        return HoldState(demand.amount, counter.spent, counter.held, len(counter.holds))
