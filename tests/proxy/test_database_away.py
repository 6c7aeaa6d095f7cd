"""The database goes away and comes back: nothing is lost, and nobody's good key is called bad."""

import threading
from collections.abc import Iterator
from typing import LiteralString

import httpx
import psycopg
import pytest
from psycopg import sql

from tests.cable import Cable
from tests.conftest import StartGateway
from tests.deadline import until
from tests.server import Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

CHAT = "/v1/chat/completions"

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(120)]


@pytest.fixture
def cable(postgres_url: str) -> Iterator[Cable]:
    with Cable(postgres_url) as made:
        yield made


@pytest.fixture
def cabled(start_gateway: StartGateway, cable: Cable) -> Gateway:
    """A server whose only way to its database is the cable."""
    return start_gateway(cable)


def chat(person: Person, model: str, stream: bool = False) -> httpx.Response:
    return person.http.post(CHAT, json={"model": model, "messages": [], "stream": stream})


def test_a_call_that_cannot_be_written_down_is_503_and_never_401(
    cabled: Gateway, cable: Cable, upstream: ScriptedUpstream
) -> None:
    alice = cabled.people["alice"]
    assert chat(alice, "gpt-test").status_code == 200
    cable.cut()
    upstream.clear()
    for person in cabled.people.values():
        response = chat(person, "gpt-test")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "database_unavailable")
        assert response.headers["retry-after"]
    assert upstream.calls() == []
    cable.plug()
    until(lambda: chat(alice, "gpt-test").status_code == 200, what="calls after the database came back")


def test_calls_under_way_settle_on_disk_and_come_in_when_it_is_back(cabled: Gateway, cable: Cable) -> None:
    alice = cabled.people["alice"]
    answers: list[httpx.Response] = []
    call = threading.Thread(
        target=lambda: answers.append(chat(alice, "gpt-test+pace=100+words=20", stream=True))
    )
    call.start()
    until(lambda: cabled.open_calls() == 1, what="the call to be under way")
    cable.cut()
    call.join(30)
    assert answers[0].text.strip().endswith("[DONE]")
    cable.plug()
    record = cabled.usage_of(answers[0].headers["x-request-id"], seconds=20)
    assert (record["status"], record["output_tokens"], record["estimated"]) == ("completed", 20, False)
    assert cabled.open_calls() == 0


def test_what_a_killed_server_had_on_disk_comes_in_after_a_restart(cabled: Gateway, cable: Cable) -> None:
    alice = cabled.people["alice"]
    answers: list[httpx.Response] = []
    call = threading.Thread(
        target=lambda: answers.append(chat(alice, "gpt-test+pace=100+words=20", stream=True))
    )
    call.start()
    until(lambda: cabled.open_calls() == 1, what="the call to be under way")
    cable.cut()
    call.join(30)
    cabled.kill9()
    cable.plug()
    cabled.start()
    record = cabled.usage_of(answers[0].headers["x-request-id"], seconds=60)
    assert (record["status"], record["estimated"]) == ("completed", False)
    assert cabled.open_calls() == 0


def turn_read_only(gateway: Gateway, postgres_url: str) -> None:
    """As a failover does that leads to a standby: connections break, and new ones take no writes."""
    alter(gateway, postgres_url, "SET default_transaction_read_only = on")
    with psycopg.connect(postgres_url, autocommit=True) as operator:
        operator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [gateway.database_name],
        )


def turn_writable(gateway: Gateway, postgres_url: str) -> None:
    """Connections that are there stay as they are."""
    alter(gateway, postgres_url, "RESET default_transaction_read_only")


def alter(gateway: Gateway, postgres_url: str, change: LiteralString) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as operator:
        name = sql.Identifier(gateway.database_name)
        operator.execute(sql.SQL("ALTER DATABASE {} ").format(name) + sql.SQL(change))


def test_a_database_that_takes_no_writes_is_one_that_is_away(
    start_gateway: StartGateway, postgres_url: str
) -> None:
    gateway = start_gateway()
    alice = gateway.people["alice"]
    answers: list[httpx.Response] = []
    call = threading.Thread(
        target=lambda: answers.append(chat(alice, "gpt-test+pace=100+words=20", stream=True))
    )
    call.start()
    until(lambda: gateway.open_calls() == 1, what="the call to be under way")
    turn_read_only(gateway, postgres_url)
    call.join(30)
    assert answers[0].text.strip().endswith("[DONE]")
    until(lambda: chat(alice, "gpt-test").json()["error"]["code"] == "database_unavailable", what="503")
    ready = httpx.get(f"{gateway.url}/readyz", trust_env=False)
    assert (ready.status_code, ready.json()["missing"]) == (503, ["database"])
    turn_writable(gateway, postgres_url)
    until(lambda: chat(alice, "gpt-test").status_code == 200, what="calls once it takes writes")
    record = gateway.usage_of(answers[0].headers["x-request-id"], seconds=20)
    assert (record["status"], record["output_tokens"], record["estimated"]) == ("completed", 20, False)
    until(lambda: httpx.get(f"{gateway.url}/readyz", trust_env=False).status_code == 200, what="readiness")
