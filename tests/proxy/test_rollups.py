"""Rollups and the tail are the ledger: whatever comes, in whatever order, however late, and whoever adds it
up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from accounts.models import Tenant
from accounts.tenancy import operator_scope, tenant_scope
from accounts.windows import window
from proxy import partitions, rollups, tasks
from proxy.ledger import Row
from proxy.models import UsageQuarter, UsageRecord, UsageSeries, UsageSpan, UsageTail, UsageZone
from proxy.usage_calls import newest_calls
from proxy.usage_query import Question, Scope, Value
from proxy.usage_report import COUNTS, Line, Sums, breakdown, one_moment, over_time
from tests.recording import MOMENT, record, settle

# Offsets of half an hour and three quarters, and clocks that are put forward and back near MOMENT.
ZONES = (
    "UTC",
    "Europe/Paris",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Pacific/Chatham",
)
MINUTES = timedelta(minutes=1)
DAY, WEEK = timedelta(days=1), timedelta(days=7)


def made_tenant(zone: str = "UTC") -> Tenant:
    with operator_scope():
        return Tenant.objects.create(slug=f"t-{uuid4().hex}", name="Added up", timezone=zone)


def expected(rows: Sequence[Row]) -> Sums:
    """What the records come to, added up by hand."""
    whole = [row for row in rows if row["cost_nano_usd"] is not None]
    numbers = {name: sum(row[name] or 0 for row in rows) for name in COUNTS[3:8]}
    return Sums(
        calls=len(rows),
        failed=sum(row["status"] in ("failed", "truncated", "lost") for row in rows),
        cancelled=sum(row["status"] == "cancelled" for row in rows),
        cost_nano_usd=sum(row["cost_nano_usd"] for row in whole),
        unpriced=len(rows) - len(whole),
        estimated=sum(row["estimated"] for row in rows),
        **numbers,
    )


def counted(sums: Sums) -> tuple[int, ...]:
    """All but the histograms, which tests/proxy/test_histogram.py is about."""
    return tuple(getattr(sums, name) for name in COUNTS)


def started(row: Row) -> datetime:
    return datetime.strptime(row["started_at"], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)


def midnights(zone: str, start: datetime, end: datetime) -> list[datetime]:
    bounds = [window("day", start, zone)[0]]
    while bounds[-1] < end:
        bounds.append(window("day", bounds[-1], zone)[1])
    return bounds


def asked(tenant: Tenant, bounds: Sequence[datetime], **filters: tuple[Value, ...]) -> Question:
    return Question(Scope(tenant.pk), bounds[0], bounds[-1], tenant.timezone, filters)


def by_day(tenant: Tenant, bounds: Sequence[datetime]) -> list[Line]:
    with operator_scope():
        return over_time(asked(tenant, bounds), bounds)


@pytest.mark.parametrize("zone", ZONES)
def test_it_tells_days_as_the_clocks_of_the_time_zone_do(db: None, zone: str) -> None:
    tenant = made_tenant(zone)
    bounds = midnights(zone, MOMENT - 2 * WEEK, MOMENT + 2 * WEEK)
    rows = [
        record(tenant.pk, edge + shift) for edge in bounds[1:-1] for shift in (-MINUTES, 0 * MINUTES, MINUTES)
    ]
    settle(*rows[::2])
    rollups.roll_up()
    settle(*rows[1::2])
    for _ in range(2):  # with the late ones in the tail, and rolled up
        told = {line.bucket: counted(line.sums) for line in by_day(tenant, bounds)}
        for bucket, (start, end) in enumerate(pairwise(bounds)):
            within = [row for row in rows if start <= started(row) < end]
            assert told.get(bucket, counted(Sums())) == counted(expected(within)), (bucket, start)
            assert start.astimezone(ZoneInfo(zone)).date() < end.astimezone(ZoneInfo(zone)).date()
        rollups.roll_up()
    with operator_scope():
        assert UsageSpan.objects.filter(tenant_id=tenant.pk, unit="day", zone=zone).exists()


amounts = st.none() | st.integers(0, 5000)
calls = st.fixed_dictionaries(
    {
        "minutes": st.integers(-20_000, 20_000),
        "model": st.sampled_from(["small", "large", "'); DROP --\u2028😀 %s {0}"]),
        "user_id": st.sampled_from([None, 1, 2]),
        "api_key_id": st.sampled_from([None, UUID(int=1), UUID(int=2)]),
        "security_key_id": st.sampled_from([None, UUID(int=3)]),
        "upstream": st.sampled_from(["", "openai", "demo"]),
        "status": st.sampled_from(["completed", "failed", "truncated", "cancelled", "lost"]),
        "error_code": st.sampled_from(["", "rate_limited"]),
        "endpoint": st.sampled_from(["embeddings", "responses"]),
        "input_tokens": amounts,
        "cached_input_tokens": amounts,
        "output_tokens": amounts,
        "reasoning_tokens": amounts,
        "audio_milliseconds": amounts,
        "cost_nano_usd": amounts,
        "first_byte_milliseconds": amounts,
        "duration_milliseconds": st.integers(0, 10**8),
        "estimated": st.booleans(),
    }
)


class Books(RuleBasedStateMachine):
    """Settlements, roundings up and reports in every order, against a list of all that was ever settled."""

    @initialize(zone=st.sampled_from(ZONES))
    def begin(self, zone: str) -> None:
        self.rows: list[Row] = []
        self.tenant = made_tenant(zone)
        self.other = made_tenant()

    def teardown(self) -> None:
        """The next one finds what dropping has left here, and cannot derive it anew."""
        with operator_scope():
            for table in (UsageRecord, UsageTail, UsageQuarter, UsageSpan, UsageZone):
                table.objects.all().delete()

    @rule(batch=st.lists(calls, min_size=1, max_size=6))
    def settle(self, batch: list[dict[str, object]]) -> None:
        made = [self._row(dict(call)) for call in batch]
        self.rows += made
        settle(*made, record(self.other.pk))

    def _row(self, columns: dict[str, object]) -> Row:
        minutes = columns.pop("minutes")
        assert isinstance(minutes, int)
        return record(self.tenant.pk, MOMENT + minutes * MINUTES, **columns)

    @precondition(lambda self: self.rows)
    @rule(which=st.integers(0))
    def settle_again(self, which: int) -> None:
        """A spool that is drained twice, a worker thought dead; what the ledger lost meanwhile stays lost."""
        row = self.rows[which % len(self.rows)]
        with operator_scope():
            if UsageRecord.objects.filter(id=row["id"]).exists():
                settle(row)

    @rule(most=st.integers(1, 9))
    def roll(self, most: int) -> None:
        rollups.roll(most)

    @rule()
    def drop_what_is_rolled_up(self) -> None:
        rollups.roll_up()
        with operator_scope():
            UsageRecord.objects.filter(tenant_id=self.tenant.pk).delete()

    @rule(zone=st.sampled_from(ZONES), at_once=st.booleans())
    def move(self, zone: str, at_once: bool) -> None:
        with operator_scope():
            Tenant.objects.filter(id=self.tenant.pk).update(timezone=zone)
            self.tenant.refresh_from_db()
        if at_once:
            rollups.keep_zones()

    @rule()
    def rederive(self) -> None:
        with operator_scope():
            left = UsageRecord.objects.filter(tenant_id=self.tenant.pk).count()
        if left == len(self.rows):
            rollups.rederive(MOMENT - timedelta(hours=5))

    @invariant()
    def told_in_full(self) -> None:
        with operator_scope():
            bounds = midnights(self.tenant.timezone, MOMENT - 9 * WEEK, MOMENT + 9 * WEEK)  # and whole months
            for line in over_time(asked(self.tenant, bounds), bounds):
                first, last = bounds[line.bucket : line.bucket + 2]
                of_day = [row for row in self.rows if first <= started(row) < last]
                assert counted(line.sums) == counted(expected(of_day))
            total, lines = breakdown(asked(self.tenant, bounds), "model", "user", "key", "status")
            assert counted(total) == counted(expected(self.rows))
            for name, column in (("model", "model"), ("user", "user_id"), ("status", "status")):
                for line in lines[name]:
                    theirs = [row for row in self.rows if row[column] == line.group[0]]
                    assert counted(line.sums) == counted(expected(theirs)), line.group
                assert sum(line.sums.calls for line in lines[name]) == len(self.rows)
            assert sum(line.sums.calls for line in lines["key"]) == len(self.rows)

    @invariant()
    def told_until_now(self) -> None:
        """When nothing is later than now, of a month that is not over."""
        now = max(map(started, self.rows), default=MOMENT) + MINUTES
        start = window("day", MOMENT - 40 * DAY, self.tenant.timezone)[0]
        question = replace(asked(self.tenant, [start, now]), now=now)
        with operator_scope():
            total, _ = breakdown(question)
            lines = over_time(question, (start, now), "model", "status")
        assert counted(total) == counted(expected(self.rows))
        for line in lines:
            theirs = [row for row in self.rows if (row["model"], row["status"]) == line.group]
            assert (line.bucket, counted(line.sums)) == (0, counted(expected(theirs)))
        assert sum(line.sums.calls for line in lines) == len(self.rows)

    @invariant()
    def listed(self) -> None:
        """The calls behind a number, three at a time, but for those that were dropped."""
        start, end = MOMENT - 15_000 * MINUTES, MOMENT + 15_003 * MINUTES
        question = asked(self.tenant, [start, end], model=("large",), status=("completed", "lost"))
        with operator_scope():
            records = UsageRecord.objects.of(self.tenant).filter(
                started_at__gte=start, started_at__lt=end, model="large", status__in=("completed", "lost")
            )
            wanted = list(records.order_by("-started_at", "-id").values_list("id", flat=True))
            found: list[UUID] = []
            while page := newest_calls(question, 3, found[-1] if found else None):
                found += [record.id for record in page]
        assert found == wanted

    @invariant()
    def told_in_part(self) -> None:
        """Of a stretch that begins and ends in the middle of things, and of some calls alone."""
        start, end = MOMENT - 10_007 * MINUTES, MOMENT + 9_011 * MINUTES
        bounds = [start, *midnights(self.tenant.timezone, start, end)[1:-1], end]
        within = [row for row in self.rows if start <= started(row) < end]
        with operator_scope():
            recorded = {row.hex for row in UsageRecord.objects.values_list("id", flat=True)}
            edges = {
                row["id"]
                for row in within
                if min(abs(started(row) - edge) for edge in (start, end)) < 15 * MINUTES
            }
            if edges <= recorded:
                lines = over_time(
                    asked(self.tenant, bounds, model=("small",), user=(None, 1)), bounds, "endpoint"
                )
                theirs = [row for row in within if row["model"] == "small" and row["user_id"] in (None, 1)]
                assert counted(sum((line.sums for line in lines), Sums())) == counted(expected(theirs))
                for line in lines:
                    first, last = bounds[line.bucket], bounds[line.bucket + 1]
                    of_line = [
                        row
                        for row in theirs
                        if row["endpoint"] == line.group[0] and first <= started(row) < last
                    ]
                    assert counted(line.sums) == counted(expected(of_line))


@pytest.mark.slow
@pytest.mark.everywhere
def test_it_adds_up_to_the_ledger_whatever_happens_in_whatever_order(db: None) -> None:
    run_state_machine_as_test(
        Books, settings=settings(max_examples=12, stateful_step_count=12, deadline=None, database=None)
    )


def test_it_counts_a_call_that_is_settled_long_after_it_began(db: None) -> None:
    """By the reaper, or out of a spool: the quarter and the days in which it began are added up already."""
    tenant = made_tenant("Asia/Kathmandu")
    now = timezone.now().replace(microsecond=0)
    settle(record(tenant.pk, now))
    tasks.housekeeping()
    settle(record(tenant.pk, now - timedelta(days=40)), record(tenant.pk, now - timedelta(hours=5)))
    bounds = midnights(tenant.timezone, now - timedelta(days=41), now)
    before = [(line.bucket, line.sums) for line in by_day(tenant, bounds)]
    tasks.housekeeping()
    with operator_scope():
        assert not UsageTail.objects.exists()
    assert [(line.bucket, line.sums) for line in by_day(tenant, bounds)] == before
    assert sum(sums.calls for _, sums in before) == 3


def test_it_keeps_its_numbers_when_a_part_of_the_ledger_is_dropped(db: None) -> None:
    tenant = made_tenant("Europe/Paris")
    settle(
        *(record(tenant.pk, MOMENT + day * timedelta(days=1), model=f"m{day % 3}") for day in range(-20, 20))
    )
    rollups.roll_up()
    bounds = midnights(tenant.timezone, MOMENT - 4 * WEEK, MOMENT + 4 * WEEK)
    before = by_day(tenant, bounds)
    with operator_scope():
        if connection.vendor == "postgresql":
            partitions.make_partitions(timezone.now())
            with connection.cursor() as cursor:
                cursor.execute(f"TRUNCATE {partitions.TABLE}_{timezone.now():%Y_%m}")
        else:
            UsageRecord.objects.all().delete()
        assert not UsageRecord.objects.exists()
    rollups.roll_up()
    assert by_day(tenant, bounds) == before
    assert sum(line.sums.calls for line in before) == 40


def test_it_derives_its_numbers_anew_unless_that_would_lose_some(db: None) -> None:
    tenant = made_tenant("America/St_Johns")
    settle(*(record(tenant.pk, MOMENT + hours * timedelta(hours=1)) for hours in range(-40, 40)))
    rollups.roll_up()
    bounds = midnights(tenant.timezone, MOMENT - WEEK, MOMENT + WEEK)
    before = by_day(tenant, bounds)
    with operator_scope():
        UsageQuarter.objects.filter(start_at=MOMENT).update(calls=100)  # as no code of ours would
    with pytest.raises(rollups.HistoryLost):
        rollups.rederive(MOMENT - timedelta(hours=3))
    with operator_scope():
        UsageQuarter.objects.filter(start_at=MOMENT).update(calls=0)
    assert rollups.rederive(MOMENT - timedelta(hours=3)) == 43
    assert by_day(tenant, bounds) == before
    call_command("rederive_usage", f"{MOMENT - 2 * DAY:%Y-%m-%d}")
    assert by_day(tenant, bounds) == before
    with operator_scope():
        assert not UsageTail.objects.exists()
        UsageRecord.objects.all().delete()
    for since, refusal in (("2026-03-27", "on record"), ("yesterday", "Give a day")):
        with pytest.raises(CommandError, match=refusal):
            call_command("rederive_usage", since)


def test_it_measures_how_long_completed_calls_took(db: None) -> None:
    tenant = made_tenant()
    settle(
        *(record(tenant.pk, duration_milliseconds=100, first_byte_milliseconds=10) for _ in range(90)),
        *(record(tenant.pk, duration_milliseconds=9000, first_byte_milliseconds=None) for _ in range(10)),
        *(record(tenant.pk, duration_milliseconds=10**6, status="failed") for _ in range(99)),
    )
    for _ in range(2):
        with operator_scope():
            total, _lines = breakdown(asked(tenant, [MOMENT - WEEK, MOMENT + WEEK]))
        assert list(total.duration(0.5, 0.9, 0.95)) == [pytest.approx(100, rel=0.05)] * 2 + [
            pytest.approx(9000, rel=0.05)
        ]
        assert total.first_byte(0.5, 1.0) == (10, 10)
        rollups.roll_up()


@pytest.mark.parametrize("rolled", [True, False])
def test_it_shows_a_tenant_its_own_numbers_alone(db: None, rolled: bool) -> None:
    ours, theirs = made_tenant("Europe/Paris"), made_tenant("Europe/Paris")
    settle(record(ours.pk), record(theirs.pk), record(theirs.pk, user_id=7))
    if rolled:
        rollups.roll_up()
    bounds = midnights("Europe/Paris", MOMENT, MOMENT + MINUTES)
    with operator_scope():
        own, _ = breakdown(Question(Scope(theirs.pk, user_id=7), bounds[0], bounds[-1], "Europe/Paris"))
        both, by_tenant = breakdown(Question(Scope(None), bounds[0], bounds[-1]), "tenant")
    assert (own.calls, both.calls) == (1, 3)
    assert {line.group[0]: line.sums.calls for line in by_tenant["tenant"]} == {ours.pk: 1, theirs.pk: 2}
    if connection.vendor == "postgresql":
        with tenant_scope(ours.pk):
            assert breakdown(Question(Scope(None), bounds[0], bounds[-1]))[0].calls == 1
            for table in (UsageSpan, UsageQuarter, UsageSeries, UsageTail):
                assert set(table.objects.values_list("tenant_id", flat=True)) <= {ours.pk}
            assert not UsageZone.objects.filter(tenant_id=theirs.pk).exists()


def test_it_counts_a_record_that_something_else_inserted(db: None) -> None:
    """Such as a process of the version before: the database itself notes what is to be added up."""
    tenant = made_tenant()
    columns = record(tenant.pk) | {"started_at": MOMENT, "ended_at": MOMENT}
    with operator_scope():
        UsageRecord.objects.create(**columns)
        for _ in range(2):
            assert breakdown(asked(tenant, [MOMENT - WEEK, MOMENT + WEEK]))[0].calls == 1
            rollups.roll_up()


def test_it_keeps_days_of_new_tenants_in_their_time_zone(db: None) -> None:
    tenant = made_tenant("Pacific/Chatham")
    rollups.roll_up()
    settle(record(tenant.pk))
    rollups.roll_up()
    with operator_scope():
        days = UsageSpan.objects.filter(tenant_id=tenant.pk, unit="day").values_list("zone", "start_at")
        assert dict(days) == {zone: window("day", MOMENT, zone)[0] for zone in ("UTC", "Pacific/Chatham")}


def test_it_counts_each_call_once_while_others_settle_and_add_up(transactional_db: None) -> None:
    """Readers count the ledger and the numbers in one snapshot, and find them equal each time."""
    tenant = made_tenant("Europe/Paris")
    bounds = midnights(tenant.timezone, MOMENT - WEEK, MOMENT + WEEK)
    settled = threading.Event()

    def settle_many(seed: int) -> None:
        for number in range(25):
            settle(*(record(tenant.pk, MOMENT + (seed - number) * 7 * MINUTES) for _ in range(4)))

    def roll_on() -> None:
        while not settled.wait(0.02):  # SQLite's one writer has to have its turns
            rollups.roll(17)

    def read_on() -> None:
        while not settled.wait(0.001):
            told, there = snapshot(tenant, bounds)
            assert told == there

    jobs: list[Callable[[], None]] = [lambda: settle_many(1), lambda: settle_many(50)]
    with ThreadPoolExecutor(5) as threads:
        others = [threads.submit(_closing, job) for job in (roll_on, roll_on, read_on)]
        for done in [threads.submit(_closing, job) for job in jobs]:
            done.result(50)
        settled.set()
        for other in others:
            other.result(10)
    rollups.roll_up()
    assert snapshot(tenant, bounds) == (200, 200)


def snapshot(tenant: Tenant, bounds: Sequence[datetime]) -> tuple[int, int]:
    """The calls that the report tells of, and those that the ledger has, at one moment."""
    with one_moment(operator_scope()):
        total, _ = breakdown(asked(tenant, bounds))
        return total.calls, UsageRecord.objects.of(tenant).count()


def _closing(job: Callable[[], None]) -> None:
    try:
        job()
    finally:
        connection.close()
