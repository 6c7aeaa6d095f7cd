"""The demo model with tools, schemas, reasoning and pictures, as the official SDK asks for them."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pydantic
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessage

from proxy.dialects import demo
from tests.proxy.test_demo import events
from tests.server import Gateway, Person

Document = dict[str, Any]

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Document = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}
CLOCK: Document = {"type": "function", "function": {"name": "currentTime", "parameters": {}}}
NOTE: Document = {"type": "custom", "custom": {"name": "note"}}
TOOLS = [WEATHER, CLOCK, NOTE]


class City(pydantic.BaseModel):
    name: str
    people: int
    rivers: list[str]


def chat(text: object = "Hi", **members: Any) -> Document:
    """The first choice's message, and how it finished."""
    document = {"messages": [{"role": "user", "content": text}], **members}
    _, _, (body,) = demo.answer("/chat/completions", document)
    ChatCompletion.model_validate_json(body)
    choice: Document = json.loads(body)["choices"][0]
    return {**choice["message"], "finish_reason": choice["finish_reason"]}


def called(message: Document) -> list[str]:
    return [call[call["type"]]["name"] for call in message.get("tool_calls", [])]


@pytest.fixture
def sdk() -> OpenAI:
    def relay(request: httpx2.Request) -> httpx2.Response:
        path = request.url.path.removeprefix("/v1")
        status, content_type, pieces = demo.answer(path, json.loads(request.read()))
        return httpx2.Response(status, headers={"content-type": content_type}, content=b"".join(pieces))

    client = httpx2.Client(transport=httpx2.MockTransport(relay))
    return OpenAI(base_url="http://demo/v1", api_key="none", http_client=client, max_retries=0)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("What is the weather in Paris?", ["get_weather"]),
        ("please run get_weather", ["get_weather"]),
        ("current time?", ["currentTime"]),
        ("Call currenttime and note it", ["currentTime", "note"]),
        ("Weather and time", ["get_weather", "currentTime"]),
        ("Hello", []),
        ("whether", []),
    ],
)
def test_it_calls_the_tools_that_are_asked_for(text: str, names: list[str]) -> None:
    message = chat(text, tools=TOOLS)
    assert called(message) == names
    assert message["finish_reason"] == ("tool_calls" if names else "stop")


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", ["get_weather"]),
        ({"type": "function", "function": {"name": "currentTime"}}, ["currentTime"]),
        ({"type": "custom", "custom": {"name": "note"}}, ["note"]),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [CLOCK]}}, ["currentTime"]),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [CLOCK]}}, []),
        ("none", []),
        (7, []),
    ],
)
def test_it_calls_the_tool_that_is_chosen(choice: object, names: list[str]) -> None:
    assert called(chat("Hello", tools=TOOLS, tool_choice=choice)) == names


def test_a_choice_of_none_is_none_even_when_asked_for() -> None:
    assert called(chat("weather", tools=TOOLS, tool_choice="none")) == []


def test_it_calls_one_tool_where_calls_are_not_parallel() -> None:
    assert called(chat("weather and time", tools=TOOLS, parallel_tool_calls=False)) == ["get_weather"]


def test_its_arguments_are_what_the_tool_takes() -> None:
    (call,) = chat("weather", tools=TOOLS)["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"city": "demo"}


@pytest.mark.parametrize(
    "tools", [7, [7], [{}], [{"type": "function"}], [{"type": "function", "function": {"name": 7}}]], ids=str
)
def test_tools_that_make_no_sense_are_not_called(tools: object) -> None:
    assert chat("weather", tools=tools, tool_choice="required")["content"]


def test_a_tool_goes_round_in_the_sdk(sdk: OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "How is the weather?"}]
    options: Any = {"model": "demo", "tools": [WEATHER]}
    with sdk.chat.completions.stream(messages=messages, **options) as stream:
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    messages += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}]
    answer = sdk.chat.completions.create(messages=messages, **options)
    assert answer.choices[0].message.content == "get_weather says: 21 degrees"


def test_results_that_were_spoken_of_are_not_told_again() -> None:
    earlier = [
        {"role": "tool", "tool_call_id": "c", "content": "21"},
        {"role": "assistant", "content": "21!"},
    ]
    document = {"messages": [*earlier, {"role": "user", "content": "Thanks"}]}
    _, _, (body,) = demo.answer("/chat/completions", document)
    assert b"says" not in body


@pytest.mark.parametrize("options", [{}, {"reasoning_effort": "low"}], ids=["plain", "thinking"])
@pytest.mark.parametrize("text", ["Hello", "weather and time"])
def test_it_says_the_same_streamed_and_whole(sdk: OpenAI, text: str, options: Document) -> None:
    asked: Any = {"model": "demo", "messages": [{"role": "user", "content": text}], "tools": TOOLS, **options}
    with sdk.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion().choices[0].message
    whole = sdk.chat.completions.create(**asked).choices[0].message
    assert shown(streamed) == shown(whole)


def shown(message: ChatCompletionMessage) -> Document:
    """What a message says; its calls have ids of their own."""
    said = message.model_dump(exclude={"parsed", "annotations"}, exclude_none=True, warnings=False)
    for call in said.get("tool_calls", ()):
        del call["id"]
        call.pop("index", None)
        call.get("function", {}).pop("parsed_arguments", None)
    return {**said, "thought": getattr(message, "reasoning_content", None)}


def test_it_keeps_to_a_schema_for_the_sdk(sdk: OpenAI) -> None:
    asked: Any = {"model": "demo", "messages": [{"role": "user", "content": "A city?"}]}
    parsed = sdk.chat.completions.parse(response_format=City, **asked).choices[0].message.parsed
    assert parsed == City(name="demo", people=0, rivers=["demo"])


def test_it_answers_with_an_object_where_json_is_asked_for() -> None:
    said = json.loads(chat("Hi", response_format={"type": "json_object"})["content"])
    assert "demo model" in said["answer"]


@pytest.mark.parametrize("format_", [7, {"type": "text"}, {"type": "json_schema"}, {"type": "odd"}], ids=str)
def test_other_formats_are_words(format_: object) -> None:
    assert "demo model" in chat("Hi", response_format=format_)["content"]


def test_it_thinks_where_it_is_asked_to() -> None:
    assert "reasoning_content" not in chat("Hi")
    assert "reasoning_content" not in chat("Hi", reasoning_effort="none")
    assert chat("Hi", reasoning={"effort": "high"})["reasoning_content"]
    document = {"messages": [{"role": "user", "content": "Hi"}], "reasoning_effort": "low"}
    usage = json.loads(demo.answer("/chat/completions", document)[2][0])["usage"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] > 3
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_it_thinks_before_it_speaks() -> None:
    document = {"messages": [], "reasoning_effort": "low", "stream": True}
    deltas = [event["choices"][0]["delta"] for event in events("/chat/completions", document)]
    kinds = [next(iter(delta)) for delta in deltas[1:-1]]
    assert kinds == sorted(kinds, reverse=True)
    assert kinds[0] == "reasoning_content"


def test_it_tells_of_pictures_that_came() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    text = {"type": "text", "text": "Look there"}
    assert "You asked with 2 words and 1 image;" in chat([text, picture])["content"]
    assert "2 words and 2 images and 1 file;" in chat([text, picture, {"type": "file"}, picture])["content"]


def test_arguments_come_in_pieces() -> None:
    document = {"messages": [{"role": "user", "content": "weather"}], "tools": TOOLS, "stream": True}
    deltas = [event["choices"][0]["delta"] for event in events("/chat/completions", document)]
    pieces = [delta["tool_calls"][0]["function"]["arguments"] for delta in deltas if "tool_calls" in delta]
    assert pieces == ["", '{"city":', ' "demo"}']


def test_it_keeps_to_a_schema_in_a_response(gateway: Gateway, alice: Person) -> None:
    response = alice.sdk.responses.parse(model="demo", input="A city?", text_format=City)
    assert response.output_parsed == City(name="demo", people=0, rivers=["demo"])


def test_a_tool_goes_round_in_responses(gateway: Gateway, alice: Person) -> None:
    tool: Any = {"type": "function", "name": "get_weather", "parameters": CITY, "strict": True}
    with alice.sdk.responses.stream(model="demo", input="How is the weather?", tools=[tool]) as stream:
        asked = stream.get_final_response()
    (call,) = asked.output
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"city": "demo"}
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees"}
    told = alice.sdk.responses.create(
        model="demo", input=[result], tools=[tool], previous_response_id=asked.id
    )
    assert told.output_text == "get_weather says: 21 degrees"


def test_it_thinks_in_a_response(gateway: Gateway, alice: Person) -> None:
    response = alice.sdk.responses.create(model="demo", input="Hi", reasoning={"effort": "low"})
    assert [item.type for item in response.output] == ["reasoning", "message"]
