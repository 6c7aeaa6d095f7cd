"""When a budget's window began. Pure, and computed when it is asked for: nothing resets anything."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

EVER = datetime(1970, 1, 1, tzinfo=UTC)  # where the one window of a total begins


def window_start(period: str, now: datetime, timezone: str) -> datetime:
    """The midnight with which the day, week (from Monday) or month of `now` began there, in UTC.

    Where the clocks have no such midnight it is the moment in its place; where they have two, the first.
    """
    if period == "total":
        return EVER
    zone = ZoneInfo(timezone)
    day = now.astimezone(zone).date()
    if period == "week":
        day -= timedelta(days=day.weekday())
    elif period == "month":
        day = day.replace(day=1)
    return datetime.combine(day, time.min, zone).astimezone(UTC)
