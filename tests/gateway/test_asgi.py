"""The three planes behind one port, however they are served."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.conftest import StartGateway
from tests.deadline import until
from tests.server import BOOTSTRAP_API_KEY, PROJECT, Gateway
from tests.services import free_port
from tests.sockets import connected, refused

HEADERS = {"authorization": f"Bearer {BOOTSTRAP_API_KEY}"}
UPGRADE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dG9sbGdhdGUgdGVzdHMgIQ==",
}


@contextmanager
def development_server(gateway: Gateway) -> Iterator[str]:
    """`manage.py runserver`, which is Daphne, on the gateway's database."""
    port = free_port()
    with open(gateway.folder / "runserver", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "runserver", "--noreload", str(port)],
            cwd=PROJECT,
            env=gateway.environment,
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: process.poll() is not None or answers(url), seconds=30, what="runserver")
        yield url
    finally:
        process.terminate()
        process.wait(20)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_it_hands_each_path_to_its_plane(gateway: Gateway) -> None:
    with httpx.Client(base_url=gateway.url, headers=HEADERS, trust_env=False) as client:
        assert client.get("/v1/models").json()["object"] == "list"
        assert client.get("/").json()["name"] == "Tollgate"
        assert client.get("/v1/nowhere").json()["error"]["code"] == "not_found"
        assert client.get("/healthz").json() == {"status": "running"}


def test_it_hands_websockets_to_the_one_that_their_path_has(gateway: Gateway) -> None:
    with connected(gateway, authorization=HEADERS["authorization"]) as client:
        assert client.response("demo")["status"] == "completed"
    assert refused(gateway, path="/live").status_code == 404


@pytest.mark.slow
def test_it_starts_with_the_first_call_where_there_is_no_lifespan(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    gateway.stop()
    with development_server(gateway) as url:
        document = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        answer = httpx.post(f"{url}/v1/chat/completions", json=document, headers=HEADERS, trust_env=False)
        assert answer.text.endswith("data: [DONE]\n\n")
        assert httpx.get(f"{url}/live", headers=UPGRADE, trust_env=False).status_code == 403
        assert httpx.get(f"{url}/v1/responses", headers=UPGRADE, trust_env=False).status_code == 403
        assert httpx.get(f"{url}/v1/responses", headers=UPGRADE | HEADERS, trust_env=False).status_code == 101
        gateway.usage_of(answer.headers["x-request-id"])


def test_it_writes_its_log_as_one_json_object_a_line(gateway: Gateway) -> None:
    assert httpx.get(f"{gateway.url}/static/admin/css/base.css", trust_env=False).status_code == 200
    lines = gateway.log().splitlines()
    assert lines
    assert all(line.startswith('{"time":') for line in lines), "\n".join(lines)


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.postgres)])
def test_it_stops_when_told_to_and_leaves_nothing_behind(start_gateway: StartGateway, workers: str) -> None:
    gateway = start_gateway(WORKERS=workers)
    assert gateway.query("SELECT id FROM proxy_worker WHERE kind = 'web'")
    gateway.stop()
    assert gateway.query("SELECT id FROM proxy_worker WHERE kind = 'web'") == []
    assert '"level": "error"' not in gateway.log()
