"""Chats that belong to a thread: what was said before goes along, on any upstream."""

from __future__ import annotations

from typing import Any

import httpx

from tests.server import Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

CHAT = "/v1/chat/completions"
THREAD, USER = "x-gptoss-thread-id", "x-gptoss-user-id"


def say(person: Person, text: str, *, model: str = "gpt-test", **headers: str) -> httpx.Response:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": text}]
    return person.http.post(CHAT, json={"model": model, "messages": messages}, headers=named(headers))


def named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def heard(upstream: ScriptedUpstream, model: str) -> list[dict[str, Any]]:
    """The messages of the last call for the model."""
    messages: list[dict[str, Any]] = upstream.calls(model=model)[-1].document["messages"]
    return messages


def test_it_begins_a_thread_and_goes_on_in_it(alice: Person, upstream: ScriptedUpstream) -> None:
    model = "gpt-test+escaped"
    begun = say(alice, "My name is Ada.", model=model, x_gptoss_thread_id="new")
    thread = begun.headers[THREAD]
    answered = begun.json()["choices"][0]["message"]["content"]
    went_on = say(alice, "Who am I?", model=model, x_gptoss_thread_id=thread)
    assert went_on.headers[THREAD] == thread
    told = [(message["role"], message["content"]) for message in heard(upstream, model)]
    assert told == [
        ("system", "Be kind."),
        ("user", "My name is Ada."),
        ("assistant", answered),
        ("user", "Who am I?"),
    ]


def test_a_user_id_alone_begins_a_thread(alice: Person) -> None:
    response = say(alice, "Hi", x_gptoss_user_id="ada")
    assert response.headers[USER] == "ada"
    assert response.headers[THREAD].startswith("conv_")


def test_it_is_without_a_thread_where_none_is_named(alice: Person) -> None:
    response = say(alice, "Hi")
    assert THREAD not in response.headers
    assert USER not in response.headers


def test_a_stream_goes_on_too_and_sends_nothing_twice(alice: Person, upstream: ScriptedUpstream) -> None:
    model = "gpt-test+crlf"
    body: dict[str, Any] = {"model": model, "stream": True, "metadata": {"gptoss_thread_id": "new"}}
    first = {"role": "user", "content": "One."}
    with alice.http.stream("POST", CHAT, json={**body, "messages": [first]}) as begun:
        begun.read()
        thread = begun.headers[THREAD]
    again = [first, {"role": "assistant", "content": "…"}, {"role": "user", "content": "Two."}]
    body["metadata"] = {"gptoss_thread_id": thread}
    assert alice.http.post(CHAT, json={**body, "messages": again}).status_code == 200
    roles = [message["role"] for message in heard(upstream, model)]
    assert roles == ["user", "assistant", "user"]
    assert heard(upstream, model)[1]["content"] != "…"


def test_somebody_elses_thread_is_none(alice: Person, bob: Person, charlie: Person) -> None:
    thread = say(alice, "Hi", x_gptoss_thread_id="new", x_gptoss_user_id="ada").headers[THREAD]
    assert say(bob, "Hi", x_gptoss_thread_id=thread, x_gptoss_user_id="ada").status_code == 200
    refused = [
        say(alice, "Hi", x_gptoss_thread_id=thread, x_gptoss_user_id="eve"),
        say(charlie, "Hi", x_gptoss_thread_id=thread, x_gptoss_user_id="ada"),
        say(charlie, "Hi", x_gptoss_thread_id="conv_" + "0" * 32),
        say(charlie, "Hi", x_gptoss_thread_id="thr_0a1b2c3d"),
    ]
    assert {response.status_code for response in refused} == {404}
    assert len({response.content for response in refused}) == 1


def test_a_thread_is_a_conversation(alice: Person) -> None:
    thread = say(alice, "Hi", x_gptoss_thread_id="new").headers[THREAD]
    response = alice.sdk.responses.create(model="gpt-test", input="And?", conversation=thread)
    assert response.conversation is not None
    assert response.conversation.id == thread


def test_the_metadata_of_a_chat_goes_nowhere(alice: Person, upstream: ScriptedUpstream) -> None:
    body = {"model": "gpt-test+spaces", "messages": [{"role": "user", "content": "a"}]}
    assert alice.http.post(CHAT, json={**body, "metadata": {"show": True, "n": 1e3}}).status_code == 200
    assert "metadata" not in upstream.call("gpt-test+spaces").document


def test_a_call_that_fails_leaves_the_thread_as_it_was(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream
) -> None:
    thread = say(alice, "One.", x_gptoss_thread_id="new").headers[THREAD]
    assert say(alice, "Two.", model="gpt-test+status=500", x_gptoss_thread_id=thread).status_code == 502
    model = "gpt-test+cr"
    assert say(alice, "Three.", model=model, x_gptoss_thread_id=thread).status_code == 200
    assert [m["content"] for m in heard(upstream, model) if m["role"] == "user"] == ["One.", "Three."]
