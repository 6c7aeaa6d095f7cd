"""What is said in the calls of tenants that the operator named in CONTENT_LOGGING: for the pages `/log` and
`/log_errors`. It is held in memory, a little of each of the last calls and not for long, and never written
down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from django.conf import settings

from accounts.keys import Caller
from proxy import sse
from proxy.call import Call
from proxy.http import EVENTS_TYPE, Last, Reply

MAX_CHARACTERS = 4000
MAX_STREAM_BYTES = 256 * 1024
_ASKED = ("messages", "input", "prompt")
_CUT = "…"


@dataclass(frozen=True, slots=True)
class Said:
    """The end of what was asked, and the beginning of what was answered."""

    asked: str
    answered: str


class Heard:
    """What a stream tells its client, as far as it is shown."""

    def __init__(self) -> None:
        self._events = bytearray()

    def add(self, piece: bytes) -> None:
        self._events += piece[: MAX_STREAM_BYTES - len(self._events)]

    def said(self, call: Call, last: Last) -> Said:
        """All of the call, which has ended with `last`."""
        if self._events or last.content_type == EVENTS_TYPE:
            answered = "".join(_texts(bytes(self._events)))
        else:
            answered = last.body[: MAX_CHARACTERS * 4].decode(errors="replace")
        return Said(_asked(call), _beginning(answered))


def heard(caller: Caller, reply: Reply) -> Heard | None:
    """What hears the call from now on, where it is one of those tenants'."""
    if caller.tenant_slug not in settings.CONTENT_LOGGING:
        return None
    made = Heard()
    reply.copies = (*reply.copies, made)
    return made


def _asked(call: Call) -> str:
    if call.form is not None:
        return "(a form)"
    raw = next((bytes(call.fields[name]) for name in _ASKED if name in call.fields), b"")
    text = raw[-MAX_CHARACTERS * 4 :].decode(errors="replace")
    return text if len(text) <= MAX_CHARACTERS else _CUT + text[-MAX_CHARACTERS:]


def _beginning(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + _CUT


def _texts(events: bytes) -> Iterator[str]:
    """The pieces of the answer in a stream: a chat's, a completion's, a Response's or a transcription's."""
    for event in sse.split(events):
        try:
            document = msgspec.json.decode(sse.data(event))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue  # Comments, the marker, and an event that was cut.
        if isinstance(document, dict):
            yield from _pieces(document)


def _pieces(document: dict[str, Any]) -> Iterator[str]:
    if isinstance(document.get("delta"), str) and str(document.get("type")).endswith("text.delta"):
        yield document["delta"]
    for choice in document.get("choices") or ():
        for text in (choice.get("text"), (choice.get("delta") or {}).get("content")):
            if isinstance(text, str):
                yield text
