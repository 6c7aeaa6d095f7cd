"""What the writer of open calls and usage records does with what the database will not take."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from django.db import connection

from accounts import database
from accounts.database import DatabaseUnavailable
from accounts.ids import uuid7
from accounts.tenancy import operator_scope
from proxy import ledger
from proxy.admission import KEPT
from proxy.ledger import Ledger, Row
from proxy.models import IdempotencyKey, OpenCall, UsageRecord
from tests.recording import record

pytestmark = pytest.mark.usefixtures("database_threads")

TENANT, WORKER = uuid7(), uuid7()
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


def opened(**columns: object) -> Row:
    """A call that is about to be made."""
    made = {name: value for name, value in good().items() if name in KEPT}
    return {**made, "worker_id": WORKER.hex, "input_tokens_estimate": 1, **columns}


async def left_open() -> dict[UUID, UUID]:
    """The worker of each open call."""
    return await database.run(_left_open)


def _left_open() -> dict[UUID, UUID]:
    with operator_scope():
        return dict(OpenCall.objects.values_list("id", "worker_id"))


async def keys_taken() -> int:
    return await database.run(_keys_taken)


def _keys_taken() -> int:
    with operator_scope():
        return IdempotencyKey.objects.count()


async def given_up_while_it_is_written(books: Ledger, row: Row) -> None:
    """Opens the call, and is cancelled when its row is on the way to the database."""
    free = threading.Event()
    books._opener.submit(free.wait, 20)
    opening = asyncio.create_task(books.open(row))
    async with asyncio.timeout(20):
        while opening.done() or books._opens._task is None or books._opens._waiting:
            await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    assert opening.cancelled()
    free.set()
    await books._opens.idle()


async def test_a_call_cancelled_before_its_row_is_written_is_not_open(books: Ledger) -> None:
    opening = asyncio.create_task(books.open(opened()))
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    await books._opens.idle()
    assert await left_open() == {}


async def test_a_call_cancelled_while_its_row_is_written_is_not_open(books: Ledger) -> None:
    await given_up_while_it_is_written(books, opened())
    assert await left_open() == {}


async def test_a_call_cancelled_while_its_row_is_written_has_no_key(books: Ledger) -> None:
    key = {"digest": "d" * 64, "body_digest": "b" * 64}
    await given_up_while_it_is_written(books, opened(idempotency=key))
    assert (await left_open(), await keys_taken()) == ({}, 0)
    other = opened(idempotency=key)
    await books.open(other)
    assert await left_open() == {UUID(other["id"]): WORKER}


async def test_a_call_that_is_opened_again_is_open(books: Ledger) -> None:
    row = opened()
    opening = asyncio.create_task(books.open(row))
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    await books.open(row)
    assert await left_open() == {UUID(row["id"]): WORKER}


async def test_a_call_that_another_process_makes_by_now_is_that_ones(books: Ledger) -> None:
    row, other = opened(), uuid7()
    await books.open({**row, "worker_id": other.hex})
    await given_up_while_it_is_written(books, row)
    assert await left_open() == {UUID(row["id"]): other}


@pytest.mark.postgres
async def test_a_row_that_went_in_as_the_connection_broke_is_withdrawn(books: Ledger) -> None:
    row = opened()
    await books.open(row)
    books._opener.submit(_refuse_writes)
    with pytest.raises(DatabaseUnavailable):
        await books.open(row)
    await books._opens.idle()
    assert await left_open() == {}


@pytest.mark.postgres
async def test_what_cannot_be_withdrawn_yet_goes_with_a_heartbeat(books: Ledger) -> None:
    row = opened()
    await books.open(row)
    books._opener.submit(_refuse_writes)
    books._withdrawn = [row]
    with pytest.raises(DatabaseUnavailable):
        await books.drain()
    assert await left_open() == {UUID(row["id"]): WORKER}
    await books.drain()
    assert await left_open() == {}


def _refuse_writes() -> None:
    """Until this thread's connection is another one."""
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
