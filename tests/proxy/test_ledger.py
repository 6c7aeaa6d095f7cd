"""What the writer of open calls and usage records does with what the database will not take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from django.db import connection

from accounts import database
from accounts.ids import uuid7
from accounts.tenancy import operator_scope
from proxy import ledger
from proxy.ledger import Ledger, Row
from proxy.models import UsageRecord
from tests.recording import record

pytestmark = pytest.mark.usefixtures("database_threads")

TENANT = uuid7()
DAMAGED = "damaged"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return ledger.spool_file(tmp_path, uuid4())


@pytest.fixture
async def books(spool: Path) -> AsyncIterator[Ledger]:
    made = Ledger(spool)
    yield made
    await made.close()


def good() -> Row:
    return record(TENANT)


def bad() -> Row:
    """One that breaks a rule of the table's."""
    return record(TENANT, status=None)


def ids(rows: list[Row]) -> set[UUID]:
    return {UUID(row["id"]) for row in rows}


def spooled(spool: Path) -> list[Row]:
    return list(ledger._rows(spool.read_bytes())) if spool.exists() else []


def mend_spooled(spool: Path) -> None:
    spool.write_bytes(spool.read_bytes().replace(b'"status":null', b'"status":"completed"'))


async def recorded() -> set[UUID]:
    return await database.run(_recorded)


def _recorded() -> set[UUID]:
    with operator_scope():
        return set(UsageRecord.objects.values_list("id", flat=True))


async def settle(books: Ledger, rows: list[Row]) -> None:
    async with asyncio.timeout(20):
        await asyncio.gather(*(books.settle(row) for row in rows))


async def test_a_row_that_is_refused_costs_no_other_and_goes_to_the_spool(books: Ledger, spool: Path) -> None:
    before, refused, after = [good(), good()], bad(), [good()]
    await settle(books, [*before, refused, *after])
    assert await recorded() == ids([*before, *after])
    assert spooled(spool) == [refused]


async def test_a_spool_that_can_never_be_empty_keeps_nothing_else(books: Ledger, spool: Path) -> None:
    before, refused, after = good(), bad(), good()
    ledger._append(spool, [before, refused])
    ledger._append(spool, [after])
    assert await books.drain() == 2
    assert await recorded() == ids([before, after])
    assert spooled(spool) == [refused]
    assert await books.drain() == 0


async def test_what_is_refused_comes_in_once_the_database_takes_it(books: Ledger, spool: Path) -> None:
    refused = bad()
    await settle(books, [refused])
    mend_spooled(spool)
    assert await books.drain() == 1
    assert await recorded() == ids([refused])
    assert spooled(spool) == []


@pytest.mark.postgres
async def test_a_row_on_a_damaged_page_costs_no_other(books: Ledger, spool: Path) -> None:
    await database.run(_damage)
    before, damaged, after = good(), record(TENANT, model=DAMAGED), good()
    try:
        await settle(books, [before, damaged, after])
        assert await recorded() == ids([before, after])
        assert await books.drain() == 0
    finally:
        await database.run(_mend)
    assert await books.drain() == 1
    assert await recorded() == ids([before, damaged, after])


def _damage() -> None:
    """Stands for what PostgreSQL says of a page that it cannot read (XX001, data_corrupted)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION damaged() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'damaged' USING ERRCODE = 'XX001'; END $$"
        )
        cursor.execute(
            "CREATE TRIGGER damaged BEFORE INSERT ON proxy_usagerecord FOR EACH ROW "
            f"WHEN (NEW.model = '{DAMAGED}') EXECUTE FUNCTION damaged()"
        )


def _mend() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION damaged() CASCADE")
