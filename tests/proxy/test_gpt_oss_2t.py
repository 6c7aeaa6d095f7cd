"""The path of "GPT-OSS 2T", and callers without a key, as that proxy and others had them."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.conftest import StartGateway
from tests.deadline import until
from tests.server import Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

PATH = "/api/gpt-oss-2t"
HELLO = [{"role": "user", "content": "Hello"}]
Document = dict[str, Any]


def ask(person: Person, **members: Any) -> httpx.Response:
    return person.http.post(PATH, json={"messages": HELLO, **members})


def test_it_streams_unless_told_otherwise(gateway: Gateway, alice: Person) -> None:
    answer = ask(alice)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert events[-1] == "[DONE]"
    said = [json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events[:-1]]
    assert "".join(said) == "w1 w2 w3 w4 w5"
    assert gateway.usage_of(answer.headers["x-request-id"])["status"] == "completed"


def test_it_answers_in_one_piece(alice: Person) -> None:
    answer = ask(alice, stream=False).json()
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "w1 w2 w3 w4 w5"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 5


def test_it_has_settings_of_its_own(alice: Person, upstream: ScriptedUpstream) -> None:
    ask(alice, max_tokens=-1)
    sent = upstream.calls()[-1].document
    assert (sent["model"], sent["temperature"], sent["top_p"]) == ("gpt-oss-120b", 0.8, 0.9)
    assert "max_tokens" not in sent
    ask(alice, max_tokens=7, temperature=0, top_p=1)
    sent = upstream.calls()[-1].document
    assert (sent["max_tokens"], sent["temperature"], sent["top_p"]) == (7, 0, 1)


@pytest.mark.parametrize("messages", [None, "Hello", {}])
def test_it_misses_the_messages(alice: Person, messages: object) -> None:
    answer = ask(alice, messages=messages)
    assert (answer.status_code, answer.json()) == (400, {"error": "Missing messages array"})


def test_its_errors_are_one_string(alice: Person) -> None:
    refused = httpx.post(alice.gateway.url + PATH, json={"messages": HELLO}, trust_env=False)
    assert refused.status_code == 401
    assert isinstance(refused.json()["error"], str)


def test_it_says_that_it_is_there(alice: Person) -> None:
    answer = httpx.get(alice.gateway.url + PATH, trust_env=False)
    assert (answer.json()["status"], answer.json()["model"]) == ("ok", "gpt-oss-120b")


# Public access


@pytest.fixture(scope="module")
def public(start_session_gateway: StartGateway) -> Gateway:
    gateway = start_session_gateway(PUBLIC_ACCESS="true", DEFAULT_MODEL="gpt-test")
    expired = {"name": "old", "user": "alice@acme.test", "secret": "sk-expired", "expires_at": "2020-01-01"}
    gateway.apply({"tenants": [{"slug": "acme", "api_keys": [expired]}]})
    return gateway


def chat(gateway: Gateway, path: str = "/v1/chat/completions", **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"messages": HELLO, "stream": False}
    return httpx.post(gateway.url + path, json=body, headers=sent, trust_env=False)


@pytest.mark.parametrize("path", ["/v1/chat/completions", PATH, "/openai"])
def test_anybody_may_call_where_a_tenant_is_public(public: Gateway, path: str) -> None:
    answer = chat(public, path)
    assert answer.status_code == 200
    assert answer.json()["model"] == "gpt-test"


@pytest.mark.parametrize("bearer", ["Bearer dummy", "Bearer not-needed", "Bearer sk-xxx"])
def test_a_bearer_that_was_never_a_key_counts_as_none(public: Gateway, bearer: str) -> None:
    assert chat(public, authorization=bearer).status_code == 200
    listed = httpx.get(f"{public.url}/v1/models", headers={"authorization": bearer}, trust_env=False)
    assert listed.status_code == 200


def test_a_key_that_was_one_of_ours_stays_out(public: Gateway) -> None:
    assert chat(public, authorization="Bearer sk-expired").status_code == 401
    alice = public.people["alice"]
    made = alice.http.post("/api/api-keys/", json={"name": "to be revoked"}).json()
    bearer = f"Bearer {made['secret']}"
    assert chat(public, authorization=bearer).status_code == 200
    assert alice.http.post(f"/api/api-keys/{made['id']}/revoke/").is_success
    until(lambda: chat(public, authorization=bearer).status_code == 401, what="the key to be out")


def test_a_security_key_is_meant_as_one(public: Gateway) -> None:
    assert chat(public, x_security_key="dummy").status_code == 401
    body = {"messages": HELLO, "security_key": "dummy"}
    wrong = httpx.post(f"{public.url}/openai", json=body, trust_env=False)
    assert (wrong.status_code, wrong.text) == (403, "Forbidden")


def test_a_bearer_that_was_never_a_key_is_refused_elsewhere(gateway: Gateway) -> None:
    assert chat(gateway, authorization="Bearer dummy").status_code == 401
