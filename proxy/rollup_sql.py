"""How a usage record becomes numbers that can be added up, as SQL for either database.

`points(records)` gives one row for each record in the shape of a rollup's: so what is rolled up, and what is
still to be, are measured by the same words. Names and numbers in the statements are our own; what others
wrote goes in as parameters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connection

from proxy.histogram import BOUNDS, DIGITS, histogram

DIMENSIONS = (
    *("tenant_id", "user_id", "api_key_id", "security_key_id", "endpoint"),
    *("model", "upstream", "status", "error_code"),
)
_SUMMED = ("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "audio_milliseconds")
FAILED = ("failed", "truncated", "lost")
HISTOGRAMS = ("durations", "first_bytes")
MEASURES = ("calls", "failed", "cancelled", *_SUMMED, "cost_nano_usd", "unpriced", "estimated", *HISTOGRAMS)
NO_SERIES = "00000000000000000000000000000000"  # of a total
MINUTE, QUARTER = 1, 15  # the minutes in which records are put together


@dataclass(frozen=True, slots=True)
class Words:
    """What the two databases say differently."""

    histogram: str  # of one duration
    sum_histograms: str
    add_histograms: str
    series_id: str  # of one array
    array: str
    start: str  # of the stretch of so many minutes that a moment is in
    given: str  # the ids of one parameter, a JSON array
    records: str  # of a table of ids
    spans: str  # of time, in one parameter, a JSON array


_POSTGRES = Words(
    histogram=f"('1e' || {DIGITS} * width_bucket({{0}}, ARRAY[{', '.join(map(str, BOUNDS))}]))::numeric",
    sum_histograms="sum({0})",
    add_histograms="{0} + {1}",
    series_id="substr(encode(sha256(convert_to({0}::text, 'UTF8')), 'hex'), 1, 32)::uuid",
    array="json_build_array",
    start="date_bin('{minutes} minutes', r.started_at, TIMESTAMPTZ '1970-01-01 00:00Z')",
    given="(SELECT value::uuid AS id FROM json_array_elements_text(%s::json))",
    # OFFSET 0 keeps them apart for the planner: whatever it guesses, each is looked up by its key.
    records="{0} AS t CROSS JOIN LATERAL "
    "(SELECT * FROM proxy_usagerecord AS u WHERE u.id = t.id OFFSET 0) AS r",
    spans="json_to_recordset(%s::json) AS d(tenant_id uuid, unit text, zone text, start_at timestamptz, "
    "end_at timestamptz)",
)
_SQLITE = Words(
    histogram="histogram({0})",
    sum_histograms="sum_histograms({0})",
    add_histograms="add_histograms({0}, {1})",
    series_id="series_id({0})",
    array="json_array",
    start="substr(r.started_at, 1, 14) || "
    "printf('%%02d', CAST(substr(r.started_at, 15, 2) AS INTEGER) / {minutes} * {minutes}) || ':00'",
    given="(SELECT value AS id FROM json_each(%s))",
    records="{0} AS t CROSS JOIN proxy_usagerecord AS r ON r.id = t.id",
    spans="(SELECT json_extract(value, '$.tenant_id') AS tenant_id, json_extract(value, '$.unit') AS unit, "
    "json_extract(value, '$.zone') AS zone, json_extract(value, '$.start_at') AS start_at, "
    "json_extract(value, '$.end_at') AS end_at FROM json_each(%s)) AS d",
)


def words() -> Words:
    """Of the database that is in use; SQLite learns those that it lacks, on this thread's connection."""
    if connection.vendor == "postgresql":
        return _POSTGRES
    connection.ensure_connection()
    database: Any = connection.connection
    database.create_function("histogram", 1, _histogram, deterministic=True)
    database.create_function("add_histograms", 2, _add, deterministic=True)
    database.create_function("series_id", 1, _series_id, deterministic=True)
    database.create_aggregate("sum_histograms", 1, _Sum)
    return _SQLITE


def tail() -> str:
    """FROM clause of the records that are not rolled up."""
    return words().records.format("proxy_usagetail")


def given() -> str:
    """FROM clause of the records whose ids are the one parameter, a JSON array."""
    own = words()
    return own.records.format(own.given)


def beginnings(records: str) -> str:
    """SELECT of the tenants of such records, and of the quarters of an hour in which they began."""
    return f"SELECT r.tenant_id, {words().start.format(minutes=QUARTER)} AS start_at FROM {records}"  # noqa: S608


def points(records: str, minutes: int = QUARTER) -> str:
    """SELECT of the records of a FROM clause that calls them `r`, one row each."""
    own = words()
    dimensions = ", ".join(f"r.{name}" for name in DIMENSIONS)
    columns = (
        f"{own.series_id.format(f'{own.array}({dimensions})')} AS series_id",
        f"{own.start.format(minutes=minutes)} AS start_at",
        dimensions,
        "1 AS calls",
        f"CASE WHEN r.status IN ({', '.join(map(repr, FAILED))}) THEN 1 ELSE 0 END AS failed",
        "CASE WHEN r.status = 'cancelled' THEN 1 ELSE 0 END AS cancelled",
        *(f"coalesce(r.{name}, 0) AS {name}" for name in (*_SUMMED, "cost_nano_usd")),
        "CASE WHEN r.cost_nano_usd IS NULL THEN 1 ELSE 0 END AS unpriced",
        "CASE WHEN r.estimated THEN 1 ELSE 0 END AS estimated",
        f"{_of_completed('r.duration_milliseconds')} AS durations",
        f"{_of_completed('r.first_byte_milliseconds')} AS first_bytes",
    )
    return f"SELECT {', '.join(columns)} FROM {records}"  # noqa: S608


def _of_completed(column: str) -> str:
    counted = words().histogram.format(column)
    return f"CASE WHEN r.status = 'completed' AND {column} IS NOT NULL THEN {counted} ELSE '0' END"


def sums(measures: Sequence[str] = MEASURES) -> str:
    """These measures, summed, each under its own name."""
    own = words()
    return ", ".join(
        f"{own.sum_histograms.format(name) if name in HISTOGRAMS else f'sum({name})'} AS {name}"
        for name in measures
    )


def added(table: str) -> str:
    """The SET clause by which what a table has is added to."""
    own = words()
    adding = dict.fromkeys(MEASURES, "{0} + {1}") | dict.fromkeys(HISTOGRAMS, own.add_histograms)
    return ", ".join(
        f"{name} = {plus.format(f'{table}.{name}', f'excluded.{name}')}" for name, plus in adding.items()
    )


def stored(value: object) -> Any:
    """As the database in use takes it in a parameter, and in JSON."""
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, datetime):
        return str(value.astimezone(UTC).replace(tzinfo=None))
    return value


def moment(value: Any) -> datetime:
    """A time as the database in use gives it."""
    found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def identity(value: Any) -> UUID:
    """A UUID as the database in use gives it."""
    return value if isinstance(value, UUID) else UUID(value)


def _histogram(milliseconds: int) -> str:
    return str(histogram(milliseconds))


def _add(one: str, other: str) -> str:
    return str(int(one) + int(other))


def _series_id(dimensions: str) -> str:
    return hashlib.sha256(dimensions.encode()).hexdigest()[:32]


class _Sum:
    """An aggregate of SQLite's."""

    def __init__(self) -> None:
        self._total = 0

    def step(self, value: str | None) -> None:
        self._total += int(value or 0)

    def finalize(self) -> str:
        return str(self._total)
