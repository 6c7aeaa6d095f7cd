"""Runs the housekeeping of the ledger, once in a while, in one process at a time.

Celery does it where it runs; while its row is fresh, serving processes step back. Else one of them
takes the lease of each interval: an UPDATE that only one can win, on either database and through a
connection pooler too. A lease that outlives its holder is harmless: every job is idempotent.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from datetime import timedelta

from django.db.models.functions import Now

from accounts import database
from proxy import tasks
from proxy.models import Worker

INTERVAL_SECONDS = 10
_CELERY_IS_FRESH = timedelta(seconds=3 * INTERVAL_SECONDS)

# One row each, whoever writes it.
_CELERY = uuid.UUID("0199a000-0000-7000-8000-000000000001")
_LEASE = uuid.UUID("0199a000-0000-7000-8000-000000000002")

logger = logging.getLogger(__name__)


def celery_was_here() -> None:
    """Notes that Celery's beat and worker both run: it was one of their jobs that called this."""
    Worker.objects.update_or_create(id=_CELERY, defaults={"kind": "celery", "seen_at": Now()})


def run_if_due() -> bool:
    """Does the housekeeping unless Celery or another process does; says whether it did."""
    if Worker.objects.filter(id=_CELERY, seen_at__gt=Now() - _CELERY_IS_FRESH).exists() or not _take_lease():
        return False
    tasks.housekeeping()
    return True


def _take_lease() -> bool:
    _, made = Worker.objects.get_or_create(id=_LEASE, defaults={"kind": "lease"})
    ago = Now() - timedelta(seconds=INTERVAL_SECONDS)
    return made or Worker.objects.filter(id=_LEASE, seen_at__lt=ago).update(seen_at=Now()) == 1


async def run_for_ever() -> None:
    """The task of every serving process."""
    while True:
        try:
            await database.run(run_if_due)
        except database.DatabaseUnavailable:
            logger.warning("the database is away: housekeeping waits for it")
        await asyncio.sleep(INTERVAL_SECONDS / 2)
