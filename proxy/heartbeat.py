"""The sign of life by which other processes know that this one settles its calls itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from uuid import UUID

from django.db.models.functions import Now

from accounts import database
from proxy import tasks
from proxy.health import Report
from proxy.ledger import Ledger
from proxy.models import Worker
from proxy.orphans import DEAD_AFTER

BEAT_SECONDS = 5.0
STEADY_SECONDS = 2 * BEAT_SECONDS

logger = logging.getLogger(__name__)


class Heartbeat:
    """Of one process, from before its first call to after its last. `kind` is one of Worker.MAKE_CALLS;
    `report` says how upstreams are doing."""

    def __init__(self, worker_id: UUID, kind: str, ledger: Ledger, report: Callable[[], Report]) -> None:
        self._worker_id = worker_id
        self._kind = kind
        self._ledger = ledger
        self._report = report
        self._beaten_at = self._steady_since = time.monotonic()

    @property
    def steady(self) -> bool:
        """Whether the database has answered for so long that every living process has beaten meanwhile: only
        then is one dead whose heartbeat is old."""
        now = time.monotonic()
        return now - self._steady_since > STEADY_SECONDS and now - self._beaten_at < STEADY_SECONDS

    async def begin(self) -> None:
        """Before the first call: an open call without a worker would be taken for lost."""
        await database.run(_beat, self._worker_id, self._kind, self._report())
        self._beaten_at = self._steady_since = time.monotonic()

    async def run(self) -> None:
        """Beats for ever, and brings in what was spooled. It beats first: who lives drains its own spool."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            try:
                await self._beat()
                drained = await self._ledger.drain() + await database.run(tasks.drain_spools)
                if drained:
                    logger.info("%d usage records came in from the spool.", drained)
            except database.DatabaseUnavailable:
                logger.warning("The database is away: no heartbeat.")
            except Exception:  # The edge: whose heart stops is taken for dead, and its calls for lost.
                logger.exception("A heartbeat failed, or a spool could not be brought in.")

    async def end(self) -> None:
        """After the last call."""
        try:
            await database.run(_remove, self._worker_id)
        except database.DatabaseUnavailable:
            logger.warning("The database is away: the worker's row stays until the reaper removes it.")

    async def _beat(self) -> None:
        await database.run(_beat, self._worker_id, self._kind, self._report())
        now = time.monotonic()
        if now - self._beaten_at > STEADY_SECONDS:  # it was away, or this process was not run
            self._steady_since = now
        self._beaten_at = now


def count_living() -> int:
    """How many processes make calls. A database job."""
    return Worker.objects.filter(kind__in=Worker.MAKE_CALLS, seen_at__gt=Now() - DEAD_AFTER).count()


def _beat(worker_id: UUID, kind: str, health: Report) -> None:
    Worker.objects.update_or_create(id=worker_id, defaults={"kind": kind, "seen_at": Now(), "health": health})


def _remove(worker_id: UUID) -> None:
    Worker.objects.filter(id=worker_id).delete()
