"""OpenAI's SDKs, for Python and for Node (tests/clients/node/sdk.mjs), alike over each kind of upstream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import OpenAI
from openai.types.responses import Response, ResponseFunctionToolCall
from pydantic import BaseModel

from tests.clients import node
from tests.deadline import until
from tests.server import Person
from tests.upstreams.scripted import ScriptedUpstream

QUESTION = "What is the weather in Wien?"
TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
# What the scripted upstream is to do for a part of sdk.mjs.
PARTS = {
    "streams": "",
    "parses": "schema",
    "tools": "tools",
    "chains": "",
    "looks": "",
    "background": "pace=10",
    "conversations": "",
    "completions": "",
}
MODELS = ("gpt-test", "chatting", "demo")

pytestmark = pytest.mark.usefixtures("chatting")
each_kind = pytest.mark.parametrize("model", MODELS)


class Weather(BaseModel):
    city: str
    degrees: int


@pytest.fixture
def sdk(alice: Person) -> OpenAI:
    return alice.sdk


@pytest.mark.slow
@each_kind
@pytest.mark.parametrize("part", PARTS)
def test_the_sdk_for_node_finds_all_as_it_expects(
    part: str, model: str, alice: Person, upstream: ScriptedUpstream
) -> None:
    if options := PARTS[part]:
        upstream.behave("gpt-test", options)
    node.run("sdk.mjs", part, model, person=alice)


@each_kind
def test_it_keeps_to_a_schema(sdk: OpenAI, upstream: ScriptedUpstream, model: str) -> None:
    upstream.behave("gpt-test", "schema")
    whole = sdk.responses.parse(model=model, input=QUESTION, text_format=Weather)
    with sdk.responses.stream(model=model, input=QUESTION, text_format=Weather) as stream:
        streamed = stream.get_final_response()
    assert isinstance(whole.output_parsed, Weather)
    assert streamed.output_parsed == whole.output_parsed


def called(response: Response) -> ResponseFunctionToolCall:
    (call,) = (item for item in response.output if item.type == "function_call")
    return call


@each_kind
def test_a_tool_is_called_and_its_output_heard(sdk: OpenAI, upstream: ScriptedUpstream, model: str) -> None:
    upstream.behave("gpt-test", "tools")
    first = sdk.responses.create(model=model, input=QUESTION, tools=[TOOL])
    call = called(first)
    assert call.name == "get_weather"
    assert isinstance(json.loads(call.arguments)["city"], str)
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "12 degrees"}
    second = sdk.responses.create(model=model, input=[output], previous_response_id=first.id, tools=[TOOL])
    assert second.output_text


@each_kind
def test_a_call_is_streamed_as_it_is_told_whole(sdk: OpenAI, upstream: ScriptedUpstream, model: str) -> None:
    upstream.behave("gpt-test", "tools")
    whole = called(sdk.responses.create(model=model, input=QUESTION, tools=[TOOL]))
    with sdk.responses.stream(model=model, input=QUESTION, tools=[TOOL]) as stream:
        deltas = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
        streamed = called(stream.get_final_response())
    assert "".join(deltas) == streamed.arguments == whole.arguments
    assert streamed.name == whole.name


@each_kind
def test_a_tool_is_called_in_a_conversation(sdk: OpenAI, upstream: ScriptedUpstream, model: str) -> None:
    upstream.behave("gpt-test", "tools")
    made = sdk.conversations.create()
    first = sdk.responses.create(model=model, input=QUESTION, tools=[TOOL], conversation=made.id)
    call_id = called(first).call_id
    output: Any = {"type": "function_call_output", "call_id": call_id, "output": "12 degrees"}
    sdk.responses.create(model=model, input=[output], tools=[TOOL], conversation=made.id)
    kinds = [item.type for item in sdk.conversations.items.list(made.id, order="asc")]
    assert [kind for kind in kinds if kind != "reasoning"] == [
        "message",
        "function_call",
        "function_call_output",
        "message",
    ]


@each_kind
def test_it_is_made_in_the_background(sdk: OpenAI, model: str) -> None:
    queued = sdk.responses.create(model=model, input="Hello", background=True)
    assert queued.status == "queued"

    def made() -> Response | None:
        response = sdk.responses.retrieve(queued.id)
        return None if response.status in ("queued", "in_progress") else response

    ended = until(made, what="its end")
    assert (ended.status, ended.background) == ("completed", True)
    assert ended.output_text
    assert sdk.responses.cancel(queued.id) == ended
