"""The events of stored streams as they happened, kept so that any number of readers can follow one.

A log is written by the one process that makes the response, and is read by anybody: from any event, then
live, without a gap and without an event twice. It is not the record of anything: a log that misses an event
says so (LogBroken), and never looks whole.

A log has at most MAX_BYTES, is kept for an hour after its end, and a day in all. `MemoryEventLog` is for one
process; `RedisEventLog` (proxy/redis_event_log.py) for many.
"""

from __future__ import annotations

import asyncio
import bisect
import re
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import NamedTuple
from uuid import UUID

import msgspec

from proxy import sse

MAX_BYTES = 16 * 1024 * 1024
MAX_TOTAL_BYTES = 64 * 1024 * 1024
ENTRY_BYTES = 128  # about what an entry takes besides its events
KEPT_SECONDS = 3600
LONGEST_SECONDS = 24 * 3600
ALIVE_SECONDS = 2.0
GRACE_SECONDS = 1.0
MAX_NUMBER = 2**53

Alive = Callable[[], Awaitable[bool]]

# A quote inside a JSON string is escaped, so that this is a member's name wherever it stands.
_NAME = b'"sequence_number"'
_NUMBER = re.compile(_NAME + rb": ?(\d{1,16})")


class LogUnavailable(Exception):
    """Redis does not answer: nobody can tell what is in the log."""


class _Incomplete(Exception):
    """`last` is the number of the last event that the reader has seen, as far as it is known; -1 for none."""

    def __init__(self, last: int) -> None:
        super().__init__(f"after event {last}")
        self.last = last


class LogBroken(_Incomplete):
    """The log misses events: it could not be written, or grew too large, or made room for others."""


class ProducerGone(_Incomplete):
    """Nobody writes the log any more, and it has no end."""


class Mark(StrEnum):
    NONE = ""
    END = "end"
    BROKEN = "broken"


class Position(NamedTuple):
    """Where an entry stands: the number of its last event plus one, and its place among those that end alike.

    So `Position(n + 1, 0)` has everything behind it that comes after event n.
    """

    number: int
    piece: int

    @classmethod
    def after(cls, number: int) -> Position:
        """Behind the event of that number; -1 is before the first."""
        return cls(min(max(number, -1), MAX_NUMBER) + 1, 0)

    def next(self, events: bytes, mark: Mark) -> Position:
        """Where an entry of these events stands behind this one. A mark is for those too who have seen its
        last event."""
        number = last_number(events)
        if number is None or number < self.number:
            return self.beside()
        return Position(number + 1, 0 if mark is Mark.NONE else 1)

    def beside(self) -> Position:
        """Right behind it, with no event between."""
        return Position(self.number, self.piece + 1)


BEGINNING = Position(0, 0)


class Entry(NamedTuple):
    position: Position
    events: bytes
    mark: Mark = Mark.NONE


class _Numbered(msgspec.Struct):
    sequence_number: int | None = None


_NUMBERED = msgspec.json.Decoder(_Numbered)


def numbers(events: bytes) -> list[int | None]:
    """The `sequence_number` of each of these whole events; None for an event without."""
    found = _NUMBER.findall(events)
    if len(found) == events.count(b"\n\n"):
        return [int(number) for number in found]
    return [_number(event) for event in sse.split(events)]


def _number(event: bytes) -> int | None:
    try:
        return _NUMBERED.decode(sse.data(event)).sequence_number
    except msgspec.DecodeError:
        return None


def last_number(events: bytes) -> int | None:
    """The number of the last event that has one."""
    if events.count(_NAME) == events.count(b"\n\n") and (last := _NUMBER.match(events, events.rfind(_NAME))):
        return int(last[1])
    return next((number for number in reversed(numbers(events)) if number is not None), None)


def past(events: bytes, number: int) -> bytes:
    """What of these events comes after event `number`."""
    seen = [place for place, each in enumerate(numbers(events), 1) if each is not None and each <= number]
    if not seen:
        return events
    return b"".join(islice(sse.split(events), seen[-1], None))


class Tail(ABC):
    """One reader's place in a log. `position` is that of the last entry that it took."""

    def __init__(self, position: Position) -> None:
        self.position = position

    @abstractmethod
    async def take(self) -> list[Entry]:
        """Entries past the position, which moves on; none when there are none yet. Raises LogUnavailable,
        LogBroken."""

    @abstractmethod
    async def news(self, seconds: float) -> bool:
        """Waits so long for something to take; whether there may be."""

    @abstractmethod
    def close(self) -> None: ...


class EventLog(ABC):
    """The logs of an installation, by the id of the response."""

    def __init__(self, alive_seconds: float = ALIVE_SECONDS) -> None:
        self._alive_seconds = alive_seconds

    @abstractmethod
    async def append(self, response_id: UUID, events: bytes) -> None:
        """Adds whole events. Never raises, and waits for nobody: a log that cannot be written is broken."""

    @abstractmethod
    async def end(self, response_id: UUID, events: bytes = b"") -> None:
        """Adds the last events, and says that they are."""

    @abstractmethod
    async def abandon(self, response_id: UUID) -> None:
        """Adds nothing more, for a producer in whose place another ended the response."""

    @abstractmethod
    async def forget(self, response_id: UUID) -> None:
        """Drops what is there, for a producer that begins again. Its readers get what is new to them."""

    @abstractmethod
    def tail(self, response_id: UUID, position: Position) -> Tail:
        """A reader of what comes behind `position`. Close it."""

    @abstractmethod
    async def close(self) -> None:
        """Writes what is pending."""

    async def follow(
        self, response_id: UUID, after: int, alive: Alive, grace_seconds: float = GRACE_SECONDS
    ) -> AsyncGenerator[bytes]:
        """Whole events with a `sequence_number` over `after`, those that come too, until the log's end.

        `alive` says whether somebody writes the log, or will; it is asked in silence. What was written just
        before it said no is waited for. Raises ProducerGone when nobody does, LogBroken, LogUnavailable.
        """
        tail = self.tail(response_id, Position.after(after))
        silence = 0.0  # whoever asks for a log that is not there need not wait to hear so
        try:
            while True:
                before = tail.position
                for entry in await tail.take():
                    silence = self._alive_seconds
                    if entry.mark is Mark.BROKEN:
                        raise LogBroken(entry.position.number - 1)
                    if events := past(entry.events, before.number - 1):
                        yield events
                    if entry.mark is Mark.END:
                        return
                if tail.position == before:
                    if not (await tail.news(silence) or await alive() or await tail.news(grace_seconds)):
                        raise ProducerGone(before.number - 1)
                    silence = self._alive_seconds
        finally:
            tail.close()


@dataclass(slots=True, eq=False)
class _Log:
    begun_at: float
    ended_at: float = 0.0
    entries: list[Entry] = field(default_factory=list)
    size: int = 0

    @property
    def position(self) -> Position:
        return self.entries[-1].position if self.entries else BEGINNING

    @property
    def mark(self) -> Mark:
        return self.entries[-1].mark if self.entries else Mark.NONE

    def past(self, position: Position) -> list[Entry]:
        return self.entries[bisect.bisect_right(self.entries, position, key=lambda entry: entry.position) :]

    def shatter(self) -> None:
        """Leaves nothing but the mark of it."""
        self.entries = [Entry(self.position.beside(), b"", Mark.BROKEN)]
        self.size = ENTRY_BYTES


class MemoryEventLog(EventLog):
    """Of one process, and for its readers. All logs together take at most `max_total_bytes`: those that ended
    first make room, and then those that began first. `clock` tells seconds."""

    def __init__(
        self,
        max_bytes: int = MAX_BYTES,
        max_total_bytes: int = MAX_TOTAL_BYTES,
        clock: Callable[[], float] = time.monotonic,
        alive_seconds: float = ALIVE_SECONDS,
    ) -> None:
        super().__init__(alive_seconds)
        self._max_bytes = max_bytes
        self._max_total_bytes = max_total_bytes
        self._clock = clock
        self._total = 0
        self._written: dict[UUID, _Log] = {}  # in the order in which they began
        self._ended: dict[UUID, _Log] = {}  # in the order in which they ended
        self._tails: defaultdict[UUID, set[_MemoryTail]] = defaultdict(set)

    async def append(self, response_id: UUID, events: bytes) -> None:
        self._add(response_id, events, Mark.NONE)

    async def end(self, response_id: UUID, events: bytes = b"") -> None:
        self._add(response_id, events, Mark.END)
        await self.abandon(response_id)

    async def abandon(self, response_id: UUID) -> None:
        log = self._written.pop(response_id, None)
        if log is not None:
            log.ended_at = self._clock()
            self._ended[response_id] = log

    async def forget(self, response_id: UUID) -> None:
        for logs in (self._written, self._ended):
            log = logs.pop(response_id, None)
            self._total -= log.size if log else 0

    def tail(self, response_id: UUID, position: Position) -> Tail:
        return _MemoryTail(self, response_id, position)

    async def close(self) -> None:
        """There is nothing to write."""

    def past(self, response_id: UUID, position: Position) -> list[Entry]:
        """What a tail takes next."""
        log = self._written.get(response_id) or self._ended.get(response_id)
        return log.past(position) if log else []

    def listen(self, response_id: UUID, tail: _MemoryTail) -> None:
        self._tails[response_id].add(tail)

    def leave(self, response_id: UUID, tail: _MemoryTail) -> None:
        tails = self._tails[response_id]
        tails.discard(tail)
        if not tails:
            del self._tails[response_id]

    def _add(self, response_id: UUID, events: bytes, mark: Mark) -> None:
        log = self._written.get(response_id)
        if log is None:
            if response_id in self._ended:
                return
            self._make_room()
            log = self._written[response_id] = _Log(self._clock())
        before = log.size
        if log.mark is Mark.NONE:
            log.entries.append(Entry(log.position.next(events, mark), events, mark))
            log.size += len(events) + ENTRY_BYTES
            if log.size > self._max_bytes:
                log.shatter()
        self._total += log.size - before
        if self._total > self._max_total_bytes:
            self._make_room()
        self._tell(response_id)

    def _tell(self, response_id: UUID) -> None:
        for tail in self._tails.get(response_id, ()):
            tail.heard.set()

    def _make_room(self) -> None:
        now = self._clock()
        self._drop(self._ended, lambda log: log.ended_at < now - KEPT_SECONDS)
        self._drop(self._written, lambda log: log.begun_at < now - LONGEST_SECONDS)
        self._drop(self._ended, lambda _: self._total > self._max_total_bytes)
        self._shatter_oldest(self._written.items())

    def _drop(self, logs: dict[UUID, _Log], wanted: Callable[[_Log], bool]) -> None:
        while logs:
            oldest = next(iter(logs))
            if not wanted(logs[oldest]):
                return
            self._total -= logs.pop(oldest).size

    def _shatter_oldest(self, logs: Iterable[tuple[UUID, _Log]]) -> None:
        for response_id, log in logs:
            if self._total <= self._max_total_bytes:
                return
            self._total -= log.size
            log.shatter()
            self._total += log.size
            self._tell(response_id)


class _MemoryTail(Tail):
    def __init__(self, logs: MemoryEventLog, response_id: UUID, position: Position) -> None:
        super().__init__(position)
        self.heard = asyncio.Event()
        self._logs = logs
        self._response_id = response_id
        logs.listen(response_id, self)

    async def take(self) -> list[Entry]:
        self.heard.clear()
        entries = self._logs.past(self._response_id, self.position)
        if entries:
            self.position = entries[-1].position
        return entries

    async def news(self, seconds: float) -> bool:
        return await hears(self.heard, seconds)

    def close(self) -> None:
        self._logs.leave(self._response_id, self)


async def hears(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set within so many seconds."""
    if event.is_set():
        return True
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
