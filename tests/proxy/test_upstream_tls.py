"""The door to secure upstreams, on both loops."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxy import upstream
from proxy.http_connection import Broken
from proxy.upstream import Unreachable, Upstreams
from tests.proxy.small_upstreams import (
    HELLO,
    PATIENT,
    Server,
    at,
    length_of,
    reset,
    said,
    serving,
    taking,
    to,
)

pytestmark = pytest.mark.both_loops


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


def answering(certificate: ssl.SSLContext, answer: bytes, *, farewell: bool) -> AbstractContextManager[int]:
    """The port of a server that answers with these bytes and closes at once, with a farewell or without."""

    def take(connection: socket.socket) -> None:
        with certificate.wrap_socket(connection, server_side=True) as secured:
            secured.recv(65536)
            secured.sendall(answer)
            if farewell:
                secured.setblocking(False)
                with suppress(ssl.SSLWantReadError):
                    secured.unwrap()

    return taking(take)


@pytest.mark.parametrize("farewell", [True, False])
@pytest.mark.parametrize("length", ["content-length: %d\r\n", ""])
async def test_an_answer_over_tls_is_whole_though_its_upstream_closes_at_once(
    upstreams: Upstreams, certificate: ssl.SSLContext, farewell: bool, length: str
) -> None:
    body = b"x" * 2 * 1024 * 1024
    head = "HTTP/1.1 200 OK\r\nconnection: close\r\n" + (length % len(body) if length else "") + "\r\n"
    with answering(certificate, head.encode() + body, farewell=farewell) as port:
        for _ in range(5):
            assert await said(upstreams, to(port, "localhost", "https")) == body


async def test_an_answer_over_tls_that_is_cut_off_is_broken(
    upstreams: Upstreams, certificate: ssl.SSLContext
) -> None:
    with answering(certificate, HELLO.replace(b"length: 5", b"length: 6"), farewell=False) as port:
        exchange = await upstreams.open(to(port, "localhost", "https"), PATIENT)
        assert await exchange.read() == b"hello"
        with pytest.raises(Broken):
            await exchange.read()
        exchange.close()


async def test_an_early_refusal_over_tls_takes_its_connection_with_it(
    upstreams: Upstreams, certificate: ssl.SSLContext
) -> None:
    """What is left of a large request would come before the next one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if length_of(head) > 2:
            writer.write(HELLO.replace(b"200 OK", b"413 Too Large"))
            await asyncio.sleep(5)
        writer.write(HELLO)
        await writer.drain()

    async with serving(serve, certificate) as port:
        refused = await upstreams.open(to(port, "localhost", "https", b"x" * 32 * 1024 * 1024), PATIENT)
        assert (refused.status, await refused.whole()) == (413, b"hello")
        refused.close()
        assert await said(upstreams, to(port, "localhost", "https")) == b"hello"


async def test_a_secure_upstream_that_resets_takes_nobody_elses_connection(
    upstreams: Upstreams, certificate: ssl.SSLContext
) -> None:
    with taking(reset) as port:
        for _ in range(20):
            failed: Exception | None = None
            try:
                await upstreams.open(to(port, "localhost", "https"), PATIENT)
            except Unreachable as error:
                failed = error
            assert failed is not None
            ours, theirs = socket.socketpair()  # with the numbers that have just become free
            with ours, theirs:
                del failed
                gc.collect()
                ours.send(b"x")
                assert theirs.recv(1) == b"x"


async def test_a_name_may_end_in_a_dot(certificate: ssl.SSLContext) -> None:
    upstreams = Upstreams(at("127.0.0.1"))
    async with serving(Server(), certificate) as port:
        assert await said(upstreams, to(port, "localhost.", "https")) == b"hello"
    await upstreams.close()
