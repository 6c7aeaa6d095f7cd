"""Every field of a create request has its treatment, and gets it."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from accounts.ids import uuid7
from proxy import wires
from proxy.before import Before, with_history
from proxy.call import Call, Fields, InvalidBody, NotOffered
from proxy.dialects import openai
from proxy.findings import Findings, Tried
from proxy.responses.fields import CHAT_ONLY, FIELDS, Treatment
from proxy.responses.items import input_items
from proxy.responses.to_chat import MAPPINGS, to_chat
from proxy.routing import Target, Timeouts
from tests import open_responses
from tests.server import PROJECT
from threads.history import NOTHING

Document = dict[str, Any]

KNOWN = json.loads((Path(__file__).parent / "create_fields.json").read_text())
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}
CHAT_FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
BASE = {"model": "m", "input": "Hi"}
BASE_CHAT = {
    "model": "m",
    "messages": [{"role": "user", "content": "Hi"}],
    "stream": True,
    "stream_options": {"include_usage": True},
}
# A value for each field, what else it needs, and what a chat server is told that it was not told without.
EXAMPLES: dict[str, tuple[object, Document, Document]] = {
    "background": (True, {}, {}),
    "context_management": ([{"type": "compaction"}], {}, {}),
    "conversation": ("conv_1", {}, {}),
    "frequency_penalty": (0.5, {}, {}),
    "include": (
        ["message.output_text.logprobs", "reasoning.encrypted_content", "web_search_call.action.sources"],
        {},
        {"logprobs": True, "top_logprobs": 0},
    ),
    "input": ("Bye", {}, {"messages": [{"role": "user", "content": "Bye"}]}),
    "instructions": (
        "Be kind.",
        {},
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]},
    ),
    "max_output_tokens": (99, {}, {"max_tokens": 99}),
    "max_tool_calls": (3, {}, {}),
    "metadata": ({"a": "b"}, {}, {}),
    "model": ("other", {}, {}),
    "moderation": ({"model": "omni-moderation-latest"}, {}, {}),
    "parallel_tool_calls": (False, {"tools": [FUNCTION]}, {"parallel_tool_calls": False}),
    "presence_penalty": (0.5, {}, {}),
    "previous_response_id": ("resp_1", {}, {}),
    "prompt": ({"id": "pmpt_1"}, {}, {}),
    "prompt_cache_key": ("a", {}, {}),
    "prompt_cache_options": ({"ttl": "1h"}, {}, {}),
    "prompt_cache_retention": ("24h", {}, {}),
    "reasoning": ({"effort": "low", "summary": "auto"}, {}, {"reasoning_effort": "low"}),
    "safety_identifier": ("a", {}, {}),
    "service_tier": ("flex", {}, {}),
    "store": (True, {}, {}),
    "stream": (False, {}, {"stream": True}),
    "stream_options": ({"include_obfuscation": False}, {}, {"stream_options": {"include_usage": True}}),
    "temperature": (0.5, {}, {}),
    "text": (
        {"format": {"type": "json_object"}, "verbosity": "low"},
        {},
        {"response_format": {"type": "json_object"}, "verbosity": "low"},
    ),
    "tool_choice": ("required", {"tools": [FUNCTION]}, {"tool_choice": "required"}),
    "tools": ([FUNCTION], {}, {"tools": [CHAT_FUNCTION]}),
    "top_logprobs": (2, {}, {"logprobs": True, "top_logprobs": 2}),
    "top_p": (0.5, {}, {}),
    "truncation": ("auto", {}, {}),
    "user": ("a", {}, {}),
}


def raw(document: Document) -> Fields:
    return {name: msgspec.Raw(msgspec.json.encode(member)) for name, member in document.items()}


def read(fields: Fields) -> Document:
    return {name: msgspec.json.decode(member) for name, member in fields.items()}


def chat(**asked: object) -> Document:
    return read(to_chat(raw({**BASE, **asked})))


def native(asked: Document, *, stored: bool = False, own: bool = False) -> Document:
    """What an upstream that speaks Responses is sent, under the name that the request has for the model."""
    given = raw({**BASE, **asked})
    call = Call("responses", "/responses", "m", False, given, 0, asked=given, kept=stored)
    before = Before(NOTHING, (), tuple(input_items(given["input"])))
    stateless = asyncio.run(with_history(call, before, uuid7()))
    timeouts = Timeouts(1.0, 1.0, 1.0, 1.0)
    target = Target(uuid7(), "a", "openai", "", "m", "native", own, timeouts, (), ())
    wire = wires.speak(stateless, target, uuid7().hex, Findings(), Tried())
    sent: Document = json.loads(openai.request(wire.call, json.loads(bytes(given["model"])))[1])
    return sent


def treated(kind: str, *treatments: Treatment) -> pytest.MarkDecorator:
    """Each field with one of these treatments at that kind of upstream."""
    names = [name for name, field in FIELDS.items() if getattr(field, kind) in treatments]
    return pytest.mark.parametrize("name", names)


def test_it_lists_every_field_that_there_is() -> None:
    assert set(FIELDS) == {*KNOWN["openai"]["fields"], *KNOWN["open_responses"]["fields"]}


def test_the_list_of_fields_is_that_of_the_specification() -> None:
    assert (
        sorted(open_responses.schemas()["CreateResponseBody"]["properties"])
        == KNOWN["open_responses"]["fields"]
    )


def test_it_gives_a_reason_for_each() -> None:
    assert [name for name, field in FIELDS.items() if len(field.why.split()) < 4] == []


def test_the_documentation_has_the_same_table() -> None:
    told = (PROJECT / "docs" / "responses.md").read_text()
    rows = [f"| `{name}` | {field.chat} | {field.native} | {field.why} |" for name, field in FIELDS.items()]
    assert re.findall(r"^\| .* \| .* \| .* \| .* \|$", told, re.MULTILINE)[2:] == rows
    assert [name for name in CHAT_ONLY if f"`{name}`" not in told] == []


def test_each_treatment_is_proven_below() -> None:
    assert set(EXAMPLES) == set(FIELDS)


def test_what_is_mapped_is_what_has_a_mapping() -> None:
    mapped = {name for name, field in FIELDS.items() if field.chat is Treatment.MAPPED}
    assert mapped == {name for names in MAPPINGS for name in names}


@treated("chat", Treatment.KEPT)
def test_a_kept_field_goes_to_chat_as_it_is(name: str) -> None:
    value, more, _ = EXAMPLES[name]
    assert chat(**more, **{name: value}) == {**chat(**more), name: value}


@treated("chat", Treatment.MAPPED)
def test_a_mapped_field_is_told_to_chat_in_another_way(name: str) -> None:
    value, more, told = EXAMPLES[name]
    assert chat(**more, **{name: value}) == {**chat(**more), **told}


@treated("chat", Treatment.DROPPED)
def test_a_dropped_field_changes_nothing_for_chat(name: str) -> None:
    assert chat(**{name: EXAMPLES[name][0]}) == BASE_CHAT


@treated("chat", Treatment.REFUSED)
def test_a_refused_field_is_refused_by_name(name: str) -> None:
    with pytest.raises(NotOffered, match=f"'{name}'") as caught:
        chat(**{name: EXAMPLES[name][0]})
    assert caught.value.param == name


@treated("native", Treatment.KEPT)
def test_a_kept_field_goes_to_a_native_upstream_as_it_is(name: str) -> None:
    value = EXAMPLES[name][0]
    assert native({name: value}) == {**native({}), name: value}


@treated("native", Treatment.DROPPED)
def test_a_dropped_field_changes_nothing_for_a_native_upstream(name: str) -> None:
    assert native({name: EXAMPLES[name][0]}) == native({})


@treated("native", Treatment.REFUSED)
def test_what_lies_at_a_shared_upstream_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidBody, match=f"'{name}'") as caught:
        native({name: EXAMPLES[name][0]})
    assert caught.value.param == name


@treated("native", Treatment.REFUSED)
def test_what_lies_at_a_tenants_own_upstream_goes_there(name: str) -> None:
    value = EXAMPLES[name][0]
    assert native({name: value}, own=True)[name] == value


def test_each_native_mapping_is_proven_below() -> None:
    mapped = {name for name, field in FIELDS.items() if field.native is Treatment.MAPPED}
    assert mapped == {"input", "store", "include"}


@pytest.mark.parametrize("store", [True, False, None])
def test_a_native_upstream_stores_nothing(store: bool | None) -> None:
    assert native({"store": store})["store"] is False


def test_a_native_upstream_gets_items_for_an_input() -> None:
    (message,) = native({"input": "Hi"})["input"]
    assert (message["role"], message["content"]) == ("user", [{"type": "input_text", "text": "Hi"}])


@pytest.mark.parametrize("included", [[], ["message.output_text.logprobs"]])
def test_a_native_upstream_is_asked_for_the_reasoning_that_is_kept(included: list[str]) -> None:
    assert native({"include": included}, stored=True)["include"] == [*included, "reasoning.encrypted_content"]
    assert native({"include": included})["include"] == included


@pytest.mark.parametrize("name", sorted(set(FIELDS) - {"model", "input"}))
def test_a_field_that_is_null_asks_for_nothing(name: str) -> None:
    assert chat(**{name: None}) == BASE_CHAT
    assert native({name: None}) in (native({}), {**native({}), name: None})


def test_an_unknown_field_goes_on_as_it_is() -> None:
    extra = {"top_k": 20, "chat_template_kwargs": {"enable_thinking": False}}
    assert chat(**extra) == {**BASE_CHAT, **extra}
    assert native(extra) == {**native({}), **extra}


@pytest.mark.parametrize("name", sorted(CHAT_ONLY))
def test_a_field_of_chats_own_cannot_change_what_a_response_is(name: str) -> None:
    assert chat(**{name: 2}) == BASE_CHAT
