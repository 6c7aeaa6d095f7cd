"""When a budget's window began, in every kind of time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import Budget
from accounts.windows import EVER, window_start

ZONES = (
    *("UTC", "Europe/Paris", "America/New_York", "America/Havana", "Africa/Cairo", "Asia/Beirut"),
    *("Australia/Lord_Howe", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu"),
)
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("period", "now", "timezone", "start"),
    [
        ("day", "2026-11-21 12:00", "UTC", "2026-11-21 00:00"),
        ("day", "2026-11-21 23:30", "Europe/Paris", "2026-11-21 23:00"),
        ("day", "2026-11-21 22:30", "Europe/Paris", "2026-11-20 23:00"),
        ("week", "2026-11-22 12:00", "UTC", "2026-11-16 00:00"),  # a Sunday
        ("week", "2026-11-22 23:30", "Europe/Paris", "2026-11-22 23:00"),  # Monday there
        ("month", "2026-11-30 23:30", "Europe/Paris", "2026-11-30 23:00"),
        ("month", "2026-12-01 04:59", "America/New_York", "2026-11-01 04:00"),  # in summer time, that one
        ("month", "2026-10-31 12:00", "Europe/Paris", "2026-09-30 22:00"),  # winter time came in between
        ("day", "2026-03-29 12:00", "Europe/Paris", "2026-03-28 23:00"),  # a day of 23 hours
        ("day", "2026-10-25 22:59", "Europe/Paris", "2026-10-24 22:00"),  # one of 25
        ("day", "2026-04-24 12:00", "Africa/Cairo", "2026-04-23 22:00"),  # it began at 01:00
        ("day", "2026-11-01 12:00", "America/Havana", "2026-11-01 04:00"),  # it had two midnights
        ("total", "2026-11-21 12:00", "Europe/Paris", "1970-01-01 00:00"),
    ],
)
def test_it_begins_a_window_at_midnight_there(period: str, now: str, timezone: str, start: str) -> None:
    found = Budget(period=period).window_start(utc(now), timezone)
    assert found == utc(start)
    assert found.tzinfo is UTC


def test_it_has_one_window_for_a_total() -> None:
    assert window_start("total", utc("2060-01-01"), "Asia/Kathmandu") == EVER


@given(period=st.sampled_from(["day", "week", "month"]), now=MOMENTS, timezone=st.sampled_from(ZONES))
def test_it_begins_every_window_before_now_and_ends_it_after(
    period: str, now: datetime, timezone: str
) -> None:
    start = window_start(period, now, timezone)
    assert start <= now < start + timedelta(days={"day": 1, "week": 7, "month": 31}[period], hours=1)
    assert window_start(period, start, timezone) == start
    before = start - timedelta(microseconds=1)
    assert before.astimezone(ZoneInfo(timezone)).date() < start.astimezone(ZoneInfo(timezone)).date()


@pytest.mark.parametrize("timezone", ZONES)
def test_it_never_goes_back(timezone: str) -> None:
    hours = (utc("2026-01-01") + timedelta(minutes=30 * step) for step in range(2 * 24 * 365))
    starts = [window_start("day", hour, timezone) for hour in hours]
    assert all(earlier <= later for earlier, later in pairwise(starts))
    assert len(set(starts)) == 366 - (timezone == "UTC")
