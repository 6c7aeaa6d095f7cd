"""The limiter of many processes: the machine of accounts/limits.py, run by Redis (accounts/limits.lua).

Redis has to keep what it is given (`maxmemory-policy noeviction`). One that was emptied is noticed: the
birth of its store is a key of ours. For `recovery_seconds` after it no budget's counter is seeded, while
every process restores what it holds (`extend`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

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
    Demand,
    Demands,
    Grant,
    Hold,
    HoldState,
    Lease,
    LeaseState,
    Refusal,
    State,
    lease_microseconds,
    level,
    regrown,
)
from accounts.redis_pipeline import CALL_SECONDS, Arguments, Pipeline

RECOVERY_SECONDS = 2.0

_CONSTANTS = f"""\
local SECOND, GRACE, SEED = {SECOND}, {HOLD_GRACE_SECONDS * SECOND}, {SEED_SECONDS * SECOND}
local MARK, WAIT, NEVER = {MARK_SECONDS * SECOND}, {WAIT_SECONDS * SECOND}, {NEVER}
local LONGEST_LEASE, COUNTER = {LONGEST_LEASE_SECONDS * 1000}, {COUNTER_SECONDS * 1000}
"""
SCRIPT = _CONSTANTS.encode() + Path(__file__).with_name("limits.lua").read_bytes()

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


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
        self._birth_key = self._prefix + "birth"
        self._clock = clock
        self._recovery = round(recovery_seconds * SECOND)
        self._pipeline = Pipeline(url, SCRIPT, call_seconds)

    @property
    def away(self) -> bool:
        """Whether Redis was lost, and calls are refused without trying."""
        return self._pipeline.away

    async def close(self) -> None:
        await self._pipeline.close()

    async def reserve(self, lease_id: str, demands: Demands, lease_seconds: float) -> Grant | Refusal:
        request = self._request(lease_id, demands, duration=lease_microseconds(lease_seconds))
        keys = self._keys(lease_id, demands)

        def undo() -> Arguments:
            costs = [0 for demand in demands if isinstance(demand, Bucket)]
            nothing = _encode(self._request(lease_id, demands, costs=costs, spent=0))
            return self._pipeline.arguments(keys, "settle", nothing)

        reply = _decode(await self._pipeline.call(keys, "reserve", _encode(request), undo=undo))
        if not reply[0]:
            return _refusal(reply)
        _, held, birth, units = reply
        return Grant(lease_id, demands, held, _levels(demands, units), birth)

    async def grow(self, grant: Grant, bucket_costs: Sequence[int], hold_extra: int) -> Grant | Refusal:
        request = self._request(grant.lease_id, grant.demands, costs=list(bucket_costs), extra=hold_extra)
        keys = self._keys(grant.lease_id, grant.demands)
        reply = _decode(await self._pipeline.call(keys, "grow", _encode(request)))
        if not reply[0]:
            return _refusal(reply)
        demands = regrown(grant, bucket_costs)
        return Grant(
            grant.lease_id, demands, grant.held + hold_extra, _levels(demands, reply[3]), grant.birth
        )

    async def extend(self, grants: Sequence[Grant], lease_seconds: float) -> None:
        duration = lease_microseconds(lease_seconds)
        for grant in grants:
            request = self._request(
                grant.lease_id, grant.demands, duration=duration, birth=grant.birth, held=grant.held
            )
            keys = self._keys(grant.lease_id, grant.demands)
            await self._pipeline.call(keys, "extend", _encode(request))

    async def settle(self, grant: Grant, bucket_costs: Sequence[int], spent: int) -> None:
        request = self._request(grant.lease_id, grant.demands, costs=list(bucket_costs), spent=spent)
        keys = self._keys(grant.lease_id, grant.demands)
        await self._pipeline.deliver(keys, "settle", _encode(request))

    async def forget(self, holds: Sequence[Hold]) -> None:
        keys = self._keys("", tuple(holds))
        await self._pipeline.deliver(keys, "forget", _encode(self._request("", tuple(holds))))

    async def explain(self, demands: Demands) -> list[State]:
        request = self._request("", demands)
        reply = _decode(await self._pipeline.call(self._keys("", demands), "explain", _encode(request)))
        return [_state(demand, state) for demand, state in zip(demands, reply, strict=True)]

    def _request(self, lease_id: str, demands: Demands, **more: Any) -> dict[str, Any]:
        return {
            "now": -1 if self._clock is None else self._clock(),
            "recovery": self._recovery,
            "lease_id": lease_id,
            "demands": [_wire(demand) for demand in demands],
            **more,
        }

    def _keys(self, lease_id: str, demands: Demands) -> list[str]:
        prefix = self._prefix
        return [self._birth_key, f"{prefix}call:{lease_id}", *[prefix + _name(demand) for demand in demands]]


def _name(demand: Demand) -> str:
    if isinstance(demand, Bucket):
        return "bucket:" + demand.key
    if isinstance(demand, Lease):
        return "lease:" + demand.key
    return "hold:" + demand.name


def _wire(demand: Demand) -> tuple[int, ...]:
    """A demand as the script reads it."""
    if isinstance(demand, Bucket):
        period = demand.period_seconds * SECOND
        return (1, demand.capacity, demand.limit, period, demand.cost, demand.slack_microseconds)
    if isinstance(demand, Lease):
        return (2, demand.limit)
    known = (3, demand.amount, demand.wanted, demand.least, demand.share)
    if demand.spent is None or demand.mark is None:
        return (*known, -1, 0, 0, -1)
    return (*known, demand.spent, *demand.mark)


def _refusal(reply: list[Any]) -> Refusal:
    _, index, wait, unseeded, marks = reply
    retry_after = None if wait == NEVER else wait / SECOND
    return Refusal(index, retry_after, tuple(unseeded), tuple(tuple(mark) for mark in marks))


def _levels(demands: Demands, units: list[int]) -> tuple[Any, ...]:
    buckets = (demand for demand in demands if isinstance(demand, Bucket))
    return tuple(level(bucket, float(left)) for bucket, left in zip(buckets, units, strict=True))


def _state(demand: Demand, state: list[int]) -> State:
    if isinstance(demand, Bucket):
        return level(demand, float(state[0]))
    if isinstance(demand, Lease):
        return LeaseState(demand.limit, state[0])
    spent, held, calls = state
    return HoldState(demand.amount, None if spent < 0 else spent, held, calls)
