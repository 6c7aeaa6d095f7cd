"""A Response and its items with every member that clients rely on, whatever an upstream left out. Pure.

Required members: the Open Responses specification of 2026-04-24 (ResponseResource, ItemField) and OpenAI's
API reference 2.3.0 ("The response object"), 2026-11. What the request said is repeated as its caller said it:
an upstream was asked in other words, and may repeat what is the operator's alone.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import msgspec

from proxy.call import Fields, InvalidBody, member
from threads.item_ids import new_id

Document = dict[str, Any]

_BEGINS: Document = {
    "status": "in_progress",
    "completed_at": None,
    "error": None,
    "incomplete_details": None,
    "output": [],
    "usage": None,
}
_NUMBER, _TEXT = (int, float), (str,)
# What a request says: what it means by saying nothing, and the JSON types that it may be.
_SAYS: dict[str, tuple[Any, tuple[type, ...]]] = {
    "background": (False, (bool,)),
    "frequency_penalty": (0.0, _NUMBER),
    "instructions": (None, _TEXT),
    "max_output_tokens": (None, (int,)),
    "max_tool_calls": (None, (int,)),
    "metadata": ({}, (dict,)),
    "parallel_tool_calls": (True, (bool,)),
    "presence_penalty": (0.0, _NUMBER),
    "previous_response_id": (None, _TEXT),
    "prompt_cache_key": (None, _TEXT),
    "reasoning": ({"effort": None, "summary": None}, (dict,)),
    "safety_identifier": (None, _TEXT),
    "service_tier": ("default", _TEXT),
    "store": (True, (bool,)),
    "temperature": (1.0, _NUMBER),
    "text": ({"format": {"type": "text"}}, (dict,)),
    "tool_choice": ("auto", (str, dict)),
    "tools": ([], (list,)),
    "top_logprobs": (0, (int,)),
    "top_p": (1.0, _NUMBER),
    "truncation": ("disabled", _TEXT),
}
# What is repeated where it was said, and else not mentioned.
_MAY_SAY: dict[str, tuple[type, ...]] = {
    "conversation": (str, dict),
    "prompt_cache_options": (dict,),
    "prompt_cache_retention": _TEXT,
    "user": _TEXT,
}
# What an upstream knows better than a request that left it open.
_LEFT_OPEN = (
    *("frequency_penalty", "presence_penalty", "temperature", "top_logprobs", "top_p"),
    *("parallel_tool_calls", "truncation"),
)
# What was sent along with a request, as some servers repeat it: history, and the operator's own words.
_NEVER_REPEATED = frozenset({"input", "input_messages", "prompt"})
_ENDED_AT = {"completed_at": (int,), "incomplete_details": (dict,), "error": (dict,), "usage": (dict,)}
_CALLS = frozenset({"function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"})
_OPTIONAL = frozenset({"encrypted_content", "content", "phase", "status"})
_NO_COUNTS: Document = {
    "input_tokens": 0,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"reasoning_tokens": 0},
}


def skeleton(answer_id: str, model: str, asked: Fields, created_at: int) -> Document:
    """The Response as it begins: nothing said, and what was `asked` repeated. What is of the wrong type is
    the upstream's to refuse, and is not repeated."""
    head = {"id": answer_id, "object": "response", "created_at": created_at, "model": model}
    said: Document = {}
    for name, (meant, types) in _SAYS.items():
        given = _member(asked, name)
        said[name] = given if type(given) in types else copy(meant)
    for name, types in _MAY_SAY.items():
        given = _member(asked, name)
        if type(given) in types:
            said[name] = given
    for name, complete in _COMPLETED.items():
        if name in said:
            said[name] = complete(said[name])
    return {**head, **_BEGINS, "output": [], **said}


def _member(asked: Fields, name: str) -> Any:
    try:
        return member(asked, name)
    except InvalidBody:
        return None


def complete_response(answered: Document, begun: Document) -> Document:
    """An upstream's Response object over what it began as. Its output is its caller's to complete."""
    unknown = answered.keys() - _SAYS.keys() - _MAY_SAY.keys() - _NEVER_REPEATED - begun.keys()
    made = {**begun, **{name: member for name, member in answered.items() if name in unknown}}
    for name in _LEFT_OPEN:
        if begun[name] == _SAYS[name][0] and type(answered.get(name)) in _SAYS[name][1]:
            made[name] = answered[name]
    for name, types in _ENDED_AT.items():
        made[name] = answered[name] if type(answered.get(name)) in types else None
    if isinstance(answered.get("status"), str):
        made["status"] = answered["status"]
    if isinstance(answered.get("service_tier"), str):
        made["service_tier"] = answered["service_tier"]
    made["reasoning"] = _found_out("effort", "reasoning", answered, begun)
    made["text"] = _found_out("verbosity", "text", answered, begun)
    if made["error"] is not None:
        made["error"] = complete_error(made["error"])
    if made["usage"] is not None:
        made["usage"] = complete_usage(made["usage"])
    if made["incomplete_details"] is not None and not isinstance(
        made["incomplete_details"].get("reason"), str
    ):
        made["incomplete_details"] = None
    return made


def _found_out(part: str, name: str, answered: Document, begun: Document) -> Document:
    """`begun`'s member, with the `part` of it that the request left open as the upstream has it."""
    told = answered[name].get(part) if isinstance(answered.get(name), dict) else None
    open_ = begun[name].get(part) is None and isinstance(told, str)
    return {**begun[name], part: told} if open_ else begun[name]


def complete_error(error: Document) -> Document:
    """What a Response says of its failure: a code and a message."""
    code, message = error.get("code"), error.get("message")
    return {"code": str(code or "server_error"), "message": str(message or "The response failed.")}


def complete_usage(usage: Document) -> Document:
    """Counts, each a number, with their details."""
    made = {**usage, **{name: _count(usage.get(name)) for name in ("input_tokens", "output_tokens")}}
    for name, details in _NO_COUNTS.items():
        if isinstance(details, dict):
            given = usage[name] if isinstance(usage.get(name), dict) else {}
            made[name] = {**given, **{part: _count(given.get(part)) for part in details}}
    made["total_tokens"] = _count(usage.get("total_tokens")) or made["input_tokens"] + made["output_tokens"]
    return made


def estimated_usage(input_tokens: int, output_tokens: int) -> Document:
    """Counts that nobody reported: programs take nothing but numbers. They say what they are."""
    return {
        **complete_usage({"input_tokens": input_tokens, "output_tokens": output_tokens}),
        "estimated": True,
    }


def _count(given: object) -> int:
    return int(given) if isinstance(given, int | float) else 0


def complete_item(item: Document, status: str = "completed") -> Document:
    """An item as answers show them, with an id, and with that `status` where it has none."""
    made = {name: member for name, member in item.items() if member is not None or name not in _OPTIONAL}
    type_ = made.get("type") if isinstance(made.get("type"), str) else "message"
    made = {"type": type_, **made}
    if not isinstance(made.get("id"), str):
        made["id"] = new_id(str(type_))
    if type_ == "message":
        made = {"status": status, "role": "assistant", **made}
        made["content"] = _parts(made.get("content"), "output_text" if _speaks(made) else "input_text")
    elif type_ == "reasoning":
        made = _complete_reasoning(made)
    elif type_ == "compaction":
        made.setdefault("encrypted_content", "")
    elif type_ in _CALLS:
        made = _complete_call(made, status)
    return made


def _speaks(message: Document) -> bool:
    return message.get("role") == "assistant"


def _complete_reasoning(item: Document) -> Document:
    """Reasoning is told as a summary too: no events tell of its content by a name that is known to OpenAI's
    SDKs and to Open Responses alike (2026-11)."""
    made = {**item, "summary": _parts(item.get("summary"), "summary_text")}
    if "content" in made:
        made["content"] = _parts(made["content"], "reasoning_text")
    if not made["summary"]:
        texts = [part.get("text") for part in made.get("content", ()) if part.get("type") == "reasoning_text"]
        made["summary"] = [{"type": "summary_text", "text": text} for text in texts if isinstance(text, str)]
    return made


def _complete_call(item: Document, status: str) -> Document:
    made = {"status": status, **item}
    if not isinstance(made.get("call_id"), str):
        made["call_id"] = made["id"]
    if item["type"].endswith("_output"):
        output = made.get("output")
        made["output"] = _parts(output, "input_text") if isinstance(output, list) else str(output or "")
        return made
    said = "arguments" if item["type"] == "function_call" else "input"
    for name in ("name", said):
        if not isinstance(made.get(name), str):
            made[name] = msgspec.json.encode(made[name]).decode() if made.get(name) is not None else ""
    return made


def _parts(content: object, text_type: str) -> list[Document]:
    """The parts of a content; a string stands for one of `text_type`."""
    if isinstance(content, str):
        content = [{"type": text_type, "text": content}]
    return (
        [complete_part(part) for part in content if isinstance(part, dict)]
        if isinstance(content, list)
        else []
    )


def complete_part(part: Document) -> Document:
    """A part of an item's content."""
    type_ = part.get("type")
    if type_ == "output_text":
        annotations = [complete_annotation(each) for each in _documents(part.get("annotations"))]
        logprobs = complete_logprobs(part.get("logprobs"))
        return {"text": "", **part, "annotations": annotations, "logprobs": logprobs}
    if type_ == "input_image":
        return {"image_url": None, **part, "detail": part.get("detail") or "auto"}
    return part


def complete_annotation(annotation: Document) -> Document:
    """What a part cites."""
    if annotation.get("type") != "url_citation":
        return annotation
    said = {name: member for name, member in annotation.items() if member is not None}
    return {"url": "", "title": "", "start_index": 0, "end_index": 0, **said}


def _documents(given: object) -> list[Document]:
    return [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []


def complete_logprobs(given: object) -> list[Document]:
    """Log probabilities of a text's tokens."""
    return [_logprob(each) for each in _documents(given)]


def _logprob(token: Document) -> Document:
    return {**_top(token), "top_logprobs": [_top(each) for each in _documents(token.get("top_logprobs"))]}


def _top(token: Document) -> Document:
    return {**token, "bytes": token.get("bytes") or []}


def _tools(tools: list[Any]) -> list[Any]:
    return [_tool(tool) if isinstance(tool, dict) else tool for tool in tools]


def _tool(tool: Document) -> Document:
    """A tool as it is repeated. The secrets of an MCP server are not, as OpenAI's reference has it."""
    if tool.get("type") == "function":
        return {"description": None, "parameters": None, "strict": None, **tool}
    if tool.get("type") == "mcp":
        return {name: member for name, member in tool.items() if name not in ("authorization", "headers")}
    return tool


def _text(text: Document) -> Document:
    """The schema of a json_schema format is not repeated: Open Responses has null there and nothing else."""
    made = {name: member for name, member in text.items() if member is not None or name == "format"}
    format_ = made.get("format")
    if not isinstance(format_, dict):
        return {**made, "format": {"type": "text"}}
    if format_.get("type") == "json_schema":
        strict = bool(format_.get("strict"))
        made["format"] = {"name": "", "description": None, **format_, "schema": None, "strict": strict}
    return made


def _reasoning(reasoning: Document) -> Document:
    return {"effort": None, "summary": None, **reasoning}


def _conversation(conversation: str | Document) -> Document:
    return {"id": conversation} if isinstance(conversation, str) else conversation


_COMPLETED: dict[str, Callable[[Any], Any]] = {
    "tools": _tools,
    "text": _text,
    "reasoning": _reasoning,
    "conversation": _conversation,
}
