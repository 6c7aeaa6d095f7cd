"""Requests and chunks with anything at any place: refused by name, or taken, and never a fault of ours."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import sse
from proxy.call import InvalidBody, NotOffered
from proxy.passage import Garbled, Truncated
from proxy.reported import UpstreamReported
from proxy.responses.items import input_items, items_of, messages_of, search_text, unanswered
from proxy.responses.to_chat import to_chat
from tests.proxy.responses.transcripts import TRANSCRIPTS, fields, passage, usage_chunk

Document = dict[str, Any]

IMAGE = {"type": "input_image", "image_url": ""}
REQUEST: Document = {
    "model": "m",
    "instructions": "Be kind.",
    "input": [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "Hi"}, {"type": "input_image", "image_url": ""}],
        },
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}], "content": None},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": [{"type": "input_text", "text": "b"}]},
        {"type": "custom_tool_call", "call_id": "b", "name": "g", "input": ""},
        {"type": "custom_tool_call_output", "call_id": "b", "output": "c"},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "d"}]},
        {"type": "web_search_call", "id": "ws_1", "action": {"query": "e"}},
    ],
    "tools": [
        {"type": "function", "name": "f", "parameters": {}},
        {"type": "custom", "name": "g", "format": {"type": "grammar", "syntax": "lark", "definition": "a"}},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["message.output_text.logprobs"],
    "top_logprobs": 1,
    "max_output_tokens": 9,
    "parallel_tool_calls": True,
    "stream": True,
    "stream_options": {},
}
MESSAGES: list[Document] = [
    {
        "role": "user",
        "content": [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": ""}}],
    },
    {"role": "user", "content": [{"type": "file", "file": {"file_data": "a"}}]},
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "a",
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "b", "type": "custom", "custom": {"name": "g", "input": ""}},
        ],
    },
    {"role": "tool", "tool_call_id": "a", "content": "b"},
    {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "c"}]},
    {"role": "assistant", "content": "", "refusal": "d", "function_call": {"name": "h", "arguments": ""}},
    {"role": "function", "name": "h", "content": ""},
]
NUMBER = st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False)
NAME = st.sampled_from(["type", "role", "a"])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | st.sampled_from(["", "a", "message"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAME, inner, max_size=2),
    max_leaves=4,
)


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every container and key in a document."""
    if not isinstance(document, dict | list):
        return []
    keys = list(document) if isinstance(document, dict) else list(range(len(document)))
    return [*((document, key) for key in keys), *(place for key in keys for place in places(document[key]))]


@st.composite
def altered(draw: st.DrawFn, document: Any) -> Any:
    """The document with something else at one or two of its places, or nothing."""
    made = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 2))):
        if found := places(made):
            container, key = draw(st.sampled_from(found))
            if draw(st.booleans()):
                container[key] = draw(JSON)
            else:
                del container[key]
    return made


@settings(deadline=None, max_examples=200)
@given(altered(REQUEST))
def test_a_request_is_translated_or_refused_by_the_place(request: Document) -> None:
    wanted = fields(**request)
    refused = None
    try:
        chat = to_chat(wanted)
    except (InvalidBody, NotOffered) as refusal:
        refused = refusal
    if refused is not None:
        assert refused.param
        return
    assert {"messages", "stream"} <= set(chat)
    made = passage(wanted)
    assert made.begin()
    assert made.feed(TRANSCRIPTS["calls interleaved"])
    assert made.end()


@settings(deadline=None, max_examples=200)
@given(altered(REQUEST["input"]))
def test_what_is_an_input_can_be_told_as_messages(given_input: object) -> None:
    try:
        items = input_items(json.dumps(given_input).encode())
    except InvalidBody:
        return
    unanswered(items)
    assert all(isinstance(search_text(item), str) for item in items)
    messages = messages_of(items)
    assert messages_of(items_of(messages)) == messages_of(items_of(messages_of(items_of(messages))))


@settings(deadline=None, max_examples=200)
@given(altered(MESSAGES))
def test_messages_that_are_items_stay_what_they_are(messages: list[Document]) -> None:
    try:
        items = items_of(messages)
    except InvalidBody:
        return
    assert all(isinstance(search_text(item), str) for item in items)
    assert items_of(messages_of(items)) == items_of(messages_of(items_of(messages_of(items))))


CHUNKS = [
    json.loads(sse.data(event))
    for transcript in TRANSCRIPTS.values()
    for event in sse.split(transcript + usage_chunk())
    if sse.data(event) not in (b"", b"[DONE]")
]


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_chunk_is_read_or_garbled(data: st.DataObject) -> None:
    chunks = data.draw(st.lists(st.sampled_from(CHUNKS).flatmap(altered), max_size=4))
    made = passage()
    stream = b"".join(sse.encode(json.dumps(chunk).encode()) for chunk in chunks)
    try:
        made.feed(stream)
        made.end()
    except (Garbled, Truncated, UpstreamReported):
        assert made.failed(
            {"message": "It broke.", "type": "upstream_error", "param": None, "code": "broken"}
        )
    assert json.loads(made.final())["id"] == "resp_ours"


@pytest.mark.parametrize("name", sorted(set(REQUEST) - {"model"}))
def test_each_member_may_be_left_out(name: str) -> None:
    request = {member: value for member, value in REQUEST.items() if member != name}
    if name == "tools":
        del request["tool_choice"]
    assert to_chat(fields(**request))
