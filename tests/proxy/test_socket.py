"""Responses over WebSocket: connections, what is sent on them, and how they end."""

from __future__ import annotations

import itertools
import json
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed

from proxy.responses_socket import MAX_WAITING
from tests.conftest import StartGateway
from tests.deadline import until
from tests.server import Gateway, Person
from tests.sockets import BROKEN, Event, code_of, connected, connected_as, refused
from tests.upstreams.scripted import ScriptedUpstream

RESPONSES = "/v1/responses"


def statuses(gateway: Gateway, model: str, count: int = 1) -> list[str]:
    """How the calls for that model ended, once there are so many."""
    until(lambda: len(gateway.usage("model = %s", model)) >= count, what="the records")
    until(lambda: not gateway.query("SELECT 1 FROM proxy_opencall WHERE model = %s", model), what="none open")
    return [row["status"] for row in gateway.usage("model = %s", model)]


# Who gets in


@pytest.mark.parametrize("path", ["/v1/responses", "/responses", "/v1/responses/"])
def test_it_is_where_responses_are(gateway: Gateway, alice: Person, path: str) -> None:
    with connected(gateway, path=path, authorization=f"Bearer {alice.api_key}") as client:
        assert client.response()["status"] == "completed"


@pytest.mark.parametrize("header", ["x_api_key", "x_security_key"])
def test_every_header_with_a_key_opens_it(gateway: Gateway, alice: Person, header: str) -> None:
    with connected(gateway, **{header: alice.security_key}) as client:
        assert client.response()


def test_a_key_in_the_query_opens_it_and_is_not_in_the_log(gateway: Gateway, alice: Person) -> None:
    with connected(gateway, path=f"{RESPONSES}?security_key={alice.security_key}") as client:
        assert client.response()
    assert refused(gateway, path=f"{RESPONSES}?security_key=nobodys-key").status_code == 401
    assert alice.security_key not in gateway.log()
    assert "nobodys-key" not in gateway.log()


def test_a_key_among_the_subprotocols_opens_it_for_browsers(gateway: Gateway, alice: Person) -> None:
    with connected(gateway, "responses", f"openai-insecure-api-key.{alice.api_key}") as client:
        assert client.connection.subprotocol == "responses"
        assert client.response()
        record = gateway.usage("api_key_id IS NOT NULL")[-1]
    assert record["endpoint"] == "responses"


def test_without_a_key_there_is_a_401_and_no_connection(gateway: Gateway) -> None:
    for headers in ({}, {"authorization": "Bearer sk-unknown"}, {"x_api_key": "sk-unknown"}):
        refusal = refused(gateway, **headers)
        assert refusal.status_code == 401
        assert code_of(refusal) in ("missing_api_key", "invalid_api_key")
        assert refusal.headers["x-request-id"]


def test_two_different_keys_are_a_400(gateway: Gateway, alice: Person, bob: Person) -> None:
    protocol = f"openai-insecure-api-key.{bob.api_key}"
    refusal = refused(gateway, protocol, authorization=f"Bearer {alice.api_key}")
    assert (refusal.status_code, code_of(refusal)) == (400, "ambiguous_credentials")


def test_anybody_may_connect_where_a_tenant_is_public(start_gateway: StartGateway) -> None:
    gateway = start_gateway(PUBLIC_ACCESS="true")
    with connected(gateway) as client:
        assert client.response("demo")


def test_headers_that_are_too_large_are_a_413(gateway: Gateway, alice: Person) -> None:
    large = {f"x_{number}": "y" * 7000 for number in range(3)}
    refusal = refused(gateway, authorization=f"Bearer {alice.api_key}", **large)
    assert (refusal.status_code, code_of(refusal)) == (413, "headers_too_large")


def test_there_is_no_socket_elsewhere(gateway: Gateway, alice: Person) -> None:
    for path in ("/v1/chat/completions", "/live", "/", "/v1/responses/resp_1"):
        refusal = refused(gateway, path=path, authorization=f"Bearer {alice.api_key}")
        assert (refusal.status_code, code_of(refusal)) == (404, "not_found")


def test_pages_of_other_origins_do_not_connect_where_one_is_set(start_gateway: StartGateway) -> None:
    gateway = start_gateway(CORS_ORIGIN="https://here.test", PUBLIC_ACCESS="true")
    with connected(gateway, origin="https://here.test") as client:
        assert client.response("demo")
    with connected(gateway) as client:  # no browser
        assert client.response("demo")
    refusal = refused(gateway, origin="https://elsewhere.test")
    assert (refusal.status_code, code_of(refusal)) == (403, "origin_not_allowed")


# What is said


def test_the_events_are_those_of_the_stream_over_http(gateway: Gateway, alice: Person) -> None:
    with connected_as(alice) as client:
        events = client.turn("gpt-test+comments+crlf")
    body = {"model": "gpt-test+comments+crlf", "input": "Hello", "stream": True}
    over_http = told(alice.http.post(RESPONSES, json=body).text)
    assert [(event["type"], sorted(event)) for event in events] == [
        (event["type"], sorted(event)) for event in over_http
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


def told(stream: str) -> list[Event]:
    """The events that a stream over HTTP tells."""
    data = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    return [json.loads(each) for each in data if each != "[DONE]"]


def test_each_turn_is_a_call_of_its_own(gateway: Gateway, alice: Person) -> None:
    model = "gpt-test+tag=turns"
    with connected_as(alice, idempotency_key="for one call and not for all") as client:
        ids = {client.response(model)["id"] for _ in range(3)}
    assert statuses(gateway, model, 3) == ["completed"] * 3
    records = gateway.usage("model = %s", model)
    assert {f"resp_{record['id'].hex}" for record in records} == ids
    assert {(record["input_tokens"], record["output_tokens"], record["stream"]) for record in records} == {
        (11, 5, True)
    }


def test_turns_that_are_sent_ahead_are_answered_one_after_the_other(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream
) -> None:
    models = [f"gpt-test+tag=ahead{number}+pace=5" for number in range(4)]
    with connected_as(alice) as client:
        for model in models:
            client.create(model)
        answered = [client.answer()[-1]["response"]["model"] for _ in models]
    assert answered == models
    calls = [upstream.ended(model) for model in models]
    assert all(later.at >= (earlier.ended_at or 0) for earlier, later in itertools.pairwise(calls))


def test_more_than_wait_are_refused_and_the_others_are_answered(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream
) -> None:
    slow = "gpt-test+delay=1500+tag=slow"
    with connected_as(alice) as client:
        client.create(slow)
        upstream.call(slow)
        for _ in range(MAX_WAITING + 2):
            client.create()
        refusals = [client.hear() for _ in range(2)]
        assert [(each["status"], each["error"]["code"]) for each in refusals] == [
            (429, "too_many_events")
        ] * 2
        answered = [client.answer()[-1]["type"] for _ in range(MAX_WAITING + 1)]
    assert answered == ["response.completed"] * (MAX_WAITING + 1)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("{", None),
        ("[]", None),
        ("{}", "type"),
        ('{"type": 5}', "type"),
        ('{"type": "response.steer"}', "type"),
        ('{"type": "response.create", "input": "Hello"}', "model"),
        ('{"type": "response.create", "model": "gpt-test", "stream": true}', "stream"),
        ('{"type": "response.create", "model": "gpt-test", "stream": false}', "stream"),
        ('{"type": "response.create", "model": "gpt-test", "stream_options": {}}', "stream_options"),
        ('{"type": "response.create", "model": "gpt-test", "background": true}', "background"),
        ('{"type": "response.create", "model": "gpt-test", "stream_id": "main"}', "stream_id"),
        (b"{}", None),
    ],
)
def test_what_is_no_turn_is_a_400_and_the_connection_stays(
    gateway: Gateway, alice: Person, message: str | bytes, param: str | None
) -> None:
    with connected_as(alice) as client:
        client.connection.send(message)
        event = client.hear()
        assert (event["type"], event["status"], event["error"]["param"]) == ("error", 400, param)
        assert isinstance(event["error"]["code"], str)
        assert event["error"]["message"]
        assert client.response()


def test_null_is_as_good_as_nothing(alice: Person) -> None:
    with connected_as(alice) as client:
        assert client.response(stream=None, stream_options=None, background=None)


def test_codex_may_say_what_it_always_says(alice: Person) -> None:
    with connected_as(alice, openai_beta="responses_websockets=2026-02-06") as client:
        first = client.response(stream=True, stream_options={"include_obfuscation": False})
        client.send({"type": "response.processed", "response_id": first["id"]})
        assert client.response(stream=True)["id"] != first["id"]
        assert client.refusal(background=True)["error"]["param"] == "background"


def test_a_message_is_bounded_as_a_body_is(alice: Person) -> None:
    text, image = "x" * 9_000_000, f"data:image/png;base64,{'x' * 9_000_000}"
    content = [{"type": "input_image", "image_url": image}]
    with connected_as(alice) as client:
        event = client.refusal(input=text)
        assert (event["status"], event["error"]["code"]) == (413, "request_too_large")
        assert client.response(input=[{"role": "user", "content": content}])
        with suppress(ConnectionClosed):  # it need not wait for the end of the message
            client.create(input="x" * 34_000_000)
        assert client.closed() in (1009, BROKEN)


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("x" * 201, 400, "invalid_request_error"),
        ("gpt-test+status=400", 400, None),
        ("gpt-test+status=422", 422, None),
        ("gpt-test+refuse", 502, "upstream_unreachable"),
    ],
)
def test_a_call_that_is_refused_is_an_error_with_its_status(
    alice: Person, model: str, status: int, code: str | None
) -> None:
    over_http = alice.http.post(RESPONSES, json={"model": model, "input": "Hello", "stream": True})
    with connected_as(alice) as client:
        event = client.refusal(model)
        assert event["status"] == over_http.status_code == status
        assert event["error"]["message"] == over_http.json()["error"]["message"]
        assert code in (None, event["error"]["code"])
        assert client.response()


def test_a_limit_that_is_reached_says_when_to_try_again(gateway: Gateway) -> None:
    limits = [{"scope": "key", "requests_per_minute": 1}]
    [owner] = gateway.tenant("sockets-limited")
    gateway.configure({"tenants": [{"slug": "sockets-limited", "name": "x", "limits": limits}]})
    with connected_as(owner) as client:
        assert client.response()
        event = client.refusal()
    assert (event["status"], event["error"]["code"]) == (429, "rate_limit_exceeded")
    assert int(event["error"]["headers"]["retry-after"]) > 0


def test_a_key_that_may_not_use_the_model_is_told_so(gateway: Gateway) -> None:
    gateway.tenant("sockets-narrow")
    key = {
        "name": "narrow",
        "user": "owner@sockets-narrow.test",
        "secret": "sk-narrow-socket-key",
        "models": ["gpt-4*"],
    }
    gateway.configure({"tenants": [{"slug": "sockets-narrow", "name": "Narrow", "api_keys": [key]}]})
    with connected(gateway, authorization="Bearer sk-narrow-socket-key") as client:
        event = client.refusal()
        assert (event["status"], event["error"]["code"]) == (403, "model_not_allowed")
        assert client.response("gpt-4o")


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [("cut=5", "truncated", "upstream_truncated"), ("error_after=5", "failed", None)],
)
def test_a_turn_that_fails_midway_ends_as_over_http(
    gateway: Gateway, alice: Person, options: str, status: str, code: str | None
) -> None:
    model = f"gpt-test+{options}+tag=midway"
    body = {"model": model, "input": "Hello", "stream": True}
    over_http = told(alice.http.post(RESPONSES, json=body).text)
    with connected_as(alice) as client:
        *_, error, last = client.turn(model)
        assert [sorted(error), sorted(last)] == [sorted(event) for event in over_http[-2:]]
        assert [error["type"], last["type"]] == ["error", "response.failed"]
        assert last["response"]["status"] == "failed"
        assert code in (None, error["code"])
        assert client.response()
    assert statuses(gateway, model, 2) == [status] * 2
