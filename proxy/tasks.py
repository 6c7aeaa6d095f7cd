"""Work beside the calls, each piece idempotent: run by Celery's beat, or by the serving process itself.

Reaping: an open call whose worker has not beaten for DEAD_AFTER is settled as one estimated record, and a
response that it was making is ended or queued again (proxy/orphans.py), which comes first. The first reaper
to see the database after an absence of that length settles nothing, and leaves it to the next round: so every
living worker can first beat, and bring in what it has on disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db.models.functions import Now
from django.utils import timezone

from accounts.tenancy import operator_scope
from proxy import idempotency, ledger, orphans, rollups, routing
from proxy.admission import KEPT
from proxy.models import OpenCall, UsageRecord, Worker
from proxy.orphans import DEAD_AFTER, living
from proxy.partitions import later, let_go, make_partitions, month_of
from proxy.usage import Price, Usage, cost_nano_usd
from threads import retention

_REAP_AT_ONCE = 500
_REAPER = UUID("0199a000-0000-7000-8000-000000000003")

logger = logging.getLogger(__name__)


def housekeeping() -> None:
    """All of it: where one job fails, the others are done, and then what it raised is raised. That is
    django.db.OperationalError or DatabaseUnavailable when the database is away."""
    with ExitStack() as jobs:
        for job in reversed(JOBS):
            jobs.callback(job)


def drain_spools() -> int:
    """Brings in what dead workers left in the spools of this machine; how many records. Each serving process
    does it with its heartbeat: another machine's housekeeping does not reach this one's disk."""
    directory = Path(settings.DATA_DIR) / "spool"
    spools = list(directory.glob("*.jsonl"))
    if not spools:
        return 0
    alive = {str(worker) for worker in living()}
    return sum(ledger.drain(file) for file in spools if file.stem not in alive)


def reap() -> int:
    """Settles the open calls of dead workers; how many."""
    if not _was_here_lately():
        return 0
    alive = set(living())
    while orphans.recover():
        pass
    with operator_scope():  # Whoever died since, or was born, is left to the next round.
        calls = OpenCall.objects.exclude(worker_id__in=alive).exclude(worker_id__in=living())
        left = list(calls[:_REAP_AT_ONCE])
    if left:
        logger.warning("%d calls were left open by workers that are gone; they are settled.", len(left))
        table = routing.load()
        now = timezone.now()
        ledger.write_late([_lost(orphan, table.price(orphan.model, now), now) for orphan in left])
    return len(left)


def _was_here_lately() -> bool:
    """Whether a reaper saw the database within DEAD_AFTER; from now on one did."""
    seen = Worker.objects.filter(id=_REAPER, seen_at__gt=Now() - DEAD_AFTER).exists()
    Worker.objects.update_or_create(id=_REAPER, defaults={"kind": "reaper", "seen_at": Now()})
    return seen


def _lost(orphan: OpenCall, price: Price | None, now: datetime) -> ledger.Row:
    """What can be said of a call whose process died: what was sent, not what came back."""
    usage = Usage(input_tokens=orphan.input_tokens_estimate)
    row: dict[str, Any] = {name: getattr(orphan, name) for name in KEPT}
    for name, value in row.items():
        if isinstance(value, UUID):
            row[name] = value.hex
        elif isinstance(value, datetime):
            row[name] = ledger.timestamp(value)
    return {
        **row,
        "status": UsageRecord.Status.LOST,
        "error_code": "worker_lost",
        "upstream": "",
        "upstream_model": "",
        "attempts": [],
        "input_tokens": usage.input_tokens,
        "estimated": True,
        "cost_nano_usd": cost_nano_usd(usage, price),
        "duration_milliseconds": min(round((now - orphan.started_at).total_seconds() * 1000), 2**31 - 1),
        "ended_at": ledger.timestamp(now),
        "idempotency": None,
    }


def keep_partitions() -> None:
    """Makes those that are missing."""
    make_partitions(timezone.now())


def let_records_go() -> None:
    """Removes those of months that are kept no longer."""
    months = settings.USAGE_RETENTION_MONTHS
    if months:
        let_go(later(month_of(timezone.now()), -months))


def end_sessions() -> None:
    """Removes those that have expired."""
    Session.objects.filter(expire_date__lt=Now()).delete()


def forget_workers() -> None:
    """Removes those that have been gone for a day."""
    Worker.objects.filter(kind__in=Worker.MAKE_CALLS, seen_at__lt=Now() - timedelta(days=1)).delete()


JOBS: tuple[Callable[[], object], ...] = (
    reap,
    keep_partitions,
    idempotency.forget_expired,
    retention.housekeeping,
    end_sessions,
    rollups.roll_up,
    let_records_go,
    forget_workers,
)
