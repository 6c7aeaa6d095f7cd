"""The paths of stored objects: who is let in, by which address, with which methods."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from proxy.asgi import POSTS, STORED
from tests.conftest import StartGateway
from tests.server import Person
from threads.item_ids import new_id

ID = new_id("message").replace("msg_", "resp_")


def addresses() -> list[str]:
    return [path.replace("{id}", ID).replace("{item_id}", "x") for path in STORED.table]


@pytest.mark.parametrize("address", addresses())
def test_whoever_has_no_key_is_not_let_in(address: str, alice: Person) -> None:
    methods, _ = STORED.find(address)
    for method in methods:
        refused = httpx.request(method, f"{alice.gateway.url}/v1{address}", trust_env=False)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "missing_api_key")


@pytest.mark.parametrize("address", addresses())
def test_it_answers_with_and_without_v1_and_a_slash(address: str, alice: Person) -> None:
    (method, *_), _ = STORED.find(address)
    answers = {
        (answer.status_code, re.sub(r"conv_\w+|\d{10}", "", answer.text))
        for form in (f"/v1{address}", address, f"/v1{address}/", f"{address}/")
        for answer in [alice.http.request(method, form)]
    }
    assert len(answers) == 1


@pytest.mark.parametrize("address", addresses())
def test_it_names_the_methods_that_a_path_takes(address: str, alice: Person) -> None:
    methods, _ = STORED.find(address)
    refused = alice.http.request("PATCH", f"/v1{address}")
    assert refused.status_code == 405
    allowed = {*methods, "POST"} if address in POSTS else set(methods)
    assert set(refused.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("address", addresses())
def test_a_browser_may_ask_before_it_has_a_key(address: str, alice: Person) -> None:
    headers = {"origin": "https://app.test", "access-control-request-method": "DELETE"}
    answer = httpx.request("OPTIONS", f"{alice.gateway.url}/v1{address}", headers=headers, trust_env=False)
    assert answer.status_code == 204
    assert "DELETE" in answer.headers["access-control-allow-methods"]


def test_a_path_of_its_own_is_nobodys_id(alice: Person) -> None:
    for path in ("/v1/responses/compact", "/v1/responses/input_tokens"):
        assert alice.http.get(path).headers["allow"] == "POST"


def test_whoever_has_no_key_visits_as_the_public_tenant(start_gateway: StartGateway) -> None:
    gateway = start_gateway(PUBLIC_ACCESS="true")
    with httpx.Client(base_url=gateway.url, trust_env=False) as anybody:
        made = anybody.post("/v1/conversations", json={"metadata": {"whose": "anybody's"}}).json()
        assert anybody.get(f"/v1/conversations/{made['id']}").json() == made
    refused = gateway.people["charlie"].http.get(f"/v1/conversations/{made['id']}")
    assert refused.status_code == 404


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_key_may_come_in_any_of_its_places(method: str, alice: Person) -> None:
    address = f"{alice.gateway.url}/v1/conversations/{ID.replace('resp_', 'conv_')}"
    places: list[dict[str, Any]] = [
        {"headers": {"x-api-key": alice.api_key}},
        {"headers": {"x-security-key": alice.security_key}},
        {"params": {"security_key": alice.security_key}},
    ]
    body: Any = {"metadata": {}} if method == "POST" else None
    for place in places:
        answer = httpx.request(method, address, json=body, trust_env=False, **place)
        assert answer.status_code == 404, answer.text
