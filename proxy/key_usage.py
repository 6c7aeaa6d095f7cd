"""What keys have been used for: what their calls cost, and when the last of them was. Read from the rollups
and the tail, so that no call pays for it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import connection
from django.db.models import Max, OuterRef, Subquery
from django.db.models.functions import Coalesce

from accounts.models import Credential
from accounts.windows import window
from proxy.models import UsageRecord, UsageSeries, UsageSpan
from proxy.rollup_sql import identity, moment, points, stored, tail
from proxy.rollups import UTC_ZONE
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
    """By id, of those keys that were used in the last DAYS."""
    if not keys:
        return {}
    tenants = {key.tenant_id for key in keys}
    scope = Scope(tenants.pop() if len(tenants) == 1 else None)
    today, end = window("day", now, UTC_ZONE)
    first, since = (today - (days - 1) * _A_DAY for days in (DAYS, SPEND_DAYS))
    last_days: dict[UUID, datetime] = {}
    for key_id, day in [*_rolled_days(keys), *_days_in_tail(keys)]:
        if day >= first:
            last_days[key_id] = max(day, last_days.get(key_id, day))
    question = Question(scope, since, end, filters={"key": list(last_days)}, now=now)
    lines = over_time(question, (since, end), "key", wanted=("calls", "cost_nano_usd", "unpriced"))
    sums = {line.group[0]: line.sums for line in lines}
    return {key_id: KeyUse(day, sums.get(key_id, Sums())) for key_id, day in last_days.items()}


def _rolled_days(keys: Collection[Credential]) -> list[tuple[UUID, datetime]]:
    """The last day of each, as far as the rollups know."""
    days = UsageSpan.objects.filter(series_id=OuterRef("id"), unit=UsageSpan.Unit.DAY, zone=UTC_ZONE)
    newest = Subquery(days.order_by("-start_at").values("start_at")[:1])
    series = UsageSeries.objects.annotate(key=Coalesce("api_key_id", "security_key_id"), day=newest)
    theirs = series.filter(
        tenant_id__in={key.tenant_id for key in keys}, key__in=[key.id for key in keys], day__isnull=False
    )
    return list(theirs.values("key").annotate(last=Max("day")).values_list("key", "last"))


def _days_in_tail(keys: Collection[Credential]) -> list[tuple[UUID, datetime]]:
    """The days of their calls that are not rolled up yet."""
    key = "coalesce(r.api_key_id, r.security_key_id)"
    theirs = f"{key} IN ({', '.join(['%s'] * len(keys))})"
    statement = f"SELECT DISTINCT r.tenant_id, {key}, r.start_at FROM ({points(tail())}) AS r WHERE {theirs}"  # noqa: S608
    whose = {key.id: key.tenant_id for key in keys}
    with connection.cursor() as cursor:
        cursor.execute(statement, [stored(key.id) for key in keys])
        rows = [(identity(tenant_id), identity(id_), moment(at)) for tenant_id, id_, at in cursor.fetchall()]
    return [(id_, window("day", at, UTC_ZONE)[0]) for tenant_id, id_, at in rows if whose[id_] == tenant_id]


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
