"""Every way a call may end: one usage record, no open call, and never a false `[DONE]`."""

import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import httpx
import psycopg
import pytest

from tests.conftest import StartGateway
from tests.deadline import until
from tests.server import Gateway, Person, Row
from tests.upstreams.scripted import ScriptedUpstream

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Say something."}]


def call(person: Person, model: str, stream: bool = True, path: str = CHAT) -> httpx.Response:
    return person.http.post(path, json={"model": model, "messages": MESSAGES, "input": "x", "stream": stream})


def record_of(gateway: Gateway, response: httpx.Response) -> Row:
    record = gateway.usage_of(response.headers["x-request-id"])
    assert gateway.query("SELECT id FROM proxy_opencall WHERE id = %s", record["id"]) == []
    return record


def error_event(response: httpx.Response) -> dict[str, Any]:
    """The event that tells of the error, which must be the last; but for the end of a Response."""
    lines = [line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: ")]
    if '"type":"response.failed"' in lines[-1]:
        lines.pop()
    error: dict[str, Any] = json.loads(lines[-1])["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    return error


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ("cut=3+pace=50", "truncated", "upstream_truncated"),
        ("end=3", "truncated", "upstream_truncated"),
        ("error_after=3", "failed", None),
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/responses"])
def test_a_stream_that_is_not_whole_ends_in_an_error(
    gateway: Gateway, alice: Person, options: str, status: str, code: str | None, path: str
) -> None:
    response = call(alice, f"gpt-test+{options}", path=path)
    record = record_of(gateway, response)
    assert response.status_code == 200
    assert "[DONE]" not in response.text
    assert "response.completed" not in response.text
    assert error_event(response)["message"]
    assert record["status"] == status
    assert record["estimated"] is True
    assert record["output_tokens"] >= 1
    assert record["input_tokens"] > 0
    if code:
        assert error_event(response)["code"] == record["error_code"] == code


def test_a_stream_that_finished_without_the_marker_is_whole(gateway: Gateway, alice: Person) -> None:
    response = call(alice, "gpt-test+nodone")
    assert response.text.strip().endswith("[DONE]")
    assert record_of(gateway, response)["status"] == "completed"


def test_an_answer_cut_in_its_middle_is_502(gateway: Gateway, alice: Person) -> None:
    response = call(alice, "gpt-test+cut=1", stream=False)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_truncated")
    assert record_of(gateway, response)["status"] == "truncated"


@pytest.mark.parametrize("usage", ["missing", "null"])
def test_usage_that_nobody_reported_is_estimated(gateway: Gateway, alice: Person, usage: str) -> None:
    for stream in (True, False):
        record = record_of(gateway, call(alice, f"gpt-test+usage={usage}", stream=stream))
        assert record["status"] == "completed"
        assert record["estimated"] is True
        assert record["input_tokens"] > 0


@pytest.mark.parametrize("usage", ["own_chunk", "always", "last_choice"])
def test_usage_is_the_upstreams_own_however_it_is_sent(gateway: Gateway, alice: Person, usage: str) -> None:
    record = record_of(gateway, call(alice, f"gpt-test+usage={usage}+reasoning_tokens=2"))
    counts = (record["input_tokens"], record["output_tokens"], record["cached_input_tokens"])
    assert counts == (11, 7, 3)
    assert record["reasoning_tokens"] == 2
    assert record["estimated"] is False


def patient(start_gateway: StartGateway, **seconds: float) -> Person:
    """A caller of a server whose upstream has these timeouts, in seconds."""
    gateway = start_gateway()
    for name, value in seconds.items():
        gateway.query(f"UPDATE proxy_upstream SET {name}_timeout_seconds = %s WHERE name = 'openai'", value)
    gateway.restart()
    return gateway.people["alice"]


def test_an_upstream_that_never_begins_is_504(start_gateway: StartGateway) -> None:
    alice = patient(start_gateway, first_byte=0.5)
    response = call(alice, "gpt-test+hang", stream=False)
    assert (response.status_code, response.json()["error"]["code"]) == (504, "upstream_timeout")
    assert record_of(alice.gateway, response)["status"] == "failed"


def test_a_stream_that_falls_silent_ends_in_an_error(start_gateway: StartGateway) -> None:
    alice = patient(start_gateway, idle=0.5)
    response = call(alice, "gpt-test+hang_after=3")
    assert error_event(response)["code"] == "upstream_timeout"
    assert "[DONE]" not in response.text
    assert record_of(alice.gateway, response)["status"] == "truncated"


def test_a_call_that_takes_too_long_in_all_ends(start_gateway: StartGateway) -> None:
    alice = patient(start_gateway, total=1.0)
    response = call(alice, "gpt-test+pace=50+words=200")
    assert error_event(response)["code"] == "upstream_timeout"
    assert record_of(alice.gateway, response)["status"] == "truncated"


def open_stream(
    gateway: Gateway, person: Person, model: str, messages: Sequence[object] = MESSAGES
) -> socket.socket:
    """A client of its own on a bare socket, which may leave as it likes."""
    body = json.dumps({"model": model, "messages": messages, "stream": True})
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=20)
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {person.api_key}\r\n"
    connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
    return connection


@pytest.mark.parametrize("options", ["pace=20+words=500", "hang", "hang_after=2", "delay=30000"])
def test_a_client_that_leaves_frees_the_upstream_within_a_second(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream, options: str
) -> None:
    model = f"gpt-test+{options}+tag=leaves"
    connection = open_stream(gateway, alice, model)
    if "pace" in options or "hang_after" in options:
        connection.recv(65536)
    upstream.call(model)
    left_at = time.monotonic()
    connection.close()
    received = upstream.ended(model)
    assert received.ending == "left"
    assert received.ended_at is not None
    assert received.ended_at - left_at < 1
    rows = until(lambda: gateway.usage("model = %s", model), what="the record")
    assert [(row["status"], row["estimated"]) for row in rows] == [("cancelled", True)]
    assert until(lambda: gateway.open_calls() == 0, what="no open call")


@contextmanager
def nothing_is_settled(gateway: Gateway) -> Iterator[None]:
    """As when the database is slow: settlements wait."""
    if gateway.database_url:
        with psycopg.connect(gateway.database_url) as connection:
            connection.execute("LOCK TABLE proxy_usagerecord IN EXCLUSIVE MODE")
            yield
        return
    with closing(sqlite3.connect(gateway.folder / "data" / "tollgate.sqlite3")) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def test_a_client_that_leaves_frees_the_upstream_whatever_the_database_does(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream
) -> None:
    model = "gpt-test+hang_after=2+tag=leaves-while-locked"
    connection = open_stream(gateway, alice, model)
    connection.recv(65536)
    upstream.call(model)
    with nothing_is_settled(gateway):
        connection.close()
        assert upstream.ended(model, seconds=2).ending == "left"
        assert gateway.usage("model = %s", model) == []
    rows = until(lambda: gateway.usage("model = %s", model), what="the record")
    assert [row["status"] for row in rows] == ["cancelled"]


def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing(
    gateway: Gateway, alice: Person
) -> None:
    before = len(gateway.usage())
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {alice.api_key}\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(f"{head}content-length: 1000\r\n\r\n".encode() + b'{"model"')
    assert call(alice, "gpt-test").status_code == 200
    assert len(gateway.usage()) == before + 1


def test_a_stream_under_way_is_told_when_the_server_stops(start_gateway: StartGateway) -> None:
    gateway = start_gateway(DRAIN_SECONDS="1")
    alice = gateway.people["alice"]
    connection = open_stream(gateway, alice, "gpt-test+pace=50+words=2000")
    first = connection.recv(65536)
    reader = Reader(connection)
    gateway.stop()
    text = (first + reader.rest()).decode()
    connection.close()
    assert "[DONE]" not in text
    assert '"code":"shutdown"' in text
    assert [row["status"] for row in gateway.usage()] == ["truncated"]
    assert gateway.open_calls() == 0


class Reader:
    """Reads a connection to its end in the background."""

    def __init__(self, connection: socket.socket) -> None:
        self._pieces: list[bytes] = []
        self._thread = threading.Thread(target=self._read, args=(connection,))
        self._thread.start()

    def _read(self, connection: socket.socket) -> None:
        while piece := connection.recv(65536):
            self._pieces.append(piece)

    def rest(self) -> bytes:
        self._thread.join(20)
        return b"".join(self._pieces)


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("options", "last"), [("delay=16500", "[DONE]"), ("delay=16500+status=400", "error")]
)
def test_a_stream_that_is_slow_to_begin_is_kept_alive(
    gateway: Gateway, alice: Person, options: str, last: str
) -> None:
    body = {"model": f"gpt-test+{options}", "messages": MESSAGES, "stream": True}
    began = time.monotonic()
    with alice.http.stream("POST", CHAT, json=body) as response:
        pieces = response.iter_raw()
        first = next(pieces)
        waited = time.monotonic() - began
        rest = b"".join(pieces).decode()
    assert first == b": keep-alive\n\n"
    assert 14.5 < waited < 16.5
    assert (response.status_code, last in rest) == (200, True)
    assert gateway.usage_of(response.headers["x-request-id"])["status"] in ("completed", "failed")
