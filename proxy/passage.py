"""An upstream's event stream on its way to a client of the same language. Pure.

Whole events go through as bytes. Our id and our model name replace the upstream's by byte replacement
(a quote inside a JSON string is escaped, so `"id":"…"` cannot occur in one), and only an event that bears
a mark (usage, an error, a terminal marker, a private field) is looked into.

`_signs` are what every event must bear once it is swapped; before the first event was looked at, a sign
that no event can bear.

Invariant: the terminal marker is never in what `feed` returns. `end` returns it, and only for a stream
that was whole; every other ending is an exception:
  - the upstream reported an error in the stream   UpstreamReported
  - it stopped without its terminal marker         Truncated
  - it sent what is not an event of this language  Garbled
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import msgspec

from proxy import sse, usage
from proxy.call import Fields
from proxy.reported import UpstreamReported, read_error
from proxy.usage import Usage

# Fields that servers add for themselves: llama.cpp server README (timings, __verbose), vLLM's docs of its
# OpenAI-compatible server (kv_transfer_params, prompt_token_ids, token_ids, prompt_logprobs); 2026-11.
PRIVATE = frozenset(
    {"timings", "__verbose", "generation_settings", "kv_transfer_params"}
    | {"prompt_token_ids", "token_ids", "prompt_logprobs"}
)
_PRIVATE_MARKS = tuple(f'"{name}"'.encode() for name in sorted(PRIVATE))
_USAGE_MARKS = (b'"usage":{', b'"usage": {')
_NULL_USAGE = (b',"usage":null', b', "usage": null')
_CHOICES_MARKS = (b'"choices":[', b'"choices": [')
NULL = b"null"
_FIELDS = msgspec.json.Decoder(Fields)


class Truncated(Exception):
    """The upstream's stream ended without its terminal marker."""


class Garbled(Exception):
    """The upstream sent something that is not an answer in its own language. What came `before` it in that
    piece may go to the client."""

    before = b""


class Splitter(Protocol):
    """Cuts what comes into what a passage can read; raises OversizedEvent."""

    def feed(self, piece: bytes) -> bytes: ...

    def rest(self) -> bytes: ...


class Passage(ABC):
    """One stream. Feed it the whole events that its `splitter` cuts, then take the `rest` and the `end`; read
    `usage` and `events` when it has ended."""

    marks: tuple[bytes, ...]

    def __init__(self, answer_id: str, model: str) -> None:
        self.splitter: Splitter = sse.Splitter()
        self.answer_id = msgspec.json.encode(answer_id)
        self.model = msgspec.json.encode(model)
        self.usage: Usage | None = None
        self.events = 0
        self.finished = False
        self._error: dict[str, Any] | None = None
        self._swaps: tuple[tuple[bytes, bytes], ...] = ()
        self._signs: tuple[bytes, ...] = (b"\x00",)

    def feed(self, events: bytes) -> bytes:
        """What of these whole events may go to the client now. Raises Garbled."""
        for mark in self.marks:
            if mark in events:
                return self._look_at_each(events)
        for old, new in self._swaps:
            events = events.replace(old, new)
        count = events.count(b"\n\n")
        for sign in self._signs:
            if events.count(sign) != count:
                return self._look_at_each(events)
        self.events += count
        return events

    @property
    def output_tokens_estimate(self) -> int:
        """How much has been said so far, where the upstream does not report it: a token an event."""
        return self.events

    @property
    def input_tokens_counted(self) -> int | None:
        """How many tokens were asked, where they were counted here."""
        return None

    @property
    def texts(self) -> tuple[str, str] | None:
        """What was asked and what has been said, where the upstream reports no usage and their tokens are to
        be counted."""
        return None

    def count(self, asked: int, said: int) -> None:
        """How many tokens the `texts` are."""
        raise AssertionError("There are no texts to count.")

    def rest(self) -> bytes:
        """What may still go to the client once the stream has ended: a last event may lack its blank line.
        Raises Truncated for half an event."""
        left = self.splitter.rest()
        data = sse.data(left)
        if self.finished or not data:
            return b""
        try:
            if data != b"[DONE]":
                decode(data)
            return self.feed(left + b"\n\n")
        except Garbled:
            raise Truncated from None

    def begin(self) -> bytes:
        """What goes out before anything came."""
        return b""

    @abstractmethod
    def end(self) -> bytes:
        """The terminal marker. Raises UpstreamReported, Truncated."""

    @abstractmethod
    def _look(self, event: bytes, document: Fields) -> bytes:
        """What the client gets for one event that is looked into."""

    def _look_at_each(self, events: bytes) -> bytes:
        out = []
        for event in sse.split(events):
            data = sse.data(event)
            if self.finished or not data:
                continue
            if data == b"[DONE]":
                self.finished = True
                continue
            self.events += 1
            try:
                out.append(self._look(event, decode(data)))
            except Garbled as error:
                error.before = b"".join(out)
                raise
        return b"".join(out)

    def _fail(self, reported: object) -> bytes:
        self._error = reported if isinstance(reported, dict) else {"message": str(reported)}
        self.finished = True
        return b""


class ResponsePassage(Passage):
    """A Response as it is made, whatever language its upstream speaks.

    `items` is what it said so far, complete with what its caller does not see of it.
    """

    @property
    @abstractmethod
    def items(self) -> list[dict[str, Any]]: ...

    @abstractmethod
    def final(self) -> bytes:
        """The Response object, once `end` was called: a client's answer in one piece."""

    @abstractmethod
    def failed(self, error: dict[str, Any]) -> bytes:
        """The events that end it at any moment, with what was said so far: `error`, `response.failed`."""


class ChatPassage(Passage):
    """Chat Completions and Completions: ends with `[DONE]`, or at the end of a stream whose only choice
    finished with the last that was said of it (transformers' server sends no `[DONE]`). Usage not asked for
    is kept from the client."""

    marks = (*_USAGE_MARKS, b"[DONE]", b'"error"', *_PRIVATE_MARKS)

    def __init__(self, answer_id: str, model: str, *, shows_usage: bool) -> None:
        super().__init__(answer_id, model)
        self._shows_usage = shows_usage
        self._tail: tuple[bytes, bytes] = (b"", b"")

    def feed(self, events: bytes) -> bytes:
        self._tail = (self._tail[1], events)
        return super().feed(events)

    def end(self) -> bytes:
        if self._error is not None:
            raise UpstreamReported(self._error)
        if not self.finished and not _is_finished(b"".join(self._tail)):
            raise Truncated
        return sse.DONE

    def _look(self, event: bytes, document: Fields) -> bytes:
        if "error" in document and (error := value(document["error"])):
            return self._fail(error)
        if "choices" not in document and (error := in_place_of_a_chunk(event)) is not None:
            return self._fail(error)
        self._learn(event, document)
        document["id"] = msgspec.Raw(self.answer_id)
        document["model"] = msgspec.Raw(self.model)
        choices = bytes(document.get("choices", NULL))
        if choices == NULL:
            document["choices"] = msgspec.Raw(choices := b"[]")
        if "usage" in document:
            self.usage = usage.read(value(document["usage"])) or self.usage
            if not self._shows_usage:
                del document["usage"]
                if choices.strip(b" []") == b"":
                    return b""
        return sse.encode(msgspec.json.encode(without_private(document)))

    def _learn(self, event: bytes, document: Fields) -> None:
        """From now on events with this id and model are swapped without a look, where they are strings: a
        number may be the beginning of another."""
        swaps = []
        for name, ours in (("id", self.answer_id), ("model", self.model)):
            theirs = bytes(document.get(name, b""))
            key = f'"{name}":'.encode()
            written = next((w for w in (key + theirs, key + b" " + theirs) if w in event), None)
            if written is None or not theirs.startswith(b'"'):
                return
            swaps.append((written, key + ours))
        # We asked for usage: a client that did not would see it announced in every event.
        nulls = () if self._shows_usage else tuple(null for null in _NULL_USAGE if null in event)
        self._swaps = (*(swap for swap in swaps if swap[0] != swap[1]), *((null, b"") for null in nulls))
        # Clients take `choices` for an array: an event that has none is looked at.
        array = next((mark for mark in _CHOICES_MARKS if mark in event), _CHOICES_MARKS[0])
        self._signs = (*(new for _, new in swaps), array)


def _is_finished(events: bytes) -> bool:
    """Whether the last of these chat events that says something of a choice says how it finished, and it is
    the only one."""
    for event in reversed(list(sse.split(events))):
        data = sse.data(event)
        try:
            choices = value(decode(data)["choices"], list[dict[str, Any]]) if data else []
        except (Garbled, KeyError):
            continue
        if choices:
            return all(
                isinstance(each.get("finish_reason"), str) and not each.get("index") for each in choices
            )
    return False


def in_place_of_a_chunk(event: bytes) -> dict[str, Any] | None:
    """The error that an event without choices tells of, in whatever shape; None for something else."""
    error = read_error(sse.data(event))
    return error if error or sse.name(event) == b"error" else None


def decode(data: bytes) -> Fields:
    """A JSON object's members. Raises Garbled."""
    try:
        data.decode()
        return _FIELDS.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Garbled from None


def value(raw: msgspec.Raw, kind: Any = Any) -> Any:
    """What a member holds, as a `kind`. Raises Garbled: for another type, or a number like 1e999."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, RecursionError):
        raise Garbled from None


def without_private(document: Fields) -> Fields:
    """`document` less the fields that servers add for themselves, on top and in `choices`. Raises Garbled."""
    for name in PRIVATE.intersection(document):
        del document[name]
    choices = document.get("choices")
    if choices is not None and any(mark in bytes(choices) for mark in _PRIVATE_MARKS):
        cleaned = [
            {name: member for name, member in choice.items() if name not in PRIVATE}
            for choice in value(choices, list[Fields])
        ]
        document["choices"] = msgspec.Raw(msgspec.json.encode(cleaned))
    return document
