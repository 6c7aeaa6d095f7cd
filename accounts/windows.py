"""When a budget's window began. Pure, and computed when it is asked for: nothing resets anything."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

EVER = datetime(1970, 1, 1, tzinfo=UTC)  # where the one window of a total begins


NEVER = datetime.max.replace(tzinfo=UTC)  # and ends


def window_start(period: str, now: datetime, timezone: str) -> datetime:
    """The midnight with which the day, week (from Monday) or month of `now` began there, in UTC."""
    return window(period, now, timezone)[0]


def window(period: str, now: datetime, timezone: str) -> tuple[datetime, datetime]:
    """The midnights between which the day, week (from Monday) or month of `now` lies there, in UTC.

    Where the clocks have no such midnight it is the moment in its place; where they have two, the first.
    """
    if period == "total":
        return EVER, NEVER
    zone = ZoneInfo(timezone)
    first = now.astimezone(zone).date()
    days = 1
    if period == "week":
        first -= timedelta(days=first.weekday())
        days = 7
    elif period == "month":
        first = first.replace(day=1)
        days = monthrange(first.year, first.month)[1]
    start, end = (datetime.combine(day, time.min, zone) for day in (first, first + timedelta(days=days)))
    return start.astimezone(UTC), end.astimezone(UTC)
