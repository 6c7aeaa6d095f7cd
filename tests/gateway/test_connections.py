"""What bounds a request before it is anybody's: the size of its headers, and how long they take."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import uvicorn

from gateway.connections import HttpProtocol
from tests.deadline import until
from tests.server import Gateway, Person
from tests.services import free_port

LARGE = b"x-large: " + b"a" * 17_000 + b"\r\n"
PATHS = ("/v1/models", "/", "/admin/login/", "/healthz", "/v1/nowhere")
HEAD_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 2


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        yield connection


def read(connection: socket.socket, mark: bytes = b"no such mark") -> bytes:
    """What comes up to `mark`, or to the connection's end."""
    data = b""
    with suppress(ConnectionResetError):
        while mark not in data and (piece := connection.recv(65536)):
            data += piece
    return data


def head(path: str = "/healthz", *lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (f"GET {path} HTTP/1.1", "host: x", *lines)).encode()


def refused(answer: bytes, status: int, code: str) -> None:
    """In OpenAI's shape, on a connection that ends with it."""
    told, _, body = answer.partition(b"\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"connection: close" in told
    assert b"x-request-id: " in told
    assert json.loads(body)["error"]["code"] == code


@pytest.mark.parametrize("path", PATHS)
def test_it_refuses_large_headers_on_every_path(gateway: Gateway, path: str) -> None:
    with connected(gateway.port) as connection:
        connection.sendall(head(path) + LARGE + b"\r\n")
        refused(read(connection), 413, "headers_too_large")


@pytest.mark.parametrize("path", PATHS)
def test_it_refuses_them_while_they_come(gateway: Gateway, path: str) -> None:
    with connected(gateway.port) as connection:
        connection.sendall(head(path) + b"x-large: ")
        for _ in range(17):
            connection.sendall(b"a" * 1000)
        refused(read(connection), 413, "headers_too_large")


def test_it_tells_who_is_still_sending(gateway: Gateway) -> None:
    with connected(gateway.port) as connection:
        connection.sendall(head() + b"x-large: ")
        for _ in range(20):
            connection.sendall(b"a" * 100_000)
        refused(read(connection), 413, "headers_too_large")


def test_it_stops_reading_them(gateway: Gateway) -> None:
    with connected(gateway.port) as connection:
        connection.sendall(head() + b"x-large: ")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            connection.sendall(b"a" * 40_000_000)


def test_it_refuses_a_long_first_line(gateway: Gateway) -> None:
    with connected(gateway.port) as connection:
        connection.sendall(head("/?" + "a" * 17_000) + b"\r\n")
        refused(read(connection), 413, "headers_too_large")


def test_it_refuses_large_trailers(gateway: Gateway, alice: Person) -> None:
    lines = ("transfer-encoding: chunked", f"authorization: Bearer {alice.api_key}")
    with connected(gateway.port) as connection:
        connection.sendall(head("/v1/chat/completions", *lines).replace(b"GET", b"POST") + b"\r\n")
        connection.sendall(b"2\r\n{}\r\n0\r\n")
        with suppress(OSError):
            for _ in range(40):
                connection.sendall(b"x-trailer: " + b"a" * 1000 + b"\r\n")
        assert read(connection) == b""


def test_it_takes_many_small_requests_at_once(gateway: Gateway) -> None:
    with connected(gateway.port) as connection:
        requests = 1000
        connection.sendall((head() + b"\r\n") * (requests - 1) + head("/healthz", "connection: close"))
        connection.sendall(b"\r\n")
        assert read(connection).count(b"HTTP/1.1 200") == requests


def test_it_takes_one_after_a_large_body(gateway: Gateway, alice: Person) -> None:
    """The bytes of a body are nobody's headers, however they are cut."""
    body = json.dumps({"model": "demo", "messages": [], "user": "x" * 100_000}).encode()
    lines = (f"content-length: {len(body)}", f"authorization: Bearer {alice.api_key}")
    call = head("/v1/chat/completions", *lines).replace(b"GET", b"POST") + b"\r\n" + body
    with connected(gateway.port) as connection:
        connection.sendall(call + head("/healthz", "connection: close"))
        connection.sendall(b"x-last: 1\r\n\r\n")
        assert read(connection).count(b"HTTP/1.1 200") == 2


def test_it_says_what_is_no_http_in_openais_shape(gateway: Gateway) -> None:
    with connected(gateway.port) as connection:
        connection.sendall(b"HELLO\r\n\r\n")
        refused(read(connection), 400, None)  # type: ignore[arg-type]


def test_it_sends_http_1_0_no_chunks(gateway: Gateway, alice: Person) -> None:
    body = json.dumps({"model": "demo", "stream": True, "messages": [{"role": "user", "content": "Hello"}]})
    lines = (f"content-length: {len(body)}", f"authorization: Bearer {alice.api_key}")
    call = head("/v1/chat/completions", *lines).replace(b"GET", b"POST").replace(b"HTTP/1.1", b"HTTP/1.0")
    with connected(gateway.port) as connection:
        connection.sendall(call + b"\r\n" + body.encode())
        told, _, events = read(connection).partition(b"\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 200")
    assert b"transfer-encoding" not in told
    assert b"connection: close" in told
    assert events.startswith(b"data: {")
    assert events.endswith(b"data: [DONE]\n\n")
    assert all(line.startswith(b"data: ") for line in events.split(b"\n\n")[:-1])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/healthz", "/static/gateway/icon.svg", "/v1/nowhere"])
def test_it_sends_http_1_0_what_has_a_length(gateway: Gateway, path: str, method: str) -> None:
    with connected(gateway.port) as connection:
        connection.sendall(f"{method} {path} HTTP/1.0\r\nhost: x\r\n\r\n".encode())
        told, _, body = read(connection).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in told
    [length] = [int(line.split(b":")[1]) for line in told.split(b"\r\n") if b"content-length" in line.lower()]
    assert len(body) == (length if method == "GET" else 0)


class Impatient(HttpProtocol):
    head_seconds = HEAD_SECONDS


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers at once, or, at /slow, when three times as much as headers have is over."""
    if scope["path"] == "/slow":
        await asyncio.sleep(3 * HEAD_SECONDS)
    headers = [(b"content-length", b"4")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"well"})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server whose clients have half a second for their headers."""
    config = uvicorn.Config(
        application,
        port=free_port(),
        http=Impatient,
        lifespan="off",
        log_config=None,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started, what="the server")
    yield config.port
    server.should_exit = True
    thread.join(10)


def lasted(connection: socket.socket) -> tuple[float, bytes]:
    """How long it took until the server closed it, and what it said."""
    begun = time.monotonic()
    said = read(connection)
    return time.monotonic() - begun, said


def test_it_closes_a_connection_that_says_nothing(port: int) -> None:
    with connected(port) as connection:
        seconds, said = lasted(connection)
    assert said == b""
    assert HEAD_SECONDS - 0.1 < seconds < KEEP_ALIVE_SECONDS


def trickle(connection: socket.socket) -> None:
    """A byte of a header now and then, until the other end is closed."""
    with suppress(OSError):
        while not select_readable(connection):
            connection.sendall(b"a")


def select_readable(connection: socket.socket) -> bool:
    connection.settimeout(0.1)
    try:
        return bool(connection.recv(1, socket.MSG_PEEK)) or True
    except TimeoutError:
        return False
    finally:
        connection.settimeout(10)


def test_it_refuses_headers_that_trickle(port: int) -> None:
    begun = time.monotonic()
    with connected(port) as connection:
        connection.sendall(head() + b"x-slow: ")
        trickle(connection)
        refused(read(connection), 408, "request_timeout")
    assert time.monotonic() - begun < KEEP_ALIVE_SECONDS


def test_it_refuses_those_of_a_later_request(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(head() + b"\r\n")
        read(connection, b"well")
        connection.sendall(head() + b"x-slow: ")
        trickle(connection)
        refused(read(connection), 408, "request_timeout")


def test_it_keeps_a_connection_at_rest_for_longer(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(head() + b"\r\n")
        read(connection, b"well")
        seconds, said = lasted(connection)
    assert said == b""
    assert seconds > KEEP_ALIVE_SECONDS - 0.5


def test_it_closes_one_at_rest_on_which_nothing_begins(port: int) -> None:
    """An empty line is no request, and ends the time that uvicorn itself sets."""
    with connected(port) as connection:
        connection.sendall(head() + b"\r\n")
        read(connection, b"well")
        connection.sendall(b"\r\n")
        seconds, said = lasted(connection)
    assert said == b""
    assert seconds < 2 * KEEP_ALIVE_SECONDS


def test_it_closes_one_whose_body_nobody_waits_for(port: int) -> None:
    """The answer was given without it."""
    with connected(port) as connection:
        connection.sendall(head("/", "content-length: 100") + b"\r\n")
        read(connection, b"well")
        trickle(connection)
        assert read(connection) == b""


def test_it_leaves_an_answer_that_is_under_way(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(head("/slow") + b"\r\n" + head())  # and a request that is never whole
        answer = read(connection)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"well")
