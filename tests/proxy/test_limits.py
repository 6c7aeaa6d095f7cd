"""Limits as a caller meets them, over real sockets."""

import itertools
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.deadline import until
from tests.proxy.test_endings import open_stream
from tests.server import Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

CHAT = "/v1/chat/completions"
Limited = Callable[..., Person]


@pytest.fixture
def limited(gateway: Gateway, request: pytest.FixtureRequest) -> Limited:
    """Makes a tenant with these limits, and returns its owner."""

    def make(*limits: dict[str, object]) -> Person:
        slug = f"limited-{abs(hash(request.node.name)) % 10**8}"
        (owner,) = gateway.tenant(slug)
        gateway.configure({"tenants": [{"slug": slug, "name": slug, "limits": list(limits)}]})
        return owner

    return make


def chat(person: Person, model: str = "gpt-test", **more: object) -> httpx.Response:
    return person.http.post(CHAT, json={"model": model, "messages": [], **more})


def test_a_call_over_the_limit_is_told_which_and_when(limited: Limited, upstream: ScriptedUpstream) -> None:
    owner = limited({"scope": "key", "requests_per_minute": 2})
    first = chat(owner)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert chat(owner).status_code == 200
    refused = chat(owner)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["type"]) == (
        429,
        "rate_limit_exceeded",
        "rate_limit_error",
    )
    assert "2 requests per minute and key" in error["message"]
    assert 25 <= int(refused.headers["retry-after"]) <= 30
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(upstream.calls()) == 2


@pytest.mark.parametrize(
    "limit", [{"requests_per_minute": 1}, {"requests_per_minute": 60, "concurrent": 1}], ids=str
)
def test_who_is_refused_is_told_of_every_kind_of_limit(
    gateway: Gateway, limited: Limited, upstream: ScriptedUpstream, limit: dict[str, int]
) -> None:
    owner = limited({"scope": "key", **limit}, {"scope": "tenant", "tokens_per_minute": 5000})
    model = "gpt-test+pace=20+words=500+tag=every-kind"
    connection = open_stream(gateway, owner, model)
    upstream.call(model)
    refused = chat(owner)
    connection.close()
    assert refused.status_code == 429
    for what, most in (("limit", 5000), ("remaining", 4500)):
        assert 3000 <= int(refused.headers[f"x-ratelimit-{what}-tokens"]) <= most
    assert refused.headers["x-ratelimit-reset-tokens"].endswith("s")
    assert refused.headers.get_list("x-ratelimit-limit-requests") == [str(limit["requests_per_minute"])]


def test_who_spends_too_many_tokens_is_told_of_requests_too(limited: Limited) -> None:
    owner = limited({"scope": "key", "requests_per_minute": 60, "tokens_per_minute": 1500})
    answers = [chat(owner) for _ in range(100)]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert "tokens per minute" in refused.json()["error"]["message"]
    assert refused.headers["x-ratelimit-limit-requests"] == "60"
    assert refused.headers["x-ratelimit-limit-tokens"] == "1500"


def test_a_limit_is_its_tenants_own(limited: Limited, charlie: Person) -> None:
    owner = limited({"scope": "tenant", "requests_per_minute": 1})
    assert [chat(owner).status_code for _ in range(2)] == [200, 429]
    assert "x-ratelimit-limit-requests" not in chat(charlie).headers


def test_a_limit_for_one_model_leaves_the_others_alone(limited: Limited) -> None:
    owner = limited({"scope": "model", "name": "gpt-test", "requests_per_minute": 1})
    assert [chat(owner).status_code for _ in range(2)] == [200, 429]
    assert chat(owner, "gpt-other").status_code == 200


def test_concurrent_calls_are_counted_until_they_end(
    gateway: Gateway, limited: Limited, upstream: ScriptedUpstream
) -> None:
    owner = limited({"scope": "user", "concurrent": 1})
    model = "gpt-test+pace=20+words=500+tag=lease"
    connection = open_stream(gateway, owner, model)
    upstream.call(model)
    assert chat(owner).status_code == 429
    connection.close()
    until(lambda: chat(owner).status_code == 200, seconds=5, what="the place of the call that left")


def test_a_call_that_failed_gives_its_place_back(limited: Limited) -> None:
    owner = limited({"scope": "key", "concurrent": 1})
    assert [chat(owner, "gpt-test+status=400").status_code for _ in range(3)] == [400, 400, 400]


def test_tokens_are_trued_up_with_the_upstreams_own_count(limited: Limited) -> None:
    owner = limited({"scope": "key", "tokens_per_minute": 3000})
    remaining = [int(chat(owner).headers["x-ratelimit-remaining-tokens"]) for _ in range(3)]
    # Each reserves its estimate, about 1,000, and turns out to have used 16.
    assert all(1900 <= left <= 2000 for left in remaining)


def test_more_tokens_than_a_number_can_hold_are_refused(limited: Limited) -> None:
    owner = limited({"scope": "key", "tokens_per_minute": 3000})
    refused = owner.http.post(CHAT, content=f'{{"model":"demo","messages":[],"max_tokens":{"1" * 5000}}}')
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "max_tokens")
    assert chat(owner, max_tokens=10**400).status_code == 200


def test_a_queue_starts_calls_evenly_and_in_order(limited: Limited, upstream: ScriptedUpstream) -> None:
    owner = limited(
        {
            "scope": "ip",
            "requests_per_second": 4,
            "concurrent": 1,
            "when_exceeded": "queue",
            "queue_seconds": 20,
        }
    )
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: chat(owner), range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6
    starts = sorted(call.at for call in upstream.calls())
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert all(gap > 0.2 for gap in gaps)
    assert sum(gaps) < 2.5


def test_a_queue_that_takes_too_long_is_429(limited: Limited) -> None:
    owner = limited({"scope": "key", "requests_per_minute": 1, "when_exceeded": "queue", "queue_seconds": 1})
    began = time.monotonic()
    assert [chat(owner).status_code for _ in range(2)] == [200, 429]
    assert 0.9 < time.monotonic() - began < 3


def test_who_leaves_the_queue_gives_up_the_place(
    gateway: Gateway, limited: Limited, upstream: ScriptedUpstream
) -> None:
    owner = limited({"scope": "key", "concurrent": 1, "when_exceeded": "queue", "queue_seconds": 20})
    first = open_stream(gateway, owner, "gpt-test+pace=50+words=30+tag=first")
    upstream.call("gpt-test+pace=50+words=30+tag=first")
    left = open_stream(gateway, owner, "gpt-test+tag=left")
    waiting = threading.Thread(target=lambda: chat(owner, "gpt-test+tag=second"))
    time.sleep(0.2)  # so that the one that leaves stands before the one that waits
    waiting.start()
    left.close()
    waiting.join(20)
    first.shutdown(socket.SHUT_RDWR)
    first.close()
    assert [call.model for call in upstream.calls()][1:] == ["gpt-test+tag=second"]
    assert gateway.usage("model = %s", "gpt-test+tag=left") == []


def test_one_call_explains_how_every_limit_stands(gateway: Gateway, limited: Limited) -> None:
    owner = limited(
        {"scope": "key", "requests_per_minute": 5, "concurrent": 3},
        {"scope": "model", "name": "gpt-test", "tokens_per_minute": 9000},
    )
    chat(owner)
    told = owner.http.get("/v1/limits", params={"model": "gpt-test"}).json()
    by_counts = {entry["counts"]: entry for entry in told["data"]}
    assert by_counts["requests"]["remaining"] == 4
    assert by_counts["concurrent calls"]["remaining"] == 3
    assert by_counts["tokens"]["limit"] == 9000
    assert "tokens" not in {entry["counts"] for entry in owner.http.get("/v1/limits").json()["data"]}
    assert gateway.people["charlie"].http.get("/v1/limits").json()["data"] == []
    assert httpx.get(f"{gateway.url}/v1/limits").status_code == 401
