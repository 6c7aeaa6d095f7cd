"""The door to upstreams, by itself, over real sockets."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxy import upstream
from proxy.http_connection import Broken
from proxy.resolving import Address
from proxy.routing import Timeouts
from proxy.upstream import ConnectTimeout, Outgoing, Silent, Unreachable, Upstreams

PATIENT = Timeouts(connect=5, first_byte=5, idle=5, total=5)
HELLO = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port where it is served."""
    tasks = set()

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            await serve(reader, writer)
        finally:
            writer.transport.abort()

    async with asyncio.timeout(20), await asyncio.start_server(begin, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]
        for task in filter(None, tasks):
            task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)


@pytest.fixture
async def upstreams() -> AsyncIterator[Upstreams]:
    opened = Upstreams()
    yield opened
    await opened.close()


def to(port: int, host: str = "127.0.0.1", scheme: str = "http", body: bytes = b"hi") -> Outgoing:
    return Outgoing("POST", f"{scheme}://{host}:{port}/v1/x", body, {"x-key": "secret"})


async def said(upstreams: Upstreams, outgoing: Outgoing) -> bytes:
    exchange = await upstreams.open(outgoing, PATIENT)
    try:
        return await exchange.whole()
    finally:
        exchange.close()


class Server:
    """Says HELLO to every request, and remembers what came over which connection."""

    def __init__(self) -> None:
        self.connections: list[list[bytes]] = []
        self.closed = asyncio.Event()
        self.answers = [HELLO]  # the last of them for ever

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests: list[bytes] = []
        self.connections.append(requests)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                requests.append(head + await reader.readexactly(length_of(head)))
                writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            self.closed.set()


def length_of(head: bytes) -> int:
    return int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])


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


async def hang(host: str, port: int) -> list[Address]:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_name_server_that_does_not_answer_takes_no_longer_than_a_connection_may() -> None:
    upstreams = Upstreams(hang)
    with pytest.raises(ConnectTimeout):
        await upstreams.open(to(80, "a.test"), Timeouts(connect=0.1, first_byte=5, idle=5, total=5))
    await upstreams.close()


def at(*hosts: str) -> Callable[[str, int], Awaitable[list[Address]]]:
    """Every name has these addresses."""

    async def look_up(host: str, port: int) -> list[Address]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port)) for address in hosts]

    return look_up


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

    async def look_up(host: str, port: int) -> list[Address]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        if asked == 1:
            raise socket.gaierror("unknown")
        return await at("127.0.0.1")(host, port)

    upstreams = Upstreams(look_up)
    async with serving(Server()) as port:
        with pytest.raises(Unreachable):
            await upstreams.open(to(port, "a.test"), PATIENT)
        calls = [said(upstreams, to(port, "a.test")) for _ in range(5)]
        assert await asyncio.gather(*calls) == [b"hello"] * 5
    assert asked == 2
    await upstreams.close()


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "é" * 64 + ".test", "a..test"])
async def test_a_name_that_none_can_have_is_unreachable(upstreams: Upstreams, host: str) -> None:
    with pytest.raises(Unreachable):
        await upstreams.open(to(80, host), PATIENT)


# TLS


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """What a server needs to be trusted as localhost; what this process trusts is the same."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "certificate.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    upstream._tls.cache_clear()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    yield context
    upstream._tls.cache_clear()


async def test_a_secure_upstream_is_asked_securely(upstreams: Upstreams, certificate: ssl.SSLContext) -> None:
    server = Server()
    async with serving(server, certificate) as port:
        for host in ("127.0.0.1", "localhost", "localhost"):
            assert await said(upstreams, to(port, host, "https", b"x" * 300_000)) == b"hello"
    assert [len(requests) for requests in server.connections] == [1, 2]


async def test_a_certificate_for_another_name_is_no_upstream(certificate: ssl.SSLContext) -> None:
    upstreams, server = Upstreams(at("127.0.0.1")), Server()
    async with serving(server, certificate) as port:
        with pytest.raises(Unreachable):
            await upstreams.open(to(port, "other.test", "https"), PATIENT)
    assert server.connections == []
    await upstreams.close()
