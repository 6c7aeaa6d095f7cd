"""Upstreams, models, routes and prices through the management API; no answer has an upstream's secrets."""

from __future__ import annotations

from itertools import count

import httpx
import pytest

from tests.deadline import until
from tests.managing import Cast, cast, error, made, results
from tests.server import Gateway
from tests.upstreams.scripted import ScriptedUpstream

NUMBERS = count(1)
SECRET = "sk-canary-that-nobody-may-see"


@pytest.fixture(scope="module")
def people(session_gateway: Gateway) -> Cast:
    return cast(session_gateway, "served")


def name() -> str:
    return f"upstream-{next(NUMBERS)}"


def chat(people: Cast, model: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
    return people.owner.post(f"{people.gateway.url}/v1/chat/completions", json=body)


def test_it_adds_an_upstream_a_model_and_a_route_and_calls_go_there(
    people: Cast, upstream: ScriptedUpstream
) -> None:
    there, model = name(), f"model-{name()}"
    body = {"name": there, "base_url": f"{upstream.url}/", "api_key": SECRET, "headers": {"X-Team": "blue"}}
    row = made(people.operator.post("upstreams/", json=body))
    assert (row["has_api_key"], row["has_headers"], row["has_cookies"]) == (True, True, False)
    assert row["base_url"] == upstream.url
    made(people.operator.post("models/", json={"name": model}))
    made(people.operator.post("routes/", json={"model": model, "upstream": there, "upstream_model": "gpt-x"}))
    until(lambda: chat(people, model).status_code == 200, seconds=2, what="the route to be in force")
    headers = {name.lower(): value for name, value in upstream.call("gpt-x").headers.items()}
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert headers["x-team"] == "blue"
    assert people.operator.delete(f"upstreams/{row['id']}/").status_code == 204
    until(lambda: chat(people, model).status_code == 404, seconds=2, what="the route to be gone")


def test_it_shows_an_upstreams_secrets_to_nobody(people: Cast) -> None:
    body = {"name": name(), "base_url": "http://127.0.0.1:9/v1", "api_key": SECRET, "cookies": {"a": SECRET}}
    row = made(people.operator.post("upstreams/", json=body))
    path = f"upstreams/{row['id']}/"
    shown = [people.operator.get(path), people.operator.get("upstreams/"), people.operator.get("audit/")]
    shown.append(people.operator.patch(path, json={"enabled": False}))
    for answer in shown:
        assert answer.status_code == 200
        assert SECRET not in answer.text
        assert "sealed" not in answer.text
    assert SECRET not in people.gateway.log()
    refused = people.operator.patch(path, json={"api_key": f"{SECRET} with spaces"})
    assert SECRET not in str(error(refused, 400))


def test_it_wants_a_key_again_for_another_address(people: Cast) -> None:
    body = {"name": name(), "base_url": "http://127.0.0.1:9/v1", "api_key": SECRET}
    path = f"upstreams/{made(people.operator.post('upstreams/', json=body))['id']}/"
    moved = {"base_url": "http://127.0.0.1:10/v1"}
    assert error(people.operator.patch(path, json=moved), 400)["param"] == "api_key"
    assert error(people.operator.patch(path, json={"tenant": "served"}), 400)["param"] == "api_key"
    assert people.operator.patch(path, json={**moved, "api_key": None}).json()["has_api_key"] is False
    assert people.operator.patch(path, json={"tenant": "served"}).json()["tenant"] == "served"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": "x"}, "base_url"),
        ({"name": "x", "base_url": "ftp://x"}, "base_url"),
        ({"name": "x", "base_url": "http://169.254.169.254/"}, "base_url"),
        ({"name": "x", "base_url": "http://user:secret@host/"}, "base_url"),
        ({"name": "x", "dialect": "telepathy"}, "dialect"),
        ({"name": "with space", "dialect": "demo"}, "name"),
        ({"name": "x", "dialect": "demo", "api_key": "a\nb"}, "api_key"),
        ({"name": "x", "dialect": "demo", "api_key": 5}, "api_key"),
        ({"name": "x", "dialect": "demo", "headers": "X: y"}, "headers"),
        ({"name": "x", "dialect": "demo", "headers": {"X": "a\r\nHost: b"}}, "headers"),
        ({"name": "x", "dialect": "demo", "idle_timeout_seconds": 0}, "idle_timeout_seconds"),
        ({"name": "x", "dialect": "demo", "idle_timeout_seconds": "nan"}, "idle_timeout_seconds"),
        ({"name": "x", "dialect": "demo", "idle_timeout_seconds": "inf"}, "idle_timeout_seconds"),
        ({"name": "x", "dialect": "demo", "sealed_api_key": "x"}, "sealed_api_key"),
        ({"name": "x", "dialect": "demo", "tenant": 5}, "tenant"),
        ({"name": "demo", "dialect": "demo"}, "name"),
    ],
)
def test_it_refuses_an_upstream_that_cannot_be_meant(people: Cast, body: object, param: str) -> None:
    assert error(people.operator.post("upstreams/", json=body), 400)["param"] == param


def test_it_writes_down_that_a_key_was_changed(people: Cast) -> None:
    body = {"name": name(), "base_url": "http://127.0.0.1:9/v1"}
    row = made(people.operator.post("upstreams/", json=body))
    people.operator.patch(f"upstreams/{row['id']}/", json={"api_key": SECRET, "project": "p"})
    entry = results(people.operator.get("audit/", params={"object_id": row["id"]}))[0]
    assert (entry["action"], entry["fields"]) == ("update", ["api_key", "project"])


@pytest.mark.parametrize("reader", ["owner", "viewer"])
def test_it_shows_a_tenant_the_models_that_it_can_use_and_no_upstream(people: Cast, reader: str) -> None:
    mine, theirs = f"model-{name()}", f"model-{name()}"
    for model, tenant in ((mine, "served"), (theirs, "served-other")):
        there = {"name": name(), "dialect": "demo", "tenant": tenant}
        upstream = made(people.operator.post("upstreams/", json=there))
        made(people.operator.post("models/", json={"name": model}))
        made(people.operator.post("routes/", json={"model": model, "upstream": upstream["name"]}))
    listed = results(people.by(reader).get("models/", params={"limit": 200}))
    names = [row["name"] for row in listed]
    assert mine in names
    assert theirs not in names
    assert all("routes" not in row for row in listed)
    [shown] = results(people.operator.get("models/", params={"name": mine}))
    assert [route["model"] for route in shown["routes"]] == [mine]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "demo"}, "upstream"),
        ({"model": "absent", "upstream": "demo"}, "model"),
        ({"model": "demo", "upstream": "absent"}, "upstream"),
        ({"model": "demo", "upstream": "demo"}, None),
        ({"model": "demo", "upstream": "demo", "upstream_model": "x", "weight": -1}, "weight"),
        ({"model": "demo", "upstream": "demo", "upstream_model": "x", "weight": 10**30}, "weight"),
        ({"model": "demo", "upstream": "demo", "upstream_model": "x", "priority": 10**9}, "priority"),
    ],
)
def test_it_refuses_a_route_that_cannot_be_meant(people: Cast, body: object, param: str | None) -> None:
    assert error(people.operator.post("routes/", json=body), 400)["param"] == param


def test_it_adds_a_price_and_counts_by_it(people: Cast) -> None:
    model = f"model-{name()}"
    made(people.operator.post("models/", json={"name": model}))
    made(people.operator.post("routes/", json={"model": model, "upstream": "demo"}))
    body = {"model": model, "input_per_million": "1.5", "output_per_million": 2}
    price = made(people.operator.post("prices/", json=body))
    assert (price["source"], price["input_per_million"], price["per_minute"]) == ("operator", "1.5", None)
    assert results(people.viewer.get("prices/", params={"model": model})) == [price]
    until(lambda: chat(people, model).status_code == 200, seconds=2, what="the model to be there")
    record = people.gateway.usage_of(chat(people, model).headers["x-request-id"])
    wanted = record["input_tokens"] * 1500 + record["output_tokens"] * 2000
    assert record["cost_nano_usd"] == wanted


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m"},
        {"model": "m*", "per_minute": "1"},
        {"model": "m", "per_minute": "-1"},
        {"model": "m", "per_minute": "x"},
        {"per_minute": "1"},
    ],
)
def test_it_refuses_a_price_that_cannot_be_meant(people: Cast, body: object) -> None:
    assert error(people.operator.post("prices/", json=body), 400)


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_it_never_alters_a_price(people: Cast, method: str) -> None:
    price = results(people.operator.get("prices/", params={"limit": 1}))[0]
    assert error(people.operator.request(method, f"prices/{price['id']}/", json={}), 405)
