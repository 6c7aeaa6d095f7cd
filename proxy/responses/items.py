"""Items of a Response, and the chat messages that say the same. Pure.

Shapes: OpenAI API reference, "Create a model response" and "Create chat completion", and the Open Responses
specification of 2026-04-24; read 2026-11. Members that nobody here knows stay where they are.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from types import NoneType
from typing import Any

import msgspec

from proxy.call import InvalidBody

Item = dict[str, Any]
Part = dict[str, Any]
Message = dict[str, Any]

ROLES = ("user", "assistant", "system", "developer")
# Calls that the client answers, and the type of the item that answers each.
ANSWERED_BY = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}
OUTPUTS = frozenset(ANSWERED_BY.values())
# What the members of items and parts must be, where anything here depends on it.
_KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "text": ("a string", (str,)),
    "text?": ("a string", (str, NoneType)),
    "content": ("a string or an array", (str, list)),
    "object": ("an object", (dict,)),
}
_MEMBERS: dict[str, dict[str, str]] = {
    "message": {"role": "text", "content": "content"},
    "function_call": {"call_id": "text", "name": "text", "arguments": "text"},
    "function_call_output": {"call_id": "text", "output": "content"},
    "custom_tool_call": {"call_id": "text", "name": "text", "input": "text"},
    "custom_tool_call_output": {"call_id": "text", "output": "content"},
    "reasoning": {"encrypted_content": "text?"},
    "compaction": {"encrypted_content": "text"},
    "item_reference": {"id": "text"},
    "input_text": {"text": "text"},
    "output_text": {"text": "text"},
    "text": {"text": "text"},
    "summary_text": {"text": "text"},
    "reasoning_text": {"text": "text"},
    "refusal": {"refusal": "text"},
    "input_image": {"image_url": "text?", "file_id": "text?"},
    "input_file": {"file_data": "text?", "file_url": "text?", "file_id": "text?", "filename": "text?"},
    "input_audio": {"input_audio": "object"},
    "input_video": {"video_url": "text"},
}
_TEXTS = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})


def input_items(raw: bytes | msgspec.Raw, name: str = "input") -> list[Item]:
    """The `input` of a create request, or another member of that `name`, as items, each with its type.

    A string is one user message; an item without a type is a message, or a reference when all it has is an
    id. Raises InvalidBody naming the place, such as `input[3].content`.
    """
    given = decoded(raw, name)
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    if not isinstance(given, list):
        raise InvalidBody(f"'{name}' must be a string or an array of items.", name)
    return [_checked(item, f"{name}[{place}]") for place, item in enumerate(given)]


def decoded(raw: bytes | msgspec.Raw, name: str) -> Any:
    """What the request's member `name` holds. Raises InvalidBody for a number such as 1e999."""
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        raise InvalidBody(f"'{name}' holds a number that is too large.", name) from None


def _checked(item: object, place: str) -> Item:
    if not isinstance(item, dict):
        raise InvalidBody(f"'{place}' must be an object.", place)
    if item.get("type") is None:
        untyped = {name: member for name, member in item.items() if name != "type"}
        item = {"type": "item_reference" if "role" not in item and "id" in item else "message", **untyped}
    type_ = item["type"]
    if not isinstance(type_, str):
        raise InvalidBody(f"'{place}.type' must be a string.", f"{place}.type")
    _check_members(item, place)
    if type_ == "message":
        if item["role"] not in ROLES:
            allowed = ", ".join(f"'{role}'" for role in ROLES)
            raise InvalidBody(f"'{place}.role' must be one of {allowed}.", f"{place}.role")
        _check_parts(item["content"], f"{place}.content")
    elif type_ in OUTPUTS:
        _check_parts(item["output"], f"{place}.output")
    elif type_ == "reasoning":
        for name in ("summary", "content"):
            _check_parts(item.get(name) or [], f"{place}.{name}")
    return item


def _check_members(given: dict[str, Any], place: str) -> None:
    for name, kind in _MEMBERS.get(given["type"], {}).items():
        words, allowed = _KINDS[kind]
        if not isinstance(given.get(name), allowed):
            raise InvalidBody(f"'{place}.{name}' must be {words}.", f"{place}.{name}")


def _check_parts(parts: object, place: str) -> None:
    if isinstance(parts, str):
        return
    if not isinstance(parts, list):
        raise InvalidBody(f"'{place}' must be an array.", place)
    for number, part in enumerate(parts):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise InvalidBody(f"'{place}[{number}]' must be an object with a 'type'.", f"{place}[{number}]")
        _check_members(part, f"{place}[{number}]")
        if part["type"] == "input_image" and part.get("image_url") is None and part.get("file_id") is None:
            where = f"{place}[{number}].image_url"
            raise InvalidBody(f"'{where}' must be a string.", where)


def unanswered(items: Iterable[Item]) -> str | None:
    """The `call_id` of the first tool output that no call before it asked for; None when all were."""
    asked: set[object] = set()
    for item in items:
        if item["type"] in ANSWERED_BY:
            asked.add(item.get("call_id"))
        elif item["type"] in OUTPUTS and item.get("call_id") not in asked:
            return str(item.get("call_id"))
    return None


def search_text(item: Item) -> str:
    """The words of an item, for finding it again; "" for one that has none."""
    if item["type"] in ANSWERED_BY:
        return f"{item.get('name', '')} {item.get('arguments', item.get('input', ''))}"
    found = [text_of(item[name]) for name in ("summary", "content", "output") if item.get(name)]
    return "\n".join(text for text in found if text)


def text_of(content: object) -> str:
    """The text of a message's content or a tool's output: its parts' texts, a line each."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text", part.get("refusal")) for part in parts if isinstance(part, dict))
    return "\n".join(text for text in texts if isinstance(text, str))


def reasoning_text(item: Item) -> str:
    """What a reasoning item says openly: its content, else its summary; "" when it is encrypted only."""
    return text_of(item.get("content")) or text_of(item.get("summary"))


def messages_of(items: Iterable[Item]) -> list[Message]:
    """The items as chat messages, each kept for what it is: nothing here depends on who reads them.

    An assistant's reasoning, words and calls that follow each other are one message. Each tool output
    follows its call, and pictures and files in one go into a user message after it, for a `tool` message
    holds text only. Items that are none of these are told in words (`note_of`).
    """
    writer = _Writer(items)
    for item in writer.items:
        writer.add(item)
    writer.settle()
    return writer.messages


class _Writer:
    """The messages so far, and the assistant's message that is still being put together."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.items = list(items)
        self.messages: list[Message] = []
        self._assistant: Message | None = None
        self._thoughts: list[str] = []
        self._waiting: list[str] = []
        self._attachments: list[Part] = []
        self._written: set[int] = set()
        self._outputs: defaultdict[str, deque[Item]] = defaultdict(deque)
        for item in self.items:
            if item["type"] in OUTPUTS:
                self._outputs[item["call_id"]].append(item)

    def add(self, item: Item) -> None:
        if item["type"] in OUTPUTS:
            self._answer(item)
        elif item["type"] in ANSWERED_BY:
            if self._assistant is None:
                self._begin({"role": "assistant", "content": None})
            assert self._assistant is not None
            self._assistant.setdefault("tool_calls", []).append(_tool_call(item))
            self._waiting.append(item["call_id"])
        elif item["type"] == "reasoning":
            self.settle()
            self._thoughts.append(reasoning_text(item))
        else:
            message = _message(item)
            if message["role"] == "assistant":
                self._begin(message)
            else:
                self.settle()
                self._thoughts.clear()
                self.messages.append(message)

    def settle(self) -> None:
        """Ends the assistant's message: calls in it are answered now, wherever in the input that is done."""
        self._close()
        for call_id in self._waiting[:]:
            if self._outputs[call_id]:
                self._answer(self._outputs[call_id][0])
        self._waiting.clear()
        if self._attachments:
            self.messages.append({"role": "user", "content": self._attachments})
            self._attachments = []

    def _begin(self, message: Message) -> None:
        self.settle()
        thoughts = "\n".join(thought for thought in self._thoughts if thought)
        self._thoughts.clear()
        self._assistant = {**message, "reasoning_content": thoughts} if thoughts else message

    def _close(self) -> None:
        if self._assistant is not None:
            self.messages.append(self._assistant)
            self._assistant = None

    def _answer(self, item: Item) -> None:
        self._close()
        if id(item) in self._written:
            return
        self._written.add(id(item))
        call_id = item["call_id"]
        self._outputs[call_id].remove(item)
        if call_id in self._waiting:
            self._waiting.remove(call_id)
        output = item["output"]
        others = [part for part in output if part["type"] not in _TEXTS] if isinstance(output, list) else []
        text = text_of(output)
        if others:
            self._attachments.append({"type": "text", "text": f"Part of the output of tool call {call_id}:"})
            self._attachments += (chat_part(part) for part in others)
            text = text or "The output is in the user message that follows."
        named = {"name": item["name"]} if isinstance(item.get("name"), str) else {}
        self.messages.append({"role": "tool", "tool_call_id": call_id, **named, "content": text})


def _tool_call(item: Item) -> dict[str, Any]:
    if item["type"] == "custom_tool_call":
        custom = {"name": item["name"], "input": item["input"]}
        return {"id": item["call_id"], "type": "custom", "custom": custom}
    function = {"name": item["name"], "arguments": item["arguments"]}
    return {"id": item["call_id"], "type": "function", "function": function}


def _message(item: Item) -> Message:
    if item["type"] != "message":
        return note_of(item)
    named = {"name": item["name"]} if isinstance(item.get("name"), str) else {}
    role, content = item["role"], item["content"]
    if role == "user":
        return {"role": role, **named, "content": _user_content(content)}
    if role != "assistant" or isinstance(content, str):
        return {"role": role, **named, "content": text_of(content)}
    message: Message = {"role": role, **named, "content": _joined(content, "text") or None}
    if any(part["type"] == "refusal" for part in content):
        return {**message, "refusal": _joined(content, "refusal")}
    return {**message, "content": message["content"] or ""}


def _joined(parts: list[Part], name: str) -> str:
    return "".join(part[name] for part in parts if isinstance(part.get(name), str))


def _user_content(content: object) -> str | list[Part]:
    """A string where one text is all there is: every server takes that."""
    if not isinstance(content, list):
        return str(content)
    parts = [chat_part(part) for part in content]
    if len(parts) == 1 and set(parts[0]) == {"type", "text"}:
        return str(parts[0]["text"])
    return parts or ""


def note_of(item: Item) -> Message:
    """An item that Chat has no form for, in words: what a hosted tool did, say, when a conversation moves to
    a model without that tool. Inline data and what is encrypted are left out."""
    told = {name: _told(member) for name, member in item.items() if name not in _UNTOLD}
    role = "user" if item["type"].endswith(("_output", "_response")) else "assistant"
    return {"role": role, "content": f"[{item['type']}] {msgspec.json.encode(told).decode()}"}


_UNTOLD = frozenset({"type", "id", "status", "encrypted_content"})


def _told(member: object) -> object:
    if isinstance(member, dict):
        return {name: _told(inner) for name, inner in member.items() if name not in _UNTOLD}
    if isinstance(member, list):
        return [_told(inner) for inner in member]
    return "…" if isinstance(member, str) and member.startswith("data:") else member


def chat_part(part: Part) -> Part:
    """A part of a user message as Chat has it; one that Chat does not have stays as it is."""
    type_ = part["type"]
    kept = {name: part[name] for name in ("prompt_cache_breakpoint",) if part.get(name) is not None}
    if type_ in _TEXTS:
        return {"type": "text", "text": part.get("text", ""), **kept}
    if type_ == "input_image" and part.get("image_url") is not None:
        image = {"url": part["image_url"]}
        if part.get("detail") is not None:
            image["detail"] = "high" if part["detail"] == "original" else part["detail"]
        return {"type": "image_url", "image_url": image, **kept}
    if type_ == "input_file":
        members = ("filename", "file_data", "file_id", "file_url")
        return {"type": "file", "file": {n: part[n] for n in members if part.get(n) is not None}, **kept}
    if type_ == "input_video":  # vLLM, "Multimodal inputs", 2026-11.
        return {"type": "video_url", "video_url": {"url": part.get("video_url")}}
    return part


def items_of(messages: Iterable[Message]) -> list[Item]:
    """Chat messages as items; `messages_of` makes the same messages of them again.

    A content of one text part and the same as a string are one and the same here. Raises InvalidBody naming
    the message, such as `messages[3]`.
    """
    items: list[Item] = []
    custom: set[str] = set()
    for number, message in enumerate(messages):
        place = f"messages[{number}]"
        try:
            made = [_checked(item, place) for item in _items(message, custom)]
        except (KeyError, TypeError, AttributeError):
            raise InvalidBody(f"'{place}' is not a chat message.", place) from None
        custom.update(item["call_id"] for item in made if item["type"] == "custom_tool_call")
        items += made
    return items


def _items(message: Message, custom: set[str]) -> list[Item]:
    role = message["role"]
    named = {"name": message["name"]} if isinstance(message.get("name"), str) else {}
    if role in ("tool", "function"):
        call_id = message["tool_call_id"] if role == "tool" else _legacy_id(message["name"])
        type_ = "custom_tool_call_output" if call_id in custom else "function_call_output"
        output = _item_content(message["content"], "input_text")
        return [{"type": type_, "call_id": call_id, **named, "output": _plain(output)}]
    if role != "assistant":
        content = _item_content(message["content"], "input_text")
        return [{"type": "message", "role": role, **named, "content": content}]
    return _assistant_items(message, named)


def _assistant_items(message: Message, named: dict[str, str]) -> list[Item]:
    items: list[Item] = []
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thoughts, str):
        content = [{"type": "reasoning_text", "text": thoughts}]
        items.append({"type": "reasoning", "summary": [], "content": content})
    parts = _item_content(message["content"], "output_text") if message.get("content") is not None else []
    if isinstance(message.get("refusal"), str):
        parts.append({"type": "refusal", "refusal": message["refusal"]})
    if parts and (named or not message.get("tool_calls") or text_of(parts)):
        items.append({"type": "message", "role": "assistant", **named, "content": parts})
    items += (_call_item(call) for call in message.get("tool_calls") or [])
    if message.get("function_call"):
        function = message["function_call"]
        call = {"id": _legacy_id(function["name"]), "function": function}
        items.append(_call_item(call))
    return items


def _legacy_id(name: str) -> str:
    """For the older `function_call`, which has no id."""
    return f"call_{name}"


def _call_item(call: dict[str, Any]) -> Item:
    if call.get("type") == "custom":
        custom = call["custom"]
        named = {"name": custom["name"], "input": custom["input"]}
        return {"type": "custom_tool_call", "call_id": call["id"], **named}
    function = call["function"]
    named = {"name": function["name"], "arguments": function.get("arguments") or ""}
    return {"type": "function_call", "call_id": call["id"], **named}


def _item_content(content: object, text_type: str) -> list[Part]:
    if isinstance(content, str):
        return [_text_part(content, text_type)]
    if not isinstance(content, list):
        raise TypeError
    return [_item_part(part, text_type) for part in content]


def _text_part(text: str, type_: str) -> Part:
    return {"type": type_, "text": text, **({"annotations": []} if type_ == "output_text" else {})}


def _item_part(part: Part, text_type: str) -> Part:
    type_ = part["type"]
    kept = {name: part[name] for name in ("prompt_cache_breakpoint",) if part.get(name) is not None}
    if type_ == "text":
        return {**_text_part(part["text"], text_type), **kept}
    if type_ == "image_url":
        image = part["image_url"]
        url, detail = (image, None) if isinstance(image, str) else (image["url"], image.get("detail"))
        return {"type": "input_image", "image_url": url, **({"detail": detail} if detail else {}), **kept}
    if type_ == "file":
        return {"type": "input_file", **part["file"], **kept}
    if type_ == "video_url":
        return {"type": "input_video", "video_url": part["video_url"]["url"]}
    return part


def _plain(parts: list[Part]) -> str | list[Part]:
    return parts[0]["text"] if len(parts) == 1 and set(parts[0]) == {"type", "text"} else parts
