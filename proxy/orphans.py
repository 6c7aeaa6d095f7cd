"""Responses whose worker is gone: noticed, and ended or queued again.

One of the background of which nobody has seen anything is queued again, once. Its open call is withdrawn in
the same transaction: the next attempt is the same call, under the same key, and leaves the one usage record.
Any other has failed, and its open call is the reaper's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from datetime import timedelta
from functools import partial
from uuid import UUID

from django.db.models import QuerySet
from django.db.models.functions import Now

from accounts import database
from accounts.tenancy import operator_scope
from proxy.models import OpenCall, Worker
from threads import queue, responses
from threads.responses import Orphan, Status

DEAD_AFTER = timedelta(seconds=20)
COLLECT_SECONDS = 0.05

logger = logging.getLogger(__name__)


def living() -> QuerySet[Worker, UUID]:
    """The ids of processes that have beaten within DEAD_AFTER. For database jobs, as are the functions here.

    Within another query it is read at the same moment as that, and no process that began meanwhile is missed.
    """
    return Worker.objects.filter(seen_at__gt=Now() - DEAD_AFTER).values_list("id", flat=True)


def recover() -> int:
    """Lets down some hundreds of the responses whose worker is dead; how many."""
    return _settle(lambda: responses.fail_orphans(living()))


def let_down(worker_id: UUID, ids: Collection[UUID]) -> int:
    """Lets down these, which their worker holds and does not make; how many."""
    return _settle(partial(queue.let_down, worker_id, ids))


def _settle(let_down: Callable[[], list[Orphan]]) -> int:
    with operator_scope():
        orphans = let_down()
        OpenCall.objects.filter(id__in=[each.id for each in orphans if each.status == Status.QUEUED]).delete()
    for each in orphans:
        logger.warning("Response %s lost its worker, and is %s.", each.id, each.status)
    return len(orphans)


class Producers:
    """Tells of responses whether somebody makes them, and lets down those whose worker is dead. What is asked
    together is one query.

    `steady` says whether an old heartbeat means that its process is dead (proxy/heartbeat.py).
    """

    def __init__(self, steady: Callable[[], bool]) -> None:
        self._steady = steady
        self._asked: set[UUID] = set()
        self._answer: asyncio.Task[set[UUID]] | None = None

    async def alive(self, response_id: UUID) -> bool:
        """Whether it waits or is made; else it has ended, or is deleted."""
        self._asked.add(response_id)
        if self._answer is None:
            self._answer = asyncio.create_task(self._ask())
        return response_id in await asyncio.shield(self._answer)

    async def _ask(self) -> set[UUID]:
        await asyncio.sleep(COLLECT_SECONDS)
        asked, self._asked, self._answer = self._asked, set(), None
        try:
            return await database.run(_made, asked, self._steady())
        except database.DatabaseUnavailable:
            return asked


def _made(ids: Collection[UUID], steady: bool) -> set[UUID]:
    found = queue.producers(ids)
    if steady and {worker for worker in found.values() if worker} - set(living()):
        recover()
        found = queue.producers(ids)
    return set(found)
