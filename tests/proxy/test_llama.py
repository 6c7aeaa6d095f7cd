"""A real llama.cpp server behind the gateway: another's code, another's habits."""

import pytest
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionUserMessageParam
from openai.types.responses import FunctionToolParam

from tests import open_responses
from tests.conftest import StartGateway
from tests.server import Gateway, Person

MODEL = "memo"
HELLO = "Say hello in exactly 3 words."
MESSAGES: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": HELLO}]
WEATHER: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}

# What is asked and answered here has nothing to do with where it is stored.
pytestmark = [pytest.mark.slow, pytest.mark.sqlite]


@pytest.fixture(scope="module")
def behind(start_session_gateway: StartGateway, llama: str) -> Gateway:
    return start_session_gateway(OPENAI_BASE_URL=llama)


@pytest.fixture
def caller(behind: Gateway) -> Person:
    return behind.people["alice"]


def clean(text: str) -> str:
    """The text itself, once it is known that nothing private of the server is in it."""
    for private in (".gguf", "timings", "/upstreams/", "llama"):
        assert private not in text
    return text


def chat(caller: Person, stream: bool) -> tuple[str, str]:
    body = {"model": MODEL, "messages": MESSAGES, "stream": stream, "stream_options": {"include_usage": True}}
    response = caller.http.post("/v1/chat/completions", json=body)
    return clean(response.text), response.headers["x-request-id"]


def test_it_chats_and_counts_the_servers_own_numbers(behind: Gateway, caller: Person) -> None:
    made = caller.sdk.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)
    answer = made.parse()
    record = behind.usage_of(made.headers["x-request-id"])
    assert (answer.choices[0].message.content, answer.model) == ("Hello to you", MODEL)
    assert answer.usage is not None
    assert (record["input_tokens"], record["output_tokens"]) == (
        answer.usage.prompt_tokens,
        answer.usage.completion_tokens,
    )
    assert record["estimated"] is False
    clean(made.text)


def test_it_streams_a_chat(behind: Gateway, caller: Person) -> None:
    stream = caller.sdk.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Hello to you"
    text, request_id = chat(caller, stream=True)
    record = behind.usage_of(request_id)
    assert f'"prompt_tokens":{record["input_tokens"]}' in text
    assert record["estimated"] is False


def test_it_completes(behind: Gateway, caller: Person) -> None:
    made = caller.sdk.completions.with_raw_response.create(model=MODEL, prompt="Count", max_tokens=4)
    assert made.parse().usage is not None
    assert behind.usage_of(made.headers["x-request-id"])["output_tokens"] > 0
    clean(made.text)
    assert list(caller.sdk.completions.create(model=MODEL, prompt="Count", max_tokens=4, stream=True))


def test_it_answers_responses(behind: Gateway, caller: Person) -> None:
    made = caller.sdk.responses.with_raw_response.create(model=MODEL, input=HELLO)
    record = behind.usage_of(made.headers["x-request-id"])
    assert made.parse().output_text == "Hello to you"
    assert record["output_tokens"] > 0
    assert record["estimated"] is False
    clean(made.text)


def test_it_streams_responses_that_the_server_writes_sparsely(caller: Person) -> None:
    with caller.sdk.responses.stream(model=MODEL, input=HELLO) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert events[0].type == "response.created"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (final.output_text, final.model) == ("Hello to you", MODEL)
    body = {"model": MODEL, "input": HELLO, "stream": True}
    clean(caller.http.post("/v1/responses", json=body).text)


@pytest.mark.parametrize("text", [HELLO, "weather?"])
def test_its_responses_keep_the_open_responses_schema(caller: Person, text: str) -> None:
    body = {
        "model": MODEL,
        "input": text,
        "stream": True,
        "tools": [{**WEATHER["function"], "type": "function"}],
    }
    assert open_responses.stream_faults(caller.http.post("/v1/responses", json=body).content) == []
    whole = caller.http.post("/v1/responses", json={**body, "stream": False}).json()
    assert open_responses.faults(whole, "ResponseResource") == []


def test_it_calls_a_tool_in_a_response(caller: Person) -> None:
    parameters: dict[str, object] = WEATHER["function"]["parameters"]
    tool: FunctionToolParam = {
        "type": "function",
        "name": "get_weather",
        "parameters": parameters,
        "strict": None,
    }
    with caller.sdk.responses.stream(model=MODEL, input="weather?", tools=[tool]) as stream:
        (call,) = stream.get_final_response().output
    assert call.type == "function_call"
    assert call.name == "get_weather"


def test_it_goes_on_from_a_response(caller: Person) -> None:
    first = caller.sdk.responses.create(model=MODEL, input=HELLO)
    second = caller.sdk.responses.create(
        model=MODEL, input="Count from 1 to 5.", previous_response_id=first.id
    )
    assert second.status == "completed"
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens


def test_it_calls_a_tool(caller: Person) -> None:
    answer = caller.sdk.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "weather?"}],
        tools=[WEATHER],
    )
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    assert calls[0].function.name == "get_weather"


def test_its_path_is_not_among_the_models(caller: Person) -> None:
    assert clean(caller.http.get("/v1/models").text)


def test_its_refusals_have_openais_shape(caller: Person) -> None:
    response = caller.http.post("/v1/embeddings", json={"model": MODEL, "input": "x"})
    assert response.status_code == 502
    assert sorted(response.json()["error"]) == ["code", "message", "param", "type"]


def test_it_embeds_in_the_form_that_was_asked_for(
    start_session_gateway: StartGateway, llama_embeddings: str
) -> None:
    gateway = start_session_gateway(OPENAI_BASE_URL=llama_embeddings)
    caller = gateway.people["alice"]
    made = caller.sdk.embeddings.with_raw_response.create(model=MODEL, input=["hello", "hi"])
    vectors = [item.embedding for item in made.parse().data]
    assert len(vectors) == 2
    assert all(isinstance(number, float) for vector in vectors for number in vector)
    record = gateway.usage_of(made.headers["x-request-id"])
    assert record["input_tokens"] == made.parse().usage.prompt_tokens
    clean(caller.http.post("/v1/embeddings", json={"model": MODEL, "input": "x"}).text)
