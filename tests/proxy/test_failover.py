"""Routing, retries and failover: before the first byte, and never after it."""

import pytest

from tests.server import Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

CHAT = "/v1/chat/completions"


def routed(gateway: Gateway, upstream: ScriptedUpstream, name: str, *routes: dict[str, object]) -> None:
    """Makes the model `name` with these routes; `up-a` and `up-b` are two names of the scripted upstream."""
    upstreams: list[object] = [
        {"name": each, "dialect": "openai", "base_url": upstream.url, "api_key": f"key-{each}"}
        for each in ("up-a", "up-b")
    ]
    gateway.configure({"upstreams": upstreams, "models": [{"name": name, "routes": list(routes)}]})


def chat(person: Person, model: str, stream: bool = False) -> tuple[int, str, str]:
    response = person.http.post(CHAT, json={"model": model, "messages": [], "stream": stream})
    return response.status_code, response.headers["x-request-id"], response.text


def asked(upstream: ScriptedUpstream) -> list[str]:
    return [call.headers["authorization"].removeprefix("Bearer key-") for call in upstream.calls()]


def test_it_sends_the_routes_own_name_and_shows_the_public_one(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream
) -> None:
    routed(gateway, upstream, "public-name", {"upstream": "up-a", "model": "gpt-test+escaped"})
    for stream in (False, True):
        status, _, text = chat(alice, "public-name", stream)
        assert status == 200
        assert '"model":"public-name"' in text
        assert '"model":"gpt-test' not in text
        assert upstream.calls()[-1].document["model"] == "gpt-test+escaped"


@pytest.mark.parametrize("stream", [False, True])
def test_it_tries_again_when_the_upstream_fails_at_first(
    gateway: Gateway, alice: Person, stream: bool
) -> None:
    status, id_, _ = chat(alice, f"gpt-test+fail=2+tag={stream}", stream)
    record = gateway.usage_of(id_)
    assert status == 200
    assert [attempt["outcome"] for attempt in record["attempts"]] == ["500", "500", "200"]
    assert record["input_tokens"] == 11


def test_it_gives_up_after_three_attempts(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream
) -> None:
    model = "gpt-test+status=503+tag=gives-up"
    status, id_, _ = chat(alice, model)
    assert status == 502
    assert len(upstream.calls(model)) == 3
    assert gateway.usage_of(id_)["status"] == "failed"


def test_it_does_not_try_again_what_the_upstream_refused(alice: Person, upstream: ScriptedUpstream) -> None:
    model = "gpt-test+status=400+tag=once"
    assert chat(alice, model)[0] == 400
    assert len(upstream.calls(model)) == 1


def test_it_passes_on_how_long_a_busy_upstream_asks_to_wait(alice: Person) -> None:
    response = alice.http.post(CHAT, json={"model": "gpt-test+status=429+retry_after=60", "messages": []})
    assert (response.status_code, response.headers["retry-after"]) == (429, "60")


def test_it_goes_to_the_next_target_when_the_first_fails(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream
) -> None:
    down = {"upstream": "up-a", "model": "gpt-test+status=500+tag=down", "priority": 1}
    routed(gateway, upstream, "with-failover", down, {"upstream": "up-b", "model": "gpt-test", "priority": 2})
    status, id_, _ = chat(alice, "with-failover")
    assert status == 200
    assert asked(upstream) == ["up-a", "up-b"]
    assert gateway.usage_of(id_)["upstream"] == "up-b"


def test_a_target_that_keeps_failing_is_tried_last(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream
) -> None:
    down = {"upstream": "up-a", "model": "gpt-test+status=500+tag=cools", "priority": 1}
    routed(gateway, upstream, "with-cooldown", down, {"upstream": "up-b", "model": "gpt-test", "priority": 2})
    for _ in range(3):
        chat(alice, "with-cooldown")
    upstream.clear()
    assert chat(alice, "with-cooldown")[0] == 200
    assert asked(upstream) == ["up-b"]


def test_it_does_not_fail_over_once_a_byte_was_sent(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream
) -> None:
    cut = {"upstream": "up-a", "model": "gpt-test+cut=2", "priority": 1}
    routed(gateway, upstream, "cut-late", cut, {"upstream": "up-b", "model": "gpt-test", "priority": 2})
    status, _, text = chat(alice, "cut-late", stream=True)
    assert status == 200
    assert "[DONE]" not in text
    assert asked(upstream) == ["up-a"]


def test_it_shares_calls_by_weight(gateway: Gateway, alice: Person, upstream: ScriptedUpstream) -> None:
    heavy = {"upstream": "up-a", "model": "gpt-test", "weight": 3}
    routed(gateway, upstream, "weighted", heavy, {"upstream": "up-b", "model": "gpt-test", "weight": 1})
    for _ in range(80):
        chat(alice, "weighted")
    assert 40 <= asked(upstream).count("up-a") <= 75


def test_the_longest_pattern_wins_and_an_exact_name_over_all(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream
) -> None:
    routed(gateway, upstream, "pat-*", {"upstream": "up-a", "model": "gpt-test+tag=short"})
    routed(gateway, upstream, "pat-long-*", {"upstream": "up-a", "model": "gpt-test+tag=long"})
    routed(gateway, upstream, "pat-long-exact", {"upstream": "up-a", "model": "gpt-test+tag=exact"})
    for name in ("pat-a", "pat-long-a", "pat-long-exact"):
        chat(alice, name)
    assert [call.model.partition("tag=")[2] for call in upstream.calls()] == ["short", "long", "exact"]


def test_an_upstream_of_another_tenant_does_not_exist(
    gateway: Gateway, alice: Person, charlie: Person, upstream: ScriptedUpstream
) -> None:
    own = {
        "name": "globex-own",
        "dialect": "openai",
        "base_url": upstream.url,
        "api_key": "k",
        "tenant": "globex",
    }
    model = {"name": "globex-model", "routes": [{"upstream": "globex-own", "model": "gpt-test"}]}
    gateway.configure({"upstreams": [own], "models": [model]})
    assert chat(charlie, "globex-model")[0] == 200
    assert chat(alice, "globex-model")[0] == 200  # as any name that nothing claims: by way of *
    assert [call.model for call in upstream.calls()] == ["gpt-test", "globex-model"]
    assert "globex-model" not in [entry["id"] for entry in alice.http.get("/v1/models").json()["data"]]
    assert "globex-model" in [entry["id"] for entry in charlie.http.get("/v1/models").json()["data"]]


def test_the_price_known_at_the_call_is_what_it_costs(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream
) -> None:
    prices = {"input_per_million": "0.15", "cached_input_per_million": "0.075", "output_per_million": "0.60"}
    model = {"name": "gpt-priced", "routes": [{"upstream": "openai", "model": "gpt-test"}], "prices": prices}
    gateway.configure({"models": [model]})
    _, id_, _ = chat(alice, "gpt-priced", stream=True)
    assert gateway.usage_of(id_)["cost_nano_usd"] == 8 * 150 + 3 * 75 + 5 * 600
