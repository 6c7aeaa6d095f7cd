"""The time that a page is about, in a time zone, and the stretches into which its charts divide it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from accounts.windows import window

DAYS = {"today": 1, "7": 7, "30": 30, "90": 90}
CUSTOM = "custom"
USUAL = "7"
MOST_DAYS = 1100
_HOURS_UP_TO, _DAYS_UP_TO = 2, 100  # days, for which hours or days are told; beyond that, months
_EARLIEST = date(2000, 1, 1)


class BadPeriod(Exception):
    """What is asked for is no period; the message says why."""


@dataclass(frozen=True, slots=True)
class Period:
    """`name` is of DAYS or CUSTOM; `unit` is hour, day or month. Bounds are moments in UTC."""

    name: str
    zone: str
    first: date
    last: date
    unit: str
    bounds: tuple[datetime, ...]

    @classmethod
    def of(cls, query: Mapping[str, str], zone: str, now: datetime) -> Self:
        """By `period`, else `from` and `to`, which are days and both within. Raises BadPeriod."""
        today = now.astimezone(ZoneInfo(zone)).date()
        name = query.get("period") or (CUSTOM if query.get("from") or query.get("to") else USUAL)
        if name in DAYS:
            return cls.between(name, zone, today - timedelta(days=DAYS[name] - 1), today)
        if name != CUSTOM:
            raise BadPeriod("There is no such period.")
        last = _day(query.get("to"), today)
        first = _day(query.get("from"), last)
        if first > last:
            raise BadPeriod("It ends before it begins.")
        if (last - first).days >= MOST_DAYS:
            raise BadPeriod(f"At most {MOST_DAYS} days can be shown at once.")
        return cls.between(CUSTOM, zone, first, last)

    @classmethod
    def between(cls, name: str, zone: str, first: date, last: date) -> Self:
        days = (last - first).days + 1
        unit = "hour" if days <= _HOURS_UP_TO else "day" if days <= _DAYS_UP_TO else "month"
        start, end = midnight(first, zone), midnight(last + timedelta(days=1), zone)
        bounds = [start]
        while bounds[-1] < end:
            following = (
                bounds[-1] + timedelta(hours=1) if unit == "hour" else window(unit, bounds[-1], zone)[1]
            )
            bounds.append(min(following, end))
        return cls(name, zone, first, last, unit, tuple(bounds))

    @property
    def start(self) -> datetime:
        return self.bounds[0]

    @property
    def end(self) -> datetime:
        return self.bounds[-1]

    def labels(self) -> list[str]:
        """What each stretch is called."""
        zone = ZoneInfo(self.zone)
        forms = {
            "hour": "%a %H:%M" if self.first != self.last else "%H:%M",
            "day": "%-d %b",
            "month": "%b %Y",
        }
        return [bound.astimezone(zone).strftime(forms[self.unit]) for bound in self.bounds[:-1]]


def midnight(day: date, zone: str) -> datetime:
    """When the day began there."""
    return window("day", datetime.combine(day, time(12), ZoneInfo(zone)).astimezone(UTC), zone)[0]


def _day(text: str | None, default: date) -> date:
    if not text:
        return default
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise BadPeriod("Give days such as 2026-11-28.") from None
    if not _EARLIEST <= day <= date(2100, 1, 1):
        raise BadPeriod("That is not a time in which there were calls.")
    return day
