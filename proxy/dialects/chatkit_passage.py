"""A ChatKit thread's events on their way to a client that reads Chat Completions chunks. Pure.

Both generations are read, whichever was asked: `thread.item_done` and `thread.item.done`, `threadId` and
`thread_id`, `cot` and `workflow`. Comments, unknown events and data that is not JSON are passed over, for
servers send such things. The endings:
  - every message of the assistant is done           whole: before the release after the first one, since then
                                                     once the stream has ended
  - the stream ends, or a message of it does not     Truncated
  - an `error` event, a widget in place of a text,   UpstreamReported
    such as the one that asks for a sign-in

Facts: the captured answers of gpt-oss.com (chatkit.js 0.7, 2025-08); openai-chatkit 1.6, `chatkit/types.py`
and `chatkit/server.py`, 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from proxy import sse
from proxy.chunk_passage import ChunkPassage, Told

ANSWER = "assistant_message"
_PART = f"{ANSWER}.content_part."
# The reasoning of the first generation sometimes comes with an empty text part of its own, under such an id.
_REASONING_ID = "rs_"
_SIGN_IN = re.compile(r"\b(?:sign|log)[ -]?in\b", re.IGNORECASE)
_SIGN_IN_NEEDED = "The upstream asks for a sign-in. Its operator must give it other headers or cookies."
_WIDGET = "The upstream answered with a widget and not with a message."

Document = dict[str, Any]


class ChatKitPassage(ChunkPassage):
    """One answer. `thread_id` is the upstream's own name for the thread, None until it has told it."""

    frame_end = b"\n\n"

    def __init__(self, answer_id: str, model: str, told: Told) -> None:
        super().__init__(answer_id, model, told)
        self.thread_id: str | None = None
        self._kinds: dict[str, str] = {}  # of each item, by its id
        self._heard: dict[tuple[str, int], list[str]] = {}  # of each part of an item
        self._cited: set[tuple[str, int, int]] = set()
        self._unfinished: set[str] = set()
        self._done: set[str] = set()
        self._current = ""
        self._tool_calls = 0
        self._widget: str | None = None  # what is wrong with a widget that came

    def end(self) -> bytes:
        if self._widget and not self._concluded and not self._unfinished and self._error is None:
            self._fail({"message": self._widget})
        return super().end()

    def _frames(self, events: bytes) -> list[bytes]:
        return [data for event in sse.split(events) if (data := sse.data(event)).strip()]

    def _reason(self) -> str | None:
        if self._unfinished:
            return None
        if self._tool_calls:
            return "tool_calls"
        return "stop" if self._done else None

    def _read(self, frame: bytes) -> None:
        if frame == b"[DONE]":
            self.finished = True
            return
        try:
            event = msgspec.json.decode(frame, type=Document)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        self._learn_thread(event)
        type_ = str(event.get("type") or ("error" if "error" in event else ""))
        if type_ == "error":
            self._fail(_error(event))
        elif type_ == _PART + "text_delta":  # Without the event around it, as one client was made to expect.
            self._answer(self._current, event)
        elif type_ == "thread.item.removed":
            self._forget(_text(event, "item_id", "itemId"))
        elif type_ in ("thread.item_updated", "thread.item.updated"):
            self._update(_text(event, "item_id", "itemId"), _object(event, "update"))
        elif type_.startswith(("thread.item_", "thread.item.")):
            step = type_.removeprefix("thread.item")[1:]
            self._item(step, _object(event, "item"), first_generation=type_[len("thread.item")] == "_")

    def _learn_thread(self, event: Document) -> None:
        found = _text(event, "threadId", "thread_id") or _text(_object(event, "thread"), "id")
        found = found or _text(_object(event, "item"), "thread_id")
        self.thread_id = found or self.thread_id

    def _forget(self, item_id: str) -> None:
        """A message that is taken back, as after a guardrail, is no answer."""
        self._unfinished.discard(item_id)
        self._done.discard(item_id)

    def _item(self, step: str, item: Document, *, first_generation: bool) -> None:
        """An item that was added, replaced or done, with what is in it by then."""
        item_id, kind = _text(item, "id"), _text(item, "type")
        known = self._kinds.get(item_id) == kind
        self._kinds[item_id] = kind
        if kind == ANSWER:
            self._message(step, item_id, item, first_generation=first_generation)
        elif kind == "cot":
            for index, entry in enumerate(_objects(item, "entries")):
                self._entry(item_id, index, entry)
        elif kind == "workflow" and (known or step == "added"):  # Else it is one of an earlier answer.
            for index, task in enumerate(_objects(_object(item, "workflow"), "tasks")):
                self._task(item_id, index, task)
        elif kind == "widget":
            self._see_widget(item, first_generation=first_generation)
        elif kind == "client_tool_call" and step == "done" and item.get("status") != "completed":
            self._client_tool(item)
        elif kind == "generated_image" and step == "done" and (url := _text(_object(item, "image"), "url")):
            self._done.add(item_id)
            self._show_image(url)

    def _message(self, step: str, item_id: str, item: Document, *, first_generation: bool) -> None:
        self._own(item_id)
        for index, part in enumerate(_objects(item, "content")):
            self._part(item_id, index, part)
        if step in ("done", "replaced"):
            self._unfinished.discard(item_id)
            self._done.add(item_id)
            # Of these there is one; what follows is the thread's title, which takes a while.
            self.finished = first_generation

    def _client_tool(self, item: Document) -> None:
        """A tool that the server leaves to its client, which is then asked with the result."""
        arguments = msgspec.json.encode(item.get("arguments") or {}).decode()
        self._call_tool(self._tool_calls, _text(item, "call_id"), _text(item, "name"), arguments)
        self._tool_calls += 1

    def _own(self, item_id: str) -> None:
        """From now on `item_id` is what the assistant says; so is what it said before there was an id."""
        self._current = item_id
        self._unfinished.add(item_id)
        if item_id and "" in self._unfinished:
            self._unfinished.remove("")
            for _, index in [part for part in self._heard if part[0] == ""]:
                self._heard[item_id, index] = self._heard.pop(("", index))

    def _update(self, item_id: str, update: Document) -> None:
        type_ = _text(update, "type")
        index = _number(update, "content_index", "contentIndex")
        if type_ == _PART + "text_delta":
            self._answer(item_id, update)
        elif type_ in (_PART + "added", _PART + "done") and self._is_answer(item_id):
            self._part(item_id, index, _object(update, "content"))
        elif type_ == _PART + "annotation_added" and self._is_answer(item_id):
            place = _number(update, "annotation_index", "annotationIndex")
            self._annotation(item_id, index, place, _object(update, "annotation"))
        elif type_ == "cot.entry_added":
            entry = _object(update, "entry") or update
            self._entry(item_id, _number(update, "entryIndex", "entry_index"), entry)
        elif type_ in ("workflow.task.added", "workflow.task.updated"):
            self._task(item_id, _number(update, "task_index", "taskIndex"), _object(update, "task"))

    def _is_answer(self, item_id: str) -> bool:
        """Whether an item is a message of the assistant, or may be: servers may tell only later."""
        kind = self._kinds.get(item_id)
        return kind == ANSWER if kind is not None else not item_id.startswith(_REASONING_ID)

    def _answer(self, item_id: str, update: Document) -> None:
        """A piece of the answer."""
        piece = _text(update, "delta")
        if not piece or not self._is_answer(item_id):
            return
        self._own(item_id)
        self._hear(item_id, _number(update, "content_index", "contentIndex")).append(piece)
        self._say(piece)

    def _part(self, item_id: str, index: int, part: Document) -> None:
        """A part as it stands: what was not said of it yet is said."""
        self._say(self._news(item_id, index, _text(part, "text")))
        for place, annotation in enumerate(_objects(part, "annotations")):
            self._annotation(item_id, index, place, annotation)

    def _annotation(self, item_id: str, index: int, place: int, annotation: Document) -> None:
        source = _object(annotation, "source")
        url = _text(source, "url")
        if url and (item_id, index, place) not in self._cited:
            self._cited.add((item_id, index, place))
            self._cite(url, _text(source, "title"), _number(annotation, "index"))

    def _entry(self, item_id: str, index: int, entry: Document) -> None:
        """A step of the reasoning, whole. The recap only tells how long it took."""
        if entry.get("type") != "recap":
            thought = (_text(entry, "content") or _text(entry, "summary")).strip()
            self._think(self._news(item_id, index, thought), (item_id, index))

    def _task(self, item_id: str, index: int, task: Document) -> None:
        """A step of the reasoning, as far as it has come."""
        if task.get("type") == "thought":
            self._think(self._news(item_id, index, _text(task, "content")), (item_id, index))

    def _hear(self, item_id: str, index: int) -> list[str]:
        return self._heard.setdefault((item_id, index), [])

    def _news(self, item_id: str, index: int, text: str) -> str:
        """What of a part's text has not been heard. One that does not go on from what was heard has no news:
        what is said cannot be taken back."""
        heard = self._hear(item_id, index)
        known = "".join(heard)
        if not text.startswith(known):
            return ""
        news = text[len(known) :]
        heard[:] = [text]
        return news

    def _see_widget(self, item: Document, *, first_generation: bool) -> None:
        """The first generation knew widgets only in place of an answer; since then they may stand beside
        one."""
        signs_in = any(_SIGN_IN.search(text) for text in _texts(item.get("widget")))
        self._widget = _SIGN_IN_NEEDED if signs_in else _WIDGET
        if first_generation:
            self._fail({"message": self._widget})


def _error(event: Document) -> Document:
    """`message` and `code` of an error event; a server that has no message to tell has a code."""
    told = event.get("error")
    found = told if isinstance(told, dict) else {"message": told} if isinstance(told, str) else event
    message = _text(found, "message") or _text(event, "message") or "The upstream reported an error."
    return {"message": message, "code": _text(found, "code") or None}


def _text(document: Document, *names: str) -> str:
    return next((value for name in names if isinstance(value := document.get(name), str)), "")


def _number(document: Document, *names: str) -> int:
    return next((value for name in names if isinstance(value := document.get(name), int)), 0)


def _object(document: Document, name: str) -> Document:
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def _objects(document: Document, name: str) -> list[Document]:
    values = document.get(name)
    return [value if isinstance(value, dict) else {} for value in values] if isinstance(values, list) else []


def _texts(node: object) -> Iterator[str]:
    """Every text in a widget, wherever it stands."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict):
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
