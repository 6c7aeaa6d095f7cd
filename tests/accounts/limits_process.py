"""A process of many callers of one RedisLimiter, for tests of what several processes take together.

python -m tests.accounts.limits_process URL INSTALLATION SCENARIO SECONDS

The database that knows what was spent of a budget is a number in the same Redis, beside what is the
limiter's. It says "ready", starts when it is told to on stdin, and prints what was granted as JSON: a list of
[asked, granted, gave back, had given back, held, spent], times in seconds.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

import redis.asyncio
import uvloop

from accounts.limits import Amounts, Bucket, Demands, Grant, Hold, Lease, LimiterUnavailable, Refusal
from accounts.redis_limits import RedisLimiter

CALLERS = 64
PAUSE_SECONDS = 0.05
LEASE_SECONDS = 30.0
HEARTBEAT_SECONDS = 0.3
RECOVERY_SECONDS = 1.0


@dataclass(frozen=True)
class Scenario:
    demands: Demands
    amounts: Amounts
    call_seconds: float = 0.0
    most_spent: int = 0  # never more than is held
    waits: bool = False  # for its turn, as long as it is told to; else it comes again with the next burst


ONE = Amounts((1,))
SCENARIOS = {
    "requests per second": Scenario(Demands((Bucket("requests", 200, 200, 1),)), ONE),
    "requests per minute": Scenario(Demands((Bucket("minute", 300, 300, 60),)), ONE),
    "tokens per minute": Scenario(Demands((Bucket("tokens", 12_000, 12_000, 60),)), Amounts((30,))),
    "a queue": Scenario(Demands((Bucket("queue", 1, 20, 1, slack_microseconds=15_000),)), ONE, waits=True),
    "concurrent calls": Scenario(Demands(leases=(Lease("calls", 10),)), Amounts(), call_seconds=0.01),
    "a budget": Scenario(
        Demands(holds=(Hold("budget", amount=10**9),)),
        Amounts(wanted=38_000_000, least=100_000),
        call_seconds=0.005,
        most_spent=600_000,
    ),
    "a budget of long calls": Scenario(
        Demands(holds=(Hold("long", amount=10**9),)),
        Amounts(wanted=3_000_000, least=100_000),
        call_seconds=0.7,
        most_spent=10**9,
    ),
    "everything at once": Scenario(
        Demands(
            (
                Bucket("every request", 200, 200, 1, shelf="every rate"),
                Bucket("every token", 10**6, 10**6, 60, shelf="every rate"),
            ),
            (Lease("every call", 10),),
            (Hold("every dollar", amount=10**9),),
        ),
        Amounts((1, 100), 38_000_000, 100_000),
        call_seconds=0.005,
        most_spent=600_000,
    ),
}
Event = tuple[float, float, float, float, int, int]


class Callers:
    def __init__(self, url: str, installation: str, scenario: Scenario) -> None:
        self.limiter = RedisLimiter(url, installation, recovery_seconds=RECOVERY_SECONDS)
        connections = redis.asyncio.BlockingConnectionPool.from_url(url, max_connections=2, timeout=None)
        self.database = redis.asyncio.Redis(connection_pool=connections)
        self.spending = f"spent:{installation}"
        self.scenario = scenario
        self.grants: dict[str, Grant] = {}

    async def reserve(self, lease_id: str) -> Grant | Refusal:
        demands, amounts = self.scenario.demands, self.scenario.amounts
        answer = await self.limiter.reserve(lease_id, demands, amounts, LEASE_SECONDS)
        if isinstance(answer, Refusal) and answer.unseeded:
            spent = int(await self.database.get(self.spending) or 0)
            told = answer.answered(amounts, [spent])
            answer = await self.limiter.reserve(lease_id, demands, told, LEASE_SECONDS)
        return answer

    async def call(self, lease_id: str) -> Event | float:
        """One call from end to end, or for how long to wait for it."""
        asked = time.time()
        try:
            grant = await self.reserve(lease_id)
        except LimiterUnavailable:  # while Redis recovers
            return PAUSE_SECONDS
        granted = time.time()
        if isinstance(grant, Refusal):
            return grant.retry_after_seconds or PAUSE_SECONDS
        if not self.scenario.call_seconds:
            return asked, granted, granted, granted, 0, 0
        self.grants[lease_id] = grant
        await asyncio.sleep(self.scenario.call_seconds)
        del self.grants[lease_id]
        most = min(grant.held, self.scenario.most_spent)
        spent = most if self.scenario.most_spent >= 10**9 else random.randint(0, most)
        back = time.time()
        await self.settle(grant, spent)
        return asked, granted, back, time.time(), grant.held, spent

    async def settle(self, grant: Grant, spent: int) -> None:
        if spent:
            await self.database.incrby(self.spending, spent)
        await self.limiter.settle(grant, grant.costs, spent)

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            with suppress(LimiterUnavailable):
                await self.limiter.extend(list(self.grants.values()), LEASE_SECONDS)

    async def run(self, seconds: float) -> list[Event]:
        until = time.time() + seconds
        heartbeat = asyncio.create_task(self.beat())
        names = [f"{random.getrandbits(64):x}" for _ in range(CALLERS)]
        every = await asyncio.gather(*[caller(self, name, until) for name in names])
        heartbeat.cancel()
        await self.limiter.close()
        await self.database.aclose()
        return [event for events in every for event in events]


async def caller(callers: Callers, name: str, until: float) -> list[Event]:
    events: list[Event] = []
    scenario, number = callers.scenario, 0
    while time.time() < until:
        number += 1
        outcome = await callers.call(f"{name}-{number}")
        if isinstance(outcome, tuple):
            events.append(outcome)
        elif scenario.waits:
            await asyncio.sleep(outcome)
            continue
        if not scenario.waits and not scenario.call_seconds:
            await asyncio.sleep(PAUSE_SECONDS - time.time() % PAUSE_SECONDS)  # all of them at once
        elif not isinstance(outcome, tuple):
            await asyncio.sleep(PAUSE_SECONDS)
    return events


async def run(url: str, installation: str, scenario: Scenario, seconds: float) -> None:
    callers = Callers(url, installation, scenario)
    await callers.limiter.explain(scenario.demands)
    await callers.database.get(callers.spending)
    await asyncio.sleep(RECOVERY_SECONDS)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(await callers.run(seconds)), flush=True)


if __name__ == "__main__":
    given_url, given_installation, name, given_seconds = sys.argv[1:]
    uvloop.run(run(given_url, given_installation, SCENARIOS[name], float(given_seconds)))
