"""One process's side of the limits: whose turn it is, and what it does when rules change."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any, cast

from accounts.keys import Caller
from accounts.limits import Amounts, Demands, Grant, Refusal
from accounts.memory_limits import MemoryLimiter
from accounts.redis_limits import RedisLimiter
from accounts.rules import LimitRule, TenantRules
from accounts.snapshot import Snapshot
from proxy.call import Call
from proxy.http import Reply, Request
from proxy.limiting import Limits, Reservation

ACME = uuid.uuid4()
CALLER = Caller(ACME, "acme", 1, uuid.uuid4(), None, (), "", "UTC", None, False)
EMBEDDINGS = Call("embeddings", "/embeddings", "any", False, {}, 1)


def rules(**limit: int) -> Callable[[], dict[uuid.UUID, TenantRules]]:
    """Acme has one limit."""
    none = dict.fromkeys(("requests_per_second", "requests_per_minute", "tokens_per_minute", "concurrent"))
    rule = LimitRule(uuid.uuid4(), "tenant", None, **{**none, "queue_seconds": None, **limit})
    return lambda: {ACME: TenantRules((rule,), ())}


async def never(*_: object) -> Any:
    await asyncio.Event().wait()


async def reserve(limits: Limits) -> Reservation:
    request = Request({"method": "POST", "path": "/", "headers": []}, never)
    taken = await limits.reserve(EMBEDDINGS, CALLER, None, request, Reply(request, never))
    assert taken is not None
    return taken


async def turns_of_the_loop(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_who_comes_first_to_a_queue_goes_first_whoever_comes_later() -> None:
    limits = Limits(None, lambda: 1)
    limits.rules = Snapshot(rules(concurrent=1, queue_seconds=60))
    await limits.rules.get()
    order: list[int] = []
    calls: list[asyncio.Task[None]] = []

    async def call(number: int) -> None:
        taken = await reserve(limits)
        order.append(number)
        await arrive(1 if number else 5)  # while this one is under way
        await limits.settle(taken, 0, 0)

    async def arrive(count: int) -> None:
        for number in range(len(calls), min(len(calls) + count, 20)):
            calls.append(asyncio.create_task(call(number)))
            await turns_of_the_loop()

    await arrive(1)
    async with asyncio.timeout(20):
        while len(order) < 20:
            await asyncio.gather(*calls)
    assert order == list(range(20))


class Pausing(MemoryLimiter):
    """Forgets when it is told to go on, and notes what was asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.goes_on = asyncio.Event()

    async def forget(self) -> None:
        self.asked.append("forget")
        await self.goes_on.wait()
        await super().forget()

    async def reserve(
        self, lease_id: str, demands: Demands, amounts: Amounts, lease_seconds: float
    ) -> Grant | Refusal:
        self.asked.append("reserve")
        return await super().reserve(lease_id, demands, amounts, lease_seconds)


async def test_nothing_is_reserved_before_the_limiter_has_forgotten_what_changed() -> None:
    store = Pausing()
    limits = Limits(cast(RedisLimiter, store), lambda: 1)
    limits.rules = Snapshot(rules(requests_per_minute=9))
    await limits.rules.get()
    calls = [asyncio.create_task(reserve(limits)) for _ in range(3)]
    await turns_of_the_loop()
    assert store.asked == ["forget"]
    store.goes_on.set()
    await asyncio.gather(*calls)
    assert store.asked == ["forget", "reserve", "reserve", "reserve"]
    limits.rules.clear()
    await reserve(limits)
    assert store.asked[4:] == ["forget", "reserve"]
