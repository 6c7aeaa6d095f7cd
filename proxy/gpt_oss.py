"""What a gpt-oss model needs on an OpenAI-compatible server: its reasoning under one name, its efforts, no
control tokens. Pure.

Servers tell the reasoning as `reasoning_content` (llama.cpp, Fireworks), `reasoning` (vLLM, Ollama, LM
Studio, Groq, Together) or `reasoning_details` (OpenRouter); clients get `reasoning_content`, and, where the
operator wants it, the same again as `reasoning`. The model knows three efforts; `none` is refused or not
heeded by its servers (vLLM, SGLang, Ollama; their documentation, 2026-11).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from proxy import sse
from proxy.call import Call, Fields
from proxy.harmony import ANALYSIS, FINAL, NameFilter, TextFilter
from proxy.passage import NULL, ChatPassage, Garbled, value
from proxy.reasoning import Asked

DEFAULT_EFFORT = "medium"  # the model's own (OpenAI's gpt-oss model card, 2025-08)
# Everybody's words for it, and the model's.
EFFORTS = {
    "none": "low",
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
    "ultra": "high",
}
_NAMES = ("reasoning_content", "reasoning", "reasoning_details")
# Beside what a chat passage looks for: a `<` as it stands in JSON, or as Go writes it.
_MARKS = (b'"reasoning', b"<", b"\\u003c", b"\\u003C")

Document = dict[str, Any]


def is_gpt_oss(model: str) -> bool:
    """Whether a model of this name, such as `openai/gpt-oss-20b`, is one of them."""
    return "gpt-oss" in model.lower()


def effort(asked: Asked) -> str:
    """The effort as the model knows it: low, medium or high."""
    return EFFORTS[asked.effort or DEFAULT_EFFORT]


def prepare(call: Call, asked: Asked) -> Call:
    """The chat call as these servers want it: the effort under the one name that they all take, and without
    what is done here, which some of them refuse."""
    fields: Fields = {
        name: raw for name, raw in call.fields.items() if name not in ("reasoning", "include_reasoning")
    }
    if asked.effort is not None:
        fields["reasoning_effort"] = msgspec.Raw(msgspec.json.encode(effort(asked)))
    return replace(call, fields=fields)


def without_reasoning(call: Call) -> Call:
    """The chat call without the reasoning of earlier answers, for servers that refuse a message that has any
    (Groq: "property 'reasoning_content' is unsupported", 2026-11)."""
    if not any(f'"{name}'.encode() in bytes(call.fields.get("messages", b"")) for name in _NAMES):
        return call
    said = [
        {name: raw for name, raw in message.items() if name not in _NAMES}
        for message in value(call.fields["messages"], list[Fields])
    ]
    return replace(call, fields={**call.fields, "messages": msgspec.Raw(msgspec.json.encode(said))})


class GptOssPassage(ChatPassage):
    """A gpt-oss model's chat on its way to the client. `harmony_tokens` counts the control tokens taken out.

    Events without reasoning and without a `<` go through as bytes.
    """

    marks = (*ChatPassage.marks, *_MARKS)

    def __init__(
        self, answer_id: str, model: str, *, shows_usage: bool, shows_reasoning: bool, repeats_reasoning: bool
    ) -> None:
        super().__init__(answer_id, model, shows_usage=shows_usage)
        self._shows_reasoning = shows_reasoning
        self._repeats_reasoning = repeats_reasoning
        self._choices: dict[int, _Choice] = {}
        self._head: Fields = {}

    @property
    def harmony_tokens(self) -> int:
        return sum(choice.count for choice in self._choices.values())

    def feed(self, events: bytes) -> bytes:
        if any(choice.busy for choice in self._choices.values()):
            self._tail = (self._tail[1], events)
            return self._look_at_each(events)
        return super().feed(events)

    def rest(self) -> bytes:
        """As of any chat, and what was held back of a choice that nobody finished."""
        passed = super().rest()
        delta: Document
        for index, known in self._choices.items():
            known.clean(delta := {"content": ""}, ended=True)
            if delta["content"] and self._error is None:
                choice = {"index": index, "delta": delta, "finish_reason": None}
                head = {**self._head, "id": msgspec.Raw(self.answer_id), "model": msgspec.Raw(self.model)}
                passed += sse.encode(msgspec.json.encode({**head, "choices": [choice]}))
        return passed

    def _look(self, event: bytes, document: Fields) -> bytes:
        if bytes(document.get("choices", NULL)) != NULL:
            self._head = {name: document[name] for name in ("object", "created") if name in document}
            given = value(document["choices"], list[Document])
            kept = [choice for choice in given if self._clean(choice)]
            document["choices"] = msgspec.Raw(msgspec.json.encode(kept))
            if given and not kept and "usage" not in document and "error" not in document:
                self._learn(event, document)
                return b""
        return super()._look(event, document)

    def _clean(self, choice: Document) -> bool:
        """Puts a choice in order, and tells whether there is still something in it for the client."""
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return True
        index = choice.get("index", 0)
        if not isinstance(index, int):
            raise Garbled
        known = self._choices.setdefault(index, _Choice())
        ended = choice.get("finish_reason") is not None
        said = known.clean(delta, ended=ended)
        if said and self._shows_reasoning:
            delta["reasoning_content"] = said
            if self._repeats_reasoning:
                delta["reasoning"] = said
        return known.is_news(delta) or ended


class _Choice:
    """What is known of one choice of the answer."""

    def __init__(self) -> None:
        self._content = TextFilter(FINAL)
        self._reasoning = TextFilter(ANALYSIS)
        self._names: dict[int, NameFilter] = {}
        self._began = False

    @property
    def _filters(self) -> tuple[TextFilter | NameFilter, ...]:
        return (self._content, self._reasoning, *self._names.values())

    @property
    def count(self) -> int:
        return sum(each.count for each in self._filters)

    @property
    def busy(self) -> bool:
        return any(each.busy for each in self._filters)

    def clean(self, delta: Document, *, ended: bool) -> str:
        """Takes the reasoning out of a delta, and control tokens out of all; returns the reasoning."""
        spoken = self._reasoning.feed(_reasoning_of(delta))
        content = delta.get("content")
        if isinstance(content, str):
            spoken += self._content.feed(content)
        if ended:
            spoken += self._reasoning.rest() + self._content.rest()
        answer = "".join(text for channel, text in spoken if channel != ANALYSIS)
        if answer or isinstance(content, str):
            delta["content"] = answer
        for call in delta.get("tool_calls") or ():
            self._clean_name(call)
        return "".join(text for channel, text in spoken if channel == ANALYSIS)

    def _clean_name(self, call: object) -> None:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(call, dict) and isinstance(function, dict) and isinstance(function.get("name"), str):
            place = call.get("index")
            index = place if isinstance(place, int) else -1 - len(self._names)  # A call that came whole.
            name = self._names.setdefault(index, NameFilter()).feed(function.pop("name"))
            if name:
                function["name"] = name

    def is_news(self, delta: Document) -> bool:
        """Whether a delta tells anything; the first one does, for it bears the role."""
        first, self._began = not self._began, True
        return first or any(member for name, member in delta.items() if name != "role")


def _reasoning_of(delta: Document) -> str:
    """The reasoning of a delta, which is taken out of it. Servers that give it under two names mean one."""
    given = [delta.pop(name, None) for name in _NAMES]
    for text in given[:2]:
        if isinstance(text, str) and text:
            return text
    details = given[2] if isinstance(given[2], list) else ()
    texts = [detail.get("text") or detail.get("summary") for detail in details if isinstance(detail, dict)]
    return "".join(text for text in texts if isinstance(text, str))
