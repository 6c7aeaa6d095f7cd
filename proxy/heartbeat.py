"""The sign of life by which other processes know that this one settles its calls itself."""

from __future__ import annotations

import asyncio
import logging
from uuid import UUID

from django.db.models.functions import Now

from accounts import database
from proxy import tasks
from proxy.ledger import Ledger
from proxy.models import Worker

BEAT_SECONDS = 5.0

logger = logging.getLogger(__name__)


async def begin(worker_id: UUID) -> None:
    """Before the first call: an open call without a worker would be taken for lost."""
    await database.run(_beat, worker_id)


async def run(worker_id: UUID, ledger: Ledger) -> None:
    """Beats for ever, and brings in what was spooled. It beats first: who lives drains its own spool."""
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        try:
            await database.run(_beat, worker_id)
            drained = await ledger.drain() + await database.run(tasks.drain_spools)
            if drained:
                logger.info("%d usage records came in from the spool.", drained)
        except database.DatabaseUnavailable:
            logger.warning("The database is away: no heartbeat.")
        except Exception:  # The edge: whose heart stops is taken for dead, and its calls for lost.
            logger.exception("A heartbeat failed, or a spool could not be brought in.")


async def end(worker_id: UUID) -> None:
    """After the last call."""
    try:
        await database.run(_remove, worker_id)
    except database.DatabaseUnavailable:
        logger.warning("The database is away: the worker's row stays until the reaper removes it.")


def count_living() -> int:
    """How many processes serve calls. A database job."""
    return Worker.objects.filter(kind="web", seen_at__gt=Now() - tasks.DEAD_AFTER).count()


def _beat(worker_id: UUID) -> None:
    Worker.objects.update_or_create(id=worker_id, defaults={"kind": "web", "seen_at": Now()})


def _remove(worker_id: UUID) -> None:
    Worker.objects.filter(id=worker_id).delete()
