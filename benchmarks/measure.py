"""One round of measurement on one server, and what several rounds come to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Generic, TypeVar

from benchmarks.client import Arrival, count_alone
from benchmarks.processes import cpu_seconds
from benchmarks.servers import Server

T = TypeVar("T")

JSON_AT_ONCE = 32
STREAMS_AT_ONCE = 150
SHORT_EVENTS = 10
LONG_EVENTS = 110
WARM_UP_CALLS = 320
# An idle server is watched for about as long as the longest load lasts, and its use scaled to each load.
IDLE_SECONDS = 2.5
# What a server does after its last answer belongs to the load.
AFTERMATH_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Load(Generic[T]):
    """What a server used while it was under load, and what the client saw."""

    cpu_seconds: float
    wall_seconds: float
    seen: T


@dataclass(frozen=True, slots=True)
class Round:
    """One server's figures in one round; processor time is without what the server uses when idle."""

    json_milliseconds: float
    limited_milliseconds: float | None
    json_per_second: float
    chunk_milliseconds: float
    events: int
    events_alone: int
    delays_nanoseconds: list[int]


async def warm_up(server: Server) -> None:
    """Connections to the upstream are open and caches filled before anything is counted."""
    await server.client.json_calls(WARM_UP_CALLS, JSON_AT_ONCE)
    if server.limited:
        await server.limited.await_admission()
        await server.limited.json_calls(WARM_UP_CALLS, JSON_AT_ONCE)
    await server.client.streams(STREAMS_AT_ONCE, SHORT_EVENTS)


async def measure_round(server: Server, json_calls: int) -> Round:
    idle = (await watch(server, asyncio.sleep(IDLE_SECONDS))).cpu_seconds / (IDLE_SECONDS + AFTERMATH_SECONDS)
    plain = await watch(server, server.client.json_calls(json_calls, JSON_AT_ONCE))
    limited = None
    if server.limited:
        load = await watch(server, server.limited.json_calls(json_calls, JSON_AT_ONCE))
        limited = 1000 * busy_seconds(load, idle) / json_calls
    short = await watch(server, server.client.streams(STREAMS_AT_ONCE, SHORT_EVENTS))
    long = await watch(server, server.client.streams(STREAMS_AT_ONCE, LONG_EVENTS))
    extra_events = STREAMS_AT_ONCE * (LONG_EVENTS - SHORT_EVENTS)
    arrivals = [arrival for stream in long.seen for arrival in stream]
    return Round(
        json_milliseconds=1000 * busy_seconds(plain, idle) / json_calls,
        limited_milliseconds=limited,
        json_per_second=json_calls / plain.wall_seconds,
        chunk_milliseconds=1000 * (busy_seconds(long, idle) - busy_seconds(short, idle)) / extra_events,
        events=len(arrivals),
        events_alone=sum(count_alone(stream) for stream in long.seen),
        delays_nanoseconds=delays(arrivals),
    )


def delays(arrivals: list[Arrival]) -> list[int]:
    return [arrival.delay_nanoseconds for arrival in arrivals]


def busy_seconds(load: Load[T], idle: float) -> float:
    return load.cpu_seconds - idle * (load.wall_seconds + AFTERMATH_SECONDS)


async def watch(server: Server, load: Awaitable[T]) -> Load[T]:
    before, began = cpu_seconds(server.pid), time.monotonic()
    seen = await load
    wall_seconds = time.monotonic() - began
    await asyncio.sleep(AFTERMATH_SECONDS)
    return Load(cpu_seconds(server.pid) - before, wall_seconds, seen)
