"""/healthz: the process runs. /readyz: what it needs answers, and it is not on its way out.

Both are answered before Django, so that a slow page cannot make a load balancer give up on a process
whose streams are well.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import msgspec
from django.db import OperationalError, connection
from django.db.migrations.executor import MigrationExecutor

from accounts import database
from accounts.ids import uuid7

PATHS = frozenset({"/healthz", "/healthz/", "/readyz", "/readyz/"})
_CHECK_SECONDS = 3

logger = logging.getLogger(__name__)


class Readiness:
    """What stands between this process and serving."""

    def __init__(self) -> None:
        self.draining = False
        self._migrated = False

    async def missing(self) -> list[str]:
        """Some of "database", "migrations", "draining"; empty when it can serve."""
        missing = ["draining"] if self.draining else []
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                self._migrated = await database.run(is_migrated, self._migrated)
        except (database.DatabaseUnavailable, TimeoutError):
            return [*missing, "database"]
        return missing if self._migrated else [*missing, "migrations"]

    def fail_first(self, delay_seconds: float, drain: Callable[[], None]) -> None:
        """From the next SIGTERM on, be unready for `delay_seconds` before the server acts on it.

        Load balancers stop sending new calls in that time. A second signal is acted on at once. `drain` is
        called with the first.
        """
        loop = asyncio.get_running_loop()
        server = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is not threading.main_thread() or not callable(server):
            return

        def on_signal(number: int, frame: FrameType | None) -> None:
            if self.draining:
                server(number, frame)
            self.draining = True
            loop.call_soon_threadsafe(drain)
            loop.call_soon_threadsafe(loop.call_later, delay_seconds, server, number, None)

        signal.signal(signal.SIGTERM, on_signal)


def is_migrated(was: bool) -> bool:
    """Whether the database, which has to answer, has every migration. What was applied stays applied.

    Raises OperationalError for one that takes no writes, such as a standby's: every call is written down.
    """
    with connection.cursor() as cursor:
        cursor.execute("SHOW transaction_read_only" if connection.vendor == "postgresql" else "SELECT 1")
        if cursor.fetchone() == ("on",):
            raise OperationalError("The database takes no writes.")
    if was:
        return True
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())


readiness = Readiness()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """200 with {"status"}, or 503 with {"status", "missing": [...]}; 405 for anything but GET and HEAD."""
    if scope["method"] not in ("GET", "HEAD"):
        return await _answer(scope, send, 405, {"status": "use GET"})
    if scope["path"].startswith("/healthz"):
        return await _answer(scope, send, 200, {"status": "running"})
    missing = await readiness.missing()
    if missing:
        return await _answer(scope, send, 503, {"status": "not ready", "missing": missing})
    return await _answer(scope, send, 200, {"status": "ready"})


async def _answer(scope: Any, send: Any, status: int, document: dict[str, object]) -> None:
    body = msgspec.json.encode(document)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-request-id", str(uuid7()).encode()),
    ]
    if status == 405:
        headers.append((b"allow", b"GET, HEAD"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
