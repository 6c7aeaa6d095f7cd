"""What calls came to: the numbers of every page, list and API, of the rollups and the tail together.

`over_time` tells them by stretches of time, `breakdown` by what the calls were. Both count the calls that
were admitted from the question's start on and before its end, whoever's they may see. Within `one_moment` all
that is told is of one moment, takes no more than a bounded time, and no more than a few ask at once: a page
may be refused, but no call is kept waiting.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from operator import add, attrgetter, sub
from typing import Any

from django.db import OperationalError, connection, transaction

from accounts.errors import ApiError
from accounts.windows import window
from proxy.histogram import percentiles
from proxy.rollup_sql import MEASURES, MINUTE, QUARTER, identity, moment
from proxy.usage_query import Pieces, Query, Question, Value

AT_ONCE = 2  # of those who ask, in each process
WAIT_SECONDS = 5.0
STATEMENT_SECONDS = 5.0
MOST_LINES = 50
COUNTS = MEASURES[:-2]  # all but the histograms

_values = attrgetter(*MEASURES)
_asking = threading.BoundedSemaphore(AT_ONCE)


@dataclass(frozen=True, slots=True)
class Sums:
    """What some calls came to; as in UsageSum."""

    calls: int = 0
    failed: int = 0
    cancelled: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    audio_milliseconds: int = 0
    cost_nano_usd: int = 0
    unpriced: int = 0
    estimated: int = 0
    durations: int = 0
    first_bytes: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(*map(add, _values(self), _values(other)))

    def __sub__(self, other: Sums) -> Sums:
        return Sums(*map(sub, _values(self), _values(other)))

    @property
    def cost(self) -> int | None:
        """In nano-dollars; None where no call has a price."""
        return None if self.calls == self.unpriced else self.cost_nano_usd

    def duration(self, *shares: float) -> tuple[float | None, ...]:
        """Percentiles in milliseconds, of calls that completed; within proxy/histogram.py's
        RELATIVE_ERROR."""
        return percentiles(self.durations, *shares)

    def first_byte(self, *shares: float) -> tuple[float | None, ...]:
        """The same, to the first byte of the upstream's answer."""
        return percentiles(self.first_bytes, *shares)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a report: of which stretch of time it is, counting from 0, and of which values of its
    groups."""

    bucket: int
    group: tuple[Value, ...]
    sums: Sums


def over_time(
    question: Question, bounds: Sequence[datetime], *groups: str, wanted: Sequence[str] = MEASURES
) -> list[Line]:
    """A line for each stretch between two bounds in which there were calls, and each of the groups in it.

    `bounds` begin with the question's start and end with its end, and are on the minute. Those that are
    midnights of the question's time zone are told by far the fastest.
    """
    unit = _unit(bounds[1:-1], question.zone)
    plain = not groups and not question.filters and question.scope.user_id is None
    pieces = Pieces.of(question, unit, plain=plain)
    minutes = MINUTE if unit == "minute" else QUARTER
    timed = len(bounds) > 2 or not groups
    query = Query(question, groups, timed=timed, pieces=pieces, minutes=minutes)
    found: dict[tuple[int, tuple[Value, ...]], Sums] = {}
    for row in query.over_time(wanted):
        start, rest = (moment(row[0]), row[1:]) if timed else (question.start, row)
        bucket = max(0, min(bisect_right(bounds, start), len(bounds) - 1) - 1)
        key = bucket, tuple(map(_value, groups, rest))
        found[key] = found.get(key, Sums()) + _sums(wanted, rest[len(groups) :])
    lines = [Line(bucket, group, total) for (bucket, group), total in found.items()]
    return sorted(lines, key=lambda line: (line.bucket, *map(str, line.group)))


def _unit(bounds: Sequence[datetime], zone: str) -> str:
    """The longest of which none goes over one of these bounds."""
    if any(bound.minute % QUARTER or bound.second for bound in bounds):
        return "minute"
    for unit in ("month", "day"):
        if all(window(unit, bound, zone)[0] == bound for bound in bounds):
            return unit
    return "quarter"


def breakdown(question: Question, *groups: str) -> tuple[Sums, dict[str, list[Line]]]:
    """The total; and for each group a line for each value, those with most calls first, MOST_LINES at
    most."""
    query = Query(question, groups, timed=False, pieces=Pieces.of(question, "month"))
    total = Sums()
    found: dict[str, list[Line]] = {group: [] for group in groups}
    for name, value, *rest in query.breakdown(MOST_LINES):
        summed = _sums(MEASURES, rest)
        if name:
            found[name].append(Line(0, (_value(name, value),), summed))
        else:
            total = summed
    return total, found


def _sums(measures: Sequence[str], values: Sequence[Any]) -> Sums:
    return Sums(**{name: int(value or 0) for name, value in zip(measures, values, strict=True)})


def _value(group: str, value: Any) -> Value:
    """As the database in use gives it, or as text."""
    if value is None:
        return None
    if group in ("tenant", "key"):
        return identity(value)
    return int(value) if group == "user" else str(value)


@contextmanager
def one_moment(scope: AbstractContextManager[None]) -> Iterator[None]:
    """Everything within is of one moment, in that scope of accounts/tenancy.py. Not for other work: on SQLite
    no transaction can be opened within.

    Raises ApiError (503) where it takes too long, or too many ask.
    """
    if not _asking.acquire(timeout=WAIT_SECONDS):
        raise _busy("Too many ask for usage at once.")
    try:
        with _of_sqlite() if connection.vendor == "sqlite" else _of_postgres(scope):
            yield
    except OperationalError as error:
        raise _busy("The numbers took too long to add up: ask for less, or again.") from error
    finally:
        _asking.release()


def _busy(message: str) -> ApiError:
    return ApiError(503, message, code="database_unavailable", headers=((b"retry-after", b"2"),))


@contextmanager
def _of_postgres(scope: AbstractContextManager[None]) -> Iterator[None]:
    with ExitStack() as stack:
        if not connection.in_atomic_block:
            stack.enter_context(transaction.atomic())
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        stack.enter_context(scope)
        with connection.cursor() as cursor:
            milliseconds = round(STATEMENT_SECONDS * 1000)
            # Sums of large integers take room.
            cursor.execute(f"SET LOCAL statement_timeout = {milliseconds}; SET LOCAL work_mem = '64MB'")
        yield


@contextmanager
def _of_sqlite() -> Iterator[None]:
    """A transaction that only reads: Django's own would keep the one writer waiting."""
    if connection.in_atomic_block:
        yield
        return
    ends_at = time.monotonic() + STATEMENT_SECONDS
    with connection.cursor() as cursor:
        database: Any = connection.connection
        database.set_progress_handler(lambda: time.monotonic() > ends_at, 10_000)
        cursor.execute("BEGIN")
        try:
            yield
        finally:
            database.set_progress_handler(None, 0)
            cursor.execute("ROLLBACK")
