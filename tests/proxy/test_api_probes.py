"""Upstreams that are asked through the management API: whether they answer, what they have, how they did."""

from __future__ import annotations

from itertools import count
from typing import Any

import httpx
import pytest

from tests.deadline import until
from tests.managing import Cast, cast, error, key_of, made, results
from tests.server import Gateway
from tests.services import free_port
from tests.upstreams.scripted import ScriptedUpstream

NUMBERS = count(1)
SECRET = "sk-canary-that-nobody-may-see"


@pytest.fixture(scope="module")
def people(session_gateway: Gateway) -> Cast:
    return cast(session_gateway, "probed")


def added(people: Cast, base_url: str) -> dict[str, Any]:
    body = {"name": f"probed-{next(NUMBERS)}", "base_url": base_url, "api_key": SECRET}
    return made(people.operator.post("upstreams/", json=body))


def health(people: Cast, row: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = people.operator.get(f"upstreams/{row['id']}/").json()["health"]
    return shown


def test_it_tests_a_connection(people: Cast, upstream: ScriptedUpstream) -> None:
    row = added(people, upstream.url)
    answer = people.operator.post(f"upstreams/{row['id']}/test/")
    assert answer.json() | {"milliseconds": 0} == {
        "reachable": True,
        "well": True,
        "message": "It answers, and lists 2 models.",
        "status": 200,
        "milliseconds": 0,
    }
    assert SECRET not in answer.text


def test_it_tells_of_a_connection_that_there_is_not(people: Cast) -> None:
    row = added(people, f"http://127.0.0.1:{free_port()}/v1")
    told = people.operator.post(f"upstreams/{row['id']}/test/").json()
    assert (told["reachable"], told["well"], told["status"]) == (False, False, None)
    assert told["message"] == "Nothing takes a connection there."
    assert people.operator.get(f"upstreams/{row['id']}/models/").json() == {**told, "models": []}


def test_it_makes_models_of_what_an_upstream_lists(people: Cast, upstream: ScriptedUpstream) -> None:
    model = f"listed-{next(NUMBERS)}"
    upstream.models.append(model)
    row = added(people, upstream.url)
    path = f"upstreams/{row['id']}/models/"
    assert {"name": model, "routed_from": []} in people.operator.get(path).json()["models"]
    adopted = made(people.operator.post(path, json={"models": [model, model]}))
    assert (adopted["models"], len(adopted["routes"])) == ([model], 1)
    assert {"name": model, "routed_from": [model]} in people.operator.get(path).json()["models"]
    assert made(people.operator.post(path, json={"models": [model]})) == {"models": [], "routes": []}
    noted = results(people.operator.get("audit/", params={"limit": 2}))
    assert {(each["action"], each["resource"]) for each in noted} == {
        ("create", "routes"),
        ("create", "models"),
    }
    in_force(people, upstream, model)
    upstream.models.remove(model)


@pytest.mark.parametrize("names", [[], ["a*"], ["/etc/passwd"], ["a\nb"], ["x" * 201], [True], "gpt"])
def test_it_makes_no_model_of_what_is_no_name(
    people: Cast, upstream: ScriptedUpstream, names: object
) -> None:
    row = added(people, upstream.url)
    answer = people.operator.post(f"upstreams/{row['id']}/models/", json={"models": names})
    assert str(error(answer, 400)["param"]).startswith("models")


def test_it_says_how_an_upstream_has_been_doing(people: Cast, upstream: ScriptedUpstream) -> None:
    """Which every process tells with its heartbeat."""
    row = added(people, upstream.url)
    assert health(people, row)["state"] == "idle"
    upstream.behave("worn-out", "status=503+retry_after=59")
    for model in ("well-done", "gpt-oss-leaky+leaks", "worn-out"):
        made(people.operator.post(f"upstreams/{row['id']}/models/", json={"models": [model]}))
        in_force(people, upstream, model)
    until(lambda: health(people, row)["failed"], seconds=7, what="a heartbeat")
    told = health(people, row)
    assert (told["state"], told["last_failure"], list(told["cooling"])) == ("cooling", "503", ["worn-out"])
    assert told["processes"] >= 1
    assert told["answered"] >= 1
    assert told["control_tokens"] >= 3
    assert told["last_failure_at"] < told["cooling"]["worn-out"]


def in_force(people: Cast, upstream: ScriptedUpstream, model: str) -> None:
    """Calls until a call goes by the new route, which has a key of its own."""
    body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
    headers = {"authorization": f"Bearer {key_of('probed', 'owner')}"}
    url = f"{people.gateway.url}/v1/chat/completions"

    def called() -> bool:
        httpx.post(url, headers=headers, json=body, trust_env=False, timeout=30)
        calls = upstream.calls(model)
        return bool(calls) and calls[-1].headers["authorization"] == f"Bearer {SECRET}"

    until(called, seconds=2, what="the new route to be in force")
