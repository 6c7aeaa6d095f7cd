"""What becomes of the limiter's calls when callers leave, and when Redis does."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis.asyncio

from accounts.limits import Bucket, Grant, Hold, HoldState, Lease, LeaseState, Level, LimiterUnavailable
from accounts.redis_limits import RedisLimiter

pytestmark = pytest.mark.redis

ALONE = (Lease("alone", 1), Bucket("tokens", 100, 100, 60, cost=60))
LIMIT_SECONDS = 0.3  # nothing waits longer for Redis


class Wire:
    """What lies between the limiter and Redis: it forwards, stays silent, or is cut."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._open = asyncio.Event()
        self._open.set()
        self.port = 0

    @property
    def url(self) -> str:
        return urlunsplit(self._parts._replace(netloc=f"127.0.0.1:{self.port}"))

    async def __aenter__(self) -> Self:
        await self.plug()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def plug(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        self._open.set()
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    def silence(self) -> None:
        """Accepts, takes what comes, and never answers."""
        self._open.clear()

    def answer(self) -> None:
        self._open.set()

    async def _accept(self, near: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        far, server = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        self._writers += [client, server]
        await asyncio.gather(
            self._forward(near, server, wait=False),
            self._forward(far, client, wait=True),
            return_exceptions=True,
        )

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, wait: bool) -> None:
        while piece := await source.read(65536):
            if wait:
                await self._open.wait()
            sink.write(piece)
            await sink.drain()
        sink.close()


@pytest.fixture
async def wire(redis_url: str) -> AsyncIterator[Wire]:
    async with Wire(redis_url) as wire:
        yield wire


@pytest.fixture
async def limiter(wire: Wire) -> AsyncIterator[RedisLimiter]:
    limiter = RedisLimiter(wire.url, f"pipeline-{uuid.uuid4()}", recovery_seconds=0.0)
    yield limiter
    await limiter.close()


async def until(look: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def leases(limiter: RedisLimiter) -> int:
    [state] = await limiter.explain(ALONE[:1])
    assert isinstance(state, LeaseState)
    return state.leases


async def refusal_seconds(limiter: RedisLimiter) -> float:
    began = time.monotonic()
    with pytest.raises(LimiterUnavailable):
        await limiter.reserve("refused", ALONE, 30.0)
    return time.monotonic() - began


async def test_it_gives_back_what_a_caller_reserved_who_has_left(limiter: RedisLimiter) -> None:
    await limiter.explain(ALONE)
    leaving = asyncio.create_task(limiter.reserve("left", ALONE, 30.0))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await limiter.explain(ALONE)
    lease, tokens = await limiter.explain(ALONE)
    assert isinstance(lease, LeaseState)
    assert isinstance(tokens, Level)
    assert (lease.leases, tokens.remaining) == (0, 100)


async def test_it_never_hands_a_reply_to_another_caller(limiter: RedisLimiter) -> None:
    async def ask(number: int) -> None:
        demand = Bucket(f"bucket {number}", number, number, 60, cost=0)
        answer = await limiter.reserve(f"call-{number}", (demand,), 30.0)
        assert isinstance(answer, Grant)
        assert answer.levels == (Level(number, number, 0.0),)

    tasks = [asyncio.create_task(ask(number)) for number in range(1, 501)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {type(None), asyncio.CancelledError}


async def test_it_waits_for_a_silent_redis_no_longer_than_it_may(limiter: RedisLimiter, wire: Wire) -> None:
    await limiter.explain(ALONE)
    wire.silence()
    waits = await asyncio.gather(*[refusal_seconds(limiter) for _ in range(64)])
    assert max(waits) < LIMIT_SECONDS
    assert await refusal_seconds(limiter) < 0.05  # it is known to be away by now


async def test_it_refuses_at_once_while_redis_is_gone_and_comes_back(
    limiter: RedisLimiter, wire: Wire
) -> None:
    await limiter.explain(ALONE)
    await wire.cut()
    assert await refusal_seconds(limiter) < LIMIT_SECONDS
    assert await refusal_seconds(limiter) < 0.05
    await wire.plug()
    await until(lambda: not limiter.away)
    assert isinstance(await limiter.reserve("back", ALONE, 30.0), Grant)


async def test_it_does_not_notice_that_an_idle_connection_was_closed(
    limiter: RedisLimiter, wire: Wire
) -> None:
    await limiter.explain(ALONE)
    await wire.cut()
    await wire.plug()
    await asyncio.sleep(1.1)  # that long it is believed to be open
    assert isinstance(await limiter.reserve("idle", ALONE, 30.0), Grant)


async def test_it_gives_back_what_was_reserved_when_nobody_heard_of_it(
    limiter: RedisLimiter, wire: Wire
) -> None:
    await limiter.explain(ALONE)
    wire.silence()
    await refusal_seconds(limiter)  # though Redis took it
    wire.answer()
    await until(lambda: not limiter.away)
    lease, tokens = await limiter.explain(ALONE)
    assert isinstance(lease, LeaseState)
    assert isinstance(tokens, Level)
    assert (lease.leases, tokens.remaining) == (0, 100)


async def test_it_settles_later_what_it_cannot_settle_now(limiter: RedisLimiter, wire: Wire) -> None:
    grant = await limiter.reserve("settled", ALONE, 30.0)
    assert isinstance(grant, Grant)
    await wire.cut()
    await limiter.settle(grant, (1,), 0)  # finds out
    await limiter.settle(grant, (1,), 0)  # knows
    await wire.plug()
    await until(lambda: not limiter.away)
    lease, tokens = await limiter.explain(ALONE)
    assert isinstance(lease, LeaseState)
    assert isinstance(tokens, Level)
    assert (lease.leases, tokens.remaining) == (0, 99)


async def test_it_brings_its_script_again_to_a_redis_that_forgot_it(
    limiter: RedisLimiter, redis_url: str
) -> None:
    await limiter.explain(ALONE)
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.script_flush()
    answers = await asyncio.gather(
        *[limiter.reserve(f"{number}", (Lease("forgotten", 5),), 30.0) for number in range(10)]
    )
    assert sum(isinstance(answer, Grant) for answer in answers) == 5


async def test_it_restores_what_it_holds_in_a_redis_that_lost_everything(redis_url: str) -> None:
    installation = f"lost-{uuid.uuid4()}"
    limiter = RedisLimiter(redis_url, installation, recovery_seconds=0.0)
    demands = (Lease("calls", 3), Hold("budget", "1", amount=1000, wanted=100, least=1))
    answer = await limiter.reserve("long", demands, 30.0)
    assert not isinstance(answer, Grant)
    grant = await limiter.reserve("long", answer.seeded(demands, {1: 0}), 30.0)
    assert isinstance(grant, Grant)
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.delete(*[key async for key in client.scan_iter(f"tollgate:{installation}:*")])
    await limiter.extend([grant], 30.0)
    assert await limiter.explain(demands) == [LeaseState(3, 1), HoldState(1000, None, 100, 1)]
    await limiter.close()
