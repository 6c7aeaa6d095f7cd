"""Which calls are asked for, and the one statement that finds what they came to: in days, quarters and
records."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID

from django.db import connection

from accounts.actors import Actor
from accounts.permissions import Reach, reach
from accounts.windows import window
from proxy.models import UsageZone
from proxy.rollup_sql import MEASURES, QUARTER, points, stored, sums, tail
from proxy.rollups import UTC_ZONE

# What calls are grouped and found by; {0} is the prefix that says whose columns they are.
GROUPS = {
    "tenant": "{0}tenant_id",
    "user": "{0}user_id",
    "key": "coalesce({0}api_key_id, {0}security_key_id)",
    "model": "{0}model",
    "upstream": "{0}upstream",
    "endpoint": "{0}endpoint",
    "status": "{0}status",
    "error": "{0}error_code",
    "failure": "{0}status || ' ' || {0}error_code",
}
_ONE_QUARTER = timedelta(minutes=QUARTER)

Value = UUID | int | str | None
Piece = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose calls: a tenant's or, where that is None, everybody's; a user's alone where one is named."""

    tenant_id: UUID | None
    user_id: int | None = None

    @classmethod
    def of(cls, actor: Actor, tenant_id: UUID | None = None) -> Self | None:
        """What the permission table lets somebody see, in that tenant if they reach it; None: nothing."""
        reached = reach(actor.role, "usage", "read")
        if reached is Reach.NONE:
            return None
        return cls(actor.tenant_id or tenant_id, actor.user_id if reached is Reach.OWN else None)


@dataclass(frozen=True, slots=True)
class Question:
    """Which calls. `filters` are of GROUPS, each with the values that will do; days are those of `zone`.

    Where it is known that it is `now`, nothing is there of later than that: so a month is read as one that
    only ends after `end`.
    """

    scope: Scope
    start: datetime
    end: datetime
    zone: str = UTC_ZONE
    filters: Mapping[str, Collection[Value]] = field(default_factory=dict)
    now: datetime | None = None

    def end_for(self, unit: str) -> datetime:
        """Until when what there is may be read in stretches of that unit."""
        if unit != "month" or self.now is None or self.end < self.now:
            return self.end
        return max(self.end, window("month", self.now, self.zone)[1])


@dataclass(frozen=True, slots=True)
class Pieces:
    """A stretch of time, cut: what is read from spans of each unit, from quarters on either side, and
    from the ledger."""

    spans: tuple[tuple[str, Piece], ...]
    quarters: tuple[Piece, ...]
    records: tuple[Piece, ...]

    @classmethod
    def of(cls, question: Question, unit: str, *, plain: bool = False) -> Self:
        """`unit` is the longest stretch that may be read as one: minute, quarter, day or month. Where
        what is asked for is `plain`, of all calls and not by what they were, days are read as totals."""
        start, end = question.start, question.end_for(unit)
        first, last = _from(start, _quarter_start(start), _ONE_QUARTER), _quarter_start(end)
        if unit == "minute" or first >= last:
            return cls((), (), ((start, end),))
        records = _some((start, first), (last, end))
        day, last_day = _next_start("day", first, question.zone), window("day", last, question.zone)[0]
        if unit == "quarter" or day >= last_day or not _are_kept(question):
            return cls((), ((first, last),), records)
        quarters = _some((first, day), (last_day, last))
        if plain:
            return cls((("total", (day, last_day)),), quarters, records)
        month, last_month = (
            _next_start("month", day, question.zone),
            window("month", last_day, question.zone)[0],
        )
        if unit == "day" or month >= last_month:
            return cls((("day", (day, last_day)),), quarters, records)
        days = _some((day, month), (last_month, last_day))
        return cls((("month", (month, last_month)), *(("day", piece) for piece in days)), quarters, records)


def _some(*pieces: Piece) -> tuple[Piece, ...]:
    return tuple(piece for piece in pieces if piece[0] < piece[1])


def _quarter_start(at: datetime) -> datetime:
    """When the quarter of an hour began that it is in."""
    at = at.astimezone(UTC)
    return at.replace(minute=at.minute // QUARTER * QUARTER, second=0, microsecond=0)


def _from(at: datetime, start: datetime, length: timedelta) -> datetime:
    """The start of the first whole one from then on."""
    return start if start == at else start + length


def _next_start(unit: str, at: datetime, zone: str) -> datetime:
    """The same of a day or month."""
    start, end = window(unit, at, zone)
    return start if start == at else end


def _are_kept(question: Question) -> bool:
    """Whether there are spans of that zone for all whose calls are asked for."""
    if question.zone == UTC_ZONE:
        return True
    tenant_id = question.scope.tenant_id
    return (
        tenant_id is not None and UsageZone.objects.filter(tenant_id=tenant_id, zone=question.zone).exists()
    )


class Query:
    """The statement, put together with its parameters in the order in which they come.

    What is rolled up is summed by series first, so that there is little to be joined with what a series is.
    """

    def __init__(
        self,
        question: Question,
        groups: Sequence[str],
        *,
        timed: bool,
        pieces: Pieces,
        minutes: int = QUARTER,
    ) -> None:
        self._question = question
        self._groups = groups
        self._timed = timed
        self._pieces = pieces
        self._minutes = minutes
        self._parameters: list[Any] = []

    def over_time(self, wanted: Sequence[str]) -> list[tuple[Any, ...]]:
        """Rows of a start, if it is `timed`, the values of the groups, and the measures that are wanted."""
        parts = self._parts(wanted)
        by = ", ".join([*(["start_at"] if self._timed else []), *(f"by_{group}" for group in self._groups)])
        return self._fetched(f"SELECT {by}, {sums(wanted)} FROM ({parts}) AS p GROUP BY {by}")  # noqa: S608

    def breakdown(self, most: int) -> list[tuple[Any, ...]]:
        """Rows of a group's name, one of its values as text, and all measures; of each those with most calls.

        One row is the total, and bears no name.
        """
        parts = self._parts(MEASURES)
        each = [f"SELECT '' AS name, NULL AS value, {sums(MEASURES)} FROM parts"]  # noqa: S608
        for group in self._groups:
            inner = (
                f"SELECT '{group}' AS name, CAST(by_{group} AS text) AS value, {sums(MEASURES)} FROM parts "  # noqa: S608
                f"GROUP BY by_{group} ORDER BY sum(calls) DESC, 2 LIMIT {most}"
            )
            each.append(f"SELECT * FROM ({inner}) AS of_{group}")  # noqa: S608
        return self._fetched(f"WITH parts AS ({parts}) {' UNION ALL '.join(each)}")

    def _fetched(self, statement: str) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(statement, self._parameters)
            return list(cursor.fetchall())

    def _parts(self, wanted: Sequence[str]) -> str:
        """What is rolled up, what is in the tail, and what is read from the ledger, in one shape."""
        groups = [f"{GROUPS[group].format('')} AS by_{group}" for group in self._groups]
        shape = ", ".join([*(["start_at"] if self._timed else []), *groups, *wanted])
        pieces = self._pieces
        found = []
        rolled = (*(piece for _, piece in pieces.spans), *pieces.quarters)
        if rolled:
            found.append(f"SELECT {shape} FROM ({self._rolled(wanted)}) AS rolled")  # noqa: S608
            whole = min(start for start, _ in rolled), max(end for _, end in rolled)
            found.append(f"SELECT {shape} FROM ({self._measured(tail(), whole)}) AS late")  # noqa: S608
        for piece in pieces.records:
            measured = self._measured("proxy_usagerecord AS r", piece)
            found.append(f"SELECT {shape} FROM ({measured}) AS edge")  # noqa: S608
        return " UNION ALL ".join(found)

    def _rolled(self, wanted: Sequence[str]) -> str:
        tables = [self._table("proxy_usagespan", piece, unit) for unit, piece in self._pieces.spans]
        tables += [self._table("proxy_usagequarter", piece) for piece in self._pieces.quarters]
        time = "start_at, " if self._timed else ""
        if not self._groups:
            by = f"GROUP BY {time.rstrip(', ')}" if self._timed else ""
            return f"SELECT {time}{sums(wanted)} FROM ({' UNION ALL '.join(tables)}) AS p {by}"  # noqa: S608
        summed = (
            f"SELECT {time}series_id, {sums(wanted)} FROM ({' UNION ALL '.join(tables)}) AS p "  # noqa: S608
            f"GROUP BY {time}series_id"
        )
        return f"SELECT * FROM ({summed}) AS s JOIN proxy_usageseries AS d ON d.id = s.series_id"  # noqa: S608

    def _table(self, table: str, piece: Piece, unit: str | None = None) -> str:
        conditions = self._in_time("start_at", piece)
        if unit is not None:
            conditions += [self._bound("unit = %s", unit), self._bound("zone = %s", self._question.zone)]
        if self._question.scope.tenant_id is not None:
            conditions.append(self._bound("tenant_id = %s", self._question.scope.tenant_id))
        if self._question.filters or self._question.scope.user_id is not None:
            wanted = " AND ".join(self._wanted(""))
            conditions.append(f"series_id IN (SELECT id FROM proxy_usageseries WHERE {wanted})")  # noqa: S608
        columns = ", ".join(("start_at", "series_id", *MEASURES))
        return f"SELECT {columns} FROM {table} WHERE {' AND '.join(conditions)}"  # noqa: S608

    def _measured(self, records: str, piece: Piece) -> str:
        conditions = [*self._in_time("r.started_at", piece), *self._wanted("r.")]
        return f"{points(records, self._minutes)} WHERE {' AND '.join(conditions)}"

    def _in_time(self, column: str, piece: Piece) -> list[str]:
        start, end = piece
        return [self._bound(f"{column} >= %s", start), self._bound(f"{column} < %s", end)]

    def _wanted(self, prefix: str) -> list[str]:
        """What is asked for, as conditions on a series or a record."""
        scope, conditions = self._question.scope, ["true"]
        if scope.tenant_id is not None:
            conditions.append(self._bound(f"{prefix}tenant_id = %s", scope.tenant_id))
        if scope.user_id is not None:
            conditions.append(self._bound(f"{prefix}user_id = %s", scope.user_id))
        for name, values in self._question.filters.items():
            conditions.append(self._one_of(GROUPS[name].format(prefix), values))
        return conditions

    def _one_of(self, column: str, values: Collection[Value]) -> str:
        """None is a value too."""
        choices = [f"{column} IS NULL"] if None in values else []
        known = [value for value in values if value is not None]
        if known:
            self._parameters += map(stored, known)
            choices.append(f"{column} IN ({', '.join(['%s'] * len(known))})")
        return f"({' OR '.join(choices) or 'false'})"

    def _bound(self, condition: str, value: object) -> str:
        self._parameters.append(stored(value))
        return condition
