"""gpt-oss models on servers of OpenAI's language: efforts, reasoning under one name, no leaked tokens."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.server import UPSTREAM_API_KEY, Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]
THINKS = "gpt-oss-20b+reasoning=reasoning"
Document = dict[str, Any]


@pytest.fixture(autouse=True, scope="module")
def routes(session_gateway: Gateway, session_upstream: ScriptedUpstream) -> None:
    address = {"base_url": session_upstream.url, "api_key": UPSTREAM_API_KEY}
    upstreams = [
        {"name": "repeats", "repeats_reasoning": True, **address},
        {"name": "chats-oss", "responses": "chat", **address},
    ]
    models = [
        {"name": "gpt-oss-twice", "routes": [{"upstream": "repeats", "model": THINKS}]},
        {"name": "house-model", "reasoning_effort": "high", "routes": [{"upstream": "repeats"}]},
        {"name": "gpt-oss-chats", "routes": [{"upstream": "chats-oss", "model": THINKS}]},
    ]
    session_gateway.configure({"upstreams": list(upstreams), "models": list(models)})


def ask(
    person: Person, model: str, *, headers: dict[str, str] | None = None, **members: Any
) -> httpx.Response:
    return person.http.post(CHAT, json={"model": model, "messages": HELLO, **members}, headers=headers)


def message(response: httpx.Response) -> Document:
    found: Document = response.json()["choices"][0]["message"]
    return found


def sent(upstream: ScriptedUpstream) -> Document:
    return upstream.calls()[-1].document


def test_its_reasoning_has_one_name(gateway: Gateway, alice: Person) -> None:
    answer = ask(alice, THINKS)
    assert message(answer)["content"] == "w1 w2 w3 w4 w5"
    assert message(answer)["reasoning_content"]
    assert "reasoning" not in message(answer)
    assert answer.json()["usage"]["completion_tokens"] == 5
    assert gateway.usage_of(answer.headers["x-request-id"])["output_tokens"] == 5


def test_its_reasoning_streams_under_that_name(alice: Person) -> None:
    text = ask(alice, THINKS, stream=True).text
    assert '"reasoning_content":' in text
    assert '"reasoning":' not in text
    assert text.endswith("data: [DONE]\n\n")


def test_it_comes_under_both_names_where_the_operator_wants_it(alice: Person) -> None:
    answer = message(ask(alice, "gpt-oss-twice"))
    assert answer["reasoning"] == answer["reasoning_content"]


@pytest.mark.parametrize(
    ("headers", "members"),
    [
        ({"x-show-reasoning": "false"}, {}),
        ({}, {"metadata": {"show_reasoning": "no"}}),
        ({}, {"include_reasoning": False}),
        ({}, {"reasoning": {"exclude": True}}),
        ({}, {"reasoning_effort": "none"}),
    ],
)
def test_it_is_hidden_where_that_is_asked(
    alice: Person, headers: dict[str, str], members: dict[str, Any]
) -> None:
    answer = ask(alice, THINKS, headers=headers, **members)
    assert answer.status_code == 200
    assert "reasoning_content" not in message(answer)


@pytest.mark.parametrize(
    ("headers", "members", "effort"),
    [
        ({}, {}, None),
        ({}, {"reasoning_effort": "xhigh"}, "high"),
        ({}, {"reasoning": {"effort": "minimal"}}, "low"),
        ({"x-reasoning-effort": "HIGH"}, {}, "high"),
        ({"x-reasoning-effort": "high"}, {"reasoning_effort": "low"}, "low"),
        ({}, {"metadata": {"reasoning_effort": "medium"}}, "medium"),
        ({}, {"reasoning_effort": "none"}, "low"),
    ],
)
def test_the_upstream_gets_an_effort_that_it_knows(
    alice: Person,
    upstream: ScriptedUpstream,
    headers: dict[str, str],
    members: dict[str, Any],
    effort: str | None,
) -> None:
    assert ask(alice, THINKS, headers=headers, **members).status_code == 200
    assert sent(upstream).get("reasoning_effort") == effort
    assert not {"reasoning", "metadata", "include_reasoning"} & sent(upstream).keys()


def test_an_effort_of_the_operators_holds_where_none_is_named(
    alice: Person, upstream: ScriptedUpstream
) -> None:
    ask(alice, "house-model")
    assert sent(upstream)["reasoning_effort"] == "high"
    ask(alice, "house-model", reasoning_effort="low")
    assert sent(upstream)["reasoning_effort"] == "low"


def test_other_models_are_passed_through_as_they_are(alice: Person, upstream: ScriptedUpstream) -> None:
    answer = ask(alice, "gpt-test+reasoning=reasoning", reasoning_effort="xhigh", include_reasoning=True)
    assert message(answer)["reasoning"]
    assert (sent(upstream)["reasoning_effort"], sent(upstream)["include_reasoning"]) == ("xhigh", True)
    assert "stream" not in sent(upstream)


def test_a_response_has_the_reasoning_as_an_item(alice: Person) -> None:
    response = alice.sdk.responses.create(model="gpt-oss-chats", input="Hello")
    assert [item.type for item in response.output] == ["reasoning", "message"]
    assert response.output_text == "w1 w2 w3 w4 w5"


def test_a_response_that_goes_upstream_as_one_has_an_effort_too(
    alice: Person, upstream: ScriptedUpstream
) -> None:
    alice.sdk.responses.create(model="house-model", input="Hello")
    assert sent(upstream)["reasoning"] == {"effort": "high"}
    alice.sdk.responses.create(
        model="house-model", input="Hello", reasoning={"effort": "minimal", "summary": "auto"}
    )
    assert sent(upstream)["reasoning"] == {"effort": "low", "summary": "auto"}
    alice.sdk.responses.create(model="gpt-test", input="Hello", reasoning={"effort": "xhigh"})
    assert sent(upstream)["reasoning"] == {"effort": "xhigh"}


LOOK: Document = {"type": "function", "name": "look", "parameters": {"type": "object"}}
LEAKS = "gpt-oss-20b+leaks"


@pytest.mark.parametrize("stream", [False, True])
def test_control_tokens_are_taken_out_and_counted(gateway: Gateway, alice: Person, stream: bool) -> None:
    """In the answer's text and in a tool's name; of a chat, and of a Response that the upstream tells."""
    function = {"name": "look", "parameters": {"type": "object"}}
    chat = ask(alice, LEAKS, stream=stream)
    called = ask(alice, f"{LEAKS}+tools", stream=stream, tools=[{"type": "function", "function": function}])
    body = {"model": LEAKS, "input": "Hello", "stream": stream}
    response = alice.http.post("/v1/responses", json=body)
    named = alice.http.post("/v1/responses", json=body | {"model": f"{LEAKS}+tools", "tools": [LOOK]})
    for answer, count in ((chat, 3), (called, 1), (response, 3), (named, 1)):
        assert answer.status_code == 200, answer.text
        assert "<|" not in answer.text
        record = gateway.usage_of(answer.headers["x-request-id"])
        assert record["attempts"] == [{"upstream": "openai", "outcome": "200", "control_tokens": count}]
    assert '"w1 w2 w3 w4 w5"' in response.text
    assert '"name":"look"' in called.text
    assert '"name":"look"' in named.text
    clean = ask(alice, "gpt-oss-20b", stream=stream)
    record = gateway.usage_of(clean.headers["x-request-id"])
    assert record["attempts"] == [{"upstream": "openai", "outcome": "200"}]


def test_other_models_keep_what_looks_like_a_control_token(alice: Person) -> None:
    answer = ask(alice, "gpt-test+leaks")
    assert message(answer)["content"] == "<|channel|>final<|message|>w1 w2 w3 w4 w5<|return|>"


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_that_an_upstream_tells_hides_its_reasoning_where_that_is_asked(
    alice: Person, stream: bool
) -> None:
    body = {"model": "gpt-oss-20b+reasoning=content", "input": "Hello", "stream": stream}
    shown = alice.http.post("/v1/responses", json=body)
    assert "Let me think." in shown.text
    for headers, members in (({"x-show-reasoning": "false"}, {}), ({}, {"reasoning": {"effort": "none"}})):
        hidden = alice.http.post("/v1/responses", json=body | members, headers=headers)
        assert hidden.status_code == 200
        assert "think" not in hidden.text
        assert '"w1 w2 w3 w4 w5"' in hidden.text


def test_a_broken_answer_is_no_success(gateway: Gateway, alice: Person) -> None:
    answer = ask(alice, "gpt-oss-20b+cut=3")
    assert answer.status_code == 502
    assert gateway.usage_of(answer.headers["x-request-id"])["status"] == "truncated"
