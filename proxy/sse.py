"""Server-sent events as bytes: whole events out of pieces, and the data inside an event.

Lines end in CR, LF or CRLF and nothing else (WHATWG HTML, "Server-sent events"): U+2028 and its kin are
content. Every cut of the same bytes yields the same events.
"""

import re
from collections.abc import Iterator

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"
MAX_EVENT_BYTES = 32 * 1024 * 1024

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_LONGEST_BLANK_LINE = 4
_BOM = b"\xef\xbb\xbf"  # which the first event may have before it, and which is no part of it


class OversizedEvent(Exception):
    """An event grew past MAX_EVENT_BYTES without ending."""


class Splitter:
    """Holds back what is not yet a whole event."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._begins = True

    def feed(self, piece: bytes) -> bytes:
        """The whole events that `piece` completes, as they came; b"" when there are none yet.

        Raises OversizedEvent.
        """
        if not self._pending and piece.endswith(b"\n\n") and not self._begins:
            return piece
        searched = max(0, len(self._pending) - _LONGEST_BLANK_LINE)
        self._pending += piece
        if self._begins and len(self._pending) >= len(_BOM):
            self._begins = False
            self._pending = self._pending.removeprefix(_BOM)
            searched = 0
        end = _last_end(self._pending, searched)
        events = bytes(self._pending[:end])
        del self._pending[:end]
        if len(self._pending) > MAX_EVENT_BYTES:
            raise OversizedEvent
        return events

    def rest(self) -> bytes:
        """What is left when the stream has ended: part of an event, or one without its blank line."""
        return bytes(self._pending)


def _last_end(buffer: bytearray, start: int) -> int:
    """Where the last whole event ends; 0 when none does. A last CR may be half of a CRLF: it waits."""
    end = 0
    for match in _BLANK_LINE.finditer(buffer, start):
        if buffer[match.end() - 1] != 0x0D or match.end() < len(buffer):
            end = match.end()
    return end


def split(events: bytes) -> Iterator[bytes]:
    """Each of the whole events in `events`, with its blank line."""
    start = 0
    for match in _BLANK_LINE.finditer(events):
        yield events[start : match.end()]
        start = match.end()
    if start < len(events):
        yield events[start:]


def data(event: bytes) -> bytes:
    """The event's data: its `data:` lines joined by LF, b"" for a comment or an event without any."""
    return b"\n".join(_values(event, b"data"))


def name(event: bytes) -> bytes:
    """The event's `event:` field, b"" when it has none."""
    return b"".join(_values(event, b"event")[-1:])


def _values(event: bytes, field: bytes) -> list[bytes]:
    prefix = field + b":"
    return [
        line[len(prefix) :].removeprefix(b" ") for line in _LINE_END.split(event) if line.startswith(prefix)
    ]


def encode(payload: bytes, name: bytes = b"") -> bytes:
    """One event around a payload that holds no line end."""
    return b"event: %b\ndata: %b\n\n" % (name, payload) if name else b"data: %b\n\n" % payload
