"""The servers that other tests stand on do what those tests rely on."""

from __future__ import annotations

import httpx
import pytest

from tests.conftest import StartGateway
from tests.server import Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

CHAT = {"model": "gpt-test", "messages": [{"role": "user", "content": "Hello"}]}


def test_it_answers_from_the_scripted_upstream_and_counts(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream
) -> None:
    answer = alice.http.post("/v1/chat/completions", json=CHAT).raise_for_status()
    assert answer.json()["choices"][0]["message"]["content"] == "w1 w2 w3 w4 w5"
    assert upstream.ended("gpt-test").ending == "complete"
    record = gateway.usage_of(answer.headers["x-request-id"])
    assert (record["input_tokens"], record["output_tokens"], record["estimated"]) == (11, 5, False)


def test_it_knows_the_whole_cast(alice: Person, bob: Person, charlie: Person) -> None:
    for person in (alice, bob, charlie):
        assert person.http.get("/v1/models").status_code == 200
        assert person.sdk.models.list().data


def test_it_makes_tenants_of_a_tests_own(gateway: Gateway) -> None:
    (owner, member) = gateway.tenant("initech", ("owner", "member"))
    assert owner.http.get("/v1/models").status_code == 200
    assert member.http.get("/v1/models").status_code == 200


def test_it_comes_back_with_its_rows_after_kill_9(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    before = gateway.query("SELECT id FROM accounts_tenant ORDER BY id")
    gateway.kill9()
    with pytest.raises(httpx.ConnectError):
        httpx.get(gateway.url, trust_env=False)
    gateway.start()
    assert gateway.query("SELECT id FROM accounts_tenant ORDER BY id") == before
