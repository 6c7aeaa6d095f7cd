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

from accounts.limits import (
    HOLD_GRACE_SECONDS,
    SECOND,
    Amounts,
    Bucket,
    Demands,
    Grant,
    Hold,
    HoldState,
    Lease,
    LeaseState,
    Level,
    LimiterUnavailable,
    Refusal,
)
from accounts.redis_limits import RedisLimiter

pytestmark = pytest.mark.redis

TOKENS = Bucket("tokens", 100, 100, 60)
ALONE = Demands((TOKENS,), (Lease("alone", 1),))
SIXTY = Amounts((60,))
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
        self.delay_seconds = 0.0

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
            if wait and self.delay_seconds:
                asyncio.get_running_loop().call_later(self.delay_seconds, sink.write, piece)
                continue
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
    [state] = await limiter.explain(Demands(leases=ALONE.leases))
    assert isinstance(state, LeaseState)
    return state.leases


async def refusal_seconds(limiter: RedisLimiter) -> float:
    began = time.monotonic()
    with pytest.raises(LimiterUnavailable):
        await limiter.reserve("refused", ALONE, SIXTY, 30.0)
    return time.monotonic() - began


async def test_it_gives_back_what_a_caller_reserved_who_has_left(limiter: RedisLimiter) -> None:
    await limiter.explain(ALONE)
    leaving = asyncio.create_task(limiter.reserve("left", ALONE, SIXTY, 30.0))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await limiter.explain(ALONE)
    tokens, lease = await limiter.explain(ALONE)
    assert isinstance(lease, LeaseState)
    assert isinstance(tokens, Level)
    assert (lease.leases, tokens.remaining) == (0, 100)


async def test_it_never_hands_a_reply_to_another_caller(limiter: RedisLimiter) -> None:
    async def ask(number: int) -> None:
        demands = Demands((Bucket(f"bucket {number}", number, number, 60),))
        answer = await limiter.reserve(f"call-{number}", demands, Amounts((0,)), 30.0)
        assert isinstance(answer, Grant)
        assert answer.units == (number * 60_000_000,)

    tasks = [asyncio.create_task(ask(number)) for number in range(1, 501)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {type(None), asyncio.CancelledError}


async def test_it_fails_a_call_that_cannot_be_encoded_and_no_other(
    limiter: RedisLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    async def level(number: int) -> float:
        bucket = Bucket(f"beside it {number}", number, number, 60)
        [state] = await limiter.explain(Demands((bucket,)))
        assert isinstance(state, Level)
        return state.remaining

    taken = await limiter.reserve("settled", ALONE, SIXTY, 30.0)
    assert isinstance(taken, Grant)
    outcomes = await asyncio.gather(
        level(1),
        limiter.reserve("endless", ALONE, Amounts((10**25,)), 30.0),
        level(2),
        limiter.settle(taken, (10**25,), 0),
        level(3),
        return_exceptions=True,
    )
    assert [outcomes[0], outcomes[2], outcomes[4]] == [1, 2, 3]
    assert isinstance(outcomes[1], OverflowError)
    assert outcomes[3] is None
    assert "A command of the limiter cannot be encoded, and is dropped" in caplog.text
    assert await level(4) == 4


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
    assert isinstance(await limiter.reserve("back", ALONE, SIXTY, 30.0), Grant)


async def test_it_does_not_notice_that_an_idle_connection_was_closed(
    limiter: RedisLimiter, wire: Wire
) -> None:
    await limiter.explain(ALONE)
    await wire.cut()
    await wire.plug()
    await asyncio.sleep(1.1)  # that long it is believed to be open
    assert isinstance(await limiter.reserve("idle", ALONE, SIXTY, 30.0), Grant)


async def test_it_gives_back_what_was_reserved_when_nobody_heard_of_it(
    limiter: RedisLimiter, wire: Wire
) -> None:
    await limiter.explain(ALONE)
    wire.silence()
    await refusal_seconds(limiter)  # though Redis took it
    wire.answer()
    await until(lambda: not limiter.away)
    tokens, lease = await limiter.explain(ALONE)
    assert isinstance(lease, LeaseState)
    assert isinstance(tokens, Level)
    assert (lease.leases, tokens.remaining) == (0, 100)


async def test_it_settles_later_what_it_cannot_settle_now(limiter: RedisLimiter, wire: Wire) -> None:
    grant = await limiter.reserve("settled", ALONE, SIXTY, 30.0)
    assert isinstance(grant, Grant)
    await wire.cut()
    await limiter.settle(grant, (1,), 0)  # finds out
    await limiter.settle(grant, (1,), 0)  # knows
    await wire.plug()
    await until(lambda: not limiter.away)
    tokens, lease = await limiter.explain(ALONE)
    assert isinstance(lease, LeaseState)
    assert isinstance(tokens, Level)
    assert (lease.leases, tokens.remaining) == (0, 99)


async def test_it_brings_its_script_again_to_a_redis_that_forgot_it(
    limiter: RedisLimiter, redis_url: str
) -> None:
    await limiter.explain(ALONE)
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.script_flush()
    forgotten = Demands(leases=(Lease("forgotten", 5),))
    answers = await asyncio.gather(
        *[limiter.reserve(f"{number}", forgotten, Amounts(), 30.0) for number in range(10)]
    )
    assert sum(isinstance(answer, Grant) for answer in answers) == 5


DEMANDS = Demands((), (Lease("calls", 3),), (Hold("budget", amount=1000),))
HUNDRED = Amounts(wanted=100, least=1)


async def asked(limiter: RedisLimiter, lease_id: str) -> Refusal:
    """The question what was spent."""
    answer = await limiter.reserve(lease_id, DEMANDS, HUNDRED, 30.0)
    assert isinstance(answer, Refusal)
    assert answer.unseeded == (0,)
    return answer


async def granted(limiter: RedisLimiter, lease_id: str) -> Grant:
    """Of a budget of which nothing is spent."""
    told = (await asked(limiter, lease_id)).answered(HUNDRED, [0])
    grant = await limiter.reserve(lease_id, DEMANDS, told, 30.0)
    assert isinstance(grant, Grant)
    return grant


async def lose_everything(redis_url: str, installation: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.delete(*[key async for key in client.scan_iter(f"tollgate:{installation}:*")])


async def test_it_restores_what_it_holds_in_a_redis_that_lost_everything(redis_url: str) -> None:
    installation = f"lost-{uuid.uuid4()}"
    limiter = RedisLimiter(redis_url, installation, recovery_seconds=0.0)
    grant = await granted(limiter, "long")
    await lose_everything(redis_url, installation)
    await limiter.extend([grant], 30.0)
    assert await limiter.explain(DEMANDS) == [LeaseState(3, 1), HoldState(1000, None, 100, 1)]
    await limiter.close()


class Clock:
    """The time of Redis, as a test has it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000 * SECOND

    def __call__(self) -> int:
        return self.now


async def test_it_believes_no_answer_to_what_another_store_asked(redis_url: str) -> None:
    installation, clock = f"born-{uuid.uuid4()}", Clock()
    limiter = RedisLimiter(redis_url, installation, clock, recovery_seconds=0.0)
    question = await asked(limiter, "call")
    await lose_everything(redis_url, installation)
    clock.now -= SECOND  # the new one's clock runs behind, so that only its birth tells
    told = question.answered(HUNDRED, [0])
    assert isinstance(await limiter.reserve("call", DEMANDS, told, 30.0), Refusal)
    await granted(limiter, "call")
    await limiter.close()


async def test_it_holds_nothing_before_all_had_the_time_to_say_what_they_hold(redis_url: str) -> None:
    limiter = RedisLimiter(redis_url, f"recovering-{uuid.uuid4()}", recovery_seconds=60.0)
    began = time.monotonic()
    with pytest.raises(LimiterUnavailable):
        await limiter.reserve("call", DEMANDS, HUNDRED, 30.0)
    assert time.monotonic() - began < LIMIT_SECONDS
    assert isinstance(await limiter.reserve("free", ALONE, SIXTY, 30.0), Grant)
    await limiter.close()


async def test_it_restores_what_lapsed_while_it_could_not_reach_redis(wire: Wire, redis_url: str) -> None:
    installation, clock = f"cut-off-{uuid.uuid4()}", Clock()
    limiter = RedisLimiter(wire.url, installation, clock, recovery_seconds=0.0)
    other = RedisLimiter(redis_url, installation, clock, recovery_seconds=0.0)
    grant = await granted(limiter, "long")
    await wire.cut()
    assert await refusal_seconds(limiter) < LIMIT_SECONDS
    for _ in range(3):
        clock.now += HOLD_GRACE_SECONDS // 2 * SECOND
        await other.extend([], 30.0)
    assert await other.explain(DEMANDS) == [LeaseState(3, 0), HoldState(1000, None, 0, 0)]
    await wire.plug()
    await until(lambda: not limiter.away)
    for _ in range(2):
        await limiter.extend([grant], 30.0)
        assert await other.explain(DEMANDS) == [LeaseState(3, 1), HoldState(1000, None, 100, 1)]
    await limiter.settle(grant, (), 70)
    assert await other.explain(DEMANDS) == [LeaseState(3, 0), HoldState(1000, None, 0, 0)]
    await limiter.close()
    await other.close()


def work(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


async def test_a_process_too_busy_to_listen_does_not_take_redis_for_dead(limiter: RedisLimiter) -> None:
    await limiter.explain(ALONE)
    asking = asyncio.create_task(limiter.reserve("call", ALONE, SIXTY, 30.0))
    for _ in range(5):
        await asyncio.sleep(0)
        work(0.2)
    assert isinstance(await asking, Grant)
    assert not limiter.away


async def test_it_does_not_wait_for_one_reply_to_ask_for_the_next(limiter: RedisLimiter, wire: Wire) -> None:
    await limiter.explain(ALONE)
    wire.delay_seconds = 0.12
    outcomes = []
    for number in range(5):
        demands = Demands((Bucket(f"slow {number}", 5, 5, 60),))
        outcomes.append(asyncio.create_task(limiter.reserve(f"{number}", demands, Amounts((1,)), 30.0)))
        await asyncio.sleep(0.03)  # behind the one before, which is on its way
    assert all(isinstance(answer, Grant) for answer in await asyncio.gather(*outcomes))
