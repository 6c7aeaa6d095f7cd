"""Model lists of upstreams, from a small server over real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import pytest

from proxy import discovery
from proxy.discovery import Catalogue

KEY = {"authorization": "Bearer sk-of-the-operator"}


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


class Server:
    """Answers every request with `answer`, once `open` is set; keeps what it was asked."""

    def __init__(self) -> None:
        self.answer = listing("gpt-test")
        self.requests: list[str] = []
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.port = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            self.asked.set()
            await self.open.wait()
            writer.write(self.answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def reply(status: str, body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{headers}\r\n"
    return head.encode() + body


def listing(*ids: object) -> bytes:
    return reply("200 OK", json.dumps({"object": "list", "data": [{"id": each} for each in ids]}).encode())


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as listening:
        made.port = listening.sockets[0].getsockname()[1]
        yield made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def names(server: Server, clock: Clock) -> Callable[[], Awaitable[list[str]]]:
    """Asks the server's catalogue as one and the same upstream."""
    catalogue, upstream_id = Catalogue(clock), uuid4()
    return lambda: catalogue.names(upstream_id, server.base_url, KEY)


Names = Callable[[], Awaitable[list[str]]]


async def test_it_lists_what_the_upstream_lists(server: Server) -> None:
    server.answer = listing("gpt-test", "meta-llama/Llama-3:8b", "gpt-test")
    listed = await discovery.discover(uuid4(), server.base_url, KEY)
    assert listed == ["gpt-test", "meta-llama/Llama-3:8b"]
    assert server.requests[0].startswith("GET /v1/models HTTP/1.1\r\n")
    assert "Bearer sk-of-the-operator" in server.requests[0]


async def test_it_asks_again_after_five_minutes(server: Server, clock: Clock, names: Names) -> None:
    await names()
    clock.seconds += discovery.FRESH_SECONDS - 1
    server.answer = listing("newer")
    assert await names() == ["gpt-test"]
    clock.seconds += 1
    assert await names() == ["newer"]
    assert len(server.requests) == 2


async def test_it_keeps_what_it_knows_when_the_upstream_fails(
    server: Server, clock: Clock, names: Names
) -> None:
    await names()
    clock.seconds += discovery.FRESH_SECONDS
    server.answer = reply("500 Internal Server Error", b"{}")
    assert await names() == ["gpt-test"]
    assert await names() == ["gpt-test"]
    assert len(server.requests) == 2


async def test_it_waits_before_it_asks_a_failed_upstream_again(
    server: Server, clock: Clock, names: Names
) -> None:
    server.answer = reply("401 Unauthorized", b"{}")
    assert await names() == []
    server.answer = listing("gpt-test")
    assert await names() == []
    clock.seconds += discovery.RETRY_SECONDS
    assert await names() == ["gpt-test"]
    assert len(server.requests) == 2


async def test_it_asks_once_for_all_that_wait(server: Server, names: Names) -> None:
    server.open.clear()
    waiting = [asyncio.ensure_future(names()) for _ in range(5)]
    await server.asked.wait()
    waiting[0].cancel()
    server.open.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [["gpt-test"]] * 4
    assert len(server.requests) == 1


async def test_it_gives_up_on_a_silent_upstream(
    server: Server, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "TIMEOUT_SECONDS", 0.05)
    server.open.clear()
    assert await names() == []
    server.open.set()


async def test_it_says_in_the_log_what_failed_but_not_the_key(
    server: Server, names: Names, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = reply("403 Forbidden", b"sk-of-the-operator may not")
    with caplog.at_level(logging.INFO):
        await names()
    assert "did not list its models: status 403" in caplog.text
    assert "sk-of" not in caplog.text


async def test_it_follows_no_redirect(server: Server, names: Names) -> None:
    server.answer = reply("302 Found", b"", f"location: {server.base_url}/elsewhere\r\n")
    assert await names() == []
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b'{"data": 7}',
        b'{"data": null}',
        b'{"data": [{"id": "\xff"}]}',
        b" " * (discovery.MAX_BYTES + 1) + b'{"data":[{"id":"late"}]}',
        b"[" * 100_000,
    ],
    ids=["html", "array", "number", "null", "not utf-8", "too long", "too deep"],
)
async def test_it_makes_nothing_of_what_is_not_a_list(server: Server, names: Names, body: bytes) -> None:
    server.answer = reply("200 OK", body)
    assert await names() == []


async def test_it_makes_nothing_of_an_answer_cut_short(server: Server, names: Names) -> None:
    server.answer = listing("gpt-test")[:-5]
    assert await names() == []


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "2852039166"])
async def test_it_asks_no_link_local_address(host: str, caplog: pytest.LogCaptureFixture) -> None:
    assert await Catalogue().names(uuid4(), f"http://{host}/v1", KEY) == []
    assert "link-local" in caplog.text


async def test_it_asks_nobody_at_an_address_that_is_none() -> None:
    assert await Catalogue().names(uuid4(), "http://no such host/v1", KEY) == []


async def test_it_leaves_out_what_cannot_be_a_name(server: Server, names: Names) -> None:
    paths = [
        "/srv/a",
        "./a",
        "~/a",
        "..",
        "a/../b",
        "C:\\models\\a",
        "a.GGUF",
        "a.bin",
        "a.pt",
        "a.safetensors",
    ]
    server.answer = listing(*paths, "", 7, None, "a\nb", "a\u202eb", "x" * 201, "good", "x" * 200)
    assert await names() == ["good", "x" * 200]


async def test_it_lists_five_thousand_and_no_more(server: Server, names: Names) -> None:
    server.answer = listing(*range(3), *(f"m{number}" for number in range(6_000)))
    listed = await names()
    assert (len(listed), listed[-1]) == (5_000, "m4999")
