"""Streams that several read at once, that are left, and that are told again when their log is gone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.conftest import StartGateway
from tests.proxy.test_background import Document, Events, ended, events, followed, numbers, record_of
from tests.server import Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

RESPONSES = "/v1/responses"
PACED = "gpt-test+pace=40+words=40"


@contextmanager
def made(person: Person, model: str = PACED, **more: object) -> Iterator[Iterator[Document]]:
    """The events of a response that its caller waits for, as they come; left is left."""
    body = {"model": model, "input": "Hello", "stream": True, **more}
    with person.http.stream("POST", RESPONSES, json=body) as response:
        assert response.status_code == 200, response.read()
        yield events(response.iter_lines())


def take(told: Iterator[Document], count: int) -> Events:
    return [next(told) for _ in range(count)]


def response_of(told: Events) -> str:
    return str(told[0]["response"]["id"])


def test_others_read_it_while_it_is_made(gateway: Gateway, alice: Person, upstream: ScriptedUpstream) -> None:
    with made(alice) as stream, ThreadPoolExecutor() as readers:
        first = take(stream, 6)
        others = [
            readers.submit(followed, alice, response_of(first), after) for after in (None, -1, 2, 4, 20)
        ]
        whole = [*first, *stream]
    assert numbers(whole) == list(range(len(whole)))
    assert [reader.result() for reader in others] == [whole, whole, whole[3:], whole[5:], whole[21:]]
    assert len(upstream.calls()) == 1
    assert record_of(gateway, response_of(first))["status"] == "completed"


def test_a_reader_hears_each_event_as_it_comes(alice: Person) -> None:
    """The reader has it while its caller's stream goes on."""
    with made(alice) as stream:
        first = take(stream, 6)
        with alice.http.stream("GET", f"{RESPONSES}/{response_of(first)}?stream=true") as reader:
            heard = take(events(reader.iter_lines()), 8)
        last = list(stream)[-1]
    assert heard[:6] == first
    assert last["sequence_number"] > 2 * len(heard)


def test_a_caller_that_leaves_ends_it(gateway: Gateway, alice: Person, upstream: ScriptedUpstream) -> None:
    with made(alice, f"{PACED}+tag=left") as stream:
        first = take(stream, 6)
    last = followed(alice, response_of(first))[-1]
    assert (last["type"], last["response"]["status"]) == ("response.failed", "cancelled")
    assert ended(alice, response_of(first)) == last["response"]
    assert record_of(gateway, response_of(first))["status"] == "cancelled"
    assert upstream.ended(f"{PACED}+tag=left").ending == "left"


def test_it_goes_on_without_its_caller_where_its_tenant_wants_that(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    (person,) = gateway.tenant("goes-on")
    gateway.configure({"tenants": [{"slug": "goes-on", "name": "Goes-On", "continue_dropped": True}]})
    with made(person, f"{PACED}+tag=on") as stream:
        first = take(stream, 6)
    rest = followed(person, response_of(first), after=5)
    assert numbers([*first, *rest]) == list(range(len(rest) + 6))
    assert rest[-1]["type"] == "response.completed"
    assert ended(person, response_of(first)) == rest[-1]["response"]
    assert record_of(gateway, response_of(first))["status"] == "completed"
    assert len(upstream.calls(f"{PACED}+tag=on")) == 1


def test_what_is_not_stored_never_goes_on_without_its_caller(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    (person,) = gateway.tenant("goes-on-stored")
    gateway.configure({"tenants": [{"slug": "goes-on-stored", "name": "G", "continue_dropped": True}]})
    with made(person, f"{PACED}+tag=gone", store=False) as stream:
        take(stream, 6)
    assert upstream.ended(f"{PACED}+tag=gone").ending == "left"


def test_a_reader_that_leaves_ends_nothing(gateway: Gateway, alice: Person) -> None:
    with made(alice) as stream:
        first = take(stream, 6)
        with alice.http.stream("GET", f"{RESPONSES}/{response_of(first)}?stream=true") as reader:
            take(events(reader.iter_lines()), 2)
        last = list(stream)[-1]
    assert last["type"] == "response.completed"
    assert record_of(gateway, response_of(first))["status"] == "completed"


@pytest.mark.sqlite
def test_it_is_told_again_when_its_log_is_gone(start_gateway: StartGateway) -> None:
    """Of one process without Redis, with that process."""
    gateway = start_gateway()
    alice = gateway.people["alice"]
    with made(alice, "gpt-test") as stream:
        whole = list(stream)
    gateway.restart()
    again = followed(alice, response_of(whole))
    assert again[-1]["response"] == whole[-1]["response"]
    assert numbers(again) == list(range(len(again)))
    assert followed(alice, response_of(whole), after=3) == again[4:]
    (last,) = followed(alice, response_of(whole), after=whole[-2]["sequence_number"])
    assert last["response"] == whole[-1]["response"]
    assert last["sequence_number"] == whole[-1]["sequence_number"]
