"""The limiter of many processes: the machine of accounts/limits.py, run by Redis (accounts/limits.lua).

Redis has to keep what it is given (`maxmemory-policy noeviction`). What it cannot be trusted to know it is
not asked: our keys carry the id of the server's run, so that one that was restarted, from whatever snapshot,
or a replica that was promoted, begins with nothing. One that was emptied is noticed, since when its store was
born is a key of ours. For `recovery_seconds` after it no budget's counter is seeded and nothing is held,
while every process restores what it holds (`extend`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from accounts.limits import (
    COUNTER_SECONDS,
    HOLD_GRACE_SECONDS,
    LONGEST_LEASE_SECONDS,
    MARK_SECONDS,
    NEVER,
    SECOND,
    SEED_SECONDS,
    SILENCE_SECONDS,
    WAIT_SECONDS,
    Amounts,
    Demands,
    Grant,
    HoldState,
    LeaseState,
    LimiterUnavailable,
    Refusal,
    State,
    Told,
    grown,
    lease_microseconds,
    level,
)
from accounts.redis_pipeline import CALL_SECONDS, Command, Pipeline, bulk

RECOVERY_SECONDS = 2.0
SEEDING_TICKS = 3  # for a call that waited before, and asked the database meanwhile

_CONSTANTS = f"""\
local SECOND, GRACE, SILENCE = {SECOND}, {HOLD_GRACE_SECONDS * SECOND}, {SILENCE_SECONDS * SECOND}
local SEED, MARK, WAIT = {SEED_SECONDS * SECOND}, {MARK_SECONDS * SECOND}, {WAIT_SECONDS * SECOND}
local NEVER, LONGEST_LEASE, COUNTER = {NEVER}, {LONGEST_LEASE_SECONDS * 1000}, {COUNTER_SECONDS * 1000}
"""
SCRIPT = _CONSTANTS.encode() + Path(__file__).with_name("limits.lua").read_bytes()

_NOTHING = Demands()
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


@dataclass(frozen=True, slots=True)
class _Encoded:
    """What every command says of the same demands, to one run of the server, as Redis' protocol has it."""

    run_id: str
    keys: bytes
    demands: bytes


class RedisLimiter:
    """For one event loop. `clock` tells microseconds in the place of Redis' own clock."""

    def __init__(
        self,
        url: str,
        installation_id: str,
        clock: Callable[[], int] | None = None,
        recovery_seconds: float = RECOVERY_SECONDS,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        self._prefix = f"tollgate:{installation_id}:limits:"
        self._clock = clock
        self._recovery = round(recovery_seconds * SECOND)
        self._pipeline = Pipeline(url, SCRIPT, call_seconds)
        self._encoded: WeakKeyDictionary[Demands, _Encoded] = WeakKeyDictionary()

    @property
    def away(self) -> bool:
        """Whether Redis was lost, and calls are refused without trying."""
        return self._pipeline.away

    async def close(self) -> None:
        await self._pipeline.close()

    async def reserve(
        self, lease_id: str, demands: Demands, amounts: Amounts, lease_seconds: float
    ) -> Grant | Refusal:
        command = self._command(
            "reserve",
            lease_id,
            demands,
            duration=lease_microseconds(lease_seconds),
            costs=amounts.costs,
            wanted=amounts.wanted,
            least=amounts.least,
            told=_told(amounts.told, len(demands.holds)),
        )

        def undo(run_id: str) -> bytes:
            taken = Grant(lease_id, demands, amounts.costs, 0, ())
            return self._settlement(taken, [0] * len(amounts.costs), 0)(run_id)

        ticks = SEEDING_TICKS if amounts.told else None
        granted, *answer = _decode(await self._pipeline.call(command, undo, ticks))
        if granted < 1:
            return _refusal(answer)
        held, units = answer
        return Grant(lease_id, demands, amounts.costs, held, tuple(units))

    async def grow(self, grant: Grant, costs: Sequence[int]) -> Grant | Refusal:
        command = self._command("grow", grant.lease_id, grant.demands, costs=tuple(costs))
        granted, *answer = _decode(await self._pipeline.call(command))
        return grown(grant, costs, tuple(answer[1])) if granted > 0 else _refusal(answer)

    async def extend(self, grants: Sequence[Grant], lease_seconds: float) -> None:
        duration = lease_microseconds(lease_seconds)
        commands = [self._command("reach", "", _NOTHING)]
        for grant in grants:
            terms = {"duration": duration, "held": grant.held}
            commands.append(self._command("extend", grant.lease_id, grant.demands, **terms))
        await self._pipeline.call_all(commands)

    async def settle(self, grant: Grant, costs: Sequence[int], spent: int) -> None:
        await self._pipeline.deliver(self._settlement(grant, costs, spent))

    async def forget(self) -> None:
        await self._pipeline.deliver(self._command("forget", "", _NOTHING))

    async def explain(self, demands: Demands) -> list[State]:
        reply = _decode(await self._pipeline.call(self._command("explain", "", demands)))
        return list(_states(demands, reply))

    def _settlement(self, grant: Grant, costs: Sequence[int], spent: int) -> Command:
        more = [cost - taken for cost, taken in zip(costs, grant.costs, strict=True)]
        return self._command("settle", grant.lease_id, grant.demands, costs=more, spent=spent)

    def _command(self, operation: str, lease_id: str, demands: Demands, **terms: Any) -> Command:
        """Run `operation`. Nothing is worked out before the server that will run it is known."""

        def command(run_id: str) -> bytes:
            encoded = self._encoded.get(demands)
            if encoded is None or encoded.run_id != run_id:
                encoded = self._encoded[demands] = self._encode(demands, run_id)
            given = {
                "operation": operation,
                "lease_id": lease_id,
                "now": -1 if self._clock is None else self._clock(),
                "recovery": self._recovery,
                **terms,
            }
            reservation = f"{self._prefix}{run_id}:call:{lease_id}".encode()
            return b"".join((encoded.keys, bulk(reservation), encoded.demands, bulk(_encode(given))))

        return command

    def _encode(self, demands: Demands, run_id: str) -> _Encoded:
        prefix = f"{self._prefix}{run_id}:"
        shelves: dict[str, list[int]] = {}
        for number, bucket in enumerate(demands.buckets, 1):
            shelves.setdefault(bucket.shelf or bucket.key, []).append(number)
        names = [
            "store",
            *("shelf:" + shelf for shelf in shelves),
            *("lease:" + lease.key for lease in demands.leases),
            *("hold:" + hold.key for hold in demands.holds),
        ]
        buckets = [(b.capacity, b.limit, round(b.period), b.full) for b in demands.buckets]
        holds = [(hold.amount, hold.share) for hold in demands.holds]
        known = _encode((buckets, list(shelves.values()), [lease.limit for lease in demands.leases], holds))
        keys = self._pipeline.invocation([(prefix + name).encode() for name in names], 1, 2)
        return _Encoded(run_id, keys, bulk(known))


def _told(told: Mapping[int, Told] | None, holds: int) -> list[tuple[int, ...] | None]:
    """What the database says of each Hold, in one row of numbers."""
    if not told:
        return []
    answers = [told.get(index) for index in range(holds)]
    return [None if answer is None else (answer[0], *answer[1]) for answer in answers]


def _refusal(answer: list[Any]) -> Refusal:
    if not answer:
        raise LimiterUnavailable("Those who hold money have not all said so yet.")
    index, wait, unseeded, marks = answer
    retry_after = None if wait == NEVER else wait / SECOND
    return Refusal(index, retry_after, tuple(unseeded), tuple(tuple(mark) for mark in marks))


def _states(demands: Demands, reply: list[list[int]]) -> Iterable[State]:
    states = iter(reply)
    for bucket in demands.buckets:
        yield level(bucket, float(next(states)[0]))
    for lease in demands.leases:
        yield LeaseState(lease.limit, next(states)[0])
    for hold in demands.holds:
        spent, held, calls = next(states)
        yield HoldState(hold.amount, None if spent < 0 else spent, held, calls)
