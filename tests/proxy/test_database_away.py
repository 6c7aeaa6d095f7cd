"""The database goes away and comes back: nothing is lost, and nobody's good key is called bad."""

import threading
from collections.abc import Iterator

import httpx
import pytest

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
