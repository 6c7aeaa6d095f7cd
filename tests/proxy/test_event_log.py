"""The logs of streams: the same behaviour in one process and over Redis."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from uuid import UUID

import pytest
import redis.asyncio

from proxy import event_log, redis_event_log, sse
from proxy.event_log import EventLog, LogBroken, LogUnavailable, MemoryEventLog, ProducerGone
from proxy.redis_event_log import RedisEventLog
from tests.accounts.test_redis_pipeline import Wire

Make = Callable[..., EventLog]


ID = UUID(int=1)
ALIVE_SECONDS, GRACE_SECONDS = 0.05, 0.2


def event(number: int, text: str = "") -> bytes:
    """One event as the relay writes it."""
    payload = b'{"type":"response.output_text.delta","sequence_number":%d,"delta":"%b"}' % (
        number,
        text.encode(),
    )
    return sse.encode(payload, b"response.output_text.delta")


def events(*range_: int) -> bytes:
    return b"".join(event(number) for number in range(*range_))


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Makes logs that lose patience fast; those of one test share a Redis."""
    made: list[EventLog] = []
    installation = f"log-{uuid.uuid4()}"

    def one(max_bytes: int = event_log.MAX_BYTES, max_total_bytes: int = 2**26) -> EventLog:
        if request.param == "memory":
            made.append(MemoryEventLog(max_bytes, max_total_bytes, alive_seconds=ALIVE_SECONDS))
        else:
            url = request.getfixturevalue("redis_url")
            made.append(
                RedisEventLog(url, installation, max_bytes, max_total_bytes, alive_seconds=ALIVE_SECONDS)
            )
        return made[-1]

    yield one
    for log in made:
        await log.close()


@pytest.fixture
async def log(make: Make) -> EventLog:
    return make()


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


async def read(log: EventLog, after: int = -1, response_id: UUID = ID, alive: event_log.Alive = yes) -> bytes:
    """All that a reader gets, to the end."""
    async with aclosing(log.follow(response_id, after, alive, GRACE_SECONDS)) as pieces:
        return b"".join([piece async for piece in pieces])


@pytest.mark.parametrize("seed", range(12))
async def test_it_gives_every_reader_each_event_once(log: EventLog, seed: int) -> None:
    dice = random.Random(seed)
    count = 60
    readers: list[tuple[int, asyncio.Task[bytes]]] = []
    written = 0
    while written < count:
        if dice.random() < 0.3:
            after = dice.randrange(-1, count - 1)
            readers.append((after, asyncio.create_task(read(log, after))))
        step = min(dice.randint(1, 4), count - written)
        await log.append(ID, events(written, written + step))
        written += step
        for _ in range(dice.randint(0, 3)):
            await asyncio.sleep(dice.choice([0, 0, 0.002]))
    await log.end(ID, event(count))
    readers.append((30, asyncio.create_task(read(log, 30))))
    for after, reader in readers:
        assert await reader == events(after + 1, count + 1)


async def test_it_ends_for_readers_of_a_log_that_ended_without_a_last_event(log: EventLog) -> None:
    await log.append(ID, events(3))
    reader = asyncio.create_task(read(log))
    await log.end(ID)
    assert await reader == events(3)
    assert await read(log, 2) == b""


async def test_it_goes_on_in_the_middle_of_a_piece(log: EventLog) -> None:
    await log.end(ID, events(5))
    assert await read(log, 2) == events(3, 5)


async def test_it_takes_a_number_that_is_written_with_a_space(log: EventLog) -> None:
    spaced = b'data: {"type": "a", "sequence_number": 7}\n\n'
    await log.end(ID, event(6) + spaced)
    assert await read(log, 6) == spaced


@pytest.mark.parametrize(
    "odd",
    [
        b'data: {"metadata":{"sequence_number":99},"sequence_number":1}\n\n',
        b'data: {"delta":"\\"sequence_number\\":99","sequence_number":1}\n\n',
        b'data: {"sequence_number":1,"tools":[{"sequence_number":0}]}\n\n',
        b'event: a\r\ndata: {"sequence_number":1}\r\n\r\n',
    ],
)
async def test_it_takes_no_other_number_for_an_events_own(log: EventLog, odd: bytes) -> None:
    await log.append(ID, event(0))
    await log.append(ID, odd)
    await log.end(ID, event(2))
    assert await read(log, 0) == odd + event(2)
    assert await read(log, 1) == event(2)


async def test_it_keeps_events_without_a_number_where_they_came(log: EventLog) -> None:
    plain = b'data: {"type":"a"}\n\n'
    await log.append(ID, event(0) + plain)
    await log.append(ID, plain)
    await log.end(ID, event(1))
    assert await read(log, -1) == event(0) + plain + plain + event(1)
    assert await read(log, 1) == b""


async def test_it_keeps_logs_apart(log: EventLog) -> None:
    other = UUID(int=2)
    await log.append(ID, event(0))
    await log.append(other, event(0, "other"))
    await log.end(ID)
    await log.end(other)
    assert await read(log) == event(0)
    assert await read(log, response_id=other) == event(0, "other")


async def test_it_waits_for_a_log_that_nobody_has_begun(log: EventLog) -> None:
    reader = asyncio.create_task(read(log))
    await asyncio.sleep(0.05)
    await log.end(ID, events(2))
    assert await reader == events(2)


async def test_it_says_at_once_that_nobody_writes_a_log_that_is_not_there(log: EventLog) -> None:
    with pytest.raises(ProducerGone) as caught:
        await read(log, 4, alive=no)
    assert caught.value.last == 4


async def test_it_says_which_event_was_the_last_of_a_producer_that_is_gone(log: EventLog) -> None:
    await log.append(ID, events(3))
    reader = log.follow(ID, -1, no, GRACE_SECONDS)
    assert await anext(reader) == events(3)
    with pytest.raises(ProducerGone) as caught:
        await anext(reader)
    assert caught.value.last == 2


async def test_it_gives_what_was_written_while_its_producer_was_found_gone(log: EventLog) -> None:
    await log.append(ID, event(0))

    async def ended_just_now() -> bool:
        await log.end(ID, event(1))
        return False

    assert await read(log, alive=ended_just_now) == events(2)


async def test_it_goes_on_for_its_readers_when_its_producer_begins_again(log: EventLog) -> None:
    await log.append(ID, events(2))
    reader = log.follow(ID, -1, yes)
    assert await anext(reader) == events(2)
    await log.forget(ID)
    await log.end(ID, events(4))
    assert b"".join([piece async for piece in reader]) == events(2, 4)


async def test_it_lets_a_slow_reader_have_everything(log: EventLog) -> None:
    big = "x" * 10_000
    await log.append(ID, event(0))
    reader = log.follow(ID, -1, yes)
    assert await anext(reader) == event(0)
    waiting = asyncio.ensure_future(anext(reader))
    for number in range(1, 200):
        await log.append(ID, event(number, big))
        await asyncio.sleep(0.001)
    await log.end(ID)
    got = await waiting + b"".join([piece async for piece in reader])
    assert got == b"".join(event(number, big) for number in range(1, 200))


async def test_it_says_that_a_log_grew_too_large(make: Make) -> None:
    log = make(max_bytes=4000)
    await log.append(ID, event(0))
    reader = log.follow(ID, -1, yes)
    assert await anext(reader) == event(0)
    for number in range(1, 30):
        await log.append(ID, event(number))
    await log.end(ID, event(30))
    with pytest.raises(LogBroken):
        [piece async for piece in reader]
    with pytest.raises(LogBroken):
        await read(log)


async def test_it_makes_room_by_what_ended_first(make: Make) -> None:
    log = make(max_total_bytes=40_000)
    ids = [UUID(int=number) for number in range(1, 8)]
    running = UUID(int=100)
    await log.append(running, event(0))
    for response_id in ids:
        await log.end(response_id, event(0, "x" * 8000))
        assert await read(log, response_id=response_id)
    await log.end(running, event(1))
    kept = []
    for response_id in ids:
        try:
            kept.append(bool(await read(log, response_id=response_id, alive=no)))
        except ProducerGone:
            kept.append(False)
    assert kept == [False] * 3 + [True] * 4
    assert await read(log, response_id=running) == events(2)


async def test_it_breaks_the_oldest_that_is_written_when_nothing_else_makes_room(make: Make) -> None:
    log = make(max_total_bytes=40_000)
    ids = [UUID(int=number) for number in range(1, 8)]
    for response_id in ids:
        await log.append(response_id, event(0, "x" * 8000))
        assert await anext(aiter(log.follow(response_id, -1, yes)))
    for response_id in ids:
        await log.end(response_id, event(1))
    assert await read(log, 0, ids[-1]) == event(1)
    with pytest.raises(LogBroken):
        await read(log, 0, ids[0])


async def test_it_forgets_an_hour_after_the_end_in_memory() -> None:
    now = 0.0
    log = MemoryEventLog(clock=lambda: now)
    await log.end(ID, event(0))
    now = event_log.KEPT_SECONDS - 1
    await log.end(UUID(int=2), event(0))
    assert await read(log) == event(0)
    now = event_log.KEPT_SECONDS + 1
    await log.end(UUID(int=3), event(0))
    with pytest.raises(ProducerGone):
        await read(log, alive=no)


# Over Redis alone


@pytest.fixture
def installation() -> str:
    return f"log-{uuid.uuid4()}"


@pytest.fixture
async def wire(redis_url: str) -> AsyncIterator[Wire]:
    async with Wire(redis_url) as wire:
        yield wire


@pytest.fixture
async def logs(redis_url: str, wire: Wire, installation: str) -> AsyncIterator[list[RedisEventLog]]:
    """Those of two processes; the first reaches Redis through the wire."""
    made = [RedisEventLog(url, installation, alive_seconds=ALIVE_SECONDS) for url in (wire.url, redis_url)]
    yield made
    for log in made:
        await log.close()


async def keys(redis_url: str, installation: str) -> dict[str, int]:
    """What is in Redis, and for how many seconds."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        found = [key async for key in client.scan_iter(f"tollgate:{installation}:*")]
        return {key.decode().rpartition(":")[2]: await client.ttl(key) for key in found}


@pytest.mark.redis
async def test_it_is_read_by_another_process(logs: list[RedisEventLog]) -> None:
    writing, reading = logs
    readers = [asyncio.create_task(read(reading, after)) for after in (-1, 2)]
    for number in range(5):
        await writing.append(ID, event(number))
        await asyncio.sleep(0.02)
    await writing.end(ID, event(5))
    assert [await reader for reader in readers] == [events(6), events(3, 6)]


@pytest.mark.redis
async def test_it_expires_in_redis(logs: list[RedisEventLog], redis_url: str, installation: str) -> None:
    log = logs[0]
    await log.append(ID, event(0))
    assert await anext(aiter(log.follow(ID, -1, yes))) == event(0)
    assert 23 * 3600 < (await keys(redis_url, installation))[ID.hex] <= event_log.LONGEST_SECONDS
    await log.end(ID)
    assert await read(log) == event(0)
    assert 3500 < (await keys(redis_url, installation))[ID.hex] <= event_log.KEPT_SECONDS


@pytest.mark.redis
async def test_it_holds_nobody_up_while_redis_is_away(logs: list[RedisEventLog], wire: Wire) -> None:
    writing, reading = logs
    await writing.append(ID, event(0))
    reader = reading.follow(ID, -1, yes)
    assert await anext(reader) == event(0)
    await wire.cut()
    began = time.monotonic()
    for number in range(1, 50):
        await writing.append(ID, event(number))
    await writing.end(ID, event(50))
    assert time.monotonic() - began < 0.1
    await asyncio.sleep(0.05)
    began = time.monotonic()
    with pytest.raises(LogUnavailable):
        await read(writing)
    assert time.monotonic() - began < 0.3
    await wire.plug()
    with pytest.raises(LogBroken):  # which the other process hears once it can be told
        [piece async for piece in reader]


@pytest.mark.redis
async def test_it_gives_up_on_a_redis_that_does_not_answer(logs: list[RedisEventLog], wire: Wire) -> None:
    reader = asyncio.create_task(read(logs[0]))
    await asyncio.sleep(0.1)
    wire.silence()
    began = time.monotonic()
    with pytest.raises(LogUnavailable):
        await reader
    seconds = redis_event_log.CALL_SECONDS + 2.0
    assert time.monotonic() - began < seconds + 1.0


@pytest.mark.redis
async def test_its_readers_go_on_when_their_connection_is_lost(
    logs: list[RedisEventLog], redis_url: str
) -> None:
    reading, writing = logs
    await writing.append(ID, event(0))
    reader = reading.follow(ID, -1, yes)
    assert await anext(reader) == event(0)
    waiting = asyncio.ensure_future(anext(reader))
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        blocked = [each for each in await client.client_list() if each["cmd"] == "xread"]
        while not blocked:
            blocked = [each for each in await client.client_list() if each["cmd"] == "xread"]
        for each in blocked:
            await client.client_kill_filter(_id=each["id"])
    await writing.end(ID, event(1))
    assert await waiting == event(1)


@pytest.mark.redis
async def test_it_says_that_redis_lost_the_log(
    logs: list[RedisEventLog], redis_url: str, installation: str
) -> None:
    writing, reading = logs
    await writing.append(ID, event(0))
    reader = reading.follow(ID, -1, yes)
    assert await anext(reader) == event(0)
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.delete(*[key async for key in client.scan_iter(f"tollgate:{installation}:*")])
    await writing.append(ID, event(1))
    with pytest.raises(LogBroken):
        [piece async for piece in reader]


@pytest.mark.redis
async def test_a_thousand_readers_share_one_connection(logs: list[RedisEventLog], redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        before = len(await client.client_list())
        ids = [UUID(int=number) for number in range(500)]
        for each in ids:
            await logs[0].append(each, event(0))
        readers = [logs[1].follow(each, -1, yes) for each in ids for _ in range(2)]
        assert {await anext(reader) for reader in readers} == {event(0)}
        waiting = [asyncio.ensure_future(anext(reader)) for reader in readers]
        assert len(await client.client_list()) - before <= 3
        for each in ids:
            await logs[0].end(each, event(1))
        assert set(await asyncio.gather(*waiting)) == {event(1)}


@pytest.mark.redis
async def test_it_leaves_no_key_without_an_end(
    logs: list[RedisEventLog], redis_url: str, installation: str
) -> None:
    await logs[0].end(ID, event(0))
    assert await read(logs[0]) == event(0)
    left = await keys(redis_url, installation)
    assert {name for name, seconds in left.items() if seconds < 0} <= {"sizes", "expiries", "total"}
