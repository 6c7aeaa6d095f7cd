"""A create request of the Responses API as a Chat Completions request. Pure.

Driven by the table in proxy/responses/fields.py. What is not obvious:
  - `max_tokens`, not `max_completion_tokens`: a server that does not know the newer name would ignore the
    limit without a word (Ollama, DeepSeek, Mistral know the older one only), while one that wants the newer
    name says so (OpenAI's reasoning models, which are called as Responses).
  - `developer` becomes `system`, and system messages that the input begins with become one with the
    instructions: chat templates of open models know no developer, and many take a system message only first.
  - Reasoning goes back, as `reasoning_content`, only on messages that call tools since the user last spoke:
    there models such as gpt-oss and Kimi K2 need it; elsewhere their templates drop it, and some servers
    refuse it. Reasoning that is only encrypted is dropped: no chat server could read it.
  - The upstream is always asked for a stream, with usage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from proxy.call import Fields, InvalidBody, NotOffered, string
from proxy.responses import fields as table
from proxy.responses.items import Item, Message, Part, decoded, input_items, messages_of

Document = dict[str, Any]

_EMPTY_SCHEMA = {"type": "object", "properties": {}}
# What a custom tool is to a chat server; from_chat reads `input` out of the arguments again.
_CUSTOM_SCHEMA = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}
_NO_SUCH_ITEM = frozenset({"item_reference", "compaction", "compaction_trigger", "additional_tools"})


def to_chat(fields: Fields, upstream: str = "") -> Fields:
    """The Chat Completions request for a create request whose `input` holds the whole history.

    `upstream` is the upstream's name, for the refusal of what it does not have. Raises NotOffered naming the
    field, tool or part that Chat has no form for; InvalidBody for one that is of the wrong shape.
    """
    wanted = table.asked(fields)
    chat = table.kept_for_chat(wanted)
    where = f"the upstream '{upstream}'" if upstream else "this model's upstream"
    for names, translate in MAPPINGS.items():
        made = translate({name: wanted[name] for name in names if name in wanted}, where)
        chat.update((name, msgspec.Raw(msgspec.json.encode(value))) for name, value in made.items())
    return chat


def _value(given: Fields, name: str, default: Any = None) -> Any:
    return decoded(given[name], name) if name in given else default


def _messages(given: Fields, where: str) -> Document:
    items = input_items(given.get("input", b"[]"))
    instructions = string(given, "instructions")
    for item in items:
        _refuse_item(item, where)
    said = [{"role": "system", "content": instructions}] if instructions else []
    messages = [*said, *(_plain(message) for message in messages_of(_open_reasoning(items)))]
    return {"messages": _one_system_message(messages)}


def _refuse_item(item: Item, where: str) -> None:
    if item["type"] in _NO_SUCH_ITEM:
        raise NotOffered(f"{_capital(where)} takes no input items of type '{item['type']}'.", "input")
    for parts in (item.get("content"), item.get("output")):
        for part in parts if isinstance(parts, list) else []:
            _refuse_part(part, where)


def _refuse_part(part: Part, where: str) -> None:
    if part.get("file_id") is not None:
        raise NotOffered(
            f"'{part['type']}' with a 'file_id' is not offered: send the data itself, as 'image_url' or "
            "'file_data'.",
            "input",
        )
    if part["type"] == "input_file" and part.get("file_url") is not None:
        raise NotOffered(
            f"'input_file' with a 'file_url' is not offered: {where} fetches no files. Send 'file_data'.",
            "input",
        )


def _open_reasoning(items: list[Item]) -> list[Item]:
    """The items less the reasoning from before the user last spoke."""
    spoken = (n for n, item in enumerate(items) if item["type"] == "message" and item["role"] == "user")
    last = max(spoken, default=-1)
    return [item for n, item in enumerate(items) if n > last or item["type"] != "reasoning"]


def _plain(message: Message) -> Message:
    """The message with nothing in it that only some servers know."""
    plain = dict(message)
    if plain["role"] == "developer":
        plain["role"] = "system"
    if "tool_calls" in plain:
        plain["tool_calls"] = [_as_function(call) for call in plain["tool_calls"]]
    else:
        plain.pop("reasoning_content", None)
    if refusal := plain.pop("refusal", None):
        plain["content"] = plain["content"] or refusal
    return plain


def _as_function(call: Document) -> Document:
    if call["type"] != "custom":
        return call
    arguments = msgspec.json.encode({"input": call["custom"]["input"]}).decode()
    return {"id": call["id"], "type": "function", "function": _named(call["custom"], arguments=arguments)}


def _named(given: Document, **more: Any) -> Document:
    return {"name": given["name"], **more}


def _one_system_message(messages: list[Message]) -> list[Message]:
    count = next((n for n, message in enumerate(messages) if message["role"] != "system"), len(messages))
    if count < 2:
        return messages
    joined = "\n\n".join(message["content"] for message in messages[:count])
    return [{"role": "system", "content": joined}, *messages[count:]]


def _tools(given: Fields, where: str) -> Document:
    tools = _value(given, "tools", [])
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise InvalidBody("'tools' must be an array of objects.", "tools")
    made = [_tool(tool, place, where) for place, tool in enumerate(tools)]
    choice = _value(given, "tool_choice", "auto")
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        names = _allowed_names(choice, where)
        made = [tool for tool in made if tool["function"]["name"] in names]
        choice = choice.get("mode", "auto")
    chosen = _choice(choice, {tool["function"]["name"] for tool in made}, where)
    if not made:
        return {}
    beside = {"tool_choice": chosen, "parallel_tool_calls": _value(given, "parallel_tool_calls")}
    return {"tools": made, **{name: value for name, value in beside.items() if name in given}}


def _tool(tool: Document, place: int, where: str) -> Document:
    type_, name = tool.get("type"), tool.get("name")
    if type_ not in ("function", "custom"):
        raise NotOffered(f"{_capital(where)} has no tool of type '{type_}'.", "tools")
    if not isinstance(name, str) or not name:
        raise InvalidBody(f"'tools[{place}].name' must be a string.", f"tools[{place}].name")
    function: Document = {"name": name}
    if description := _description(tool):
        function["description"] = description
    if type_ == "custom":
        return {"type": "function", "function": {**function, "parameters": _CUSTOM_SCHEMA}}
    function["parameters"] = tool.get("parameters") or _EMPTY_SCHEMA
    if tool.get("strict") is not None:
        function["strict"] = tool["strict"]
    return {"type": "function", "function": function}


def _description(tool: Document) -> str:
    """A grammar cannot be enforced through Chat: the model is told of it, and the client has to check."""
    description = tool.get("description") or ""
    format_ = tool.get("format")
    if tool["type"] != "custom" or not isinstance(format_, dict) or format_.get("type") != "grammar":
        return str(description)
    syntax, definition = format_.get("syntax"), format_.get("definition")
    told = f"The input must match this grammar ({syntax}), without anything around it:\n{definition}"
    return f"{description}\n\n{told}" if description else told


def _allowed_names(choice: Document, where: str) -> set[str]:
    tools = choice.get("tools")
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise InvalidBody("'tool_choice.tools' must be an array of objects.", "tool_choice.tools")
    return {_chosen_name(tool, where) for tool in tools}


def _choice(choice: object, names: set[str], where: str) -> object:
    if choice in ("auto", "none"):
        return choice
    if choice == "required":
        if not names:
            raise InvalidBody("'tool_choice' is 'required', and there is no tool to call.", "tool_choice")
        return choice
    if not isinstance(choice, dict):
        raise InvalidBody("'tool_choice' must be 'auto', 'none', 'required' or an object.", "tool_choice")
    name = _chosen_name(choice, where)
    if name not in names:
        raise InvalidBody(f"'tool_choice' names '{name}', which is not in 'tools'.", "tool_choice")
    return {"type": "function", "function": {"name": name}}


def _chosen_name(choice: Document, where: str) -> str:
    if choice.get("type") not in ("function", "custom"):
        raise NotOffered(f"{_capital(where)} has no tool of type '{choice.get('type')}'.", "tool_choice")
    if not isinstance(choice.get("name"), str):
        raise InvalidBody("'tool_choice.name' must be a string.", "tool_choice.name")
    return str(choice["name"])


def _logprobs(given: Fields, where: str) -> Document:
    included, count = _value(given, "include"), _value(given, "top_logprobs", 0)
    wanted = isinstance(included, list) and "message.output_text.logprobs" in included
    return {"logprobs": True, "top_logprobs": count} if wanted or count else {}


def _text(given: Fields, where: str) -> Document:
    text = _value(given, "text", {})
    if not isinstance(text, dict) or not isinstance(text.get("format") or {}, dict):
        raise InvalidBody("'text' must be an object with a 'format' that is one.", "text")
    made: Document = {}
    if text.get("verbosity") is not None:
        made["verbosity"] = text["verbosity"]
    format_ = dict(text.get("format") or {"type": "text"})
    type_ = format_.pop("type", None)
    if type_ == "json_schema":
        schema = {name: member for name, member in format_.items() if member is not None}
        return {**made, "response_format": {"type": type_, "json_schema": schema}}
    if type_ not in ("text", "json_object"):
        raise NotOffered(f"{_capital(where)} has no text format '{type_}'.", "text.format")
    return made if type_ == "text" else {**made, "response_format": {"type": type_}}


def _reasoning(given: Fields, where: str) -> Document:
    reasoning = _value(given, "reasoning", {})
    if not isinstance(reasoning, dict):
        raise InvalidBody("'reasoning' must be an object.", "reasoning")
    return {} if reasoning.get("effort") is None else {"reasoning_effort": reasoning["effort"]}


def _max_tokens(given: Fields, where: str) -> Document:
    return {"max_tokens": given["max_output_tokens"]} if given else {}


def _stream(given: Fields, where: str) -> Document:
    return {"stream": True, "stream_options": {"include_usage": True}}


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


# Fields that are said in another way, with what says them.
MAPPINGS: dict[tuple[str, ...], Callable[[Fields, str], Document]] = {
    ("input", "instructions"): _messages,
    ("tools", "tool_choice", "parallel_tool_calls"): _tools,
    ("include", "top_logprobs"): _logprobs,
    ("text",): _text,
    ("reasoning",): _reasoning,
    ("max_output_tokens",): _max_tokens,
    ("stream", "stream_options"): _stream,
}
