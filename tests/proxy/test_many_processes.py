"""Limits and budgets over four server processes on one PostgreSQL and one Redis."""

import asyncio
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartGateway
from tests.deadline import until
from tests.server import Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

CHAT = "/v1/chat/completions"
CLIENTS = 64

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.redis,
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(240),
]


async def call(person: Person, fields: dict[str, object]) -> tuple[int, float]:
    """The status of one call on a connection of its own, and when it was answered."""
    body = json.dumps({"messages": [], **fields})
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {person.api_key}\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", person.gateway.port)
    try:
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        answer = await reader.read(-1)
        return int(answer[9:12]), time.monotonic()
    finally:
        writer.close()


async def burst(person: Person, count: int, fields: dict[str, object]) -> list[tuple[int, float]]:
    """So many calls, CLIENTS at a time."""
    limit = asyncio.Semaphore(CLIENTS)

    async def one() -> tuple[int, float]:
        async with limit:
            return await call(person, fields)

    return list(await asyncio.gather(*(one() for _ in range(count))))


def four(start_gateway: StartGateway, **tenant: object) -> Gateway:
    gateway = start_gateway(WORKERS="4")
    document = {"slug": "acme", "name": "Acme", **tenant}
    gateway.configure({"tenants": [document]})
    time.sleep(1.5)  # each process hears of the change within a second
    return gateway


@pytest.mark.parametrize("scope", ["tenant", "user", "key", "ip", "model"])
def test_a_rate_holds_on_four_processes(
    start_gateway: StartGateway, upstream: ScriptedUpstream, scope: str
) -> None:
    limit = 60
    gateway = four(start_gateway, limits=[{"scope": scope, "requests_per_second": limit}])
    alice = gateway.people["alice"]
    began = time.monotonic()
    statuses = Counter(status for status, _ in asyncio.run(burst(alice, 600, {"model": "gpt-test"})))
    took = time.monotonic() - began
    assert set(statuses) == {200, 429}
    assert statuses[200] == len(upstream.calls("gpt-test"))
    # Refusals are cheap, so that the bucket is asked all the time: what it gives it must have given.
    assert statuses[200] <= limit * (1 + took)
    starts = sorted(received.at for received in upstream.calls("gpt-test"))
    for position in range(len(starts) - limit):
        window = starts[position + limit] - starts[position]
        assert limit + 1 <= limit * (1 + window) + 0.05 * limit


def test_concurrency_holds_on_four_processes(start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    gateway = four(start_gateway, limits=[{"scope": "tenant", "concurrent": 10}])
    asyncio.run(burst(gateway.people["alice"], 300, {"model": "gpt-test+delay=100"}))
    edges = [(received.at, 1) for received in upstream.calls()]
    edges += [(received.ended_at, -1) for received in upstream.calls() if received.ended_at is not None]
    under_way, most = 0, 0
    for _, step in sorted(edges):
        under_way += step
        most = max(most, under_way)
    assert most == 10


def test_a_killed_process_gives_its_places_back(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    gateway = four(start_gateway, limits=[{"scope": "tenant", "concurrent": 8}])
    alice = gateway.people["alice"]

    async def kill_one() -> None:
        model = "gpt-test+pace=100+words=600"
        calls = [asyncio.create_task(call(alice, {"model": model, "stream": True})) for _ in range(8)]
        while len(upstream.calls(model)) < 8:
            await asyncio.sleep(0.02)
        assert (await call(alice, {"model": "gpt-test"}))[0] == 429
        for child in children(gateway.pid):
            os.kill(child, signal.SIGKILL)
        await asyncio.gather(*calls, return_exceptions=True)

    asyncio.run(kill_one())
    until(lambda: served(alice), seconds=60, what="new processes, and a place of the killed")


def served(person: Person) -> bool:
    """Whether a call is let in; connections to processes that were killed break."""
    try:
        return person.http.post(CHAT, json={"model": "gpt-test", "messages": []}).status_code == 200
    except httpx.TransportError:
        return False


def children(pid: int) -> list[int]:
    """The serving processes: children of the server that hold a listening socket's loop."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def test_a_budget_of_a_dollar_holds_on_four_processes(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    prices = {"input_per_million": "10", "cached_input_per_million": "10", "output_per_million": "100"}
    gateway = start_gateway(WORKERS="4")
    routes = [{"upstream": "openai", "model": "gpt-test+words=8"}]
    gateway.configure(
        {
            "tenants": [
                {
                    "slug": "acme",
                    "name": "Acme",
                    "budgets": [{"scope": "tenant", "amount_usd": "1.00", "period": "total"}],
                }
            ],
            "models": [{"name": "gpt-budgeted", "routes": routes, "prices": prices}],
        }
    )
    time.sleep(1.5)
    alice = gateway.people["alice"]
    fields = {"model": "gpt-budgeted", "max_tokens": 64_000}
    # Nobody is told what is left of a budget before everybody could say what they hold of it.
    until(lambda: asyncio.run(call(alice, fields))[0] == 200, what="the budget")
    cost = 11 * 10_000 + 8 * 100_000
    statuses = asyncio.run(burst(alice, 2000, fields))
    refusals = [at for status, at in statuses if status == 429]
    served = sorted(received.ended_at or 0.0 for received in upstream.calls())
    assert {status for status, _ in statuses} <= {200, 429}
    assert len(served) * cost <= 1_000_000_000
    assert len(served) * cost >= 950_000_000
    before_first = sum(at < min(refusals) for at in served)
    assert before_first * cost >= 800_000_000
    rows = gateway.query("SELECT sum(amount_nano_usd) AS nano FROM accounts_spend")
    assert int(rows[0]["nano"]) == len(served) * cost
