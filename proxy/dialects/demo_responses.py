"""The demo model's Responses: one message, whole or as its sequence of events. Pure.

Shapes and order: OpenAI API reference, "The response object" and "Streaming events", 2026-11. The official
SDK wants `response.created` first, an item before its parts, and a part before its text.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from proxy import sse
from proxy.dialects.demo_text import Said, count_words, last, new_id, say

Document = dict[str, Any]


def answer(document: Document) -> tuple[int, str, list[bytes]]:
    """Status, content type and pieces of the answer to a `/responses` request."""
    said = say(last(document.get("input")), document.get("max_output_tokens"))
    begun = _begun(document)
    message = _message(new_id("msg_"), said)
    ended = _ended(begun, document, said, message)
    if not document.get("stream"):
        return 200, "application/json", [msgspec.json.encode(ended)]
    events = enumerate(_events(begun, ended, message, said))
    pieces = [_event({**event, "sequence_number": number}) for number, event in events]
    return 200, "text/event-stream", pieces


def _event(event: Document) -> bytes:
    return sse.encode(msgspec.json.encode(event), event["type"].encode())


def _begun(document: Document) -> Document:
    instructions = document.get("instructions")
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": instructions if isinstance(instructions, str) else None,
        "max_output_tokens": document.get("max_output_tokens"),
        "metadata": {},
        "model": document.get("model") or "demo",
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
    }


def _ended(begun: Document, document: Document, said: Said, message: Document) -> Document:
    inputs = count_words(document.get("instructions")) + count_words(document.get("input"))
    usage = {
        "input_tokens": inputs,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": len(said.words),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": inputs + len(said.words),
    }
    ending = {"status": message["status"], "output": [message], "usage": usage}
    return {**begun, **ending, "incomplete_details": {"reason": "max_output_tokens"} if said.cut else None}


def _message(id_: str, said: Said) -> Document:
    return {
        "id": id_,
        "type": "message",
        "status": "incomplete" if said.cut else "completed",
        "role": "assistant",
        "content": [_part(said.text)],
    }


def _part(text: str) -> Document:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _events(begun: Document, ended: Document, message: Document, said: Said) -> list[Document]:
    item = {"output_index": 0}
    place = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    opened = {**message, "status": "in_progress", "content": []}
    spoken = {**place, "logprobs": []}
    return [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", **item, "item": opened},
        {"type": "response.content_part.added", **place, "part": _part("")},
        *({"type": "response.output_text.delta", **spoken, "delta": word} for word in said.words),
        {"type": "response.output_text.done", **spoken, "text": said.text},
        {"type": "response.content_part.done", **place, "part": _part(said.text)},
        {"type": "response.output_item.done", **item, "item": message},
        {"type": f"response.{ended['status']}", "response": ended},
    ]
