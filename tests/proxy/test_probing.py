"""Asking an upstream whether it answers, over real sockets, and what is told of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from proxy import discovery
from proxy.models import Upstream
from proxy.probing import probe
from proxy.sealing import seal, upstream_context
from tests.services import free_port

KEY = "sk-of-the-operator"
LIST = json.dumps({"data": [{"id": "gpt-test"}, {"id": "gpt-other"}]}).encode()


class Answers(BaseHTTPRequestHandler):
    """Answers each request as the test says, and keeps what it was asked."""

    status: ClassVar[int]
    body: ClassVar[bytes]
    asked: ClassVar[list[tuple[str, str | None]]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["authorization"]))
        self.send_response(self.status)
        self.send_header("content-length", str(len(self.body)))
        self.send_header("location", "/elsewhere")
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def listening() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


@pytest.fixture
def address(listening: str) -> str:
    Answers.status, Answers.body, Answers.asked = 200, LIST, []
    return listening


def upstream(address: str, dialect: str = "openai", *, key: str = KEY) -> Upstream:
    row = Upstream(name="asked", dialect=dialect, base_url=address)
    row.sealed_api_key = seal(key, upstream_context(row)) if key else None
    return row


def test_it_says_how_many_models_a_server_lists(address: str) -> None:
    found = probe(upstream(address))
    assert (found.reachable, found.well, found.status) == (True, True, 200)
    assert found.names == ("gpt-test", "gpt-other")
    assert found.message == "It answers, and lists 2 models."
    assert found.milliseconds is not None
    assert Answers.asked == [("/v1/models", f"Bearer {KEY}")]


@pytest.mark.parametrize(
    ("status", "key", "message"),
    [
        (401, KEY, "refuses the key"),
        (403, "", "wants a key"),
        (404, KEY, "/v1"),
        (302, KEY, "redirect"),
        (429, KEY, "no more requests"),
        (503, KEY, "status 503"),
        (418, KEY, "status 418"),
    ],
)
def test_it_says_what_a_server_refuses(address: str, status: int, key: str, message: str) -> None:
    Answers.status, Answers.body = status, f"{KEY} is not taken".encode()
    found = probe(upstream(address, key=key))
    assert (found.reachable, found.well, found.status, found.names) == (True, False, status, ())
    assert message in found.message
    assert KEY not in str(found)
    assert len(Answers.asked) == 1  # and follows no redirect


def test_it_says_when_what_answers_is_no_list(address: str) -> None:
    Answers.body = b"<html>"
    found = probe(upstream(address))
    assert (found.reachable, found.well) == (True, False)
    assert "not with a list" in found.message


@pytest.mark.parametrize(("status", "well"), [(200, True), (405, True), (401, False), (500, False)])
def test_it_only_looks_for_a_server_that_lists_nothing(address: str, status: int, well: bool) -> None:
    Answers.status = status
    found = probe(upstream(address, "chatkit"))
    assert (found.reachable, found.well, found.names) == (True, well, ())
    assert Answers.asked[0][0] == "/v1"


@pytest.mark.parametrize(
    ("base_url", "message"),
    [
        ("http://169.254.169.254/v1", "link-local"),
        ("http://no such host/v1", "No such host"),
        (f"http://{'a' * 70}/v1", "cannot be called"),
    ],
)
def test_it_says_why_an_address_leads_nowhere(base_url: str, message: str) -> None:
    found = probe(upstream(base_url))
    assert (found.reachable, found.well, found.status) == (False, False, None)
    assert message in found.message


def test_it_says_that_nothing_listens() -> None:
    assert "Nothing takes a connection" in probe(upstream(f"http://127.0.0.1:{free_port()}/v1")).message


def test_it_says_that_there_is_no_safe_connection(address: str) -> None:
    assert "no safe connection" in probe(upstream(address.replace("http:", "https:"))).message


def test_it_does_not_wait_for_ever(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "TIMEOUT_SECONDS", 0.0)
    assert "does not answer within" in probe(upstream(address)).message


def test_it_calls_nobody_without_the_secrets(address: str) -> None:
    row = upstream(address)
    row.base_url += "/moved"
    assert "set them again" in probe(row).message
    assert Answers.asked == []


def test_it_knows_that_the_demo_answers() -> None:
    found = probe(Upstream(name="demo", dialect="demo"))
    assert (found.well, found.names) == (True, ("demo",))
