"""Chats and Responses over servers that speak neither: a real ChatKit server, real AI SDK applications."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import httpx
import openai
import pytest

from tests.server import Gateway, Person

# What is asked and answered here has nothing to do with where it is stored.
pytestmark = [pytest.mark.slow, pytest.mark.sqlite]

CHAT = "/v1/chat/completions"
THREAD = "x-gptoss-thread-id"
RED_DOT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAA"
    "AABJRU5ErkJggg=="
)
MODELS = ("over-chatkit", "over-ai-sdk-4", "over-ai-sdk-7")
each_model = pytest.mark.parametrize("model", MODELS)
Document = dict[str, Any]


@pytest.fixture(autouse=True, scope="module")
def models(session_gateway: Gateway, chatkit_upstream: str, ai_sdk_4: str, ai_sdk_7: str) -> None:
    upstreams: list[Document] = [
        {"name": "over-chatkit", "dialect": "chatkit", "base_url": chatkit_upstream},
        {"name": "over-ai-sdk-4", "dialect": "ai_sdk", "base_url": ai_sdk_4},
        {"name": "over-ai-sdk-7", "dialect": "ai_sdk", "base_url": ai_sdk_7, "session_prefix": "ours"},
    ]
    upstreams[0] |= {"headers": {"X-House": "red"}, "cookies": {"session": "a-secret-session"}}
    routes = {"over-chatkit": "gpt-oss-120b"}
    made = [
        {"name": name, "routes": [{"upstream": name, "model": routes.get(name, "gpt-4o-mini")}]}
        for name in MODELS
    ]
    session_gateway.configure({"upstreams": list(upstreams), "models": list(made)})


def say(person: Person, model: str, *messages: Document | str, **more: Any) -> httpx.Response:
    headers = {name.replace("_", "-"): more.pop(name) for name in list(more) if name.startswith("x_")}
    said = [{"role": "user", "content": each} if isinstance(each, str) else each for each in messages]
    return person.http.post(CHAT, json={"model": model, "messages": said, **more}, headers=headers)


def choice(response: httpx.Response) -> Document:
    assert response.status_code == 200, response.text
    found: Document = response.json()["choices"][0]
    return found


def content(response: httpx.Response) -> str:
    text: str = choice(response)["message"]["content"]
    return text


@each_model
def test_it_answers_in_one_piece(gateway: Gateway, alice: Person, model: str) -> None:
    response = say(alice, model, "Hi there")
    assert content(response) == "You said: Hi there"
    assert choice(response)["finish_reason"] == "stop"
    assert response.json()["model"] == model
    assert response.json()["id"].startswith("chatcmpl-")
    assert response.json()["usage"]["completion_tokens"] == 5
    record = gateway.usage_of(response.headers["x-request-id"])
    assert (record["status"], record["output_tokens"]) == ("completed", 5)
    assert record["estimated"] is (model == "over-chatkit")


@each_model
def test_it_streams(gateway: Gateway, alice: Person, model: str) -> None:
    stream = alice.sdk.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Hi there"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "You said: Hi there"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5


@each_model
def test_it_tells_the_reasoning(alice: Person, model: str) -> None:
    message = choice(say(alice, model, "think"))["message"]
    assert message["content"] == "You said: think"
    assert message["reasoning_content"].startswith("First this.")


@each_model
def test_it_keeps_the_reasoning_to_itself(alice: Person, model: str) -> None:
    message = choice(say(alice, model, "think", x_show_reasoning="false"))["message"]
    assert "reasoning_content" not in message


@each_model
def test_it_answers_as_a_response(gateway: Gateway, alice: Person, model: str) -> None:
    response = alice.sdk.responses.create(model=model, input="think")
    assert [item.type for item in response.output] == ["reasoning", "message"]
    assert response.output_text == "You said: think"
    went_on = alice.sdk.responses.create(model=model, input="Hi", previous_response_id=response.id)
    assert "Hi" in went_on.output_text


@each_model
def test_it_streams_a_response(alice: Person, model: str) -> None:
    with alice.sdk.responses.stream(model=model, input="Hi there") as stream:
        kinds = [event.type for event in stream]
        response = stream.get_final_response()
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert response.output_text == "You said: Hi there"


@each_model
def test_it_tells_of_an_error_that_came_in_the_answer(gateway: Gateway, alice: Person, model: str) -> None:
    response = say(alice, model, "boom")
    assert response.status_code == 502
    assert response.json()["error"]["type"] == "upstream_error"
    assert gateway.usage_of(response.headers["x-request-id"])["status"] == "failed"


@each_model
def test_it_tells_of_an_error_in_a_stream(alice: Person, model: str) -> None:
    stream = alice.sdk.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "boom"}], stream=True
    )
    with pytest.raises(openai.APIError):
        list(stream)


@each_model
def test_it_refuses_what_only_openai_has(alice: Person, model: str) -> None:
    response = alice.http.post("/v1/embeddings", json={"model": model, "input": "x"})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "not_offered"


@pytest.mark.parametrize("model", MODELS[1:])
def test_an_ai_sdk_application_gets_the_images(alice: Person, model: str) -> None:
    parts = [{"type": "text", "text": "prompt"}, {"type": "image_url", "image_url": {"url": RED_DOT}}]
    (sent,) = json.loads(content(say(alice, model, {"role": "user", "content": parts})))
    assert [part["type"] for part in sent["content"]] in (["text", "image"], ["text", "file"])


def test_a_chatkit_server_gets_no_images(alice: Person) -> None:
    parts = [{"type": "text", "text": "prompt"}, {"type": "image_url", "image_url": {"url": RED_DOT}}]
    response = say(alice, "over-chatkit", {"role": "user", "content": parts})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "not_offered"


@pytest.mark.parametrize("model", MODELS[1:])
def test_tools_of_an_ai_sdk_application_are_told(alice: Person, model: str) -> None:
    told = choice(say(alice, model, "tool"))
    assert told["message"]["tool_calls"][0]["function"]["name"] == "weather"
    asked = choice(say(alice, model, "ask"))
    assert (asked["message"]["tool_calls"][0]["function"]["name"], asked["finish_reason"]) == (
        "ask",
        "tool_calls",
    )


@pytest.mark.parametrize("model", MODELS[1:])
def test_an_ai_sdk_application_is_instructed(gateway: Gateway, alice: Person, model: str) -> None:
    system = {"role": "system", "content": "Be brief."}
    told = content(say(alice, model, system, "prompt"))
    assert "Be brief." in told
    again = say(alice, model, system, "prompt")
    assert content(again) == told
    assert len(gateway.usage_of(again.headers["x-request-id"])["attempts"]) == 1
    failed = say(alice, model, system, "boom")
    assert failed.json()["error"]["message"] == "An error occurred."


@pytest.mark.parametrize("model", MODELS[1:])
def test_a_thread_goes_on_after_a_tool_that_the_application_ran(alice: Person, model: str) -> None:
    begun = say(alice, model, "tool", x_gptoss_thread_id="new")
    went_on = say(alice, model, "prompt", x_gptoss_thread_id=begun.headers[THREAD])
    assert "The tool said" in content(went_on)
    first = alice.sdk.responses.create(model=model, input="tool")
    second = alice.sdk.responses.create(model=model, input="prompt", previous_response_id=first.id)
    assert "The tool said" in second.output_text


def test_a_refusal_of_chatkit_is_told(alice: Person) -> None:
    response = say(alice, "over-chatkit", "refuse")
    assert response.status_code == 502
    assert response.json()["error"]["message"] == "Too many questions today."


@pytest.mark.parametrize("text", ["sign in", "silence"])
def test_a_chatkit_server_that_says_nothing_is_no_success(gateway: Gateway, alice: Person, text: str) -> None:
    response = say(alice, "over-chatkit", text)
    assert response.status_code == 502
    assert gateway.usage_of(response.headers["x-request-id"])["status"] in ("failed", "truncated")


def test_a_chatkit_server_gets_the_effort_and_the_operators_headers(alice: Person) -> None:
    sent = json.loads(content(say(alice, "over-chatkit", "model", reasoning_effort="high")))
    assert sent["model"] == "gpt-oss-120b"
    assert sent["x-reasoning-effort"] == "high"
    assert sent["x-selected-model"] == "gpt-oss-120b"
    assert sent["x-house"] == "red"


def test_a_thread_goes_on_in_the_upstreams_own_thread(gateway: Gateway, alice: Person) -> None:
    begun = say(alice, "over-chatkit", "One", x_gptoss_thread_id="new")
    thread = begun.headers[THREAD]
    say(alice, "over-chatkit", "Two", x_gptoss_thread_id=thread)
    assert content(say(alice, "over-chatkit", "count", x_gptoss_thread_id=thread)) == "I was sent 3."


def test_no_client_hears_of_the_upstreams_thread(gateway: Gateway, alice: Person) -> None:
    begun = say(alice, "over-chatkit", "One", x_gptoss_thread_id="new")
    key = begun.headers[THREAD].removeprefix("conv_")
    rows = gateway.query("SELECT upstreams FROM threads_thread WHERE id = %s", UUID(key))
    kept = rows[0]["upstreams"]
    (there,) = (json.loads(kept) if isinstance(kept, str) else kept).values()
    assert there["end"] == 2
    assert there["thread"] not in begun.text + str(begun.headers)
    assert there["user"] not in begun.text + str(begun.headers)


def test_other_instructions_begin_a_new_thread_there(alice: Person) -> None:
    begun = say(alice, "over-chatkit", "One", x_gptoss_thread_id="new")
    system = {"role": "system", "content": "Be brief."}
    went_on = say(alice, "over-chatkit", system, "count", x_gptoss_thread_id=begun.headers[THREAD])
    assert content(went_on) == "I was sent 1."


def test_a_thread_that_the_upstream_lost_is_told_from_its_beginning(gateway: Gateway, alice: Person) -> None:
    begun = say(alice, "over-chatkit", "One", x_gptoss_thread_id="new")
    key = begun.headers[THREAD].removeprefix("conv_")
    rows = gateway.query("SELECT upstreams FROM threads_thread WHERE id = %s", UUID(key))
    kept = rows[0]["upstreams"]
    lost = json.loads(kept) if isinstance(kept, str) else kept
    for there in lost.values():
        there["thread"] = "thr_00000000"
    gateway.query("UPDATE threads_thread SET upstreams = %s WHERE id = %s", json.dumps(lost), UUID(key))
    went_on = say(alice, "over-chatkit", "Two", x_gptoss_thread_id=begun.headers[THREAD])
    assert "User: One" in content(went_on)
    assert "User: Two" in content(went_on)


def test_a_chain_of_responses_goes_on_in_the_upstreams_own_thread(alice: Person) -> None:
    first = alice.sdk.responses.create(model="over-chatkit", input="One")
    second = alice.sdk.responses.create(model="over-chatkit", input="Two", previous_response_id=first.id)
    third = alice.sdk.responses.create(model="over-chatkit", input="count", previous_response_id=second.id)
    assert third.output_text == "I was sent 3."
    branch = alice.sdk.responses.create(model="over-chatkit", input="count", previous_response_id=first.id)
    assert branch.output_text == "I was sent 1."
