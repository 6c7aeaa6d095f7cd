"""Months of the ledger come and go, and no number with them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4
from zoneinfo import ZoneInfoNotFoundError

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from accounts.ids import uuid7
from accounts.models import Tenant
from accounts.reading import first_id
from accounts.tenancy import operator_scope
from proxy import partitions, rollups, tasks
from proxy.models import UsageRecord, UsageTail, Worker
from proxy.partitions import TABLE, later, let_go, make_partitions, month_of
from proxy.usage_query import Question, Scope
from proxy.usage_report import breakdown
from tests.recording import record, settle

MAY, JUNE, JULY = (datetime(2031, month, 1, tzinfo=UTC) for month in (5, 6, 7))
DAY = timedelta(days=1)


@pytest.fixture
def acme(db: None) -> Tenant:
    with operator_scope():
        return Tenant.objects.create(slug="acme", name="Acme")


def came_in(tenant: Tenant, at: datetime) -> UUID:
    """A call of then, on record."""
    id_ = UUID(int=first_id(at).int | uuid7().int & (1 << 80) - 1)
    settle(record(tenant.pk, at, id=id_))
    return id_


def kept() -> set[UUID]:
    with operator_scope():
        return set(UsageRecord.objects.values_list("id", flat=True))


def counted() -> int:
    with operator_scope():
        return breakdown(Question(Scope(None), MAY - 100 * DAY, JULY + 100 * DAY))[0].calls


def in_table(name: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {name}")
        return int(cursor.fetchone()[0])


@pytest.mark.postgres
def test_it_moves_what_came_in_before_its_month_was_made(acme: Tenant) -> None:
    ids = {came_in(acme, JUNE), came_in(acme, JULY - timedelta(milliseconds=1)), came_in(acme, JULY)}
    assert in_table(f"{TABLE}_default") == 3
    make_partitions(JUNE - 70 * DAY)  # up to June
    assert (in_table(f"{TABLE}_2031_06"), in_table(f"{TABLE}_default")) == (2, 1)
    with operator_scope():
        assert set(UsageTail.objects.values_list("id", flat=True)) == kept() == ids
    rollups.roll_up()
    assert counted() == 3
    make_partitions(JUNE)
    assert (in_table(f"{TABLE}_2031_07"), in_table(f"{TABLE}_default")) == (1, 0)
    came_in(acme, JUNE + DAY)
    assert in_table(f"{TABLE}_2031_06") == 3


@pytest.mark.parametrize("made", [False, True])
def test_it_lets_whole_months_go_and_keeps_their_numbers(acme: Tenant, made: bool) -> None:
    if made:
        make_partitions(MAY)
    for at in (MAY - DAY, MAY, JUNE - DAY):
        came_in(acme, at)
    newer = {came_in(acme, JUNE), came_in(acme, JULY)}
    rollups.roll_up()
    late = came_in(acme, MAY + DAY)
    assert counted() == 6
    while let_go(JUNE):
        pass
    assert counted() == 6
    assert kept() - {late} == newer
    assert late in kept(), "it is not rolled up yet"
    rollups.roll_up()
    while let_go(JUNE):
        pass
    assert kept() == newer
    assert counted() == 6
    if made and connection.vendor == "postgresql":
        assert not {name for name, start in partitions._partitions() if start == MAY}


def test_it_lets_nothing_go_unless_it_is_told_to(acme: Tenant, settings: Settings) -> None:
    now = timezone.now()
    old, new = came_in(acme, later(month_of(now), -2) - DAY), came_in(acme, later(month_of(now), -2))
    tasks.housekeeping()
    assert kept() == {old, new}
    settings.USAGE_RETENTION_MONTHS = 2
    tasks.housekeeping()
    assert kept() == {new}


def test_it_does_what_else_there_is_to_do_where_one_job_fails(acme: Tenant) -> None:
    came_in(acme, MAY)
    rollups.roll_up()
    with operator_scope():
        Tenant.objects.filter(id=acme.id).update(timezone="Nowhere/At_All")
        gone = Worker.objects.create(id=uuid4(), seen_at=timezone.now() - 2 * DAY)
    with pytest.raises(ZoneInfoNotFoundError):
        tasks.housekeeping()
    with operator_scope():
        assert not Worker.objects.filter(id=gone.id).exists()
