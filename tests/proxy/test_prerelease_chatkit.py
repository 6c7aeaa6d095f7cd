"""Chats and Responses over a ChatKit server of before the release, from one end to the other."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from tests.server import Gateway, Person

# What is asked and answered here has nothing to do with where it is stored.
pytestmark = [pytest.mark.slow, pytest.mark.sqlite]

CHAT, MODEL = "/v1/chat/completions", "prerelease"
THREAD, USER = "x-gptoss-thread-id", "x-gptoss-user-id"
Document = dict[str, Any]


@pytest.fixture(autouse=True, scope="module")
def models(session_gateway: Gateway, prerelease_chatkit: str) -> None:
    upstream: Document = {"name": MODEL, "dialect": "chatkit", "base_url": prerelease_chatkit}
    upstream |= {"cookies": {"session": "the-operators"}}
    routes = [{"upstream": MODEL, "model": "gpt-oss-120b"}]
    session_gateway.configure({"upstreams": [upstream], "models": [{"name": MODEL, "routes": routes}]})


def say(person: Person, *messages: Document | str, **more: Any) -> httpx.Response:
    headers = {name.replace("_", "-"): more.pop(name) for name in list(more) if name.startswith("x_")}
    said = [{"role": "user", "content": each} if isinstance(each, str) else each for each in messages]
    return person.http.post(CHAT, json={"model": MODEL, "messages": said, **more}, headers=headers)


def message(response: httpx.Response) -> Document:
    assert response.status_code == 200, response.text
    found: Document = response.json()["choices"][0]["message"]
    return found


def test_it_answers_in_one_piece(gateway: Gateway, alice: Person) -> None:
    answer = say(alice, "think of it")
    assert message(answer)["content"] == "You said: think of it"
    assert message(answer)["reasoning_content"] == "First this.\n\nThen that."
    assert answer.json()["choices"][0]["finish_reason"] == "stop"
    assert answer.json()["usage"]["estimated"]
    record = gateway.usage_of(answer.headers["x-request-id"])
    assert (record["status"], record["estimated"], record["upstream_model"]) == (
        "completed",
        True,
        "gpt-oss-120b",
    )
    assert "reasoning_content" not in message(say(alice, "think of it", reasoning_effort="none"))


def test_it_streams(alice: Person) -> None:
    stream = alice.sdk.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "think of it"}], stream=True
    )
    deltas = [(chunk.choices[0].delta.model_dump(), chunk.choices[0].finish_reason) for chunk in stream]
    assert deltas[0][0]["role"] == "assistant"
    assert "".join(delta.get("reasoning_content") or "" for delta, _ in deltas) == "First this.\n\nThen that."
    assert "".join(delta["content"] or "" for delta, _ in deltas) == "You said: think of it"
    assert [reason for _, reason in deltas if reason] == ["stop"]


def test_it_answers_as_a_response(alice: Person) -> None:
    with alice.sdk.responses.stream(model=MODEL, input="think of it") as stream:
        kinds = [event.type for event in stream]
        response = stream.get_final_response()
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert [item.type for item in response.output] == ["reasoning", "message"]
    counted = alice.sdk.responses.create(model=MODEL, input="count", previous_response_id=response.id)
    assert counted.output_text == "Message 2"


def test_a_thread_goes_on_in_the_upstreams_own(alice: Person) -> None:
    begun = say(alice, "One", x_gptoss_user_id="somebody")
    thread = begun.headers[THREAD]
    assert begun.headers[USER] == "somebody"
    assert "thr_" not in begun.text + str(begun.headers)
    ids = {"x_gptoss_thread_id": thread, "x_gptoss_user_id": "somebody"}
    streamed = say(alice, "Two", stream=True, **ids)
    assert streamed.headers[THREAD] == thread
    assert streamed.text.endswith("data: [DONE]\n\n")
    counted = say(alice, "count", metadata={"gptoss_thread_id": thread, "gptoss_user_id": "somebody"})
    assert message(counted)["content"] == "Message 3"
    assert say(alice, "count", x_gptoss_thread_id=thread, x_gptoss_user_id="else").status_code == 404


def test_what_was_said_before_and_instructions_are_told(alice: Person) -> None:
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One"}]
    answer = say(alice, *said, {"role": "assistant", "content": "Two"}, "Three")
    assert message(answer)["content"] == (
        "You said: Be brief.\n\nThe conversation so far:\n\nUser: One\n\nAssistant: Two\n\nUser: Three"
    )


def test_it_sends_what_the_site_did_and_no_disguise(alice: Person) -> None:
    sent = json.loads(message(say(alice, "headers", reasoning_effort="high"))["content"])
    assert sent["x-selected-model"] == "gpt-oss-120b"
    assert (sent["x-reasoning-effort"], sent["x-show-reasoning"]) == ("high", "true")
    assert sent["cookie"] == "session=the-operators"
    assert "Mozilla" not in sent.get("user-agent", "")
    assert "origin" not in sent


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("boom", "failed", "reported an error"),
        ("sign in", "failed", "asks for a sign-in"),
        ("cut", "truncated", ""),
    ],
)
def test_what_goes_wrong_is_never_an_empty_success(
    gateway: Gateway, alice: Person, text: str, status: str, words: str
) -> None:
    whole = say(alice, text)
    assert whole.status_code == 502
    assert words in whole.json()["error"]["message"]
    assert gateway.usage_of(whole.headers["x-request-id"])["status"] == status
    streamed = say(alice, text, stream=True)
    assert "[DONE]" not in streamed.text
    assert '"error":{' in streamed.text
    assert '"finish_reason":"stop"' not in streamed.text
    assert gateway.usage_of(streamed.headers["x-request-id"])["status"] == status
    with pytest.raises(openai.APIError):
        list(
            alice.sdk.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": text}], stream=True
            )
        )


def test_the_first_call_finds_out_which_wire_it_is(
    gateway: Gateway, alice: Person, prerelease_chatkit: str, chatkit_upstream: str
) -> None:
    addresses = {"fresh-prerelease": prerelease_chatkit, "fresh-published": chatkit_upstream}
    upstreams = [{"name": name, "dialect": "chatkit", "base_url": url} for name, url in addresses.items()]
    models = [{"name": name, "routes": [{"upstream": name}]} for name in addresses]
    gateway.configure({"upstreams": list(upstreams), "models": list(models)})

    def outcomes(model: str) -> list[str]:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
        record = gateway.usage_of(alice.http.post(CHAT, json=body).headers["x-request-id"])
        return [attempt["outcome"] for attempt in record["attempts"]]

    assert outcomes("fresh-prerelease") == outcomes("fresh-prerelease") == ["200"]
    first = outcomes("fresh-published")
    assert len(first) == 2
    assert outcomes("fresh-published") == first[1:] == ["200"]
