"""The calls behind a number, newest first.

The rollups know in which quarters of an hour there are such calls. So a few among millions are found without
looking at the others: by the day, where there are many, else by the quarter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import reduce
from itertools import pairwise
from operator import or_
from uuid import UUID

from django.db.models import Min, Q, QuerySet

from accounts.windows import window
from proxy.models import UsageRecord, UsageSpan
from proxy.rollup_sql import QUARTER
from proxy.rollups import UTC_ZONE
from proxy.usage_query import Piece, Question, Value
from proxy.usage_report import over_time

AN_INSTANT = timedelta(microseconds=1)
_ONE_QUARTER = timedelta(minutes=QUARTER)


class NoSuchCall(Exception):
    """The call that others are to come after is none of those that are asked for."""


def newest_calls(question: Question, most: int, after: UUID | None = None) -> list[UsageRecord]:
    """Of those that the question is about, so many at most; those that come after a call. Raises
    NoSuchCall."""
    rows = matching(question)
    end = question.end
    if after is not None:
        last = rows.filter(id=after).values_list("started_at", flat=True).first()
        if last is None:
            raise NoSuchCall
        rows = rows.filter(Q(started_at__lt=last) | Q(started_at=last, id__lt=after))
        end = min(end, last + AN_INSTANT)
    rows = narrowed(rows, question, end, most)
    return list(rows.order_by("-started_at", "-id")[:most])


def narrowed(
    rows: QuerySet[UsageRecord], question: Question, end: datetime, most: int
) -> QuerySet[UsageRecord]:
    """The rows in the stretches of time in which the last so many before `end` are that the question is
    about: the same rows, sooner found. Those that it is about without a filter are found at once anyway."""
    if not question.filters and question.scope.user_id is None:
        return rows
    return rows.filter(_within(where(question, end, most)))


def matching(question: Question) -> QuerySet[UsageRecord]:
    """The records that the question is about."""
    scope, records = question.scope, UsageRecord.objects.all()
    if scope.tenant_id is not None:
        records = UsageRecord.objects.of(scope.tenant_id)
    if scope.user_id is not None:
        records = records.filter(user_id=scope.user_id)
    for name, values in question.filters.items():
        records = records.filter(reduce(or_, (_is(name, value) for value in values), Q(pk__in=[])))
    return records.filter(started_at__gte=question.start, started_at__lt=question.end)


def _is(name: str, value: Value) -> Q:
    if name == "key":
        return Q(api_key_id=value) | Q(api_key_id=None, security_key_id=value)
    if name == "failure":
        status, _, error_code = str(value).partition(" ")
        return Q(status=status, error_code=error_code)
    column = {"tenant": "tenant_id", "user": "user_id", "error": "error_code"}.get(name, name)
    return Q(**{column: value})


def where(question: Question, end: datetime, most: int) -> list[Piece]:
    """Stretches of time, the newest first, in which the last so many calls before `end` are, and no more than
    a few others."""
    days = _newest(question, _borders(question, end), most)
    if len(days) < 2:
        return days
    oldest = days[-1][0]
    bounds = [oldest]
    while bounds[-1] < end:
        bounds.append(min(_quarter(bounds[-1]) + _ONE_QUARTER, end))
    return _newest(question, bounds, most)


def _newest(question: Question, bounds: Sequence[datetime], most: int) -> list[Piece]:
    """Those of the stretches between the bounds that have calls, until there are so many; the newest does not
    count, for some of its calls may come before those that are asked for."""
    if len(bounds) < 2 or bounds[0] >= bounds[-1]:
        return []
    asked = Question(question.scope, bounds[0], bounds[-1], question.zone, question.filters)
    pieces = list(pairwise(bounds))
    found: list[Piece] = []
    counted = 0
    for line in reversed(over_time(asked, bounds, wanted=("calls",))):
        found.append(pieces[line.bucket])
        counted += line.sums.calls if line.bucket < len(pieces) - 1 else 0
        if counted >= most:
            break
    return found


def _borders(question: Question, end: datetime) -> list[datetime]:
    """The start, the midnights from the first call on and up to the end, and the end."""
    days = UsageSpan.objects.filter(unit=UsageSpan.Unit.TOTAL, zone=UTC_ZONE)
    if question.scope.tenant_id is not None:
        days = days.filter(tenant_id=question.scope.tenant_id)
    first = days.aggregate(first=Min("start_at"))["first"] or end
    bounds = [question.start]
    following = window("day", max(first, question.start), question.zone)[1]
    while bounds[-1] < end:
        bounds.append(min(following, end))
        following = window("day", following, question.zone)[1]
    return bounds


def _quarter(at: datetime) -> datetime:
    return at.replace(minute=at.minute // QUARTER * QUARTER, second=0, microsecond=0)


def _within(pieces: Collection[Piece]) -> Q:
    """Neighbours are one piece."""
    joined: list[Piece] = []
    for start, end in pieces:
        if joined and joined[-1][0] == end:
            joined[-1] = (start, joined[-1][1])
        else:
            joined.append((start, end))
    return reduce(or_, (Q(started_at__gte=start, started_at__lt=end) for start, end in joined), Q(pk__in=[]))
