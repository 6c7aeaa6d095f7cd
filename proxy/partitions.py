"""Usage records by month, on Postgres: range partitions of their UUIDv7 primary key, and a default one.

A month whose partition nobody made goes to the default one, so that a missed job fails no write; once it is
made, what is there moves to it. Letting a month go is dropping a table. SQLite has one plain table.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from django.db import OperationalError, connection, migrations, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from psycopg.errors import LockNotAvailable

from accounts.reading import first_id
from accounts.tenancy import operator_scope
from proxy.models import UsageRecord, UsageTail

TABLE = "proxy_usagerecord"
MONTHS_AHEAD = 3
LOCK_MILLISECONDS = 500  # that settlements may be kept waiting
REMOVED_AT_ONCE = 1000


class CreatePartitioned(migrations.CreateModel):
    """CreateModel for a table that Postgres partitions by the range of its primary key."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        if schema_editor.connection.vendor != "postgresql":
            return super().database_forwards(app_label, schema_editor, from_state, to_state)
        model = to_state.apps.get_model(app_label, self.name)
        table = model._meta.db_table
        sql, params = schema_editor.table_sql(model)
        schema_editor.execute(f"{sql} PARTITION BY RANGE ({model._meta.pk.column})", params or None)
        schema_editor.deferred_sql.extend(schema_editor._model_indexes_sql(model))  # type: ignore[attr-defined]
        schema_editor.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT", params=None)


def make_partitions(now: datetime) -> None:
    """Makes what is missing of this month's partition and the next ones'."""
    if connection.vendor != "postgresql":
        return
    first = month_of(now)
    for start, end in pairwise(later(first, months) for months in range(MONTHS_AHEAD + 2)):
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s) IS NULL", [_name(start)])
            if cursor.fetchone()[0]:
                _make(cursor, _name(start), first_id(start), first_id(end))


def _make(cursor: Any, name: str, start: UUID, end: UUID) -> None:
    """Makes a partition, of whatever of it is in the default one."""
    bounds = f"id >= '{start}' AND id < '{end}'"
    with transaction.atomic():
        cursor.execute(f"CREATE TABLE {name} (LIKE {TABLE} INCLUDING ALL)")
        cursor.execute(f"LOCK TABLE {TABLE}_default IN ACCESS EXCLUSIVE MODE")
        cursor.execute(
            f"WITH moved AS (DELETE FROM {TABLE}_default WHERE {bounds} RETURNING *) "  # noqa: S608
            f"INSERT INTO {name} SELECT * FROM moved"
        )
        cursor.execute(
            f"ALTER TABLE {TABLE} ATTACH PARTITION {name} FOR VALUES FROM ('{start}') TO ('{end}')"
        )


def let_go(before: datetime) -> int:
    """Removes the records of calls that came in before then, a month's start, and are rolled up; how many
    partitions and rows. Where that would keep settlements waiting, it is left to the next time."""
    try:
        dropped = sum(_drop(name, start) for name, start in _partitions() if later(start, 1) <= before)
    except OperationalError as error:
        if not isinstance(error.__cause__, LockNotAvailable):
            raise
        return 0
    with operator_scope():
        old = UsageRecord.objects.filter(id__lt=first_id(before)).exclude(
            id__in=UsageTail.objects.values("id")
        )
        ids = list(old.order_by("id").values_list("id", flat=True)[:REMOVED_AT_ONCE])
        UsageRecord.objects.filter(id__in=ids).delete()
    return dropped + len(ids)


def _partitions() -> list[tuple[str, datetime]]:
    """Those of a month, and when it began."""
    if connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", [TABLE]
        )
        names = [name for (name,) in cursor.fetchall()]
    months = ((name, re.fullmatch(rf"{TABLE}_(\d{{4}})_(\d\d)", name)) for name in names)
    return [(name, datetime(int(found[1]), int(found[2]), 1, tzinfo=UTC)) for name, found in months if found]


def _drop(name: str, start: datetime) -> bool:
    """Drops a partition, unless one of its records has only come in. Settlements lock the ledger before its
    parts, and so does this."""
    with operator_scope(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
        cursor.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
        if UsageTail.objects.filter(id__gte=first_id(start), id__lt=first_id(later(start, 1))).exists():
            return False
        cursor.execute(f"DROP TABLE {name}")
        return True


def _name(month: datetime) -> str:
    return f"{TABLE}_{month:%Y_%m}"


def month_of(now: datetime) -> datetime:
    """When it began, in UTC."""
    return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def later(month: datetime, months: int) -> datetime:
    """The start of the month that is so many later, or before."""
    years, zero_based = divmod(month.month - 1 + months, 12)
    return month.replace(year=month.year + years, month=zero_based + 1)
