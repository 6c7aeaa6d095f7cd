"""What the built-in demo model says, and how it counts: a word is a token. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

_GREETING = (
    "Hello! I am Tollgate's built-in demo model. You asked with {asked}; my answer is always this one. "
    "Next step: connect an upstream by setting OPENAI_API_KEY or GPT_OSS_BASE_URL in .env, then start again."
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
    count = count_words(question)
    return spell(_GREETING.format(asked="1 word" if count == 1 else f"{count} words"), limit)


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


def last(value: object) -> object:
    """The last of a list, such as the newest message; anything else itself."""
    return value[-1] if isinstance(value, list) and value else value


def signed(prefix: str, kind: str, document: dict[str, Any]) -> dict[str, Any]:
    """What every answer begins with: an id of its own, its kind, when it was made, the model asked for."""
    return {
        "id": new_id(prefix),
        "object": kind,
        "created": int(time.time()),
        "model": document.get("model") or "demo",
    }


def new_id(prefix: str) -> str:
    return prefix + uuid4().hex
