"""What the ledger comes to, added up as calls end: in quarters of an hour, days and months.

Invariant: rollups and the records in the tail are together the whole ledger, at every moment that anybody
can see. A trigger notes the id of each record that is inserted, by whomever, in the tail; `roll` adds
what is there to the rollups and takes it out, in one transaction. So it does not matter how late a record
comes, or which of two came first: what decides is that it is in the tail, and not when the call began or
ended. Records are never altered, and what is rolled up is never looked at again: a part of the ledger
that is dropped stays in the rollups (docs/decisions/0014).

Calls are counted in the quarter in which they were admitted. A day is kept twice: as UTC's, and as one of
the tenant's time zone (`UsageZone` says of which, should it change). Those who write rollups do it one at
a time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Max, Min, Sum

from accounts.models import Tenant
from accounts.tenancy import operator_scope
from accounts.windows import EVER, window
from proxy.models import UsageQuarter, UsageRecord, UsageSpan, UsageTail, UsageZone
from proxy.rollup_sql import (
    DIMENSIONS,
    MEASURES,
    NO_SERIES,
    added,
    beginnings,
    given,
    identity,
    moment,
    points,
    stored,
    sums,
    words,
)

ROUND_SECONDS = 5.0
_AT_ONCE = {"postgresql": 5000, "sqlite": 500}  # SQLite's one writer is kept waiting meanwhile
_LOCK = 7_105_014
UTC_ZONE = "UTC"
_QUARTER_KEY = ("tenant_id", "start_at", "series_id")
_SPAN_KEY = ("tenant_id", "unit", "zone", "start_at", "series_id")
_SERIES = f"CASE WHEN d.unit = 'total' THEN '{NO_SERIES}' ELSE p.series_id END"
_OF_SPAN = ("p.tenant_id", "d.unit", "d.zone", "d.start_at", _SERIES)
_IN_SPAN = "d.tenant_id = p.tenant_id AND p.start_at >= d.start_at AND p.start_at < d.end_at"
_DIMENSIONS = ", ".join(DIMENSIONS)

_Span = tuple[UUID, str, str, datetime, datetime]  # tenant, unit, zone, start and end


class HistoryLost(Exception):
    """The ledger does not have any more all that the rollups hold."""


def roll_up() -> int:
    """Adds up what is in the tail, for ROUND_SECONDS at most; how many records."""
    ends_at = time.monotonic() + ROUND_SECONDS
    keep_zones()
    done = 0
    while time.monotonic() < ends_at:
        rolled = roll(_AT_ONCE[connection.vendor])
        done += rolled
        if rolled < _AT_ONCE[connection.vendor]:
            break
    return done


def roll(at_once: int) -> int:
    """Adds up to so many records to the rollups; how many. None while another process does."""
    with operator_scope(), connection.cursor() as cursor:
        if not _alone(cursor):
            return 0
        ids = list(UsageTail.objects.values_list("id", flat=True)[:at_once])
        if ids:
            _add(cursor, json.dumps([stored(id_) for id_ in ids]))
        return len(ids)


def keep_zones() -> None:
    """Has every tenant's days in its time zone, also where that has changed."""
    with operator_scope():
        kept = dict(UsageZone.objects.values_list("tenant_id", "zone"))
        wanted = dict(Tenant.objects.values_list("id", "timezone"))
    for tenant_id, zone in wanted.items():
        if zone != kept.get(tenant_id, UTC_ZONE):
            _rezone(tenant_id, zone)


def _rezone(tenant_id: UUID, zone: str) -> None:
    """Makes the tenant's days those of another time zone, out of its quarters."""
    with operator_scope(), connection.cursor() as cursor:
        if not _alone(cursor):
            return
        UsageSpan.objects.filter(tenant_id=tenant_id).exclude(zone=UTC_ZONE).delete()
        if zone != UTC_ZONE:
            for unit in UsageSpan.Unit.values:
                _fill(cursor, tenant_id, unit, zone, EVER)
        UsageZone.objects.update_or_create(tenant_id=tenant_id, defaults={"zone": zone})


def rederive(since: datetime) -> int:
    """Forgets what was added up of calls admitted since then, which is a quarter's start, and has it added up
    anew from the ledger; of how many records. Until that is done they are in the tail, and no number is
    wrong.

    Raises HistoryLost, and changes nothing, where that would forget calls of which no record is left.
    """
    with operator_scope(), connection.cursor() as cursor:
        _wait_until_alone(cursor)
        quarters = UsageQuarter.objects.filter(start_at__gte=since)
        rolled = UsageRecord.objects.filter(started_at__gte=since).exclude(
            id__in=UsageTail.objects.values("id")
        )
        counted, found = quarters.aggregate(calls=Sum("calls", default=0))["calls"], rolled.count()
        if found < counted:
            raise HistoryLost(f"{counted} calls are counted since then, and {found} of them are on record.")
        cursor.execute(
            "INSERT INTO proxy_usagetail (id, tenant_id) SELECT id, tenant_id FROM proxy_usagerecord "
            "WHERE started_at >= %s ON CONFLICT (id) DO NOTHING",
            [stored(since)],
        )
        quarters.delete()
        for tenant_id, unit, zone in UsageSpan.objects.values_list("tenant_id", "unit", "zone").distinct():
            began, _ = _window(unit, since, zone)
            spans = UsageSpan.objects.filter(tenant_id=tenant_id, unit=unit, zone=zone)
            spans.filter(start_at__gte=began).delete()
            _fill(cursor, tenant_id, unit, zone, began)
    return found


def _alone(cursor: Any) -> bool:
    """Whether nobody else writes rollups, from here to the end of the transaction."""
    if connection.vendor != "postgresql":
        return True
    cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
    return bool(cursor.fetchone()[0])


def _wait_until_alone(cursor: Any) -> None:
    if connection.vendor == "postgresql":
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def _add(cursor: Any, ids: str) -> None:
    """The records with these ids, a JSON array, go from the tail to the rollups."""
    cursor.execute(f"SELECT DISTINCT tenant_id, start_at FROM ({beginnings(given())}) AS p", [ids])  # noqa: S608
    spans = _spans_of((identity(tenant_id), moment(start)) for tenant_id, start in cursor.fetchall())
    series = (
        f"INSERT INTO proxy_usageseries (id, {_DIMENSIONS}) SELECT DISTINCT series_id, {_DIMENSIONS} "  # noqa: S608
        "FROM p WHERE true ON CONFLICT (id) DO NOTHING"
    )
    by_quarter = _into("proxy_usagequarter", _QUARTER_KEY, _QUARTER_KEY, "p")
    by_span = _into("proxy_usagespan", _SPAN_KEY, _OF_SPAN, f"p JOIN {words().spans} ON {_IN_SPAN}")
    measured = points(given())
    if connection.vendor == "postgresql":  # which measures them once for all three
        first, second = f"WITH p AS MATERIALIZED ({measured}), a AS ({series})", f"b AS ({by_quarter})"
        cursor.execute(f"{first}, {second} {by_span}", [ids, spans])
    else:
        cursor.execute(f"WITH p AS ({measured}) {series}", [ids])
        cursor.execute(f"WITH p AS ({measured}) {by_quarter}", [ids])
        cursor.execute(f"WITH p AS ({measured}) {by_span}", [ids, spans])
    cursor.execute(f"DELETE FROM proxy_usagetail WHERE id IN (SELECT id FROM {words().given} AS g)", [ids])  # noqa: S608


def _spans_of(quarters: Iterable[tuple[UUID, datetime]]) -> str:
    """In which they lie, in each time zone that is kept for the tenant, as JSON."""
    kept = dict(UsageZone.objects.values_list("tenant_id", "zone"))
    found = {
        (tenant_id, unit, zone, *_window(unit, start, zone))
        for tenant_id, start in quarters
        for zone in {UTC_ZONE, kept.get(tenant_id, UTC_ZONE)}
        for unit in UsageSpan.Unit.values
    }
    return _as_json(found)


def _window(unit: str, at: datetime, zone: str) -> tuple[datetime, datetime]:
    return window("month" if unit == UsageSpan.Unit.MONTH else "day", at, zone)


def _as_json(spans: Iterable[_Span]) -> str:
    names = ("tenant_id", "unit", "zone", "start_at", "end_at")
    return json.dumps([dict(zip(names, map(stored, span), strict=True)) for span in spans])


def _fill(cursor: Any, tenant_id: UUID, unit: str, zone: str, since: datetime) -> None:
    """Makes the tenant's spans of that unit and zone out of its quarters since then; there are none yet."""
    quarters = UsageQuarter.objects.filter(tenant_id=tenant_id, start_at__gte=since)
    ends = quarters.aggregate(first=Min("start_at"), last=Max("start_at"))
    start, last = ends["first"], ends["last"]
    rows = f"proxy_usagequarter AS p JOIN {words().spans} ON {_IN_SPAN}"
    within = "p.tenant_id = %s AND p.start_at >= %s AND p.start_at < %s"
    statement = _into("proxy_usagespan", _SPAN_KEY, _OF_SPAN, rows, within)
    while start is not None and start <= last:
        began, ended = _window(unit, start, zone)
        span = _as_json([(tenant_id, unit, zone, began, ended)])
        cursor.execute(statement, [span, *map(stored, (tenant_id, began, ended))])
        start = ended


def _into(table: str, key: Sequence[str], by: Sequence[str], rows: str, within: str = "true") -> str:
    """The statement that adds rows, summed `by`, to what a table has under that key."""
    numbers = ", ".join(str(number) for number in range(1, len(by) + 1))
    return (
        f"INSERT INTO {table} ({', '.join(key)}, {', '.join(MEASURES)}) SELECT {', '.join(by)}, {sums()} "  # noqa: S608
        f"FROM {rows} WHERE {within} GROUP BY {numbers} ORDER BY {numbers} "
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {added(table)}"
    )
