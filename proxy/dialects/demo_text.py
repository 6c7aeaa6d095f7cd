"""What the built-in demo model says, how it counts (a word is a token), and how it writes that down. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec

from proxy import sse

Document = dict[str, Any]
Answer = tuple[int, str, list[bytes]]

# What a part of a message holds that is not text (OpenAI API reference, "Create chat completion", 2026-11).
_THINGS = {"image_url": "image", "input_audio": "recording", "file": "file"}
_GREETING = (
    "Hello! I am Tollgate's built-in demo model. You asked with {asked}; my answer is always this one. "
    "Next: add an upstream in the admin panel, or set OPENAI_API_KEY or GPT_OSS_BASE_URL and start again."
)


@dataclass(frozen=True, slots=True)
class Said:
    """An answer word by word, with the space before each but the first; `cut` when it stopped early."""

    words: tuple[str, ...]
    cut: bool

    @property
    def text(self) -> str:
        return "".join(self.words)


def say(question: object, limit: object) -> Said:
    """The greeting, in at most `limit` words where that is a number of words."""
    return spell(greet(question), limit)


def greet(question: object) -> str:
    """An answer to anything. It tells how much was asked, and what with."""
    parts = question.get("content") if isinstance(question, dict) else None
    kinds = [part.get("type") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    things = [_number(kinds.count(kind), thing) for kind, thing in _THINGS.items() if kind in kinds]
    return _GREETING.format(asked=" and ".join([_number(count_words(question), "word"), *things]))


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def spell(text: str, limit: object = None) -> Said:
    """`text` in words, at most `limit` of them where that is a number of words."""
    first, *rest = text.split(" ")
    words = (first, *(f" {word}" for word in rest))
    if isinstance(limit, int) and 1 <= limit < len(words):
        return Said(words[:limit], cut=True)
    return Said(words, cut=False)


def count_words(value: object) -> int:
    """Words in a text, in a message or part that holds texts, in a list of these; a token is one."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, int):
        return 1
    if isinstance(value, list):
        return sum(map(count_words, value))
    if isinstance(value, dict):
        return count_words(value.get("content")) + count_words(value.get("text"))
    return 0


def text_of(message: Document) -> str:
    """What a message says, in however many parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return " ".join(text for text in texts if isinstance(text, str))


def last(value: object) -> object:
    """The last of a list, such as the newest message; anything else itself."""
    return value[-1] if isinstance(value, list) and value else value


def signed(prefix: str, kind: str, document: Document) -> Document:
    """What every answer begins with: an id of its own, its kind, when it was made, the model asked for."""
    return {
        "id": new_id(prefix),
        "object": kind,
        "created": int(time.time()),
        "model": document.get("model") or "demo",
    }


def new_id(prefix: str) -> str:
    return prefix + uuid4().hex


def stream(head: Document, choices: list[Document], document: Document, usage: Document) -> Answer:
    """The chunks of a stream, with the usage where the request asks for it."""
    chunks = [{**head, "choices": [choice]} for choice in choices]
    options = document.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        chunks.append({**head, "choices": [], "usage": usage})
    return 200, "text/event-stream", [*(event(chunk) for chunk in chunks), sse.DONE]


def event(document: Document) -> bytes:
    return sse.encode(msgspec.json.encode(document))


def whole(document: Document) -> Answer:
    """An answer in one piece."""
    return 200, "application/json", [msgspec.json.encode(document)]
