"""A Response that has ended, told once more as the events of its stream. Pure.

Events and their order are those of proxy/responses/draft.py; each text is one delta, for how it came is not
kept. An item of a type that has no events of its own is announced and done.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from proxy import sse

Document = dict[str, Any]

_UNKNOWN_BEFORE: Document = {
    "status": "in_progress",
    "completed_at": None,
    "error": None,
    "incomplete_details": None,
    "output": [],
    "usage": None,
}
# The events of a part's text, and the member that holds it. Reasoning has none that every client knows.
_TEXTS: dict[str, tuple[str | None, str]] = {
    "output_text": ("response.output_text", "text"),
    "refusal": ("response.refusal", "refusal"),
    "reasoning_text": (None, "text"),
    "summary_text": ("response.reasoning_summary_text", "text"),
}
# The events of an item's arguments, and the member that holds them.
_ARGUMENTS = {
    "function_call": ("response.function_call_arguments", "arguments"),
    "mcp_call": ("response.mcp_call_arguments", "arguments"),
    "custom_tool_call": ("response.custom_tool_call_input", "input"),
}
_HOLD_PARTS = ("message", "reasoning")
# The members that hold them: what their events and their places are called.
_PARTS = (
    ("summary", "response.reasoning_summary_part", "summary_index"),
    ("content", "response.content_part", "content_index"),
)


def events_of(response: Document, after: int = -1) -> bytes:
    """The events with a `sequence_number` over `after`; the last one, which bears the whole, in any case."""
    *told, last = _events(response)
    numbered = [*enumerate(told), (max(len(told), after + 1), last)]
    return b"".join(event(document, number) for number, document in numbered if number > after)


def ending(response: Document, number: int) -> bytes:
    """The last event alone: the Response object as it ended."""
    return event(_ending(response), number)


def event(document: Document, number: int) -> bytes:
    """One event as it is sent."""
    return sse.encode(msgspec.json.encode({**document, "sequence_number": number}), document["type"].encode())


def _ending(response: Document) -> Document:
    """A cancelled Response ends as a failed one does, and says itself that it was cancelled."""
    ended = "failed" if response["status"] == "cancelled" else response["status"]
    return {"type": f"response.{ended}", "response": response}


def _events(response: Document) -> Iterator[Document]:
    begun = {**response, **_UNKNOWN_BEFORE}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(response["output"]):
        yield from _item(item, index)
    yield _ending(response)


def _item(item: Document, index: int) -> Iterator[Document]:
    place = {"item_id": item["id"], "output_index": index}
    parts = _PARTS if item["type"] in _HOLD_PARTS else ()
    held = [(member, *names) for member, *names in parts if member in item]
    said = _ARGUMENTS.get(item["type"])
    begun = {**item, **{member: [] for member, *_ in held}, **({said[1]: ""} if said else {})}
    if "status" in item:
        begun["status"] = "in_progress"
    yield {"type": "response.output_item.added", "output_index": index, "item": begun}
    for member, events, index_name in held:
        for number, part in enumerate(item[member]):
            yield from _part(part, events, {**place, index_name: number})
    if said:
        yield from _arguments(item, place, *said)
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _part(part: Document, events: str, place: Document) -> Iterator[Document]:
    text_events, name = _TEXTS.get(part["type"], (None, ""))
    emptied: Document = {member: [] for member in ("annotations", "logprobs") if member in part}
    if name:
        emptied[name] = ""
    yield {"type": f"{events}.added", **place, "part": {**part, **emptied}}
    if text_events:
        logprobs = {"logprobs": part.get("logprobs", [])} if part["type"] == "output_text" else {}
        yield {"type": f"{text_events}.delta", **place, "delta": part[name], **logprobs}
        for number, annotation in enumerate(part.get("annotations", ())):
            added = {"annotation_index": number, "annotation": annotation}
            yield {"type": "response.output_text.annotation.added", **place, **added}
        yield {"type": f"{text_events}.done", **place, name: part[name], **logprobs}
    yield {"type": f"{events}.done", **place, "part": part}


def _arguments(item: Document, place: Document, events: str, name: str) -> Iterator[Document]:
    told = {"name": item["name"]} if item["type"] == "function_call" else {}
    yield {"type": f"{events}.delta", **place, "delta": item[name]}
    yield {"type": f"{events}.done", **place, **told, name: item[name]}
