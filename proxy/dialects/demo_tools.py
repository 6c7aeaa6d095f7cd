"""Which tools the demo model calls, with which arguments, and what it makes of their results. Pure.

Shapes: OpenAI API reference, "Create chat completion", 2026-11.
"""

from __future__ import annotations

import json
import re
from typing import Any

from proxy.dialects.demo_schema import instance
from proxy.dialects.demo_text import new_id, text_of

Document = dict[str, Any]

MAX_CALLS = 16
MAX_RESULT = 500
_SHORTEST_WORD = 4
_WORDS = re.compile(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]+|[0-9]+")
# Words in the names of tools that say nothing of what they are about.
_VAGUE = frozenset(
    {"call", "create", "data", "demo", "does", "fetch", "find", "from", "function", "info", "list", "make"}
    | {"query", "read", "send", "show", "that", "this", "tool", "update", "user", "what", "with"}
)


def calls(document: Document) -> list[Document]:
    """The calls, as an answer has them; none where the request asks for words.

    A choice that requires a tool gets it called; "auto" does where the newest message is a person's and has
    the tool's name, or a word of it, in it. Once there are results, no more is called.
    """
    messages = document.get("messages")
    newest = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(newest, dict) or newest.get("role") in ("tool", "function"):
        return []
    tools, mode = _choice(document)
    text = text_of(newest)
    wanted = [tool for tool in tools if _is_asked_for(str(_body(tool).get("name")), text)]
    if mode == "required":
        wanted = wanted or tools[:1]
    elif mode != "auto" or newest.get("role") != "user":
        return []
    most = 1 if document.get("parallel_tool_calls") is False else MAX_CALLS
    return [_call(tool, text) for tool in wanted[:most]]


def _body(tool: Document) -> Document:
    body = tool.get(str(tool.get("type")))
    return body if isinstance(body, dict) else {}


def _choice(document: Document) -> tuple[list[Document], str]:
    """The tools that may be called, and whether one must be: "required", "auto" or "none"."""
    given = document["tools"] if isinstance(document.get("tools"), list) else []
    tools = [tool for tool in given if isinstance(tool, dict) and isinstance(_body(tool).get("name"), str)]
    choice = document.get("tool_choice") or "auto"
    if isinstance(choice, str):
        return tools, choice
    if not isinstance(choice, dict):
        return [], "none"
    allowed = choice.get("allowed_tools")
    if isinstance(allowed, dict):
        named = allowed["tools"] if isinstance(allowed.get("tools"), list) else []
        return _named(tools, named), str(allowed.get("mode") or "auto")
    return _named(tools, [choice]), "required"


def _named(tools: list[Document], choices: list[Any]) -> list[Document]:
    names = {_body(choice).get("name") for choice in choices if isinstance(choice, dict)}
    return [tool for tool in tools if _body(tool)["name"] in names]


def _is_asked_for(name: str, text: str) -> bool:
    """Whether a text has a tool's name in it, however it is written, or a telling word of it."""
    parts = [word.lower() for word in _WORDS.findall(name)]
    words = {word.lower() for word in re.findall(r"\w+", text)}
    telling = {part for part in parts if len(part) >= _SHORTEST_WORD and part not in _VAGUE}
    plain = " ".join(parts)
    return (
        bool(telling & words)
        or name.lower() in words
        or bool(plain and plain in " ".join(text.lower().split()))
    )


def _call(tool: Document, text: str) -> Document:
    """A call with arguments that the tool's schema allows; a custom tool gets what was said."""
    body = _body(tool)
    if tool["type"] == "custom":
        return {"id": new_id("call_"), "type": "custom", "custom": {"name": body["name"], "input": text}}
    arguments = instance(body.get("parameters") or {"type": "object"})
    spelled = json.dumps(arguments if isinstance(arguments, dict) else {}, ensure_ascii=False)
    return {
        "id": new_id("call_"),
        "type": "function",
        "function": {"name": body["name"], "arguments": spelled},
    }


def results(messages: object) -> str:
    """What the tools said last, in a sentence each; "" where none did."""
    if not isinstance(messages, list):
        return ""
    names: dict[str, str] = {}
    said: list[str] = []
    for message in messages:
        if not isinstance(message, dict):
            continue
        if message.get("role") in ("tool", "function"):
            name = names.get(str(message.get("tool_call_id"))) or message.get("name") or "The tool"
            said.append(f"{name} says: {text_of(message)[:MAX_RESULT]}")
            continue
        said.clear()
        made = message["tool_calls"] if isinstance(message.get("tool_calls"), list) else []
        names |= {
            str(call.get("id")): str(_body(call).get("name")) for call in made if isinstance(call, dict)
        }
    return " ".join(said)
