"""The load: keep-alive connections on raw asyncio that read no more of an answer than they must check."""

from __future__ import annotations

import asyncio
import random
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar, cast

from benchmarks.upstream import EVENTS_PER_SECOND

P = TypeVar("P", bound=asyncio.Protocol)

LOAD_TIMEOUT_SECONDS = 60
ADMISSION_TIMEOUT_SECONDS = 10
ADMISSION_PAUSE_SECONDS = 0.2
STARTS_SPREAD_SECONDS = 0.4
QUESTION = (
    '{"model":"gpt-4o-mini","messages":[{"role":"system","content":"Answer in one sentence."},'
    '{"role":"user","content":"What does a gateway do?"}],"temperature":0.2'
)
TOKEN = re.compile(rb'"content":" (\d+)"')
# Two events nearer to each other than a quarter of the pace did not arrive on their own.
ALONE_NANOSECONDS = 1_000_000_000 // EVENTS_PER_SECOND // 4


class CallFailed(Exception):
    """A call was not answered as the upstream answers it; what is measured would mean nothing."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A token event: when it reached the client and how long it was on its way from the upstream."""

    at_nanoseconds: int
    delay_nanoseconds: int


def count_alone(arrivals: list[Arrival]) -> int:
    """How many events of one stream arrived with no other beside them."""
    moments = [arrival.at_nanoseconds for arrival in arrivals]
    apart = [later - earlier >= ALONE_NANOSECONDS for earlier, later in pairwise(moments)]
    return sum(before and after for before, after in zip([True, *apart], [*apart, True], strict=True))


class JsonConnection(asyncio.Protocol):
    """Asks, and waits for one whole JSON answer, as often as it is told to."""

    def __init__(self) -> None:
        self.received = b""
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not its subclasses

    def connection_lost(self, reason: Exception | None) -> None:
        if not self.answered.done():
            self.answered.set_exception(CallFailed(f"connection lost after {self.received[:300]!r}"))

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        whole = len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")
        if separator and whole:
            self.answered.set_result(self.received)

    async def call(self, request: bytes) -> None:
        """Raises CallFailed unless a completed chat comes back."""
        self.received = b""
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        answer = await self.answered
        if not answer.startswith(b"HTTP/1.1 200") or b'"finish_reason":"stop"' not in answer:
            raise CallFailed(f"not a chat completion: {answer[:300]!r}")


class StreamConnection(asyncio.Protocol):
    """Reads one stream, and notes the arrival of each token event."""

    def __init__(self) -> None:
        self.pending = b""
        self.head = b""
        self.arrivals: list[Arrival] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not its subclasses

    def connection_lost(self, reason: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(CallFailed(f"stream cut: {self.head!r} … {self.pending[-300:]!r}"))

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self.head = self.head or data[:300]
        *events, self.pending = (self.pending + data).split(b"\n\n")
        for event in events:
            self.note(event, now)
        if self.pending.endswith(b"0\r\n\r\n") and not self.ended.done():
            self.ended.set_exception(CallFailed(f"stream ended without [DONE]: {self.head!r}"))

    def note(self, event: bytes, now: int) -> None:
        if token := TOKEN.search(event):
            self.arrivals.append(Arrival(now, now - int(token[1])))
        elif event.endswith(b"data: [DONE]") and not self.ended.done():
            self.ended.set_result(None)

    async def call(self, request: bytes, events: int) -> list[Arrival]:
        """Raises CallFailed unless all `events` and the terminal marker come."""
        self.transport.write(request)
        await self.ended
        if len(self.arrivals) != events:
            raise CallFailed(f"{len(self.arrivals)} of {events} events arrived: {self.head!r}")
        return self.arrivals


class Client:
    """Calls one server on the loopback interface, and counts the calls it makes."""

    def __init__(self, port: int, api_key: str) -> None:
        self.port = port
        self.api_key = api_key
        self.calls_made = 0

    def request(self, fields: str) -> bytes:
        body = f"{QUESTION},{fields}}}"
        return (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\n"
            f"authorization: Bearer {self.api_key}\r\ncontent-type: application/json\r\n"
            f"accept: application/json\r\nuser-agent: tollgate-bench\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}"
        ).encode()

    async def await_admission(self) -> None:
        """Returns once a call is let in: under a budget none is for the first seconds of a new Redis."""
        async with asyncio.timeout(ADMISSION_TIMEOUT_SECONDS):
            while True:
                with suppress(CallFailed):
                    return await self.json_calls_in_turn(1)
                self.calls_made -= 1  # it was refused, and is in no ledger
                await asyncio.sleep(ADMISSION_PAUSE_SECONDS)

    async def json_calls(self, count: int, at_once: int) -> None:
        """Makes `count` calls over `at_once` connections."""
        async with asyncio.timeout(LOAD_TIMEOUT_SECONDS), asyncio.TaskGroup() as group:
            for number in range(at_once):
                group.create_task(self.json_calls_in_turn(len(range(number, count, at_once))))

    async def json_calls_in_turn(self, count: int) -> None:
        request = self.request('"max_tokens":64')
        transport, connection = await self.connect(JsonConnection)
        try:
            for _ in range(count):
                self.calls_made += 1
                await connection.call(request)
        finally:
            transport.close()

    async def streams(self, count: int, events: int) -> list[list[Arrival]]:
        """Makes `count` streams of `events` each, begun at odd moments so that they do not tick together."""
        moments = random.Random(events)
        async with asyncio.timeout(LOAD_TIMEOUT_SECONDS), asyncio.TaskGroup() as group:
            streams = [
                group.create_task(self.stream(moments.uniform(0, STARTS_SPREAD_SECONDS), events))
                for _ in range(count)
            ]
        return [stream.result() for stream in streams]

    async def stream(self, begin_after_seconds: float, events: int) -> list[Arrival]:
        await asyncio.sleep(begin_after_seconds)
        transport, connection = await self.connect(StreamConnection)
        self.calls_made += 1
        try:
            return await connection.call(self.request(f'"max_tokens":{events},"stream":true'), events)
        finally:
            transport.close()

    async def connect(self, protocol: type[P]) -> tuple[asyncio.Transport, P]:
        loop = asyncio.get_running_loop()
        return await loop.create_connection(protocol, "127.0.0.1", self.port)
