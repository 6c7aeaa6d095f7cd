"""What keys have been used for: what their calls cost, and when the last of them was. Read from the rollups
and the tail, so that no call pays for it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from accounts.models import Credential
from accounts.windows import window
from proxy.models import UsageRecord
from proxy.usage_query import Question, Scope
from proxy.usage_report import Sums, over_time

DAYS = 90  # looked back, today with them
SPEND_DAYS = 30
_A_DAY, _A_QUARTER = timedelta(days=1), timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class KeyUse:
    """`last_day` is the midnight (UTC) of the last day with a call; `sums` are of the last SPEND_DAYS."""

    last_day: datetime | None = None
    sums: Sums = field(default_factory=Sums)


def uses(keys: Collection[Credential], now: datetime) -> dict[UUID, KeyUse]:
    """By id, of those keys that were used in the last DAYS: one statement, quick where one tenant has all."""
    tenants = {key.tenant_id for key in keys}
    scope = Scope(tenants.pop() if len(tenants) == 1 else None)
    midnight, end = window("day", now, "UTC")
    first = midnight - (DAYS - 1) * _A_DAY
    bounds = [first + number * _A_DAY for number in range(DAYS)] + [end]
    question = Question(scope, first, end, filters={"key": [key.id for key in keys]})
    found: dict[UUID, KeyUse] = {}
    for line in over_time(question, bounds, "key", wanted=("calls", "cost_nano_usd", "unpriced")):
        [key_id] = line.group
        assert isinstance(key_id, UUID)
        counted = line.sums if line.bucket >= DAYS - SPEND_DAYS else Sums()
        before = found.get(key_id, KeyUse())
        found[key_id] = KeyUse(bounds[line.bucket], before.sums + counted)
    return found


def last_call(tenant_id: UUID, key_id: UUID, day: datetime) -> datetime | None:
    """When the last call of that day by the key began; None where the ledger has no record of it any more.
    No more is read than the calls of its tenant in one quarter of an hour."""
    bounds = [day + number * _A_QUARTER for number in range(97)]
    question = Question(Scope(tenant_id), bounds[0], bounds[-1], filters={"key": [key_id]})
    lines = over_time(question, bounds, wanted=("calls",))
    if not lines:
        return None
    start = bounds[lines[-1].bucket]
    calls = UsageRecord.objects.of(tenant_id).filter(started_at__gte=start, started_at__lt=start + _A_QUARTER)
    theirs = calls.filter(api_key_id=key_id) | calls.filter(security_key_id=key_id)
    last = theirs.order_by("-started_at").values_list("started_at", flat=True).first()
    return None if last is None else last.astimezone(UTC)
