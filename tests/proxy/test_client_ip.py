"""Whose a call without a credential is taken to be, with proxies in front and without."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network

import httpx
import pytest

from proxy.http import Message, Request, client_ip
from tests.conftest import StartGateway
from tests.deadline import until
from tests.server import Gateway

CHAT = "/v1/chat/completions"
TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.5", "", "203.0.113.5"),
        ("203.0.113.5", "198.51.100.1", "203.0.113.5"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "192.0.2.66, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "192.0.2.66,198.51.100.1 , 10.2.3.4", "198.51.100.1"),
        ("10.0.0.1", "10.9.9.9, 10.2.3.4", "10.9.9.9"),
        ("fd00::1", "2001:DB8::7", "2001:db8::7"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("", "198.51.100.1", ""),
    ],
)
def test_it_believes_trusted_proxies_and_nobody_else(peer: str, forwarded: str, client: str) -> None:
    assert client_ip(peer, forwarded, TRUSTED) == client


@pytest.mark.parametrize("malformed", ["unknown", "", "198.51.100.1:80", "10.0.0.0/8", "\x80", "1" * 5000])
def test_it_stops_at_what_is_no_address(malformed: str) -> None:
    assert client_ip("10.0.0.1", f"198.51.100.1, {malformed}, 10.2.3.4", TRUSTED) == "10.2.3.4"
    assert client_ip("10.0.0.1", malformed, TRUSTED) == "10.0.0.1"


def test_it_trusts_nobody_unless_told_to() -> None:
    assert client_ip("127.0.0.1", "198.51.100.1", []) == "127.0.0.1"


async def nothing() -> Message:
    return {"type": "http.disconnect"}


def test_it_reads_several_header_lines_as_one() -> None:
    lines = [(b"x-forwarded-for", b"192.0.2.66, 198.51.100.1"), (b"x-forwarded-for", b"10.2.3.4")]
    scope = {"method": "POST", "path": CHAT, "headers": lines, "client": ("10.0.0.1", 5000)}
    assert Request(scope, nothing, TRUSTED).client_ip == "198.51.100.1"


@contextmanager
def large_body_under_way(gateway: Gateway, address: str) -> Iterator[None]:
    """A body of 30 MB without a credential, of what a client may hold in memory almost all."""
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nx-forwarded-for: {address}\r\ncontent-length: 30000000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(head.encode())
        yield


def refusal(gateway: Gateway, address: str) -> str:
    """What another 4 MB from there without a credential are told."""
    body = b'{"a":"' + b"x" * 4_000_000 + b'"}'
    response = httpx.post(gateway.url + CHAT, content=body, headers={"x-forwarded-for": address})
    return str(response.json()["error"]["code"])


def test_it_shares_memory_out_by_the_address_that_a_trusted_proxy_names(start_gateway: StartGateway) -> None:
    gateway = start_gateway(TRUSTED_PROXIES="127.0.0.0/8")
    with large_body_under_way(gateway, "198.51.100.1"):
        until(lambda: refusal(gateway, "198.51.100.1") == "too_many_bytes")
        assert refusal(gateway, "198.51.100.2") == "missing_api_key"


def test_it_shares_memory_out_by_the_peer_whatever_it_says_it_is(gateway: Gateway) -> None:
    with large_body_under_way(gateway, "198.51.100.1"):
        until(lambda: refusal(gateway, "198.51.100.2") == "too_many_bytes")
