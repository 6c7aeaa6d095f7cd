"""What runs beside the calls goes on after a failure that nobody expected."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from accounts.redis_limits import RedisLimiter
from gateway import jobs
from proxy.limiting import Limits


class Store:
    """A limiter that fails in a way of its own the first time."""

    def __init__(self) -> None:
        self.asked = 0
        self.renewed = asyncio.Event()

    async def extend(self, grants: list[Any], seconds: float) -> None:
        self.asked += 1
        if self.asked == 1:
            raise RuntimeError("Nobody expected this.")
        self.renewed.set()


async def test_what_calls_have_reserved_is_kept_after_a_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs, "_RESTART_SECONDS", 0)
    store = Store()
    task = asyncio.create_task(jobs.keep_running(Limits(cast(RedisLimiter, store), lambda: 1).keep))
    async with asyncio.timeout(10):
        await store.renewed.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "Limits.keep failed" in caplog.text
