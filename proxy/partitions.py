"""Usage records by month, on Postgres: range partitions of their UUIDv7 primary key, and a default one.

A month whose partition nobody made goes to the default one, so that a missed job fails no write; dropping a
month is dropping a table. SQLite has one plain table.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from django.db import connection, migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

TABLE = "proxy_usagerecord"
MONTHS_AHEAD = 3


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
    first = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    with connection.cursor() as cursor:
        for start, end in pairwise(_later(first, months) for months in range(MONTHS_AHEAD + 2)):
            name = f"{TABLE}_{start:%Y_%m}"
            cursor.execute("SELECT to_regclass(%s) IS NULL", [name])
            if cursor.fetchone()[0]:
                bounds = f"FROM ('{_bound(start)}') TO ('{_bound(end)}')"
                cursor.execute(f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {TABLE} FOR VALUES {bounds}")


def _later(month: datetime, months: int) -> datetime:
    years, zero_based = divmod(month.month - 1 + months, 12)
    return month.replace(year=month.year + years, month=zero_based + 1)


def _bound(moment: datetime) -> UUID:
    """Below every UUIDv7 of that moment: its milliseconds, then nothing."""
    return UUID(int=round(moment.timestamp() * 1000) << 80)
