"""Processes that make responses are stopped and killed: each response ends, and is paid for once."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest

from tests.conftest import StartGateway
from tests.deadline import until
from tests.gateway.test_celery import celery
from tests.proxy.test_background import (
    RESPONSES,
    Document,
    asked,
    ended,
    events,
    followed,
    look,
    numbers,
    queue,
    record_of,
)
from tests.server import Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

NOTICED_SECONDS = 30.0  # within which those who follow what a process made hear of its end
SETTLED_SECONDS = 60.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def beside(gateway: Gateway) -> Gateway:
    """Another server on the same stores."""
    environment = {name: value for name, value in gateway.environment.items() if name != "PORT"}
    other = Gateway(gateway.folder, environment)
    gateway.closing.enter_context(other)
    return other


def on(gateway: Gateway, person: Person) -> Person:
    """The same person, calling at another server."""
    return gateway.people[person.name]


def begin(person: Person, model: str, count: int, **more: object) -> list[Document]:
    """The first events of a stream that is cut off after them."""
    with person.http.stream("POST", RESPONSES, json={**asked(model, stream=True), **more}) as response:
        told = events(response.iter_lines())
        return [next(told) for _ in range(count)]


def response_of(told: list[Document]) -> str:
    return str(told[0]["response"]["id"])


def making(gateway: Gateway, kind: str) -> bool:
    return bool(gateway.query("SELECT id FROM proxy_worker WHERE kind = %s", kind))


# In the serving process


def test_a_killed_process_fails_what_it_was_making(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway()
    alice = gateway.people["alice"]
    told = begin(alice, "gpt-test+pace=100+words=200", 6)
    gateway.kill9()
    killed_at = time.monotonic()
    gateway.start()
    last = followed(alice, response_of(told), after=3)[-1]
    assert time.monotonic() - killed_at < NOTICED_SECONDS
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["message"]
    assert last["response"] == look(alice, response_of(told))
    assert record_of(gateway, response_of(told), SETTLED_SECONDS)["status"] == "lost"
    assert len(upstream.calls()) == 1


def test_what_nobody_has_seen_is_made_again_after_a_kill(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway()
    alice = gateway.people["alice"]
    upstream.behave("gpt-test", "hang")
    response_id = queue(alice)["id"]
    upstream.call("gpt-test")
    gateway.kill9()
    upstream.behave("gpt-test", "words=3")
    gateway.start()
    told = followed(alice, response_id)
    assert told[-1]["response"]["status"] == "completed"
    assert record_of(gateway, response_id)["status"] == "completed"
    assert gateway.query("SELECT attempts FROM threads_storedresponse") == [{"attempts": 2}]


def test_a_stop_puts_back_what_nobody_has_seen(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway()
    alice = gateway.people["alice"]
    upstream.behave("gpt-test", "hang")
    response_id = queue(alice)["id"]
    upstream.call("gpt-test")
    gateway.stop()
    assert gateway.query("SELECT status, attempts FROM threads_storedresponse") == [
        {"status": "queued", "attempts": 0}
    ]
    assert (gateway.usage(), gateway.open_calls()) == ([], 0)
    upstream.behave("gpt-test", "words=3")
    gateway.start()
    assert ended(alice, response_id)["status"] == "completed"
    assert record_of(gateway, response_id)["status"] == "completed"


def test_a_stop_lets_what_is_made_end(start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    gateway = start_gateway()
    alice = gateway.people["alice"]
    told = begin(alice, "gpt-test+pace=100+words=20", 6)
    gateway.restart()
    response = look(alice, response_of(told))
    assert (response["status"], response["background"]) == ("completed", True)
    assert record_of(gateway, response["id"])["status"] == "completed"


def test_a_stop_fails_what_takes_too_long(start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    gateway = start_gateway(DRAIN_SECONDS="1")
    alice = gateway.people["alice"]
    told = begin(alice, "gpt-test+pace=100+words=500", 6)
    gateway.restart()
    response = look(alice, response_of(told))
    assert (response["status"], response["error"]["code"]) == ("failed", "shutdown")
    assert record_of(gateway, response["id"])["status"] == "truncated"


# Of several processes


@pytest.mark.postgres
@pytest.mark.redis
def test_another_process_follows_what_one_makes(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    first = start_gateway()
    second = beside(first)
    alice = first.people["alice"]
    told = begin(alice, "gpt-test+pace=100+words=20", 6)
    told += followed(on(second, alice), response_of(told), after=told[-1]["sequence_number"])
    assert numbers(told) == list(range(len(told)))
    assert told[-1]["type"] == "response.completed"
    assert len(upstream.calls()) == 1


@pytest.mark.postgres
@pytest.mark.redis
def test_a_foreground_response_of_a_killed_process_fails_for_those_who_follow_it(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    first = start_gateway()
    second = beside(first)
    alice = first.people["alice"]
    told = begin(alice, "gpt-test+pace=100+words=200", 8, background=False)
    first.kill9()
    killed_at = time.monotonic()
    rest = followed(on(second, alice), response_of(told), after=3)
    assert time.monotonic() - killed_at < NOTICED_SECONDS
    # The client may have been a moment ahead of the log: by the last event, which came 100 ms after the one
    # before it.
    logged = [event for event in rest if event["type"] not in ("error", "response.failed")]
    assert len(logged) >= 3
    assert logged[:4] == told[4 : 4 + len(logged)]
    assert rest[-1]["type"] == "response.failed"
    assert numbers(rest) == list(range(4, 4 + len(rest)))
    assert record_of(second, response_of(told), SETTLED_SECONDS)["status"] == "lost"


# In Celery


@pytest.mark.postgres
@pytest.mark.redis
def test_a_response_in_celery_survives_the_web_process(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    first = start_gateway()
    second = beside(first)
    alice = first.people["alice"]
    with celery(first, "worker"):
        until(lambda: making(first, "worker"), seconds=40, what="a worker of Celery's")
        told = begin(alice, "gpt-test+pace=100+words=30", 6)
        first.kill9()
        told += followed(on(second, alice), response_of(told), after=told[-1]["sequence_number"])
    assert numbers(told) == list(range(len(told)))
    assert told[-1]["type"] == "response.completed"
    assert look(on(second, alice), response_of(told)) == told[-1]["response"]
    assert len(upstream.calls()) == 1
    assert record_of(second, response_of(told))["status"] == "completed"


@pytest.mark.postgres
@pytest.mark.redis
def test_a_killed_celery_worker_fails_what_was_seen_and_leaves_the_rest_to_others(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway()
    alice = gateway.people["alice"]
    unseen = f"gpt-test+tag={uuid4().hex}"
    upstream.behave(unseen, "hang")
    with celery(gateway, "worker") as [worker]:
        until(lambda: making(gateway, "worker"), seconds=40, what="a worker of Celery's")
        seen = begin(alice, "gpt-test+pace=100+words=500", 6)
        response_id = queue(alice, unseen)["id"]
        upstream.call(unseen)
        worker.kill()
        killed_at = time.monotonic()
        upstream.behave(unseen, "words=3")
        rest = followed(alice, response_of(seen), after=seen[-1]["sequence_number"])
    assert time.monotonic() - killed_at < NOTICED_SECONDS
    assert (rest[-1]["type"], rest[-1]["response"]["status"]) == ("response.failed", "failed")
    assert numbers(seen + rest) == list(range(len(seen + rest)))
    assert record_of(gateway, response_of(seen), SETTLED_SECONDS)["status"] == "lost"
    assert ended(alice, response_id, NOTICED_SECONDS)["status"] == "completed"
    assert record_of(gateway, response_id)["status"] == "completed"


@pytest.mark.postgres
@pytest.mark.redis
def test_a_stopped_celery_worker_leaves_what_waits_to_the_serving_process(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway()
    alice = gateway.people["alice"]
    upstream.behave("gpt-test", "hang")
    with celery(gateway, "worker") as [worker]:
        until(lambda: making(gateway, "worker"), seconds=40, what="a worker of Celery's")
        response_id = queue(alice)["id"]
        upstream.call("gpt-test")
        upstream.behave("gpt-test", "words=3")
        worker.terminate()
        assert ended(alice, response_id, 20)["status"] == "completed"
    assert record_of(gateway, response_id)["status"] == "completed"
    assert not making(gateway, "worker")
