"""One connection to an upstream, by itself: what comes over it, in every piecing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from proxy.http_connection import MAX_HEAD_BYTES, Broken, HttpConnection, Unanswered

REQUEST = b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 0\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


class Wire(asyncio.Transport):
    """What the connection writes to, and what it does with it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.unsent = 0
        self.reading = True
        self.closed = False

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


def connected() -> tuple[HttpConnection, Wire]:
    connection, wire = HttpConnection(), Wire()
    connection.connection_made(wire)
    return connection, wire


async def answered(connection: HttpConnection, come: Callable[[], None]) -> bytes:
    """The whole of an answer, of which everything comes as soon as it is waited for."""
    asyncio.get_running_loop().call_soon(come)
    await connection.ask(REQUEST, 5)
    body = b""
    while piece := await connection.read():
        body += piece
    return body


def in_pieces(sent: bytes, connection: HttpConnection, wire: Wire) -> None:
    """All of it, or as much as the connection takes."""
    for start in range(0, len(sent), 1000):
        if wire.closed or not wire.reading:
            break
        connection.data_received(sent[start : start + 1000])


WHOLE = [
    pytest.param(HEAD + b"content-length: 5\r\n\r\nhello", b"hello", id="with its length"),
    pytest.param(HEAD + b"content-length: 0\r\n\r\n", b"", id="empty"),
    pytest.param(
        HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;of=5\r\nlo\r\n0\r\nretry-after: 1\r\n\r\n",
        b"hello",
        id="in chunks, with a trailer",
    ),
    pytest.param(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nretry-after: 9\r\n\r\n"
        + HEAD
        + b"content-length: 5\r\n\r\nhello",
        b"hello",
        id="announced",
    ),
    pytest.param(
        HEAD.replace(b"\r\n", b" \t\n") + b"Transfer-Encoding : chunked\r\n\r\n5  \r\nhello\r\n0\r\n\r\n",
        b"hello",
        id="sloppily",
    ),
    pytest.param(b"HTTP/1.1 204\r\ncontent-type: text/plain\r\n\r\n", b"", id="without a body"),
]


@pytest.mark.parametrize(("sent", "body"), WHOLE)
async def test_an_answer_is_read_however_it_is_split(sent: bytes, body: bytes) -> None:
    connection, wire = connected()
    for split in range(1, len(sent)):

        def come(split: int = split) -> None:
            connection.data_received(sent[:split])
            asyncio.get_running_loop().call_soon(connection.data_received, sent[split:])

        assert await answered(connection, come) == body
        assert connection.status == (200 if body or b"200" in sent else 204)
        assert dict(connection.headers)[b"content-type"] == b"text/plain"
        assert b"retry-after" not in dict(connection.headers)
        assert connection.fit
    assert wire.written == REQUEST * (len(sent) - 1)


async def test_an_answer_is_read_byte_by_byte() -> None:
    connection, _ = connected()
    for sent, body in (parameters.values for parameters in WHOLE):
        assert isinstance(sent, bytes)

        def come(sent: bytes = sent) -> None:
            for byte in sent:
                connection.data_received(bytes([byte]))

        assert await answered(connection, come) == body


async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    connection, _ = connected()

    def come() -> None:
        connection.data_received(HEAD + b"\r\nhel")
        connection.data_received(b"lo")
        connection.eof_received()
        connection.connection_lost(None)

    assert await answered(connection, come) == b"hello"
    assert not connection.fit


@pytest.mark.parametrize(
    "begun",
    [
        HEAD + b"content-length: 9\r\n\r\nhello",
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n9\r\nhello",
    ],
)
async def test_an_answer_that_is_cut_off_is_broken_after_what_came(begun: bytes) -> None:
    connection, _ = connected()

    def come() -> None:
        connection.data_received(begun)
        connection.eof_received()
        connection.connection_lost(None)

    asyncio.get_running_loop().call_soon(come)
    await connection.ask(REQUEST, 5)
    assert await connection.read() == b"hello"
    with pytest.raises(Broken):
        await connection.read()
    assert not connection.fit


async def test_a_connection_without_a_length_that_is_reset_is_broken() -> None:
    connection, _ = connected()

    def come() -> None:
        connection.data_received(HEAD + b"\r\nhello")
        connection.connection_lost(ConnectionResetError())

    asyncio.get_running_loop().call_soon(come)
    await connection.ask(REQUEST, 5)
    assert await connection.read() == b"hello"
    with pytest.raises(Broken):
        await connection.read()


@pytest.mark.parametrize(
    "nonsense",
    [
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: " + b"y" * 2 * MAX_HEAD_BYTES,
    ],
)
async def test_what_is_no_body_ends_it_at_once_after_what_was_good(nonsense: bytes) -> None:
    connection, wire = connected()
    asyncio.get_running_loop().call_soon(in_pieces, nonsense, connection, wire)
    await connection.ask(REQUEST, 5)
    assert await connection.read() == b"hello"
    with pytest.raises(Broken):
        await connection.read()
    assert wire.closed


@pytest.mark.parametrize(
    "nonsense",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 050 Odd\r\ncontent-length: 3\r\n\r\nabc" + HEAD + b"content-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        HEAD + b"x: " + b"y" * 2 * MAX_HEAD_BYTES,
        HEAD + b"x: y\r\n" * MAX_HEAD_BYTES,
        b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"content-length: x\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_no_answer(nonsense: bytes) -> None:
    connection, wire = connected()
    asyncio.get_running_loop().call_soon(in_pieces, nonsense, connection, wire)
    with pytest.raises(Broken) as raised:
        await connection.ask(REQUEST, 5)
    assert not isinstance(raised.value, Unanswered)
    assert wire.closed


async def test_a_connection_closed_before_anything_came_is_unanswered() -> None:
    connection, _ = connected()
    asyncio.get_running_loop().call_soon(connection.connection_lost, None)
    with pytest.raises(Unanswered):
        await connection.ask(REQUEST, 5)


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"content-length: 5\r\nconnection: close\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello",
        HEAD + b"content-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nagain",
        HEAD + b"content-length: 5\r\n\r\nhello, and more",
    ],
)
async def test_an_answer_after_which_there_is_no_other(sent: bytes) -> None:
    connection, _ = connected()
    assert await answered(connection, lambda: connection.data_received(sent)) == b"hello"
    assert not connection.fit


async def test_what_comes_unasked_between_two_answers_closes_the_connection() -> None:
    connection, wire = connected()
    sent = HEAD + b"content-length: 5\r\n\r\nhello"
    assert await answered(connection, lambda: connection.data_received(sent)) == b"hello"
    assert connection.fit
    connection.data_received(sent)
    assert wire.closed
    assert not connection.idle


async def test_a_request_that_is_not_sent_yet_keeps_the_connection_from_the_next() -> None:
    connection, wire = connected()
    sent = HEAD + b"content-length: 5\r\n\r\nhello"
    wire.unsent = 1
    assert await answered(connection, lambda: connection.data_received(sent)) == b"hello"
    assert not connection.fit


async def test_what_nobody_reads_is_left_on_its_way() -> None:
    connection, wire = connected()
    megabyte = b"x" * 1024 * 1024

    sent = HEAD + b"content-length: %d\r\n\r\n" % len(megabyte) + megabyte
    asyncio.get_running_loop().call_soon(in_pieces, sent, connection, wire)
    await connection.ask(REQUEST, 5)
    await asyncio.sleep(0)
    assert not wire.reading
    piece = await connection.read()
    assert 256 * 1024 < len(piece) < 260 * 1024
    assert wire.reading


async def test_who_gives_up_closes_the_connection() -> None:
    connection, wire = connected()
    with pytest.raises(TimeoutError):
        await connection.ask(REQUEST, 0)
    assert wire.closed


async def test_who_gives_up_in_the_moment_of_the_answer_closes_it_too() -> None:
    connection, wire = connected()
    asking = asyncio.create_task(connection.ask(REQUEST, 5))
    await asyncio.sleep(0)
    connection.data_received(HEAD + b"content-length: 5\r\n\r\nhello")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert wire.closed
