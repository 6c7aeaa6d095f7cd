"""Ids that clients see: a prefix that tells what the thing is, and the 32 hex digits of its UUIDv7. Pure."""

from __future__ import annotations

import re
from uuid import UUID

from accounts.ids import uuid7

RESPONSE = "resp_"
CONVERSATION = "conv_"
CHAT_COMPLETION = "chatcmpl-"
OTHER = "item_"

# Source: the ids in OpenAI's API reference, "Responses", "Conversations", 2026-11.
PREFIXES = {
    "message": "msg_",
    "reasoning": "rs_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "custom_tool_call": "ctc_",
    "custom_tool_call_output": "ctco_",
    "web_search_call": "ws_",
    "file_search_call": "fs_",
    "code_interpreter_call": "ci_",
    "computer_call": "cu_",
    "computer_call_output": "cuo_",
    "image_generation_call": "ig_",
    "local_shell_call": "lsh_",
    "mcp_call": "mcp_",
    "mcp_list_tools": "mcpl_",
    "mcp_approval_request": "mcpr_",
    "compaction": "cmp_",
}

_ID = re.compile(r"([a-z]+[_-])([0-9a-f]{32})")
_KNOWN = {*PREFIXES.values(), OTHER, RESPONSE, CONVERSATION, CHAT_COMPLETION}


def new_id(type: str) -> str:
    """Of a new item of this type, such as `msg_0199…` for a message; `item_…` for a type not in PREFIXES."""
    return public_id(type, uuid7())


def public_id(type: str, id: UUID) -> str:
    """What clients call the item of this type whose key this is."""
    return PREFIXES.get(type, OTHER) + id.hex


def uuid_of(public_id: str) -> UUID | None:
    """The key in an id of an item, a response, a conversation or a chat completion; None: it is none of ours.

    Which of them it was is not told: whoever looks it up finds it where it belongs, or nowhere.
    """
    match = _ID.fullmatch(public_id)
    return UUID(match[2]) if match and match[1] in _KNOWN else None
