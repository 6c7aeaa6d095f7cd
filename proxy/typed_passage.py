"""Streams whose events carry a `type`: Responses, and transcriptions. Pure.

Servers that leave out `event:`, `sequence_number`, `output_index` or `content_index` (llama.cpp does,
2026-11) have them filled in: the official SDKs fail without.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from proxy import sse, usage
from proxy.call import Fields
from proxy.passage import Garbled, Passage, Truncated, value, without_private
from proxy.reported import UpstreamReported

_ERROR_MARKS = (b"event: error", b'"type":"error"', b'"type": "error"')


class TypedPassage(Passage):
    """Ends with an event of one of the types in `terminal`, which `end` returns."""

    terminal: frozenset[str]

    def __init__(self, answer_id: str, model: str) -> None:
        super().__init__(answer_id, model)
        self._ending = b""

    def end(self) -> bytes:
        if self._error is not None:
            raise UpstreamReported(self._error)
        if not self._ending:
            raise Truncated
        return self._ending

    def _look(self, event: bytes, document: Fields) -> bytes:
        type_ = _text(document.get("type")) or sse.name(event).decode(errors="replace")
        if type_ == "error" or (not type_ and "error" in document):
            return self._fail(value(document.get("error") or msgspec.Raw(msgspec.json.encode(document))))
        if not type_:
            raise Garbled
        written = self._write(type_, event, document)
        if type_ not in self.terminal:
            return written
        self.finished = True
        self._ending = written
        return b""

    def _write(self, type_: str, event: bytes, document: Fields) -> bytes:
        if "usage" in document:
            self.usage = usage.read(value(document["usage"])) or self.usage
        return sse.encode(msgspec.json.encode(without_private(document)), sse.name(event))


class TranscriptPassage(TypedPassage):
    """A transcription as it is heard: every event is looked at, for they are few."""

    marks = (b"",)
    terminal = frozenset({"transcript.text.done"})


class ResponsesPassage(TypedPassage):
    """A Response as it is made. Ids of the upstream's response become ours wherever they stand."""

    terminal = frozenset({"response.completed", "response.incomplete", "response.failed"})
    marks = (b'"response":{', b'"response": {', *_ERROR_MARKS, b'"timings"')

    def __init__(self, answer_id: str, model: str) -> None:
        super().__init__(answer_id, model)
        self._sequence = 0
        self._places: dict[str, int] = {}
        self._parts: dict[str, int] = {}

    def _write(self, type_: str, event: bytes, document: Fields) -> bytes:
        self._fill_in(type_, document)
        if "response" in document:
            document["response"] = msgspec.Raw(self._response(document["response"]))
        elif sse.name(event) and not self._swaps and b'"sequence_number":' in event:
            # A server that writes whole events: from now on only marked ones are looked at.
            self._signs = (b'"sequence_number":',)
        return sse.encode(msgspec.json.encode(without_private(document)), type_.encode())

    def _response(self, raw: msgspec.Raw) -> bytes:
        response = without_private(value(raw, Fields))
        if "usage" in response:
            self.usage = usage.read(value(response["usage"])) or self.usage
        for name, default in _REQUIRED.items():
            response.setdefault(name, msgspec.Raw(default))
        response.setdefault("created_at", msgspec.Raw(b"%d" % time.time()))
        response["id"] = msgspec.Raw(self.answer_id)
        response["model"] = msgspec.Raw(self.model)
        return msgspec.json.encode(response)

    def _fill_in(self, type_: str, document: Fields) -> None:
        """Places that the server left out, counted from what it sent so far."""
        document.setdefault("type", msgspec.Raw(msgspec.json.encode(type_)))
        given = document.setdefault("sequence_number", msgspec.Raw(b"%d" % self._sequence))
        self._sequence = value(given, int) + 1
        item = _text(document.get("item_id")) or _item_id(document.get("item"))
        if item is None:
            return
        place = self._places.setdefault(item, len(self._places))
        document.setdefault("output_index", msgspec.Raw(b"%d" % place))
        if type_ == "response.content_part.added":
            self._parts[item] = self._parts.get(item, -1) + 1
        if type_.startswith(("response.content_part.", "response.output_text.", "response.refusal.")):
            document.setdefault("content_index", msgspec.Raw(b"%d" % max(0, self._parts.get(item, 0))))
        if type_.startswith("response.output_text."):
            document.setdefault("logprobs", msgspec.Raw(b"[]"))


# Members of every Response (OpenAI API reference, "The response object", 2026-11).
_REQUIRED = {
    "object": b'"response"',
    "error": b"null",
    "incomplete_details": b"null",
    "instructions": b"null",
    "metadata": b"{}",
    "output": b"[]",
    "parallel_tool_calls": b"true",
    "tool_choice": b'"auto"',
    "tools": b"[]",
}


def _text(raw: msgspec.Raw | None) -> str | None:
    text: Any = value(raw) if raw is not None else None
    return text if isinstance(text, str) else None


def _item_id(raw: msgspec.Raw | None) -> str | None:
    item: Any = value(raw) if raw is not None else None
    return item.get("id") if isinstance(item, dict) and isinstance(item.get("id"), str) else None
