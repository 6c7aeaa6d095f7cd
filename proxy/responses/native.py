"""A Response as an upstream makes it that speaks the language itself, on its way to a client. Pure.

Ids become ours: the Response's, its items', and what else of the upstream's account shows up in them. What a
server leaves out is filled in (llama.cpp leaves out `event:`, `sequence_number` and places; others required
members; seen 2026-11): the official SDKs fail without. Deltas that a server writes whole go through unparsed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from accounts.ids import uuid7
from proxy import sse, usage
from proxy.call import Fields
from proxy.passage import Garbled, ResponsePassage, Truncated, decode, value, without_private
from proxy.reported import UpstreamReported, read_error
from proxy.responses import shape
from proxy.usage import Usage
from threads.item_ids import new_id, uuid_of

Document = dict[str, Any]

TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})
_ENCRYPTED = "reasoning.encrypted_content"
# Members that name objects of the upstream's account, wherever they stand.
_FOREIGN = frozenset({"container_id", "file_id", "vector_store_id", "approval_request_id"})
_CONTENT_EVENTS = (
    "response.content_part.",
    "response.output_text.",
    "response.refusal.",
    "response.reasoning_text.",
)
_SEQUENCE = b'"sequence_number":'


@dataclass(frozen=True, slots=True)
class Whole:
    """A Response in one piece. `items` is what it said, complete with what its caller does not see of it."""

    body: bytes
    usage: Usage | None
    items: list[Document]


def whole(answer_id: str, model: str, asked: Fields, created_at: int, body: bytes) -> Whole:
    """An upstream's answer in one piece. Raises Garbled, UpstreamReported."""
    answered = decode(body)
    if "output" not in answered:
        raise UpstreamReported(error) if (error := read_error(body)) else Garbled()
    names = Names(answer_id, model, asked, created_at)
    document = value(msgspec.Raw(msgspec.json.encode(without_private(answered))), Document)
    made = names.response({"status": "completed", **document})
    return Whole(msgspec.json.encode(made), usage.read(made["usage"]), names.items)


class Names:
    """Ours in place of an upstream's, the same wherever they come again in one Response."""

    def __init__(self, answer_id: str, model: str, asked: Fields, created_at: int) -> None:
        self.begun = shape.skeleton(answer_id, model, asked, created_at)
        self.items: list[Document] = []
        self._ids: dict[str, str] = {}
        self._shows_encrypted = f'"{_ENCRYPTED}"'.encode() in bytes(asked.get("include", b""))

    def item_id(self, theirs: str, type_: str = "") -> str:
        """Our id for an item that the upstream calls so."""
        if theirs not in self._ids:
            ours = theirs if uuid_of(theirs) else new_id(type_)
            self._ids[theirs] = self._ids[ours] = ours
        return self._ids[theirs]

    def item(self, item: Document, place: int, status: str) -> Document:
        """An item as it is shown, and kept; `place` is all that names one without an id."""
        theirs = item.get("id") if isinstance(item.get("id"), str) else None
        ours = self.item_id(theirs or f"#{place}", str(item.get("type") or "message"))
        return {**shape.complete_item(self._own(item), status), "id": ours}

    def shown(self, item: Document) -> Document:
        """What the caller sees of an item: encrypted reasoning only where it asked for that."""
        if self._shows_encrypted or "encrypted_content" not in item:
            return item
        return {name: member for name, member in item.items() if name != "encrypted_content"}

    def response(self, answered: Document) -> Document:
        """The whole object. One whose server left the output out has what was told as it came."""
        made = shape.complete_response(answered, self.begun)
        output = answered.get("output")
        given = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
        if given:
            self.items = [self.item(item, place, "completed") for place, item in enumerate(given)]
        made["output"] = [self.shown(item) for item in self.items] if self._ended(made) else []
        if made["status"] == "completed" and made["completed_at"] is None:
            made["completed_at"] = made["created_at"]
        return made

    def _ended(self, made: Document) -> bool:
        return made["status"] not in ("in_progress", "queued")

    def own(self, theirs: str) -> str:
        """Our name for an object of the upstream's account."""
        if theirs not in self._ids:
            prefix = theirs.partition("_")[0][:8]
            self._ids[theirs] = theirs if uuid_of(theirs) else f"{prefix}_{uuid7().hex}"
        return self._ids[theirs]

    def _own(self, document: Any) -> Any:
        if isinstance(document, list):
            return [self._own(each) for each in document]
        if not isinstance(document, dict):
            return document
        return {
            name: self.own(member) if name in _FOREIGN and isinstance(member, str) else self._own(member)
            for name, member in document.items()
        }

    def annotation(self, annotation: Document) -> Document:
        made: Document = shape.complete_annotation(self._own(annotation))
        return made


class ResponsesPassage(ResponsePassage):
    """One stream. `asked` are the members of the create request as the client sent them."""

    marks = (
        *(b'"response":{', b'"response": {', b'"error"', b'"type":"error"', b'"timings"'),
        *(b'.added"', b'.done"'),
    )

    def __init__(self, answer_id: str, model: str, asked: Fields, created_at: int) -> None:
        super().__init__(answer_id, model)
        self._names = Names(answer_id, model, asked, created_at)
        self._sequence = 0
        self._places: dict[str, int] = {}
        self._parts: dict[str, int] = {}
        self._begun = False
        self._last = b""
        self._ending = b""
        self._final: Document | None = None

    @property
    def items(self) -> list[Document]:
        return self._names.items

    def feed(self, events: bytes) -> bytes:
        passed = super().feed(events)
        self._last = passed or self._last
        return passed

    def end(self) -> bytes:
        if self._error is not None:
            raise UpstreamReported(self._error)
        if not self._ending:
            raise Truncated
        return self._ending

    def final(self) -> bytes:
        return msgspec.json.encode(self._final)

    def failed(self, error: Document) -> bytes:
        number = self._next_number()
        ended = {**self._names.begun, "status": "failed", "error": shape.complete_error(error)}
        ended["output"] = [self._names.shown(item) for item in self.items]
        self._final = ended
        told = [] if self._begun else [{"type": "response.created", "response": self._names.begun}]
        told += [{**error, "type": "error", "error": error}, {"type": "response.failed", "response": ended}]
        return b"".join(
            _encode(event["type"], {**event, "sequence_number": number + place})
            for place, event in enumerate(told)
        )

    def _next_number(self) -> int:
        """After the last event that went out, parsed or not."""
        number = self._sequence
        for event in sse.split(self._last):
            if data := sse.data(event):
                number = max(number, int(decode(data).get("sequence_number", b"-1")) + 1)
        return number

    def _look(self, event: bytes, document: Fields) -> bytes:
        told = value(msgspec.Raw(msgspec.json.encode(without_private(document))), Document)
        named = sse.name(event).decode(errors="replace")
        type_ = told.get("type") if isinstance(told.get("type"), str) and told["type"] else named
        if type_ == "error" or (not type_ and "error" in told):
            return self._fail(told.get("error") or told)
        if not type_:
            raise Garbled
        try:
            return self._write(type_, told, event)
        except (TypeError, AttributeError, KeyError, ValueError):
            raise Garbled from None

    def _write(self, type_: str, told: Document, event: bytes) -> bytes:
        """The event as the client gets it; nothing for the last, which waits for `end`."""
        before = len(told)
        told = {**told, "type": type_}
        self._fill_in(type_, told)
        missed_nothing = len(told) == before and sse.name(event) == type_.encode()
        their_id = told.get("item_id")
        self._rename(told, type_)
        written = _encode(type_, told)
        if type_ in TERMINAL:
            self.finished, self._ending, self._final = True, written, told["response"]
            return b""
        if missed_nothing and type_.endswith(".delta") and isinstance(their_id, str):
            self._learn(event, type_, their_id, told["item_id"])
        return written

    def _rename(self, told: Document, type_: str) -> None:
        if "response" in told:
            self._begun = True
            answered = _object(told["response"])
            if type_ in TERMINAL:
                answered = {"status": type_.removeprefix("response."), **answered}
            told["response"] = self._names.response(answered)
            self.usage = usage.read(told["response"]["usage"]) or self.usage
        if "item" in told:
            told["item"] = self._item(_object(told["item"]), type_, told["output_index"])
        if isinstance(told.get("item_id"), str):
            told["item_id"] = self._names.item_id(told["item_id"])
        if isinstance(told.get("part"), dict):
            told["part"] = shape.complete_part(told["part"])
        if isinstance(told.get("annotation"), dict):
            told["annotation"] = self._names.annotation(told["annotation"])

    def _item(self, item: Document, type_: str, place: int) -> Document:
        done = type_ == "response.output_item.done"
        made = self._names.item(item, place, "completed" if done else "in_progress")
        if done:
            self._names.items.append(made)
        return self._names.shown(made)

    def _fill_in(self, type_: str, told: Document) -> None:
        """Places that the server left out, counted from what it sent so far."""
        number = told.setdefault("sequence_number", self._sequence)
        if not isinstance(number, int):
            raise Garbled
        self._sequence = number + 1
        item = told.get("item_id")
        if isinstance(told.get("item"), dict):
            item = told["item"].get("id") or item
        if not isinstance(item, str):
            if "item" in told:
                told.setdefault("output_index", len(self._names.items))
            return
        told.setdefault("output_index", self._places.setdefault(item, len(self._places)))
        if type_ == "response.content_part.added":
            self._parts[item] = self._parts.get(item, -1) + 1
        if type_.startswith(_CONTENT_EVENTS):
            told.setdefault("content_index", max(0, self._parts.get(item, 0)))
        if type_.startswith("response.reasoning_summary"):
            told.setdefault("summary_index", 0)
        if type_ in ("response.output_text.delta", "response.output_text.done"):
            told.setdefault("logprobs", [])

    def _learn(self, event: bytes, type_: str, their_id: str, our_id: str) -> None:
        """From now on events of this type and item are swapped without a look: a server that wrote one whole
        writes them all so."""
        item, kind = _written(event, "item_id", their_id), _written(event, "type", type_)
        if item is not None and kind is not None:
            ours = b'"item_id":"%b"' % our_id.encode()
            self._swaps, self._signs = ((item, ours),), (ours, kind, _SEQUENCE)


def _written(event: bytes, name: str, text: str) -> bytes | None:
    """How the server writes this member. Inside of a string it cannot stand: its quotes are escaped there."""
    member, quoted = b'"%b":' % name.encode(), msgspec.json.encode(text)
    return next((form for form in (member + quoted, member + b" " + quoted) if form in event), None)


def _object(given: object) -> Document:
    if not isinstance(given, dict):
        raise Garbled
    return given


def _encode(type_: object, event: Document) -> bytes:
    return sse.encode(msgspec.json.encode(event), str(type_).encode())
