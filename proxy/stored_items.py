"""Stored items as their callers see them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from proxy.responses import shape
from threads.history import StoredItem

Item = dict[str, Any]

ENCRYPTED = "reasoning.encrypted_content"
# Source: OpenAI API reference, `include` of "Get a response" and "List items", 2.3.0. What is stored is shown
# without being asked for, all but the first.
INCLUDABLE = (
    ENCRYPTED,
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)


def shown(stored: StoredItem, include: Collection[str]) -> Item:
    """An item as its caller sees it, every required member filled."""
    document: Item = msgspec.json.decode(stored.data)
    if stored.type == "reasoning" and ENCRYPTED not in include:
        document.pop("encrypted_content", None)
    made: Item = shape.complete_item({**document, "id": stored.id})
    return made
