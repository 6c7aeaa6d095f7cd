"""The items of a Response as its upstream's events tell them. Pure.

An item has its place by the order in which it was announced, for that is how clients count. What is said of
one that is not yet done is kept as the events that said it. They are read when they are many, or when it is
needed: nobody needs it of a Response that ends well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from proxy.fold import MAX_FOLDED_BYTES, TooMuchToFold
from proxy.responses import shape
from proxy.responses.names import Names
from threads.item_ids import new_id

Document = dict[str, Any]

_READ_AT_BYTES = 64 * 1024
# What a delta adds to: the list of parts, or none, and the member that holds the text.
_ADDS_TO = {
    "response.output_text.delta": ("content", "text", "output_text"),
    "response.refusal.delta": ("content", "refusal", "refusal"),
    "response.reasoning_summary_text.delta": ("summary", "text", "summary_text"),
    "response.function_call_arguments.delta": ("", "arguments", ""),
    "response.mcp_call_arguments.delta": ("", "arguments", ""),
    "response.custom_tool_call_input.delta": ("", "input", ""),
    "response.code_interpreter_call_code.delta": ("", "code", ""),
}


class _Delta(msgspec.Struct):
    type: str
    delta: Any = None
    item_id: str = ""
    content_index: int = 0
    summary_index: int = 0


_DELTAS = msgspec.json.Decoder(_Delta)
_DATA = re.compile(rb"\ndata: (.*)")


@dataclass(slots=True)
class Told:
    """An item that was told of. `theirs` is what its upstream announced it as, "" without a name; `parts`
    counts those that began; `retold` are the parts of its content that are told as a summary, and whether
    each goes on."""

    id: str
    theirs: str
    index: int
    item: Document
    open: bool = True
    parts: dict[str, int] = field(default_factory=lambda: {"content": 0, "summary": 0})
    retold: dict[int, bool] = field(default_factory=dict)

    def place(self, parts: str, given: object, *, begins: bool) -> int:
        """The index of the part that an event is of: as it says, else of a new one or the newest."""
        known = self.parts[parts]
        index = given if isinstance(given, int) else known if begins else max(0, known - 1)
        if begins:
            self.parts[parts] = max(known, index + 1)
        return index


class Output:
    """What a Response's events told of its items so far."""

    def __init__(self, names: Names) -> None:
        self.told: list[Told] = []
        self._names = names
        self._by_id: dict[str, Told] = {}
        self._by_place: dict[int, Told] = {}
        self._deltas: list[bytes] = []
        self._held = 0
        self._kept = 0

    @property
    def items(self) -> list[Document]:
        """Those that are done."""
        return [told.item for told in self.told if not told.open]

    def find(self, theirs: object, place: object) -> Told | None:
        """The item that an event speaks of: by its id, by its place (some servers have another id in each
        event of an item), or, where it says neither, the newest one."""
        if isinstance(theirs, str) and theirs in self._by_id:
            return self._by_id[theirs]
        if isinstance(place, int):
            return self._by_place.get(place)
        return self.told[-1] if theirs is None and self.told else None

    def announce(self, item: Document, place: object) -> Told:
        """A new item, under an id of ours."""
        told = Told(new_id(str(item.get("type") or "message")), "", len(self.told), {})
        if isinstance(item.get("id"), str):
            told.theirs = item["id"]
            self._by_id[told.theirs] = told
        self.told.append(told)
        self._by_place[place if isinstance(place, int) else told.index] = told
        told.item = self._complete(told, item, "in_progress")
        return told

    def _complete(self, told: Told, item: Document, status: str) -> Document:
        if isinstance(item.get("id"), str):
            self._names.call(item["id"], told.id)
        return shape.complete_item({**self._names.own(item), "id": told.id}, status)

    def end(self, told: Told, item: Document, size: int) -> None:
        """The item is done, and is this, of that size in bytes. Raises TooMuchToFold."""
        told.item, told.open = _filled(self._complete(told, item, "completed"), told.item), False
        self._keep(size)
        if not any(other.open for other in self.told):
            self._deltas.clear()
            self._held = 0

    def add_part(self, told: Told, part: Document, index: int) -> None:
        """A part of the content begins."""
        _part(told.item, "content", index, str(part.get("type"))).update(part)

    def add_deltas(self, events: bytes) -> None:
        """More of what is not yet done, as it was told. Raises TooMuchToFold."""
        self._deltas.append(events)
        self._held += len(events)
        if self._held > _READ_AT_BYTES:
            self._keep(self._held)
            self._read_deltas()

    def _keep(self, size: int) -> None:
        self._kept += size
        if self._kept > MAX_FOLDED_BYTES:
            raise TooMuchToFold

    def _read_deltas(self) -> None:
        by_id = {told.id: told for told in self.told if told.open}
        said: dict[tuple[str, str, int], list[str]] = {}
        for delta in _read(b"".join(self._deltas)):
            if delta.type in _ADDS_TO and delta.item_id in by_id and isinstance(delta.delta, str):
                index = delta.summary_index if "summary" in delta.type else delta.content_index
                said.setdefault((delta.item_id, delta.type, index), []).append(delta.delta)
        for (id_, type_, index), pieces in said.items():
            parts, name, part_type = _ADDS_TO[type_]
            item = by_id[id_].item
            holder = _part(item, parts, index, part_type) if parts else item
            holder[name] = str(holder.get(name) or "") + "".join(pieces)
        self._deltas.clear()
        self._held = 0

    def settle(self, output: object, status: str) -> list[Document]:
        """All items of a Response that ended with this output, whole or sparse, and its `status`."""
        self._read_deltas()
        given = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
        matched: list[Told] = []
        for place, item in enumerate(given):
            told = self._same(place, item, matched) or self.announce(item, None)
            matched.append(told)
            last = self._complete(told, item, "completed")
            told.item = _filled(last, told.item) if told.open else _filled(told.item, last)
            told.open = False
        for told in self.told:
            if told.open:
                told.item, told.open = _left(told, status), False
        return self.items

    def _same(self, place: int, item: Document, matched: list[Told]) -> Told | None:
        """The item that was told of and comes again in this place of the whole output: of the same id, else
        of the same type (some servers give it another id there)."""
        here = self.told[place] if place < len(self.told) else None
        if here and here not in matched and here.theirs and here.theirs == item.get("id"):
            return here
        named = self._by_id.get(str(item.get("id")))
        if named and named not in matched:
            return named
        alike = here and here not in matched and here.item["type"] == (item.get("type") or "message")
        return here if alike else None


def _read(events: bytes) -> list[_Delta]:
    """Nothing where one of them makes no sense: they went through unparsed."""
    try:
        return _DELTAS.decode_lines(b"\n".join(_DATA.findall(events)))
    except (msgspec.DecodeError, RecursionError):
        return []


def _filled(item: Document, other: Document) -> Document:
    """`item`, with what it lacks from `other`."""
    return {**other, **{name: member for name, member in item.items() if member or name not in other}}


def _part(item: Document, parts: str, index: int, type_: str) -> Document:
    """The part of that index; where there are not so many, a new one."""
    held: list[Document] = item.setdefault(parts, [])
    if index >= len(held):
        held.append(shape.complete_part({"type": type_}))
    return held[min(index, len(held) - 1)]


def _left(told: Told, status: str) -> Document:
    """An item that was never done, as far as it was told."""
    item = dict(told.item)
    if told.retold:
        texts = (part.get("text", "") for part in item.get("summary", ()))
        item["content"] = [{"type": "reasoning_text", "text": text} for text in texts]
    if "status" in item:
        item["status"] = "completed" if status == "completed" else "incomplete"
    return item
