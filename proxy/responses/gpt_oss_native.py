"""A Response of a gpt-oss model whose upstream speaks the language itself, without what leaked of the model's
own format (proxy/harmony.py). Pure.

Control tokens are taken out of texts and of tools' names. What stands in a message in the channel `analysis`
is reasoning that came the wrong way, and is left out: once a message is announced, no reasoning can come
before it. Items of reasoning are left out for a caller who does not want to see any. What the request said,
and comes back in the Response, stays as it was.
"""

from __future__ import annotations

from typing import Any

import msgspec

from proxy import sse
from proxy.call import Fields
from proxy.harmony import ANALYSIS, FINAL, NameFilter, TextFilter
from proxy.passage import value
from proxy.responses.native import ResponsesPassage

Document = dict[str, Any]
Place = tuple[str, str, int]  # of a text: its item's id, the list that its part is in, its place there

# A `<` as it stands in JSON, or as Go writes it.
_MARKS = (b"<", b"\\u003c", b"\\u003C")
_REASONING_MARK = b"reasoning"
# Events that bear a text or a part with one, less their last word; and the list that the part is in.
_TEXTS = {
    "response.output_text": "content",
    "response.content_part": "content",
    "response.reasoning_part": "content",
    "response.reasoning_text": "content",
    "response.reasoning": "content",
    "response.reasoning_summary_part": "summary",
    "response.reasoning_summary_text": "summary",
}


class GptOssResponsesPassage(ResponsesPassage):
    """One stream. `harmony_tokens` counts the control tokens taken out."""

    def __init__(
        self, answer_id: str, model: str, asked: Fields, created_at: int, *, shows_reasoning: bool
    ) -> None:
        super().__init__(answer_id, model, asked, created_at)
        self.harmony_tokens = 0
        self._shows_reasoning = shows_reasoning
        self._looks_for = _MARKS if shows_reasoning else (*_MARKS, _REASONING_MARK)
        self._open: dict[Place, _Text] = {}
        self._heard: set[Place] = set()

    def rest(self) -> bytes:
        """As of any Response, and what was held back of texts that nobody ended."""
        return super().rest() + self._end_texts("")

    def conclude(self, answered: Document, status: str) -> None:
        """As of any Response; what no event told of it before is counted here."""
        if isinstance(output := answered.get("output"), list):
            kept = [item for item in output if not self._hides(item)]
            for item in kept:
                self._clean_item(item, "", counts=not self._output.told)
            answered = {**answered, "output": kept}
        super().conclude(answered, status)

    def _pass(self, events: bytes) -> bytes | None:
        return None if self._looks(events) else super()._pass(events)

    def _look(self, event: bytes, document: Fields) -> bytes:
        if not self._looks(event):
            return super()._look(event, document)
        told = {name: value(raw) for name, raw in document.items()}
        told["type"] = told.get("type") or sse.name(event).decode(errors="replace")
        stem, _, step = str(told["type"]).rpartition(".")
        if self._hides(told.get("item")) or (stem in _TEXTS and self._hides({"type": _item_type(told)})):
            return b""
        ended = b""
        if stem in _TEXTS and step == "delta":
            return self._hear(self._place(told, _TEXTS[stem]), told)
        if stem in _TEXTS:
            place = self._place(told, _TEXTS[stem])
            ended = self._end_text(place)
            holder = told["part"] if isinstance(told.get("part"), dict) else told
            self._clean_text(holder, place, _item_type(told))
        elif isinstance(told.get("item"), dict):
            found = self._output.find(told["item"].get("id"), told.get("output_index"))
            known = found.id if found and found.open and step == "done" else ""
            ended = self._end_texts(known) if known else b""
            self._clean_item(told["item"], known, counts=not known)
        elif "item_id" in told and isinstance(told.get("name"), str):
            told["name"] = self._name(told["name"], counts=False)
        else:
            return super()._look(event, document)
        return ended + super()._look(event, _fields(told))

    def _looks(self, events: bytes) -> bool:
        """Whether there may be something in these events, or in what they go on with."""
        return any(text.filter.busy for text in self._open.values()) or any(
            mark in events for mark in self._looks_for
        )

    def _hides(self, item: object) -> bool:
        hidden = isinstance(item, dict) and item.get("type") == "reasoning"
        return hidden and not self._shows_reasoning

    def _place(self, told: Document, parts: str) -> Place:
        item = self._output.find(told.get("item_id"), told.get("output_index"))
        index = told.get("content_index" if parts == "content" else "summary_index")
        return item.id if item else "", parts, index if isinstance(index, int) else 0

    def _hear(self, place: Place, told: Document) -> bytes:
        """A piece of a text: what of it is free to go."""
        text = self._open.setdefault(place, _Text(_item_type(told)))
        self._heard.add(place)
        text.newest = told
        counted = text.filter.count
        piece = text.feed(str(told.get("delta") or ""))
        self.harmony_tokens += text.filter.count - counted
        return self._say(text, piece)

    def _say(self, text: _Text, piece: str) -> bytes:
        return super()._look(b"", _fields({**text.newest, "delta": piece})) if piece else b""

    def _end_text(self, place: Place) -> bytes:
        """What was held back of a text that has ended."""
        text = self._open.pop(place, None)
        return self._say(text, text.rest()) if text else b""

    def _end_texts(self, item_id: str) -> bytes:
        """The same of all texts of an item, or of all items."""
        places = [place for place in self._open if place[0] == item_id or not item_id]
        return b"".join([self._end_text(place) for place in places])

    def _clean_item(self, item: object, known: str, *, counts: bool) -> None:
        """An item with all that is in it; of one that is `known`, what was heard before is not counted."""
        if not isinstance(item, dict):
            return
        if isinstance(item.get("name"), str):
            item["name"] = self._name(item["name"], counts=counts)
        for parts in ("content", "summary"):
            given = item.get(parts)
            for index, part in enumerate(given if isinstance(given, list) else ()):
                if isinstance(part, dict):
                    place = (known, parts, index) if known or counts else None
                    self._clean_text(part, place, str(item.get("type")))

    def _clean_text(self, holder: Document, place: Place | None, item_type: str) -> None:
        """The whole text of a part or of an event, which counts where nothing of it was heard before."""
        if not isinstance(holder.get("text"), str):
            return
        text = _Text(item_type)
        holder["text"] = text.feed(holder["text"]) + text.rest()
        if place is not None and place not in self._heard:
            self.harmony_tokens += text.filter.count
            if place[0] and text.filter.count:
                self._heard.add(place)

    def _name(self, name: str, *, counts: bool) -> str:
        """The name of a tool, which every event of its call bears."""
        made = NameFilter()
        cleaned = made.feed(name)
        self.harmony_tokens += made.count if counts else 0
        return cleaned


class _Text:
    """One text of an item, as its pieces come. `newest` is the event that told the last of them."""

    def __init__(self, item_type: str) -> None:
        self._all = item_type == "reasoning"
        self.filter = TextFilter(ANALYSIS if self._all else FINAL)
        self.newest: Document = {}

    def feed(self, piece: str) -> str:
        return self._kept(self.filter.feed(piece))

    def rest(self) -> str:
        return self._kept(self.filter.rest())

    def _kept(self, spoken: list[tuple[str, str]]) -> str:
        return "".join(text for channel, text in spoken if self._all or channel != ANALYSIS)


def _item_type(told: Document) -> str:
    """Of the item that an event with a text is of."""
    part = told["part"].get("type") if isinstance(told.get("part"), dict) else ""
    return "reasoning" if f"{told['type']}{part}".count("reasoning") or part == "summary_text" else "message"


def _fields(told: Document) -> Fields:
    return {name: msgspec.Raw(msgspec.json.encode(member)) for name, member in told.items()}
