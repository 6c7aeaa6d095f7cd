"""What bounds the bodies that pages and the management API are sent, whoever sends them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from django.conf import settings

from gateway import bodies
from proxy import asgi as relay
from proxy import http
from proxy.intake import Held
from tests.server import Gateway

PATHS = ("/accounts/login/", "/admin/login/", "/api/api-keys/", "/v1/nowhere", "/")
LIMIT = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
MEGABYTE = b"x" * 1024 * 1024


def endless() -> Iterator[bytes]:
    """More than anybody keeps, in chunks."""
    for _ in range(64):
        yield MEGABYTE


@pytest.mark.parametrize("path", PATHS)
def test_a_large_body_is_refused_whether_or_not_it_says_its_length(gateway: Gateway, path: str) -> None:
    for content in (MEGABYTE * 3, endless()):
        with httpx.Client(base_url=gateway.url, trust_env=False) as client:
            response = client.post(path, content=content, headers={"content-type": "application/json"})
            assert response.status_code == 413
            assert response.json()["error"]["code"] == "request_too_large"
            assert response.headers["x-request-id"]


def test_a_body_within_the_bound_reaches_its_page(gateway: Gateway) -> None:
    response = gateway.people["alice"].http.post(
        "/api/api-keys/",
        content=b'{"name":""%s}' % (b" " * 1_000_000),
        headers={"content-type": "application/json"},
    )
    assert (response.status_code, response.json()["error"]["param"]) == (400, "name")


async def sent(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    """What a client that sends these and then nothing more is answered by a page."""
    coming, answered = asyncio.Queue[dict[str, Any]](), list[dict[str, Any]]()
    for message in messages:
        coming.put_nowait(message)

    async def send(message: Any) -> None:
        answered.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/accounts/login/",
        "headers": [],
        "client": ("192.0.2.1", 1),
    }
    await bodies.application(scope, coming.get, send)
    return answered


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay.PLANE, "relay", SimpleNamespace(held=Held()), raising=False)


@pytest.mark.usefixtures("running")
async def test_a_body_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", 0.05)
    answered = await sent({"type": "http.request", "body": b"a", "more_body": True})
    assert answered[0]["status"] == 408


@pytest.mark.usefixtures("running")
async def test_a_client_that_leaves_in_the_middle_is_answered_nothing() -> None:
    left = {"type": "http.disconnect"}
    assert await sent({"type": "http.request", "body": b"a", "more_body": True}, left) == []
