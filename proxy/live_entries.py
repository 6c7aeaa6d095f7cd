"""What is added to the event logs that this process follows, told as it comes: one connection for all.

The connection is blocked in XREAD for as long as nothing comes (Redis docs, "XREAD", 2026-11), so nothing
else ever uses it. A log that is joined meanwhile ends the wait through a stream of this process' own, which
is among those that are read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import redis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from accounts.redis_pipeline import CONNECT_SECONDS, PAUSE_SECONDS
from proxy.event_log import Entry, LogUnavailable, Mark, Position

BLOCK_SECONDS = 1.0
ANSWER_SECONDS = 1.0
LINGER_SECONDS = 0.005  # so that a busy moment is read in few pieces
READ_ENTRIES = 64
WAITING_BYTES = 256 * 1024

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Place:
    """One reader's place in one log. It is `behind` while it has to read what is there for itself: before it
    joined, and when it took too little of what it was told."""

    key: str
    position: Position
    behind: bool = True
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: list[Entry] = field(default_factory=list)
    _size: int = 0

    def push(self, entry: Entry) -> None:
        if self.behind:
            return
        self._waiting.append(entry)
        self._size += len(entry.events)
        if self._size > WAITING_BYTES and len(self._waiting) > 1:
            self.fall_behind()
        self.heard.set()

    def fall_behind(self) -> None:
        self.behind = True
        self._waiting.clear()
        self.heard.set()

    def take(self) -> list[Entry]:
        """What it was told of and has not taken."""
        self.heard.clear()
        taken, self._waiting, self._size = self._waiting, [], 0
        return [entry for entry in taken if entry.position > self.position]


@dataclass(slots=True)
class _Followed:
    position: Position
    places: set[Place]


class LiveEntries:
    """Of one process. `wake` adds to the stream of the name that it is given."""

    def __init__(self, url: str, prefix: str, wake: Callable[[str], Awaitable[None]]) -> None:
        self._pool = ConnectionPool.from_url(
            url,
            protocol=2,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=None,
            retry=Retry(NoBackoff(), 0),
        )
        self._wake = wake
        self._wake_key = f"{prefix}wake:{uuid4().hex}"
        self._wake_id = b"0-0"
        self._followed: dict[str, _Followed] = {}
        self._task: asyncio.Task[None] | None = None
        self._waking: asyncio.Task[None] | None = None
        self._told_to_wake = False

    def join(self, place: Place) -> None:
        """From now on the place is told what comes behind its position; or it is behind what others heard."""
        place.behind = False
        followed = self._followed.get(place.key)
        if followed is not None:
            followed.places.add(place)
            place.behind = followed.position > place.position
            return
        self._followed[place.key] = _Followed(place.position, {place})
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="live entries")
        elif not self._told_to_wake:
            self._told_to_wake = True
            self._waking = asyncio.create_task(self._end_the_wait())

    def leave(self, place: Place) -> None:
        followed = self._followed.get(place.key)
        if followed is not None:
            followed.places.discard(place)
            if not followed.places:
                del self._followed[place.key]

    async def close(self) -> None:
        tasks = [task for task in (self._task, self._waking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _end_the_wait(self) -> None:
        with suppress(LogUnavailable):  # it ends by itself soon
            await self._wake(self._wake_key)

    async def _run(self) -> None:
        """Reads until nobody follows anything."""
        try:
            while self._followed:
                try:
                    await self._read_on()
                except (redis.RedisError, OSError, TimeoutError) as error:
                    self._let_go(error)
                    await asyncio.sleep(PAUSE_SECONDS)
        finally:
            self._task = None

    def _let_go(self, error: Exception) -> None:
        """Everybody hears for themselves whether Redis is there."""
        logger.warning("Redis does not tell what is added to event logs (%s)", type(error).__name__)
        for followed in self._followed.values():
            for place in followed.places:
                place.fall_behind()

    async def _read_on(self) -> None:
        connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()
            while self._followed:
                async with asyncio.timeout(BLOCK_SECONDS + ANSWER_SECONDS):
                    reply = await self._read(connection)
                if reply:
                    self._tell(reply)
                    await asyncio.sleep(LINGER_SECONDS)
        finally:
            await connection.disconnect(nowait=True)

    async def _read(self, connection: AbstractConnection) -> Any:
        """Lists of a key and its entries; None when nothing came in time."""
        self._told_to_wake = False
        keys = [*self._followed, self._wake_key]
        ids = [*(id_of(followed.position) for followed in self._followed.values()), self._wake_id]
        block = ("BLOCK", round(BLOCK_SECONDS * 1000))
        await connection.send_command("XREAD", "COUNT", READ_ENTRIES, *block, "STREAMS", *keys, *ids)
        return await connection.read_response(disable_decoding=True)

    def _tell(self, reply: Any) -> None:
        for key, entries in reply:
            if key == self._wake_key.encode():
                self._wake_id = entries[-1][0]
                continue
            followed = self._followed.get(key.decode())
            if followed is None:
                continue
            for id_, (_, events, _, mark) in entries:
                entry = Entry(position_of(id_), events, Mark(mark.decode()))
                followed.position = entry.position
                for place in followed.places:
                    place.push(entry)


def id_of(position: Position) -> str:
    return f"{position.number}-{position.piece}"


def position_of(id_: bytes) -> Position:
    number, _, piece = id_.partition(b"-")
    return Position(int(number), int(piece))
