"""Event logs that every process reads: Redis Streams, written by the script in proxy/event_log.lua.

A process writes all its logs through one connection, some milliseconds' worth at a time, and no call waits
for it: what the client gets may be ahead of the log by LINGER_SECONDS. When Redis does not take an entry, its
log is broken, which Redis is told as soon as it answers again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from uuid import UUID

from accounts.redis_pipeline import Pipeline
from proxy.event_log import (
    ALIVE_SECONDS,
    BEGINNING,
    ENTRY_BYTES,
    KEPT_SECONDS,
    LONGEST_SECONDS,
    MAX_BYTES,
    Entry,
    EventLog,
    LogUnavailable,
    Mark,
    Position,
    Tail,
    hears,
)
from proxy.live_entries import LiveEntries, Place, id_of, position_of

CALL_SECONDS = 1.0  # no call waits for it, and a process that is busy for a moment breaks no logs
LINGER_SECONDS = 0.01
MAX_TOTAL_BYTES = 256 * 1024 * 1024
ENTRY_LIMIT_BYTES = 64 * 1024
LOGS_AT_ONCE = 128
READ_ENTRIES = 256
READ_BYTES = 256 * 1024


@dataclass(slots=True, eq=False)
class _Log:
    """One log that this process writes: `entries` are in Redis, `pieces` are not yet."""

    key: str
    position: Position = BEGINNING
    entries: int = 0
    size: int = 0
    pieces: list[bytes] = field(default_factory=list)
    mark: Mark = Mark.NONE

    def take(self) -> bytes:
        """Pieces for one entry, of ENTRY_LIMIT_BYTES or one piece."""
        size = count = 0
        for piece in self.pieces:
            if count and size + len(piece) > ENTRY_LIMIT_BYTES:
                break
            size, count = size + len(piece), count + 1
        taken, self.pieces = self.pieces[:count], self.pieces[count:]
        return taken[0] if count == 1 else b"".join(taken)


class RedisEventLog(EventLog):
    """Made on the loop that uses it."""

    def __init__(
        self,
        url: str,
        installation_id: str,
        max_bytes: int = MAX_BYTES,
        max_total_bytes: int = MAX_TOTAL_BYTES,
        alive_seconds: float = ALIVE_SECONDS,
    ) -> None:
        super().__init__(alive_seconds)
        self._prefix = f"tollgate:{installation_id}:events:"
        self._indexes = [self._prefix + name for name in ("sizes", "expiries", "total")]
        self._max_bytes = max_bytes
        self._pipeline = Pipeline(
            url, _script(max_total_bytes), CALL_SECONDS, whose="event log", unavailable=LogUnavailable
        )
        self._live = LiveEntries(url, self._prefix, self._wake)
        self._logs: dict[UUID, _Log] = {}
        self._pending: dict[_Log, None] = {}  # with something to write, in the order in which it came
        self._writer: asyncio.Task[None] | None = None
        self._telling: set[asyncio.Task[None]] = set()

    async def append(self, response_id: UUID, events: bytes) -> None:
        self._add(response_id, events, Mark.NONE)

    async def end(self, response_id: UUID, events: bytes = b"") -> None:
        self._add(response_id, events, Mark.END)
        await self.abandon(response_id)

    async def abandon(self, response_id: UUID) -> None:
        self._logs.pop(response_id, None)

    async def forget(self, response_id: UUID) -> None:
        self._logs.pop(response_id, None)
        keys = [*self._indexes, self._key(response_id)]
        await self._pipeline.deliver(self._pipeline.command(keys, "forget"))

    def tail(self, response_id: UUID, position: Position) -> Tail:
        return _RedisTail(self, self._live, Place(self._key(response_id), position))

    async def close(self) -> None:
        if self._writer is not None:
            await self._writer
        await asyncio.gather(*self._telling)
        await self._live.close()
        await self._pipeline.close()

    async def read(self, place: Place) -> list[Entry]:
        """Entries behind the place; none when there are none. Raises LogUnavailable."""
        arguments = id_of(place.position), str(READ_ENTRIES), str(READ_BYTES)
        command = self._pipeline.command([*self._indexes, place.key], "read", *arguments)
        read = await self._pipeline.call(command)
        return [Entry(position_of(id_), events, Mark(mark.decode())) for id_, events, mark in read]

    def _key(self, response_id: UUID) -> str:
        return f"{self._prefix}{response_id.hex}"

    def _add(self, response_id: UUID, events: bytes, mark: Mark) -> None:
        log = self._logs.get(response_id)
        if log is None:
            log = self._logs[response_id] = _Log(self._key(response_id))
        if log.mark is not Mark.NONE:
            return
        log.size += len(events) + ENTRY_BYTES
        if log.size > self._max_bytes:
            self._shatter([log])
            return
        log.pieces.append(events)
        log.mark = mark
        self._pending[log] = None
        if self._writer is None:
            self._writer = asyncio.create_task(self._write(), name="event log")

    async def _write(self) -> None:
        """Writes what has come, all of it at once; what comes meanwhile is the next batch."""
        try:
            while self._pending:
                logs = list(islice(self._pending, LOGS_AT_ONCE))
                await self._write_some(logs)
                await asyncio.sleep(LINGER_SECONDS if len(logs) < LOGS_AT_ONCE else 0)
        finally:
            self._writer = None

    async def _write_some(self, logs: list[_Log]) -> None:
        """An entry for each of these logs. A log that lost one is broken."""
        arguments: list[str | bytes] = []
        for log in logs:
            events = log.take()
            mark = Mark.NONE if log.pieces else log.mark
            log.position = log.position.next(events, mark)
            arguments += (str(log.entries), id_of(log.position), events, mark)
            log.entries += 1
            if not log.pieces:
                del self._pending[log]
        keys = [*self._indexes, *(log.key for log in logs)]
        try:
            answers = await self._pipeline.call(self._pipeline.command(keys, "append", *arguments))
        except LogUnavailable:
            self._shatter(logs)
        else:
            self._shatter([log for log, added in zip(logs, answers, strict=True) if added == ord("0")])
            for log, added in zip(logs, answers, strict=True):
                if added == ord("2"):
                    self._give_up(log)

    def _shatter(self, logs: Iterable[_Log]) -> None:
        """From now on nothing goes into them but the mark of it, when Redis takes that."""
        for log in logs:
            self._give_up(log)
            # Behind all that may have been written: whether the last entry was, nobody knows.
            arguments = str(log.entries), id_of(log.position.beside())
            command = self._pipeline.command([*self._indexes, log.key], "shatter", *arguments)
            told = asyncio.create_task(self._pipeline.deliver(command))
            self._telling.add(told)
            told.add_done_callback(self._telling.discard)

    def _give_up(self, log: _Log) -> None:
        log.mark = Mark.BROKEN
        log.pieces.clear()
        self._pending.pop(log, None)

    async def _wake(self, key: str) -> None:
        await self._pipeline.call(self._pipeline.command([*self._indexes, key], "wake"))


class _RedisTail(Tail):
    """Reads for itself what is there, and is told what comes."""

    def __init__(self, logs: RedisEventLog, live: LiveEntries, place: Place) -> None:
        super().__init__(place.position)
        self._logs = logs
        self._live = live
        self._place = place

    async def take(self) -> list[Entry]:
        entries = self._place.take()
        if self._place.behind:
            entries = await self._logs.read(self._place)
            if not entries:
                self._live.join(self._place)
        if entries:
            self.position = self._place.position = entries[-1].position
        return entries

    async def news(self, seconds: float) -> bool:
        return self._place.behind or await hears(self._place.heard, seconds)

    def close(self) -> None:
        self._live.leave(self._place)


def _script(max_total_bytes: int) -> bytes:
    constants = f"local KEPT, LONGEST = {KEPT_SECONDS}, {LONGEST_SECONDS}\n"
    bounds = f"local MAX_TOTAL, ENTRY = {max_total_bytes}, {ENTRY_BYTES}\n"
    return (constants + bounds).encode() + Path(__file__).with_name("event_log.lua").read_bytes()
