"""The books balance: whoever hangs up, and whatever is killed."""

import asyncio
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import StartGateway
from tests.deadline import until
from tests.server import Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

CHAT = "/v1/chat/completions"
AT_ONCE = 50

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.everywhere, pytest.mark.timeout(240)]


async def one_call(person: Person, model: str, stream: bool, leaves_after: float | None) -> None:
    """One call on a connection of its own, which leaves after so many seconds if it is to."""
    body = json.dumps({"model": model, "messages": [], "stream": stream})
    head = (
        f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {person.api_key}\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", person.gateway.port)
    try:
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        async with asyncio.timeout(leaves_after):
            await reader.read(-1)
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()


async def many_calls(person: Person, models: list[str], leaving: float) -> None:
    """All of them, AT_ONCE at a time; a share of `leaving` hangs up at a random point."""
    limit = asyncio.Semaphore(AT_ONCE)
    dice = random.Random(7)

    async def limited(model: str) -> None:
        stream, leaves = dice.random() < 0.7, dice.random() < leaving
        after = dice.uniform(0, 0.15) if leaves else None
        async with limit:
            await one_call(person, model, stream, after)

    await asyncio.gather(*(limited(model) for model in models))


def sockets(gateway: Gateway) -> int:
    entries = Path(f"/proc/{gateway.pid}/fd").iterdir()
    return sum(str(entry.readlink()).startswith("socket:") for entry in entries if entry.is_symlink())


def test_a_thousand_calls_of_which_a_third_hangs_up_are_a_thousand_records(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway()
    alice = gateway.people["alice"]
    asyncio.run(many_calls(alice, ["gpt-test"], leaving=0))
    before = sockets(gateway)
    models = [f"gpt-test+pace=10+words=8+tag=n{number}" for number in range(1000)]
    asyncio.run(many_calls(alice, models, leaving=0.33))
    until(lambda: gateway.open_calls() == 0, seconds=20, what="no open call")
    records = Counter(row["model"] for row in gateway.usage("model <> 'gpt-test'"))
    reached = {call.model for call in upstream.calls()} - {"gpt-test"}
    assert set(records.values()) == {1}
    assert reached <= set(records)
    statuses = Counter(row["status"] for row in gateway.usage("model <> 'gpt-test'"))
    assert set(statuses) == {"completed", "cancelled"}
    assert statuses["cancelled"] > 100
    until(lambda: all(call.ending != "open" for call in upstream.calls()), what="the upstream to be let go")
    # A few connections to the upstream are kept for the next calls; twenty seconds later they are closed.
    until(lambda: sockets(gateway) <= before + 1, seconds=40, what="the connections to be closed")


def test_a_server_killed_in_the_middle_of_its_calls_leaves_one_record_each(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway()
    alice = gateway.people["alice"]
    models = [f"gpt-test+pace=20+words=20+tag=k{number}" for number in range(400)]

    async def kill_in_the_middle() -> None:
        calls = asyncio.create_task(many_calls(alice, models, leaving=0.1))
        while len(upstream.calls()) < 170:
            await asyncio.sleep(0.01)
        gateway.kill9()
        await asyncio.gather(calls, return_exceptions=True)

    asyncio.run(kill_in_the_middle())
    gateway.start()
    until(lambda: gateway.open_calls() == 0, seconds=60, what="the orphans to be settled")
    records = {row["model"]: row for row in gateway.usage()}
    reached = {call.model for call in upstream.calls()}
    assert len(records) == len(gateway.usage())
    assert reached <= set(records)
    lost = [row for row in records.values() if row["status"] == "lost"]
    assert 10 <= len(lost) <= AT_ONCE
    assert all(row["estimated"] and row["input_tokens"] > 0 for row in lost)
