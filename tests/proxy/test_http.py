"""The watch over both ends of a call, by itself."""

from __future__ import annotations

import asyncio

import pytest

from proxy import http
from proxy.http import Message, Reply, Request, Watch


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_keep_alive_that_was_due_as_the_call_ended_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "KEEP_ALIVE_SECONDS", 0.0)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    request = Request({"method": "POST", "path": "/", "headers": []}, never)
    reply = Reply(request, send)
    async with Watch(request, reply, streams=True, total_seconds=60):
        await asyncio.sleep(0)  # in which the watch finds that one is due
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait(others, timeout=10)
    assert (reply.status, sent) == (None, [])
