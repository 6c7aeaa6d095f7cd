"""Every way a WebSocket of Responses may end: told to its client, and each turn on record once."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from socket import create_connection
from threading import Thread

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.conftest import StartGateway
from tests.deadline import until
from tests.server import PROJECT, Gateway, Person
from tests.services import free_port
from tests.sockets import BROKEN, Client, Event, connected, connected_as
from tests.upstreams.scripted import ScriptedUpstream

RESPONSES = "/v1/responses"


def ended(gateway: Gateway, model: str) -> list[str]:
    """How the calls for that model ended, once none is open."""
    until(lambda: gateway.usage("model = %s", model), what="the record")
    until(lambda: not gateway.query("SELECT 1 FROM proxy_opencall WHERE model = %s", model), what="none open")
    return [row["status"] for row in gateway.usage("model = %s", model)]


def revoke(gateway: Gateway, person: Person) -> None:
    """In another process, as an operator's."""
    code = (
        "import django; django.setup(); from datetime import UTC, datetime\n"
        "from accounts.models import ApiKey; from accounts.tenancy import operator_scope\n"
        f"with operator_scope(): ApiKey.objects.filter(name={person.name!r}, tenant__slug={person.tenant!r})"
        ".update(revoked_at=datetime.now(UTC))"
    )
    environment = gateway.environment | {"DJANGO_SETTINGS_MODULE": "gateway.settings"}
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment, check=True, timeout=40)


# The client


@pytest.mark.parametrize("options", ["pace=20+words=500", "hang", "hang_after=2", "delay=30000"])
def test_a_client_that_leaves_frees_the_upstream_within_a_second(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream, options: str
) -> None:
    model = f"gpt-test+{options}+tag=leaves-socket"
    with connected_as(alice) as client:
        client.create(model)
        client.create("gpt-test+tag=never-begun")
        upstream.call(model)
        left_at = time.monotonic()
    received = upstream.ended(model)
    assert received.ending == "left"
    assert (received.ended_at or 0) - left_at < 1
    assert ended(gateway, model) == ["cancelled"]
    assert not upstream.calls("gpt-test+tag=never-begun")


def test_a_stored_turn_goes_on_without_its_client_where_the_tenant_wants_it(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    [owner] = gateway.tenant("sockets-dropped")
    gateway.configure({"tenants": [{"slug": "sockets-dropped", "name": "x", "continue_dropped": True}]})
    model = "gpt-test+pace=50+words=20+tag=goes-on"
    with connected_as(owner) as client:
        client.create(model)
        response = client.hear()["response"]
    assert ended(gateway, model) == ["completed"]
    assert owner.http.get(f"{RESPONSES}/{response['id']}").json()["status"] == "completed"


def test_a_client_that_breaks_off_frees_the_upstream(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream
) -> None:
    model = "gpt-test+hang_after=3+tag=breaks-off"
    with suppress(ConnectionClosed), connected_as(alice) as client:
        client.create(model)
        client.hear()
        client.connection.socket.close()
    assert upstream.ended(model).ending == "left"
    assert ended(gateway, model) == ["cancelled"]


def test_a_client_that_does_not_read_holds_no_upstream(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway()
    gateway.query("UPDATE proxy_upstream SET idle_timeout_seconds = 0.5 WHERE name = 'openai'")
    gateway.restart()
    model = "gpt-test+huge=200000+words=100"
    with suppress(ConnectionClosed), connected_as(gateway.people["alice"]) as client:
        client.create(model)
        upstream.call(model)
        assert ended(gateway, model) == ["truncated"]  # and not "completed": it was not read on into memory
        assert upstream.ended(model).ending == "left"
        client.connection.socket.close()  # it will not answer a goodbye either


def test_parts_of_messages_count_as_parts_of_bodies_do(gateway: Gateway, alice: Person) -> None:
    megabyte = "x" * 1024 * 1024
    with ExitStack() as bodies, connected_as(alice) as client:
        for _ in range(16):  # all that a process holds, less a megabyte
            connection = bodies.enter_context(create_connection(("127.0.0.1", gateway.port), timeout=10))
            head = f"POST {RESPONSES} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {alice.api_key}\r\n"
            connection.sendall(f"{head}content-length: {32 * 1024 * 1024 - 65536}\r\n\r\n".encode())
        until(lambda: too_much(alice, 4_000_000), what="the bodies to be held")
        with suppress(ConnectionClosed):  # it need not wait for the end of the message
            client.connection.send(itertools.repeat(megabyte, 30))
        assert client.closed() in (1013, BROKEN)
    with connected_as(alice) as client:
        assert client.response(input="x" * 8_000_000)


def too_much(person: Person, size: int) -> bool:
    """Whether a body of that size is refused because of those that are held."""
    answer = person.http.post(RESPONSES, content=b'{"a":"' + b"x" * size + b'"}')
    return bool(answer.json()["error"]["code"] == "too_many_bytes")


# The key


def test_a_key_that_is_revoked_closes_its_connections_within_a_second(gateway: Gateway) -> None:
    owner, other = gateway.tenant("sockets-revoked", ("owner", "other"))
    with connected_as(owner) as client, connected_as(other) as bystander:
        assert client.response()
        revoke(gateway, owner)
        revoked_at = time.monotonic()
        event = client.hear()
        assert time.monotonic() - revoked_at < 1
        assert (event["type"], event["status"], event["error"]["code"]) == ("error", 401, "invalid_api_key")
        assert client.closed() == 4401
        assert bystander.response()


def test_a_key_that_is_revoked_ends_the_turn_under_way(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    [owner] = gateway.tenant("sockets-cut")
    model = "gpt-test+hang_after=3+tag=revoked"
    with connected_as(owner) as client:
        client.create(model)
        upstream.call(model)
        revoke(gateway, owner)
        event = client.hear()
        while "status" not in event:
            event = client.hear()
        assert (event["status"], event["error"]["code"]) == (401, "invalid_api_key")
        assert client.closed() == 4401
    assert upstream.ended(model).ending == "left"
    assert ended(gateway, model) == ["cancelled"]


def test_a_key_that_has_expired_takes_no_more_turns(gateway: Gateway) -> None:
    [owner] = gateway.tenant("sockets-expired")
    expires_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 4))
    key = {"name": "short", "user": "owner@sockets-expired.test", "secret": "sk-short-socket-key"}
    document = {"slug": "sockets-expired", "name": "x", "api_keys": [{**key, "expires_at": expires_at}]}
    gateway.configure({"tenants": [document]})
    with connected_as(replace(owner, api_key=key["secret"])) as client:
        last = until(lambda: refusal(client), seconds=10, what="the refusal")
        assert (last["status"], last["error"]["code"]) == (401, "invalid_api_key")
        assert client.closed() == 4401


def refusal(client: Client) -> Event | None:
    event = client.turn()[-1]
    return event if event["type"] == "error" else None


# The server


def test_an_idle_connection_is_closed_at_once_when_the_server_stops(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    with connected_as(gateway.people["alice"]) as client:
        assert client.response()
        began = time.monotonic()
        with stopping(gateway):
            assert client.closed() == 1012
        assert time.monotonic() - began < 5


@contextmanager
def stopping(gateway: Gateway) -> Iterator[None]:
    """While the server stops."""
    stop = Thread(target=gateway.stop)
    stop.start()
    yield
    stop.join()


def test_a_turn_under_way_ends_before_the_server_stops(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway()
    model = "gpt-test+pace=100+words=20"
    with connected_as(gateway.people["alice"]) as client:
        client.create(model)
        client.create("gpt-test+tag=too-late")
        upstream.call(model)
        with stopping(gateway):
            assert client.answer()[-1]["type"] == "response.completed"
            assert client.closed() == 1012
    assert [row["status"] for row in gateway.usage()] == ["completed"]
    assert not upstream.calls("gpt-test+tag=too-late")


def test_a_turn_that_takes_too_long_is_told_when_the_server_stops(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway(DRAIN_SECONDS="1")
    with connected_as(gateway.people["alice"]) as client:
        client.create("gpt-test+pace=50+words=2000")
        client.hear()
        with stopping(gateway):
            event = client.hear()
            while event["type"] != "error":
                event = client.hear()
            assert "shutdown" in str(event)
            assert client.closed() == 1012
    assert [row["status"] for row in gateway.usage()] == ["truncated"]
    assert gateway.open_calls() == 0


@contextmanager
def with_short_sockets(gateway: Gateway) -> Iterator[Person]:
    """A caller of another server on the gateway's database, whose connections last for a second."""
    port = free_port()
    options = ["--port", str(port), "--ws", "gateway.asgi:SocketProtocol", "--no-access-log"]
    with open(gateway.folder / "short", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "tests.proxy.short_sockets:application", *options],
            cwd=PROJECT,
            env=gateway.environment,
            stdout=log,
            stderr=log,
        )
    short = Gateway(gateway.folder, gateway.environment)
    short.port = port
    try:
        until(lambda: answers(short.url), seconds=30, what="the server")
        yield replace(gateway.people["alice"], gateway=short)
    finally:
        process.terminate()
        process.wait(20)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_a_connection_that_is_too_old_ends_after_its_turn(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    with with_short_sockets(gateway) as alice:
        with connected_as(alice) as client:
            assert client.turn("gpt-test+pace=100+words=20")[-1]["type"] == "response.completed"
            event = client.hear()
            assert (event["status"], event["error"]["code"]) == (400, "websocket_connection_limit_reached")
            assert client.closed() == 1001
        with connected(alice.gateway, authorization=f"Bearer {alice.api_key}") as again:
            assert again.response()
