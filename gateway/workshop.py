"""The event loop of a Celery worker: one, in a thread of its own, on which responses are made.

Celery's task only wakes it. What is to be made is told by the rows (proxy/background.py), so a message that
is lost, or comes twice, does no harm.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine

from django.conf import settings

from accounts import changes, database
from gateway.jobs import keep_running
from gateway.live import LivePlane
from proxy.asgi import Plane
from proxy.models import Worker

RETRY_SECONDS = 1.0

logger = logging.getLogger(__name__)


class Workshop:
    """Of one process. Everything public is called from Celery's threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = asyncio.Event()
        self._plane = Plane(Worker.BACKGROUND)

    def open(self) -> None:
        """Begins to make responses, if it has not."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run, args=(self._loop, self._work()), name="workshop", daemon=True
                )
                self._thread.start()

    def wake(self) -> None:
        """Something was queued."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._plane.wake)

    def close(self) -> None:
        """Takes on nothing more, and lets what is being made end within DRAIN_SECONDS."""
        with self._lock:
            if self._loop is not None and self._thread is not None:
                self._loop.call_soon_threadsafe(self._closing.set)
                self._thread.join()

    async def _work(self) -> None:
        while not await self._started():
            await asyncio.sleep(RETRY_SECONDS)
            if self._closing.is_set():
                return
        of_relay = (self._plane.runner.run, self._plane.relay.limits.keep)
        running = (changes.watch, *of_relay, LivePlane(self._plane).run)
        jobs = [asyncio.create_task(keep_running(job)) for job in running]
        await self._closing.wait()
        await self._plane.runner.stop(settings.DRAIN_SECONDS)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        await self._plane.stop()
        await asyncio.to_thread(database.shutdown)

    async def _started(self) -> bool:
        try:
            await self._plane.start()
        except database.DatabaseUnavailable:
            logger.warning("The database is away: no response is made.")
            return False
        return True


def _run(loop: asyncio.AbstractEventLoop, work: Coroutine[None, None, None]) -> None:
    """The thread. What goes wrong there is told by Python's own hook for threads."""
    loop.run_until_complete(work)
