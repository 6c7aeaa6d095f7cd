"""A Response while it is being written: its items so far, and the events that tell of each step. Pure.

Events and their order: OpenAI API reference, "Streaming events", and the Open Responses specification of
2026-04-24. Where the two differ, what is sent is valid by both:
  - Deltas of reasoning are `response.reasoning_text.delta` to OpenAI, `response.reasoning.delta` to Open
    Responses, and each knows only its own: OpenAI's SDK for Node (6.49 and 7.57, 2026-11) throws at the
    other. So reasoning is told as it comes by the events of a summary, which are the same in both. Its
    content has a part that is added and done.
  - `error` bears its members twice: on top (OpenAI) and in `error` (Open Responses).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from accounts.ids import uuid7
from proxy import sse
from proxy.responses.items import Item, Part
from proxy.responses.shape import complete_error
from threads.item_ids import new_id

# The events of a part's text and of the part, the member that holds the text, and what its place is called.
_NAMES: dict[str, tuple[str | None, str, str, str]] = {
    "output_text": ("response.output_text", "response.content_part", "text", "content_index"),
    "refusal": ("response.refusal", "response.content_part", "refusal", "content_index"),
    "reasoning_text": (None, "response.content_part", "text", "content_index"),
    "summary_text": (
        "response.reasoning_summary_text",
        "response.reasoning_summary_part",
        "text",
        "summary_index",
    ),
}
_ARGUMENTS = "response.function_call_arguments"
_INPUT = "response.custom_tool_call_input"


@dataclass(slots=True)
class _Words:
    """A part of an item: text as it comes."""

    type: str
    index: int
    open: bool = True
    pieces: list[str] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    annotations: list[Any] = field(default_factory=list)

    def document(self) -> Part:
        made: Part = {"type": self.type, _NAMES[self.type][2]: "".join(self.pieces)}
        if self.type == "output_text":
            made |= {"annotations": list(self.annotations), "logprobs": list(self.logprobs)}
        return made


@dataclass(slots=True)
class Writing:
    """An item of the output: `item` as it was announced, and what has been written of it."""

    item: Item
    output_index: int
    open: bool = True
    content: list[_Words] = field(default_factory=list)
    summary: list[_Words] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)

    def document(self, status: str) -> Item:
        made = {**self.item, "status": status}
        if self.item["type"] == "reasoning":
            made["summary"] = [words.document() for words in self.summary]
        if self.item["type"] in ("reasoning", "message"):
            made["content"] = [words.document() for words in self.content]
        elif self.item["type"] == "function_call":
            made["arguments"] = "".join(self.arguments)
        else:
            made["input"] = _input_in("".join(self.arguments))
        return made

    def words(self, type_: str) -> list[_Words]:
        return self.summary if type_ == "summary_text" else self.content


class Draft:
    """The Response that `response` is at its beginning. `taken` are the events since it was last called."""

    def __init__(self, response: Item, *, shows_logprobs: bool, custom: frozenset[str]):
        self.response = response
        self._shows_logprobs = shows_logprobs
        self._custom = custom
        self._begun = False
        self._sequence = 0
        self._events: list[bytes] = []
        self._items: list[Writing] = []
        self._speaking: Writing | None = None

    def taken(self) -> bytes:
        events = b"".join(self._events)
        self._events.clear()
        return events

    def begin(self) -> None:
        """Announces the response, once."""
        if not self._begun:
            self._begun = True
            self._tell("response.created", response=self.response)
            self._tell("response.in_progress", response=self.response)

    def reason(self, text: str) -> None:
        """More reasoning: an item with one text, as its content and as its summary."""
        self._say("reasoning", "reasoning_text", text)
        self._say("reasoning", "summary_text", text)

    def speak(self, text: str, logprobs: list[Any]) -> None:
        """More of the answer's text, with the log probabilities of its tokens."""
        self._say("message", "output_text", text, logprobs if self._shows_logprobs else [])

    def refuse(self, text: str) -> None:
        """More of a refusal."""
        self._say("message", "refusal", text)

    def cite(self, annotation: dict[str, Any]) -> None:
        """A source of the text so far, which must have begun."""
        writing = self._writing("message")
        words = self._words(writing, "output_text")
        place = {**_place(writing), "content_index": words.index, "annotation_index": len(words.annotations)}
        words.annotations.append(annotation)
        self._tell("response.output_text.annotation.added", **place, annotation=annotation)

    def call(self, call_id: str, name: str) -> Writing:
        """A call of a tool begins; the answer's text before it is whole."""
        self._stop_speaking("completed")
        taken = {writing.item.get("call_id") for writing in self._items}
        if not call_id or call_id in taken:
            call_id = f"call_{uuid7().hex}"
        if name in self._custom:
            return self._open({"type": "custom_tool_call", "call_id": call_id, "name": name, "input": ""})
        return self._open({"type": "function_call", "call_id": call_id, "name": name, "arguments": ""})

    def argue(self, writing: Writing, arguments: str) -> None:
        """More of a call's arguments. A custom tool's input is told when they are whole."""
        writing.arguments.append(arguments)
        if writing.item["type"] == "function_call":
            self._tell(f"{_ARGUMENTS}.delta", **_place(writing), delta=arguments)

    def close(self, status: str) -> None:
        """Ends every item that is still open: "completed" or "incomplete"."""
        self._stop_speaking(status)
        for writing in self._items:
            if writing.open:
                self._end_call(writing, status)

    def end(self, status: str, **members: Any) -> None:
        """The terminal event, with the whole response; `members` are those that it ends with."""
        self.close("completed" if status == "completed" else "incomplete")
        self._finish(status, **members)

    def fail(self, error: dict[str, Any]) -> None:
        """An `error` event and `response.failed`, with what there is so far."""
        self.begin()
        self._tell("error", **error, error=error)
        self._finish("failed", error=complete_error(error))

    def _finish(self, status: str, **members: Any) -> None:
        left = "completed" if status == "completed" else "incomplete"
        output = [w.item if not w.open else w.document(left) for w in self._items]
        self.response = {**self.response, "status": status, "output": output, **members}
        self._tell(f"response.{status}", response=self.response)

    def _tell(self, event_type: str, **members: Any) -> None:
        event = {**members, "type": event_type, "sequence_number": self._sequence}
        self._sequence += 1
        self._events.append(sse.encode(msgspec.json.encode(event), event_type.encode()))

    def _say(self, item_type: str, type_: str, text: str, logprobs: list[Any] | None = None) -> None:
        writing = self._writing(item_type)
        words = self._words(writing, type_)
        words.pieces.append(text)
        events, _, _, index_name = _NAMES[type_]
        if events is None:
            return
        more: dict[str, Any] = {"delta": text}
        if type_ == "output_text":
            words.logprobs += logprobs or []
            more["logprobs"] = logprobs or []
        self._tell(f"{events}.delta", **_place(writing), **{index_name: words.index}, **more)

    def _writing(self, item_type: str) -> Writing:
        """The reasoning or message that is being written; it begins when another kind was."""
        if self._speaking is not None and self._speaking.item["type"] == item_type:
            return self._speaking
        self._stop_speaking("completed")
        begun: Item = {"type": "reasoning", "summary": [], "content": []}
        if item_type == "message":
            begun = {"type": "message", "role": "assistant", "content": []}
        self._speaking = self._open(begun)
        return self._speaking

    def _words(self, writing: Writing, type_: str) -> _Words:
        """The part that is being written; it begins when another was."""
        parts = writing.words(type_)
        if parts and parts[-1].open:
            if parts[-1].type == type_:
                return parts[-1]
            self._end_words(writing, parts[-1])
        words = _Words(type_, len(parts))
        parts.append(words)
        _, part_events, _, index_name = _NAMES[type_]
        place = {**_place(writing), index_name: words.index}
        self._tell(f"{part_events}.added", **place, part=words.document())
        return words

    def _end_words(self, writing: Writing, words: _Words) -> None:
        words.open = False
        events, part_events, text_name, index_name = _NAMES[words.type]
        place, part = {**_place(writing), index_name: words.index}, words.document()
        more = {"logprobs": part["logprobs"]} if "logprobs" in part else {}
        if events is not None:
            self._tell(f"{events}.done", **place, **{text_name: part[text_name]}, **more)
        self._tell(f"{part_events}.done", **place, part=part)

    def _open(self, item: Item) -> Writing:
        writing = Writing({"id": new_id(item["type"]), **item, "status": "in_progress"}, len(self._items))
        self._items.append(writing)
        self._tell("response.output_item.added", output_index=writing.output_index, item=writing.item)
        return writing

    def _stop_speaking(self, status: str) -> None:
        if self._speaking is None:
            return
        for words in (*self._speaking.summary, *self._speaking.content):
            if words.open:
                self._end_words(self._speaking, words)
        self._end_item(self._speaking, status)
        self._speaking = None

    def _end_call(self, writing: Writing, status: str) -> None:
        document = writing.document(status)
        if writing.item["type"] == "function_call":
            told = {"name": document["name"], "arguments": document["arguments"]}
            self._tell(f"{_ARGUMENTS}.done", **_place(writing), **told)
        else:
            self._tell(f"{_INPUT}.delta", **_place(writing), delta=document["input"])
            self._tell(f"{_INPUT}.done", **_place(writing), input=document["input"])
        self._end_item(writing, status)

    def _end_item(self, writing: Writing, status: str) -> None:
        writing.item = writing.document(status)
        writing.open = False
        self._tell("response.output_item.done", output_index=writing.output_index, item=writing.item)


def _place(writing: Writing) -> dict[str, Any]:
    return {"item_id": writing.item["id"], "output_index": writing.output_index}


def _input_in(arguments: str) -> str:
    """A custom tool's input, out of the arguments of the function that stood for it; arguments of another
    shape are the input themselves."""
    try:
        given: Any = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return arguments
    return given["input"] if isinstance(given, dict) and isinstance(given.get("input"), str) else arguments
