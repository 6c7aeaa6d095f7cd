"""The demo model in a chat: it thinks, calls tools, keeps to a schema, or greets, as it is asked. Pure.

Shapes: OpenAI API reference, "Create chat completion" and its chunks, 2026-11; reasoning is
`reasoning_content`, as open models have it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from proxy.dialects import demo_tools
from proxy.dialects.demo_schema import instance
from proxy.dialects.demo_text import (
    Answer,
    Said,
    count_words,
    greet,
    last,
    signed,
    spell,
    stream,
    whole,
)

Document = dict[str, Any]

_THOUGHT = "Someone says something to me. I will {plan}."
_NOTHING = Said((), cut=False)


@dataclass(frozen=True, slots=True)
class _Reply:
    thoughts: Said
    said: Said
    calls: list[Document]

    @property
    def finish_reason(self) -> str:
        return "tool_calls" if self.calls else "length" if self.said.cut else "stop"

    def message(self) -> Document:
        made: Document = {"role": "assistant", "content": self.said.text or None, "refusal": None}
        made["annotations"] = []
        if self.thoughts.words:
            made["reasoning_content"] = self.thoughts.text
        return {**made, "tool_calls": self.calls} if self.calls else made

    def deltas(self) -> list[Document]:
        """The message a word at a time."""
        made: list[Document] = [{"role": "assistant", "content": None if self.calls else "", "refusal": None}]
        made += [{"reasoning_content": word} for word in self.thoughts.words]
        made += [{"content": word} for word in self.said.words]
        return made + [delta for index, call in enumerate(self.calls) for delta in _call_deltas(index, call)]

    def usage(self, asked: object) -> Document:
        thought = len(self.thoughts.words)
        said = len(self.said.words) + sum(len(spell(_argument(call)[1]).words) for call in self.calls)
        counts = {"prompt_tokens": count_words(asked), "completion_tokens": thought + said}
        details = {"reasoning_tokens": thought}
        total = sum(counts.values())
        return {**counts, "total_tokens": total, "completion_tokens_details": details}


def answer(document: Document) -> Answer:
    """Status, content type and pieces of the answer to a `/chat/completions` request."""
    reply, messages = _reply(document), document.get("messages")
    usage = reply.usage(messages)
    if document.get("stream"):
        head = signed("chatcmpl-", "chat.completion.chunk", document)
        choices = [_choice({"delta": delta}, None) for delta in reply.deltas()]
        return stream(head, [*choices, _choice({"delta": {}}, reply.finish_reason)], document, usage)
    head = signed("chatcmpl-", "chat.completion", document)
    choice = _choice({"message": reply.message()}, reply.finish_reason)
    return whole({**head, "choices": [choice], "usage": usage})


def _choice(content: Document, reason: str | None) -> Document:
    return {"index": 0, **content, "logprobs": None, "finish_reason": reason}


def _reply(document: Document) -> _Reply:
    limit = document.get("max_completion_tokens") or document.get("max_tokens")
    messages = document.get("messages")
    if calls := demo_tools.calls(document):
        return _Reply(_thoughts(document, "call a tool"), _NOTHING, calls)
    if (form := _form(document, messages)) is not None:
        return _Reply(_thoughts(document, "keep to the form"), spell(form, limit), [])
    if results := demo_tools.results(messages):
        return _Reply(_thoughts(document, "tell what came of it"), spell(results, limit), [])
    return _Reply(_thoughts(document, "greet them"), spell(greet(last(messages)), limit), [])


def _thoughts(document: Document, plan: str) -> Said:
    """A thought, where the request asks for any."""
    effort = document.get("reasoning_effort")
    if isinstance(document.get("reasoning"), dict):
        effort = effort or document["reasoning"].get("effort") or document["reasoning"].get("enabled")
    return spell(_THOUGHT.format(plan=plan)) if effort and effort != "none" else _NOTHING


def _form(document: Document, messages: object) -> str | None:
    """The answer as JSON, where the request asks for that."""
    given = document.get("response_format")
    format_: Document = given if isinstance(given, dict) else {}
    if format_.get("type") == "json_object":
        return json.dumps(
            {"answer": demo_tools.results(messages) or greet(last(messages))}, ensure_ascii=False
        )
    described = format_.get("json_schema")
    if format_.get("type") != "json_schema" or not isinstance(described, dict):
        return None
    return json.dumps(instance(described.get("schema", {})), ensure_ascii=False)


def _argument(call: Document) -> tuple[str, str]:
    """The member of a call that holds what its tool is given, and that."""
    name = "input" if call["type"] == "custom" else "arguments"
    return name, call[call["type"]][name]


def _call_deltas(index: int, call: Document) -> list[Document]:
    type_, (name, argument) = call["type"], _argument(call)
    begun = {"index": index, **call, type_: {**call[type_], name: ""}}
    pieces = [{"index": index, type_: {name: word}} for word in spell(argument).words]
    return [{"tool_calls": [piece]} for piece in (begun, *pieces)]
