"""A Response and its items have every member that clients rely on."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from openai._models import construct_type
from openai.types.responses import Response

from proxy.responses import shape
from tests import open_responses
from tests.proxy.responses.transcripts import fields

Document = dict[str, Any]

WEATHER = {"type": "function", "name": "get_weather"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
ASKED: dict[str, Document] = {
    "nothing but a text": {"model": "m", "input": "Hi"},
    "nulls": dict.fromkeys([*shape._SAYS, *shape._MAY_SAY]),
    "sampling": {
        "temperature": 0,
        "top_p": 0.5,
        "top_logprobs": 3,
        "presence_penalty": 1,
        "truncation": "auto",
    },
    "bounds": {"max_output_tokens": 99, "max_tool_calls": 2, "parallel_tool_calls": False},
    "what is kept": {
        "store": False,
        "background": True,
        "metadata": {"a": "b"},
        "previous_response_id": "resp_1",
    },
    "who": {"user": "u", "safety_identifier": "s", "prompt_cache_key": "k", "service_tier": "flex"},
    "a conversation": {"conversation": "conv_1"},
    "a bare function": {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "get_weather"}},
    "some reasoning": {"reasoning": {"effort": "low"}},
    "only verbosity": {"text": {"verbosity": "low"}},
    "a JSON object": {"text": {"format": {"type": "json_object"}}},
    "a schema": {"text": {"format": {"type": "json_schema", "name": "out", "schema": SCHEMA}}},
    "wrong types": {
        "temperature": "hot",
        "tools": {},
        "metadata": [],
        "instructions": 1,
        "text": "x",
        "store": 1,
    },
}
each_asked = pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)


def begun(**asked: Any) -> Document:
    return shape.skeleton("resp_ours", "public", fields(**asked), 1_763_700_000)


@each_asked
def test_it_keeps_the_open_responses_schema(asked: Document) -> None:
    assert open_responses.faults(begun(**asked), "ResponseResource") == []


@each_asked
def test_it_keeps_the_schema_over_the_least_that_an_upstream_says(asked: Document) -> None:
    said = shape.complete_response({"output": [], "status": "completed"}, begun(**asked))
    assert open_responses.faults(said, "ResponseResource") == []


@each_asked
def test_it_keeps_the_schema_over_nulls(asked: Document) -> None:
    began = begun(**asked)
    assert shape.complete_response(dict.fromkeys([*began, "temperature", "usage"]), began) == began


def test_it_begins_with_ours() -> None:
    told = begun(metadata={"a": "b"})
    named = {"id": "resp_ours", "object": "response", "model": "public", "created_at": 1_763_700_000}
    assert named.items() <= told.items()
    assert (told["status"], told["output"], told["usage"]) == ("in_progress", [], None)


def test_it_repeats_what_was_asked() -> None:
    asked: Document = {
        "instructions": "Be brief.",
        "max_output_tokens": 7,
        "top_p": 0.25,
        "store": False,
        "user": "u",
    }
    assert asked.items() <= begun(**asked).items()


def test_it_knows_the_sdks_members() -> None:
    read: Any = construct_type(type_=Response, value=begun(tools=[WEATHER], text={"verbosity": "high"}))
    assert read.tools[0].name == "get_weather"
    assert read.text.format.type == "text"
    assert read.tool_choice == "auto"


def test_it_names_the_conversation_by_an_object() -> None:
    assert begun(conversation="conv_1")["conversation"] == {"id": "conv_1"}
    assert begun(conversation={"id": "conv_1"})["conversation"] == {"id": "conv_1"}
    assert "conversation" not in begun()


def test_it_repeats_no_secret_of_a_tool() -> None:
    server = {"type": "mcp", "server_label": "s", "server_url": "https://s.test"}
    told = begun(tools=[server | {"authorization": "canary", "headers": {"x-key": "canary"}}])
    assert told["tools"] == [server]


def test_it_survives_a_number_that_no_program_holds() -> None:
    asked = {"temperature": msgspec.Raw(b"1e999")}
    assert shape.skeleton("resp_ours", "public", asked, 1)["temperature"] == 1.0


def test_it_prefers_what_the_caller_asked() -> None:
    theirs: Document = {
        "id": "resp_theirs",
        "model": "weights.gguf",
        "instructions": "The operator's.",
        "metadata": {"x": 1},
    }
    theirs |= {"tools": [{"type": "function", "name": "theirs"}], "store": False, "temperature": 0.1}
    told = shape.complete_response(theirs, begun(temperature=0.5, instructions="Be brief.", tools=[WEATHER]))
    assert told["id"] == "resp_ours"
    assert (told["model"], told["instructions"]) == ("public", "Be brief.")
    assert (told["metadata"], told["store"], told["temperature"]) == ({}, True, 0.5)
    assert [tool["name"] for tool in told["tools"]] == ["get_weather"]


def test_it_takes_from_the_upstream_what_was_left_open() -> None:
    found = {"temperature": 0.7, "top_p": 0.98, "service_tier": "flex", "truncation": "auto"}
    told = shape.complete_response(
        {**found, "reasoning": {"effort": "high"}, "text": {"verbosity": "medium"}}, begun()
    )
    assert found.items() <= told.items()
    assert told["reasoning"] == {"effort": "high", "summary": None}
    assert told["text"] == {"format": {"type": "text"}, "verbosity": "medium"}


@pytest.mark.parametrize(
    "name", ["input", "input_messages", "prompt", "conversation", "previous_response_id"]
)
def test_it_repeats_nothing_that_the_gateway_sent_along(name: str) -> None:
    told = shape.complete_response({name: "canary"}, begun())
    assert "canary" not in json.dumps(told)


def test_it_keeps_what_it_does_not_know() -> None:
    assert shape.complete_response({"billing": {"payer": "us"}}, begun())["billing"] == {"payer": "us"}


def test_it_gives_every_response_lists_of_its_own() -> None:
    begun()["output"].append("stray")
    begun()["metadata"]["stray"] = "x"
    assert (begun()["output"], begun()["metadata"]) == ([], {})


TEXT = {"type": "output_text", "text": "Hi"}
LOGPROB = {"token": "H", "logprob": -1.0, "top_logprobs": [{"token": "H", "logprob": -1.0, "bytes": None}]}
CITED = {"type": "url_citation", "url": "https://a.test"}
ITEMS: dict[str, Document] = {
    "a message": {"type": "message", "content": [TEXT]},
    "a message without a type": {"role": "assistant", "content": "Hi"},
    "a message of nulls": {"type": "message", "id": None, "status": None, "content": None, "phase": None},
    "a part of nulls": {"type": "message", "content": [TEXT | {"annotations": None, "logprobs": None}]},
    "log probabilities": {"type": "message", "content": [TEXT | {"logprobs": [LOGPROB]}]},
    "a citation": {"type": "message", "content": [TEXT | {"annotations": [CITED | {"title": None}]}]},
    "a user's message": {"type": "message", "role": "user", "content": "Hi"},
    "an image": {"type": "message", "role": "user", "content": [{"type": "input_image", "detail": None}]},
    "a refusal": {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]},
    "a call": {"type": "function_call", "name": "f", "arguments": None},
    "a call with an object": {"type": "function_call", "name": "f", "arguments": {"a": 1}, "call_id": "c"},
    "a call's output": {"type": "function_call_output", "call_id": "c", "output": "12"},
    "a call's output in parts": {
        "type": "function_call_output",
        "call_id": "c",
        "output": [{"type": "input_image"}],
    },
    "reasoning": {"type": "reasoning"},
    "reasoning of nulls": {"type": "reasoning", "summary": None, "content": None, "encrypted_content": None},
    "reasoning in full": {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm."}]},
    "a compaction": {"type": "compaction", "encrypted_content": "gAAA"},
}


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)
def test_it_makes_an_item_that_keeps_the_schema(item: Document) -> None:
    assert open_responses.faults(shape.complete_item(item), "ItemField") == []


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)
def test_it_changes_nothing_that_is_complete(item: Document) -> None:
    made = shape.complete_item(item)
    assert shape.complete_item(made, "in_progress") == made


def test_it_says_arguments_as_a_string() -> None:
    assert shape.complete_item(ITEMS["a call with an object"])["arguments"] == '{"a":1}'


def test_it_tells_reasoning_as_a_summary_too() -> None:
    assert shape.complete_item(ITEMS["reasoning in full"])["summary"] == [
        {"type": "summary_text", "text": "Hm."}
    ]


def test_it_leaves_unknown_items_as_they_are() -> None:
    item = {"type": "acme:trace", "id": "t_1", "payload": None, "status": "odd"}
    assert shape.complete_item(item) == item


@pytest.mark.parametrize(
    "usage",
    [{}, {"input_tokens": 3, "output_tokens": None}, {"input_tokens": 3, "input_tokens_details": None}],
    ids=str,
)
def test_it_makes_numbers_of_counts(usage: Document) -> None:
    made = shape.complete_usage(usage)
    assert open_responses.faults(made, "Usage") == []
    assert made["total_tokens"] == made["input_tokens"] + made["output_tokens"]


def test_it_keeps_details_of_counts_that_it_does_not_know() -> None:
    details = {"cached_tokens": 1, "cache_write_tokens": 2}
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7, "input_tokens_details": details}
    assert shape.complete_usage(usage)["input_tokens_details"] == details


def test_it_says_that_an_estimate_is_one() -> None:
    assert shape.estimated_usage(3, 4)["estimated"] is True


def test_it_gives_a_failure_a_code_and_a_message() -> None:
    told = shape.complete_response({"status": "failed", "error": {"message": "Broken."}}, begun())
    assert told["error"] == {"code": "server_error", "message": "Broken."}
    assert open_responses.faults(told, "ResponseResource") == []
