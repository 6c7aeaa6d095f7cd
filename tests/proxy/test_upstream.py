"""The door to upstreams, by itself, over real sockets, on both loops."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from proxy import upstream
from proxy.http_connection import Broken
from proxy.resolving import Names
from proxy.routing import Timeouts
from proxy.upstream import ConnectTimeout, Outgoing, Silent, Unreachable, Upstreams
from tests.proxy.small_upstreams import (
    HELLO,
    PATIENT,
    Server,
    at,
    close,
    greet,
    reset,
    said,
    serving,
    taking,
    to,
)
from tests.services import free_port

pytestmark = pytest.mark.both_loops


async def test_a_request_goes_out_as_it_was_given(upstreams: Upstreams) -> None:
    server = Server()
    async with serving(server) as port:
        outgoing = Outgoing(
            "POST", f"http://127.0.0.1:{port}/a b/é%2F?q=1", b"body", {"content-type": "text/x"}
        )
        assert await said(upstreams, outgoing) == b"hello"
    assert server.connections == [
        [
            b"POST /a%%20b/%%C3%%A9%%2F?q=1 HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n" % port
            + b"content-type: text/x\r\ncontent-length: 4\r\n\r\nbody"
        ]
    ]


async def test_a_header_that_would_be_two_goes_nowhere(upstreams: Upstreams) -> None:
    outgoing = Outgoing("POST", "http://127.0.0.1:9/", b"", {"x-key": "a\r\nx-other: b"})
    with pytest.raises(ValueError, match="control characters"):
        await upstreams.open(outgoing, PATIENT)


async def test_a_connection_is_used_again_once_its_answer_was_read(upstreams: Upstreams) -> None:
    server = Server()
    async with serving(server) as port:
        for _ in range(3):
            assert await said(upstreams, to(port)) == b"hello"
        assert await asyncio.gather(*(said(upstreams, to(port)) for _ in range(2))) == [b"hello"] * 2
    assert [len(requests) for requests in server.connections] == [4, 1]


async def test_a_connection_is_closed_with_an_answer_that_has_not_ended(upstreams: Upstreams) -> None:
    server = Server()
    server.answers = [HELLO.replace(b"length: 5", b"length: 6")]
    async with serving(server) as port:
        exchange = await upstreams.open(to(port), PATIENT)
        assert await exchange.read() == b"hello"
        exchange.close()
        await server.closed.wait()
        with pytest.raises(Broken):
            await exchange.read()


async def test_closing_twice_takes_no_connection_from_the_next_call(upstreams: Upstreams) -> None:
    async with serving(Server()) as port:
        first = await upstreams.open(to(port), PATIENT)
        assert await first.whole() == b"hello"
        first.close()
        second = await upstreams.open(to(port), PATIENT)
        first.close()
        with pytest.raises(Broken):
            await first.read()
        assert await second.whole() == b"hello"
        second.close()


async def test_a_connection_asked_for_once_is_nobody_elses(upstreams: Upstreams) -> None:
    server = Server()
    async with serving(server) as port:
        assert await said(upstreams, to(port)) == b"hello"
        exchange = await upstreams.open_once(to(port), PATIENT)
        assert await exchange.whole() == b"hello"
        exchange.close()
        assert await said(upstreams, to(port)) == b"hello"
    assert [len(requests) for requests in server.connections] == [2, 1]


async def test_a_kept_connection_that_was_closed_meanwhile_is_made_anew(upstreams: Upstreams) -> None:
    """The upstream closes it in the moment in which it is asked."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"hi")
        writer.write(HELLO)
        await reader.readuntil(b"hi")
        writer.close()

    async with serving(serve) as port:
        for _ in range(4):
            assert await said(upstreams, to(port)) == b"hello"
    assert connections == 4


async def test_what_a_new_connection_does_not_answer_is_not_asked_again(upstreams: Upstreams) -> None:
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.readuntil(b"hi")
        writer.close()

    async with serving(serve) as port:
        with pytest.raises(Unreachable):
            await upstreams.open(to(port), PATIENT)
    assert asked == 1


@pytest.mark.parametrize("take", [close, reset, greet])
async def test_an_upstream_that_takes_no_request_is_unreachable(
    upstreams: Upstreams, take: Callable[[socket.socket], None]
) -> None:
    """As a proxy does that nothing is behind."""
    with taking(take) as port:
        for _ in range(50):
            with pytest.raises(Unreachable):
                await upstreams.open(to(port), PATIENT)


async def test_a_connection_that_nobody_uses_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "_IDLE_CONNECTION_SECONDS", 0.1)
    server, upstreams = Server(), Upstreams()
    async with serving(server) as port:
        assert await said(upstreams, to(port)) == b"hello"
        await server.closed.wait()
        assert await said(upstreams, to(port)) == b"hello"
    assert len(server.connections) == 2
    await upstreams.close()


async def test_who_gives_up_lets_the_upstream_go(upstreams: Upstreams) -> None:
    heard, left = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"hi")
        heard.set()
        await reader.read()
        left.set()
        writer.close()

    async with serving(serve) as port:
        asking = asyncio.create_task(upstreams.open(to(port), PATIENT))
        await heard.wait()
        asking.cancel()
        await left.wait()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_a_stream_whose_end_comes_after_its_last_word_keeps_its_connection(
    upstreams: Upstreams,
) -> None:
    connections = 0
    read = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await reader.readuntil(b"hi")
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
            await read.wait()
            read.clear()
            writer.write(b"0\r\n\r\n")

    async with serving(serve) as port:
        for _ in range(3):
            exchange = await upstreams.open(to(port), PATIENT)
            assert await exchange.read() == b"hello"
            exchange.finish()
            exchange.close()
            read.set()
            await asyncio.sleep(0.05)  # while it comes
    assert connections == 1


async def test_a_stream_that_never_ends_after_its_last_word_loses_its_connection(
    upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "_END_SECONDS", 0.1)
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"hi")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        with suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"5\r\nhello\r\n")
                await reader.read(1)
        left.set()

    async with serving(serve) as port:
        exchange = await upstreams.open(to(port), PATIENT)
        assert await exchange.read()
        exchange.finish()
        exchange.close()
        await left.wait()


async def test_an_upstream_that_takes_the_request_and_says_nothing_is_silent(upstreams: Upstreams) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with serving(serve) as port:
        with pytest.raises(Silent):
            await upstreams.open(to(port), Timeouts(connect=5, first_byte=0.1, idle=5, total=5))


async def test_an_early_refusal_of_a_large_body_is_heard_and_the_connection_closed(
    upstreams: Upstreams,
) -> None:
    refusal = HELLO.replace(b"200 OK", b"413 Too Large")
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal)
        await left.wait()
        writer.close()

    async with serving(serve) as port:
        exchange = await upstreams.open(to(port, body=b"x" * 32 * 1024 * 1024), PATIENT)
        assert (exchange.status, await exchange.whole()) == (413, b"hello")
        exchange.close()
        left.set()


async def test_a_chunk_that_makes_no_sense_ends_the_answer_at_once(upstreams: Upstreams) -> None:
    heard = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"hi")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await heard.wait()
        writer.write(b"zz\r\ngarbage\r\n")
        await reader.read()  # until the gateway closes
        writer.close()

    async with serving(serve) as port:
        exchange = await upstreams.open(to(port), PATIENT)
        assert await exchange.read() == b"hello"
        heard.set()
        with pytest.raises(Broken):
            await exchange.read()
        exchange.close()


# Names and addresses


async def hang(host: str) -> list[str]:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_name_server_that_does_not_answer_takes_no_longer_than_a_connection_may() -> None:
    upstreams = Upstreams(hang)
    with pytest.raises(ConnectTimeout):
        await upstreams.open(to(80, "a.test"), Timeouts(connect=0.1, first_byte=5, idle=5, total=5))
    await upstreams.close()


async def test_a_name_that_leads_to_a_link_local_address_leads_nowhere() -> None:
    upstreams = Upstreams(at("127.0.0.1", "169.254.169.254"))
    server = Server()
    async with serving(server) as port:
        with pytest.raises(Unreachable):
            await upstreams.open(to(port, "a.test"), PATIENT)
    assert server.connections == []
    await upstreams.close()


async def test_an_address_that_refuses_is_followed_by_the_next() -> None:
    upstreams = Upstreams(at("127.0.0.2", "127.0.0.1"))
    server = Server()
    async with serving(server) as port:
        assert await said(upstreams, to(port, "a.test")) == b"hello"
    assert b"host: a.test:%d\r\n" % port in server.connections[0][0]
    await upstreams.close()


async def test_a_name_is_looked_up_once_for_all_who_ask_and_a_failure_is_kept_for_nobody() -> None:
    asked = 0

    async def look_up(host: str) -> list[str]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        if asked == 1:
            raise socket.gaierror("unknown")
        return ["127.0.0.1"]

    upstreams = Upstreams(look_up)
    async with serving(Server()) as port:
        with pytest.raises(Unreachable):
            await upstreams.open(to(port, "a.test"), PATIENT)
        calls = [said(upstreams, to(port, "a.test")) for _ in range(5)]
        assert await asyncio.gather(*calls) == [b"hello"] * 5
    assert asked == 2
    await upstreams.close()


async def test_a_name_without_an_address_is_unreachable() -> None:
    upstreams = Upstreams(at())
    with pytest.raises(Unreachable):
        await upstreams.open(to(80, "a.test"), PATIENT)
    await upstreams.close()


@contextmanager
def silent() -> Iterator[int]:
    """A port of 127.0.0.2 that takes no connection: its queue is full."""
    with ExitStack() as opened:
        listening = opened.enter_context(socket.socket())
        listening.bind(("127.0.0.2", free_port()))
        listening.listen(0)
        for _ in range(4):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


async def test_an_address_that_is_silent_is_followed_by_the_next() -> None:
    upstreams, server = Upstreams(at("127.0.0.2", "127.0.0.1")), Server()
    with silent() as port:
        async with serving(server, port=port):
            began = time.monotonic()
            assert await said(upstreams, to(port, "a.test")) == b"hello"
            assert 0.2 < time.monotonic() - began < 3
    await upstreams.close()


async def test_who_gives_up_while_addresses_are_tried_leaves_nothing_behind() -> None:
    """At whatever moment: also in those in which a connection has just been made."""
    upstreams, connected, left = Upstreams(at("127.0.0.2", "127.0.0.1")), asyncio.Event(), 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        connected.set()
        with suppress(ConnectionError):
            await reader.read()
        left += 1

    with silent() as port:
        async with serving(serve, port=port):
            for turns in range(12):
                connected.clear()
                asking = asyncio.create_task(upstreams.open(to(port, "a.test"), PATIENT))
                await (connected.wait() if turns % 2 else asyncio.sleep(0))
                for _ in range(turns):
                    await asyncio.sleep(0)
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
            while left < 6:
                await asyncio.sleep(0.01)
    await upstreams.close()


async def test_every_address_of_the_best_kind_has_its_turn() -> None:
    names = Names(at("192.0.2.1", "192.0.2.2", "2001:db8::1"))
    told = [await names.addresses("a.test") for _ in range(3)]
    assert told == [
        ["192.0.2.1", "192.0.2.2", "2001:db8::1"],
        ["192.0.2.2", "192.0.2.1", "2001:db8::1"],
        ["192.0.2.1", "192.0.2.2", "2001:db8::1"],
    ]


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "é" * 64 + ".test", "a..test"])
async def test_a_name_that_none_can_have_is_unreachable(upstreams: Upstreams, host: str) -> None:
    with pytest.raises(Unreachable):
        await upstreams.open(to(80, host), PATIENT)
