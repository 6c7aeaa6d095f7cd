"""The ledger, read a part at a time: everything once, in order, and never many rows for one part."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts import reading
from accounts.reading import BY_ARRIVAL, NoSuchRow, Question, first_id
from accounts.tenancy import operator_scope
from proxy.models import UsageRecord
from proxy.spans import BY_ADMISSION, between

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
TENANT, OTHER = uuid4(), uuid4()
ROWS = 60


@pytest.fixture
def ledger(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[UsageRecord]]:
    """Oldest first, two tenants' by turns; every seventh was lost, and three at a time began together."""
    monkeypatch.setattr(reading, "LOOKED_THROUGH", 8)
    records = [record(number) for number in range(ROWS)]
    with operator_scope():
        yield UsageRecord.objects.bulk_create(records)


def record(number: int) -> UsageRecord:
    at = NOON + timedelta(seconds=number // 3)
    return UsageRecord(
        id=UUID(int=first_id(at).int + number),
        tenant_id=OTHER if number % 2 else TENANT,
        endpoint="chat.completions",
        model="m",
        stream=False,
        started_at=at,
        status=UsageRecord.Status.COMPLETED if number % 7 else UsageRecord.Status.LOST,
        estimated=False,
        duration_milliseconds=1,
        ended_at=at,
    )


def read(question: Question, limit: int) -> list[UUID]:
    found, after = [], None
    for _ in range(ROWS):
        part = question.part(after, limit)
        assert len(part.rows) <= limit
        found += [row.id for row in part.rows]
        if part.after is None:
            return found
        after = part.after
    raise AssertionError("It has no end.")


WANTS: list[dict[str, Any]] = [{}, {"status": "lost"}, {"status": "cancelled"}, {"model": "m"}]


@pytest.mark.parametrize("limit", [1, 3, 8, 100])
@pytest.mark.parametrize("wanted", WANTS, ids=str)
@pytest.mark.parametrize("order", [BY_ADMISSION, BY_ARRIVAL], ids=len)
def test_it_reads_each_row_once(
    ledger: list[UsageRecord], order: tuple[str, ...], wanted: dict[str, Any], limit: int
) -> None:
    looked_at = UsageRecord.objects.all() if order == BY_ARRIVAL else UsageRecord.objects.of(TENANT)
    whose = {TENANT} if order == BY_ADMISSION else {TENANT, OTHER}
    expected = [row.id for row in reversed(ledger) if row.tenant_id in whose]
    if "status" in wanted:
        expected = [
            row.id for row in reversed(ledger) if row.status == wanted["status"] and row.tenant_id in whose
        ]
    assert read(Question(looked_at, wanted, order), limit) == expected


@pytest.mark.parametrize("order", [BY_ADMISSION, BY_ARRIVAL], ids=len)
def test_it_reads_what_was_admitted_in_a_time(ledger: list[UsageRecord], order: tuple[str, ...]) -> None:
    since, before = NOON + timedelta(seconds=4), NOON + timedelta(seconds=9)
    rows = UsageRecord.objects.filter(between(order, since, before))
    expected = [row.id for row in reversed(ledger) if since <= row.started_at < before]
    assert read(Question(rows, {}, order), 4) == expected
    assert UsageRecord.objects.filter(between(order, None, None)).count() == ROWS


def test_it_goes_on_after_no_row_that_is_not_there(ledger: list[UsageRecord]) -> None:
    theirs = Question(UsageRecord.objects.of(TENANT), {}, BY_ADMISSION)
    for absent in (uuid4(), ledger[1].id):
        with pytest.raises(NoSuchRow):
            theirs.part(absent, 1)


def test_it_asks_as_much_for_what_is_rare_as_for_what_is_not(ledger: list[UsageRecord]) -> None:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        part = Question(UsageRecord.objects.all(), {"status": "cancelled"}, BY_ARRIVAL).part(None, 100)
    assert (part.rows, part.after) == ([], ledger[-8].id)
    assert len(queries) == 2
