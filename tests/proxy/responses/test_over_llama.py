"""The translation in front of a real chat server: llama.cpp takes what it makes, and its answers are read."""

from __future__ import annotations

import itertools
import json
from typing import Any

import httpx
import pytest

from proxy import sse
from proxy.responses.to_chat import to_chat
from tests import open_responses
from tests.proxy.responses.transcripts import alike, fields, fold, run

Document = dict[str, Any]

MODEL = "memo"
HELLO = "Say hello in exactly 3 words."
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}

pytestmark = pytest.mark.slow


def answered(base_url: str, **asked: object) -> tuple[bytes, Document]:
    """The Response as a stream and as one JSON, whatever the pieces in which the server sent it."""
    wanted = fields(**{"model": MODEL, **asked})
    body = b"{%b}" % b",".join(b'"%b":%b' % (n.encode(), bytes(raw)) for n, raw in to_chat(wanted).items())
    response = httpx.post(
        f"{base_url}/chat/completions", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code == 200, response.text
    stream, whole = run(response.content, asked=wanted)
    lengths = [len(event) for event in sse.split(response.content)]
    cuts = tuple(itertools.accumulate(lengths))[:-1]
    assert alike(run(response.content, cuts, asked=wanted)[0]) == alike(stream)
    assert fold(stream) == whole
    return stream, whole


def text(whole: Document) -> str:
    parts = [part for item in whole["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in parts)


def test_it_says_what_the_model_said(llama: str) -> None:
    _, whole = answered(llama, input=HELLO)
    assert (whole["status"], text(whole)) == ("completed", "Hello to you")
    assert whole["usage"]["output_tokens"] > 0
    assert "estimated" not in whole["usage"]


def test_it_ends_where_it_was_told_to(llama: str) -> None:
    _, whole = answered(llama, input=HELLO, max_output_tokens=1)
    assert whole["status"] == "incomplete"
    assert whole["incomplete_details"] == {"reason": "max_output_tokens"}
    assert whole["usage"]["output_tokens"] == 1


def test_it_calls_a_tool_and_takes_its_output(llama: str) -> None:
    asked: list[Document] = [{"role": "user", "content": "weather?"}]
    _, first = answered(llama, input=asked, tools=[WEATHER], parallel_tool_calls=False)
    call = next(item for item in first["output"] if item["type"] == "function_call")
    assert call["name"] == "get_weather"
    json.loads(call["arguments"])
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
    _, second = answered(llama, input=[*asked, *first["output"], output], tools=[WEATHER])
    assert second["status"] in ("completed", "incomplete")


def test_it_tells_log_probabilities(llama: str) -> None:
    _, whole = answered(llama, input=HELLO, top_logprobs=2, include=["message.output_text.logprobs"])
    tokens = whole["output"][0]["content"][0]["logprobs"]
    assert "".join(token["token"] for token in tokens) == text(whole)
    assert all(len(token["top_logprobs"]) == 2 for token in tokens)


def test_it_takes_whatever_else_a_request_may_say(llama: str) -> None:
    stream, whole = answered(
        llama,
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "input_text", "text": HELLO}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "Hello", "annotations": []}]},
            {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "x"}},
            {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"},
            {"role": "user", "content": HELLO},
        ],
        temperature=0.0,
        top_p=1.0,
        frequency_penalty=0.0,
        presence_penalty=0.0,
        max_output_tokens=32,
        reasoning={"effort": "low", "summary": "auto"},
        text={"verbosity": "low"},
        truncation="auto",
        metadata={"a": "b"},
        safety_identifier="a",
        prompt_cache_key="b",
        service_tier="auto",
        top_k=1,
    )
    assert whole["status"] in ("completed", "incomplete")
    assert open_responses.stream_faults(stream) == []


def test_it_keeps_a_schema(llama: str) -> None:
    schema: Document = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    schema["additionalProperties"] = False
    format_ = {"type": "json_schema", "name": "count", "schema": schema, "strict": True}
    _, whole = answered(llama, input=HELLO, text={"format": format_}, max_output_tokens=64)
    if whole["status"] == "completed":
        assert list(json.loads(text(whole))) == ["n"]
    else:
        assert text(whole).lstrip().startswith("{")
