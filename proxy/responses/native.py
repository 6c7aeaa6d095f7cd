"""A Response of an upstream that speaks the language itself, on its way to a client. Pure.

Ids become ours (proxy/responses/names.py), and what the server leaves out is filled in, for the official SDKs
fail without. Seen 2026-11: llama.cpp leaves out `event:`, `sequence_number` and places; vLLM has null for
lists; GitHub's server names an item by another id in each event. The last event bears the output that the
others told, whatever the server put into it.

Deltas go through unparsed from the second on, where the server wrote the first one whole: our item id
replaces the upstream's, and our number its own where they differ. A quote inside a JSON string is escaped, so
neither can be met inside one.

Reasoning is told by the events of a summary. Those of its content are `response.reasoning_text.delta` to
OpenAI and `response.reasoning.delta` to Open Responses, and each of their programs fails at the other
(proxy/responses/draft.py).
"""

from __future__ import annotations

import itertools
import re
import time
from dataclasses import dataclass
from typing import Any

import msgspec

from proxy import sse, usage
from proxy.call import Fields
from proxy.passage import PRIVATE, Garbled, ResponsePassage, Truncated, decode, value
from proxy.reported import UpstreamReported, read_error
from proxy.responses import shape
from proxy.responses.names import Names
from proxy.responses.output import Output, Told
from proxy.usage import Usage

Document = dict[str, Any]

TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})
ENCRYPTED = "reasoning.encrypted_content"

_ADDED, _DONE = "response.output_item.added", "response.output_item.done"
_PART_ADDED = "response.content_part.added"
# vLLM's own names for the parts of reasoning (its openai/responses protocol, 2026-11).
_RENAMED = {
    "response.reasoning_part.added": _PART_ADDED,
    "response.reasoning_part.done": "response.content_part.done",
}
_RETOLD = frozenset(
    f"response.{name}.{step}" for name in ("reasoning_text", "reasoning") for step in ("delta", "done")
)
_SUMMARY, _SUMMARY_PART = "response.reasoning_summary_text", "response.reasoning_summary_part"
# Events of an item that name it; of these, those of a part of its content.
_IN_CONTENT = ("response.content_part.", "response.output_text.", "response.refusal.")
_IN_ITEM = (*_IN_CONTENT, "response.function_call_arguments.", "response.reasoning_summary_")
_NUMBER = re.compile(rb'"sequence_number": ?(\d+)')
_PRIVATE_MARKS = tuple(f'"{name}"'.encode() for name in sorted(PRIVATE))


@dataclass(frozen=True, slots=True)
class Whole:
    """A Response in one piece. `items` is what it said, complete with what its caller does not see of it."""

    body: bytes
    usage: Usage | None
    items: list[Document]
    output_tokens_estimate: int


def whole(passage: ResponsesPassage, body: bytes) -> Whole:
    """An upstream's answer in one piece, by way of a new passage. Raises Garbled; UpstreamReported for one
    that failed."""
    answered = _document(body)
    if "output" not in answered:
        raise UpstreamReported(error) if (error := read_error(body)) else Garbled()
    passage.events = usage.estimate_output(answered["output"])  # which a stream has one of for each token
    passage.conclude(answered, str(answered.get("status") or "completed"))
    if passage.failure is not None:
        raise UpstreamReported(passage.failure)
    return Whole(passage.final(), passage.usage, passage.items, passage.output_tokens_estimate)


class ResponsesPassage(ResponsePassage):
    """One stream. `asked` are the members of the create request as the client sent them.

    `feed` raises Garbled, TooMuchToFold; `end` Truncated, and UpstreamReported for a Response that failed.
    """

    marks = ()

    def __init__(self, answer_id: str, model: str, asked: Fields, created_at: int) -> None:
        super().__init__(answer_id, model)
        self.failure: Document | None = None
        self._begun = shape.skeleton(answer_id, model, asked, created_at)
        self._response = self._begun
        self._input_tokens_estimate = usage.estimate_input(b"".join(asked.values()))
        self._shows_encrypted = _includes(asked, ENCRYPTED)
        self._names = Names(asked)
        self._output = Output(self._names)
        self._sequence = 0
        self._opened = False
        self._ending = b""
        self._marks = _PRIVATE_MARKS
        self._lines: set[bytes] = set()
        self._their_names: dict[str, tuple[bytes, bytes]] = {}

    @property
    def items(self) -> list[Document]:
        return self._output.items

    def feed(self, events: bytes) -> bytes:
        if self.finished:
            return b""
        passed = self._pass(events)
        if passed is not None:
            return passed
        return b"".join(self._each(event) for event in sse.split(events))

    def end(self) -> bytes:
        if self._error is not None:
            raise UpstreamReported(self._error)
        if self.failure is not None:
            raise UpstreamReported(self.failure)
        if not self._ending:
            raise Truncated
        return self._ending

    def final(self) -> bytes:
        return msgspec.json.encode(self._response)

    def failed(self, error: dict[str, Any]) -> bytes:
        output = [self._shown(item) for item in self._output.settle(None, "failed")]
        told = [] if self._opened else self._opening()
        if self.failure is None:
            told.append(("error", {**error, "error": error}))
        ended = {"status": "failed", "error": shape.complete_error(error), "output": output}
        self._response = {**self._response, "completed_at": None, "incomplete_details": None, **ended}
        told.append(("response.failed", {"response": self._response}))
        return b"".join(_encode(*each, number) for number, each in enumerate(told, self._sequence))

    def conclude(self, answered: Document, status: str) -> None:
        """The upstream's Response object as it ended."""
        told = _without(answered, *PRIVATE)
        made = shape.complete_response({**told, "status": status}, self._begun)
        self.usage = usage.read(made["usage"]) or self.usage
        items = self._output.settle(told.get("output"), status)
        made["output"] = [self._shown(item) for item in items]
        if made["usage"] is None:
            made["usage"] = shape.estimated_usage(self._input_tokens_estimate, self.events)
        if status == "completed" and made["completed_at"] is None:
            made["completed_at"] = int(time.time())
        if status == "failed":
            self.failure = told["error"] if isinstance(told.get("error"), dict) else {}
        self._response = made

    def _pass(self, events: bytes) -> bytes | None:
        """These events with our names, unparsed; None if any of them has to be looked into."""
        count = events.count(b"\n\n")
        if not self._lines or sum(events.count(line) for line in self._lines) != count:
            return None
        for mark in self._marks:
            if mark in events:
                return None
        numbers = _NUMBER.findall(events)
        if len(numbers) != count:
            return None
        named = 0
        for theirs, ours in self._their_names.values():
            events = events.replace(theirs, ours)
            named += events.count(ours)
        if named != count:
            return None
        if numbers != [b"%d" % number for number in range(self._sequence, self._sequence + count)]:
            events = self._renumbered(events)
        self._sequence += count
        self.events += count
        self._output.add_deltas(events)
        return events

    def _renumbered(self, events: bytes) -> bytes:
        numbers = itertools.count(self._sequence)
        return _NUMBER.sub(lambda _: b'"sequence_number":%d' % next(numbers), events)

    def _each(self, event: bytes) -> bytes:
        if self.finished:
            return b""
        passed = self._pass(event)
        if passed is not None:
            return passed
        data = sse.data(event)
        if data == b"[DONE]":
            self.finished = True
        if not data or self.finished:
            return b""
        self.events += 1
        return self._look(event, decode(data))

    def _look(self, event: bytes, document: Fields) -> bytes:
        told = {name: value(raw) for name, raw in document.items() if name not in PRIVATE}
        type_ = told.get("type") or sse.name(event).decode(errors="replace")
        if type_ == "error" or (not type_ and "error" in told):
            return self._fail(told.get("error") or _without(told, "type", "sequence_number"))
        if not type_ or not isinstance(type_, str):
            raise Garbled
        type_ = _RENAMED.get(type_, type_)
        opening = [] if self._opened or type_ == "response.created" else self._opening()
        self._opened = True
        written = [self._write(*each) for each in opening]
        if type_ in TERMINAL:
            self._terminate(type_, told)
        elif type_ in _RETOLD:
            written += [self._write(*each) for each in self._retell(type_, told)]
        elif type_ in (_ADDED, _DONE):
            written += [self._write(*each) for each in self._item(type_, told, len(event))]
        else:
            ours = self._ours(type_, told)
            written.append(self._write(type_, ours))
            self._learn(event, type_, told, ours)
        return b"".join(written)

    def _opening(self) -> list[tuple[str, Document]]:
        """The events that every stream begins with."""
        return [(f"response.{step}", {"response": self._begun}) for step in ("created", "in_progress")]

    def _write(self, type_: str, event: Document) -> bytes:
        written = _encode(type_, event, self._sequence)
        self._sequence += 1
        if type_.endswith(".delta"):
            self._output.add_deltas(written)
        return written

    def _terminate(self, type_: str, told: Document) -> None:
        self.finished = True
        self.conclude(_object(told.get("response")), type_.removeprefix("response."))
        self._ending = _encode(type_, {**told, "response": self._response}, self._sequence)

    def _item(self, type_: str, told: Document, size: int) -> list[tuple[str, Document]]:
        """An item is announced, or done. One that is done without having been announced is both."""
        item, place = _object(told.get("item")), told.get("output_index")
        found = None if type_ == _ADDED else self._output.find(item.get("id"), place)
        events: list[tuple[str, Document]] = []
        if found is None or not found.open:
            found = self._output.announce(item, place)
            events.append((_ADDED, {**told, "output_index": found.index, "item": self._shown(found.item)}))
        if type_ == _DONE:
            self._output.end(found, item, size)
            self._their_names.pop(found.theirs, None)
            events += self._end_retelling(found)
            events.append((_DONE, {**told, "output_index": found.index, "item": self._shown(found.item)}))
        return events

    def _shown(self, item: Document) -> Document:
        """What the caller sees of an item: encrypted reasoning only where it asked for that."""
        hides = item.get("type") == "reasoning" and not self._shows_encrypted
        return _without(item, "encrypted_content") if hides else item

    def _ours(self, type_: str, told: Document) -> Document:
        """The event with our names and what was left out, counted from what the server sent so far."""
        if "response" in told:
            return {**told, "response": self._begin(_object(told["response"]))}
        ours: Document = self._names.own(told)
        if not ("item_id" in told or "output_index" in told or type_.startswith(_IN_ITEM)):
            return ours
        item = self._output.find(told.get("item_id"), told.get("output_index"))
        if item is None and isinstance(told.get("item_id"), str):
            item = self._output.announce({"type": _item_type(type_), "id": told["item_id"]}, None)
        if item is None:
            return ours
        if "item_id" in told or type_.startswith(_IN_ITEM):
            ours["item_id"] = item.id
        return {**ours, "output_index": item.index, **self._places(type_, ours, item)}

    def _begin(self, answered: Document) -> Document:
        """The Response as one of the first events bears it."""
        if isinstance(answered.get("id"), str):
            self._marks = (msgspec.json.encode(answered["id"]), *_PRIVATE_MARKS)
            self._names.call(answered["id"], self._begun["id"])
        told = shape.complete_response(_without(answered, *PRIVATE), self._begun)
        self._response = {**told, "output": []}
        return self._response

    def _places(self, type_: str, told: Document, item: Told) -> Document:
        """The members of an item's event that tell what it is of, with their defaults."""
        made: Document = {}
        if type_.startswith(_IN_CONTENT):
            made["content_index"] = item.place(
                "content", told.get("content_index"), begins=type_ == _PART_ADDED
            )
        elif type_.startswith("response.reasoning_summary_"):
            begins = type_ == f"{_SUMMARY_PART}.added"
            made["summary_index"] = item.place("summary", told.get("summary_index"), begins=begins)
        if type_ in ("response.output_text.delta", "response.output_text.done"):
            made["logprobs"] = shape.complete_logprobs(told.get("logprobs"))
        if type_ == "response.function_call_arguments.done":
            made["name"] = told.get("name") or item.item.get("name") or ""
        if isinstance(told.get("part"), dict):
            made["part"] = shape.complete_part(told["part"])
            if type_ == _PART_ADDED:
                self._output.add_part(item, made["part"], made["content_index"])
        if isinstance(told.get("annotation"), dict):
            made["annotation"] = shape.complete_annotation(told["annotation"])
            made["annotation_index"] = told.get("annotation_index") or 0
        return made

    def _retell(self, type_: str, told: Document) -> list[tuple[str, Document]]:
        """Reasoning's own words as those of a summary; nothing where the server tells a summary besides."""
        item = self._output.find(told.get("item_id"), told.get("output_index"))
        if item is None:
            item = self._output.announce({"type": "reasoning", "id": told.get("item_id")}, None)
        if item.parts["summary"] and not item.retold:
            return []
        index = item.place("content", told.get("content_index"), begins=False)
        place = _summary_place(item, index)
        events: list[tuple[str, Document]] = []
        if index not in item.retold:
            item.retold[index] = True
            events.append((f"{_SUMMARY_PART}.added", {**place, "part": _summary("")}))
        if type_.endswith(".delta"):
            return [*events, (f"{_SUMMARY}.delta", {**place, "delta": str(told.get("delta") or "")})]
        return [*events, *_end_summary(item, index, str(told.get("text") or ""))]

    def _end_retelling(self, item: Told) -> list[tuple[str, Document]]:
        """What its server never ended of a reasoning that is done."""
        ended = []
        for index in [index for index, goes_on in item.retold.items() if goes_on]:
            texts = [part.get("text") for part in item.item["summary"]]
            ended += _end_summary(item, index, str(texts[index]) if index < len(texts) else "")
        return ended

    def _learn(self, event: bytes, type_: str, told: Document, ours: Document) -> None:
        """From now on deltas of this kind and item go through without a look, if the server wrote this one
        whole."""
        line = b"event: %b\ndata: {" % type_.encode()
        item = self._output.find(told.get("item_id"), None)
        if not type_.endswith(".delta") or not event.startswith(line) or item is None:
            return
        name = b'"item_id":%b' % msgspec.json.encode(item.theirs)
        spaced = name.replace(b":", b": ", 1)
        theirs = name if name in event else spaced
        if theirs in event and _NUMBER.search(event) and ours == {**told, "item_id": item.id}:
            self._lines.add(line)
            self._their_names[item.theirs] = (theirs, b'"item_id":"%b"' % item.id.encode())


def _document(body: bytes) -> Document:
    """A JSON object. Raises Garbled."""
    return {name: value(raw) for name, raw in decode(body).items()}


def _object(given: object) -> Document:
    if not isinstance(given, dict):
        raise Garbled
    return given


def _without(document: Document, *names: str) -> Document:
    return {name: member for name, member in document.items() if name not in names}


def _encode(type_: str, event: Document, number: int) -> bytes:
    written = msgspec.json.encode({**event, "type": type_, "sequence_number": number})
    return sse.encode(written, type_.encode())


def _includes(asked: Fields, what: str) -> bool:
    try:
        return what in msgspec.json.decode(asked.get("include", b"[]"), type=list[Any])
    except msgspec.DecodeError:
        return False


def _item_type(event_type: str) -> str:
    """Of the item that an event is of whose server announced none."""
    if event_type.startswith("response.function_call_arguments."):
        return "function_call"
    return "reasoning" if event_type.startswith("response.reasoning") else "message"


def _summary(text: str) -> Document:
    return {"type": "summary_text", "text": text}


def _summary_place(item: Told, index: int) -> Document:
    return {"item_id": item.id, "output_index": item.index, "summary_index": index}


def _end_summary(item: Told, index: int, text: str) -> list[tuple[str, Document]]:
    item.retold[index] = False
    place = _summary_place(item, index)
    return [
        (f"{_SUMMARY}.done", {**place, "text": text}),
        (f"{_SUMMARY_PART}.done", {**place, "part": _summary(text)}),
    ]
