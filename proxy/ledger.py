"""The durable record of every admitted call: open calls and usage records, written in groups.

Invariant: an admitted call is one row, first in `proxy_opencall`, then in `proxy_usagerecord`, under one
primary key. Settling inserts the record and removes the open call in one transaction; whoever comes second
(a worker thought dead, a spool read twice) changes nothing, for the key decides. Endings:
  - the database takes the group         the awaiting calls go on
  - it is away while calls open          DatabaseUnavailable: the upstream never hears of them
  - a call is cancelled while it opens   its row is withdrawn: no ticket would ever settle it
  - it is away while calls settle        the group goes to a file on disk (fsynced); `drain` brings it in
  - it refuses a row                     the others of its group are written; a settlement goes to that file
                                         alone, and is tried again with it
  - the process dies                     the reaper (proxy/tasks.py) settles what its heartbeat left open
A call's idempotency key comes and goes with these rows, in the same transactions.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Callable, Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from uuid import UUID

import msgspec
from django.db import DatabaseError, InternalError, connection, models, transaction

from accounts import changes
from accounts.database import AWAY, DatabaseUnavailable
from accounts.tenancy import OPERATOR_SQL, operator_scope
from proxy import idempotency
from proxy.models import OpenCall, UsageRecord

Row = dict[str, Any]
T = TypeVar("T")

logger = logging.getLogger(__name__)

_COLLECT_SECONDS = 0.003
_MAX_GROUP = 500
_MAX_REFUSED = 50
_MAX_WITHDRAWN = 10_000
_TRANSACTION_STATES = "25"


def timestamp(moment: datetime) -> str:
    """How both databases take a time in a JSON row: UTC, without its zone."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


class Ledger:
    """One process's writer. Made on the loop that uses it."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._settler = ThreadPoolExecutor(1, "ledger-settle")
        # SQLite has one writer; on Postgres open calls need not queue behind a disk flush.
        shared = connection.vendor == "sqlite"
        self._opener = self._settler if shared else ThreadPoolExecutor(1, "ledger-open")
        self._opens = _Group(self._open_or_withdraw, self._opener)
        self._withdrawn: list[Row] = []  # of the opener's thread: those whose rows are yet to go
        self._settlements = _Group(self._settle_or_spool, self._settler)

    async def open(self, row: Row) -> None:
        """Returns once the open call is in the database. Raises DatabaseUnavailable, InProgress.

        After a cancellation, or where a connection broke, it may be there or not: then it is withdrawn,
        behind its own insertion.
        """
        try:
            await asyncio.shield(self._opens.add(row))
        except (asyncio.CancelledError, DatabaseUnavailable):
            self._opens.add({**row, "withdrawn": True}).cancel()  # Nobody waits for that.
            raise

    def settle(self, row: Row) -> asyncio.Future[None]:
        """Done once the record is in the database, or safe on disk; the write goes on if nobody waits."""
        return self._settlements.add(row)

    async def drain(self) -> int:
        """Brings what was spooled into the database, and takes out what could not be withdrawn; how many came
        in. Raises DatabaseUnavailable."""
        loop = asyncio.get_running_loop()
        if self._withdrawn:
            await loop.run_in_executor(self._opener, self._withdraw)
        if not self._spool.exists():
            return 0
        return await loop.run_in_executor(self._settler, drain, self._spool)

    async def close(self) -> None:
        """Writes what is pending, then lets the threads go."""
        await self._opens.idle()
        await self._settlements.idle()
        for executor in {self._opener, self._settler}:
            await asyncio.get_running_loop().run_in_executor(executor, _disconnect)
            executor.shutdown()

    def _open_or_withdraw(self, rows: list[Row]) -> Container[str]:
        """What was said last of a call holds: one that was withdrawn and queued again may be opened again."""
        self._withdrawn += [row for row in rows if "withdrawn" in row]
        self._withdraw()
        last = {row["id"]: row for row in rows}
        opened = [row for row in last.values() if "withdrawn" not in row]
        return write_opened(opened) if opened else ()

    def _withdraw(self) -> None:
        due, self._withdrawn = self._withdrawn, []
        for start in range(0, len(due), _MAX_GROUP):
            try:
                withdraw(due[start : start + _MAX_GROUP])
            except DatabaseUnavailable:
                self._withdrawn = due[start:][-_MAX_WITHDRAWN:]
                raise

    def _settle_or_spool(self, rows: list[Row]) -> Container[str]:
        try:
            write_settled(rows)
        except DatabaseUnavailable:
            logger.error("The database is away: %d usage records go to the spool.", len(rows))
            _append(self._spool, rows)
        except DatabaseError as error:
            if len(rows) > 1:  # which are tried in smaller groups
                raise
            logger.error(
                "The database refused a usage record (%s): it goes to the spool.", type(error).__name__
            )
            _append(self._spool, rows)
        return ()


class _Group:
    """Collects rows for a few milliseconds, then writes them all on a thread of its own.

    `write` returns the ids of calls whose idempotency key another call has.
    """

    def __init__(self, write: Callable[[list[Row]], Container[str]], executor: ThreadPoolExecutor) -> None:
        self._write = write
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[Row, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, row: Row) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((row, future))
        if self._task is None:
            self._task = self._loop.create_task(self._run())
        return future

    async def idle(self) -> None:
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(_COLLECT_SECONDS)
                group, self._waiting = self._waiting[:_MAX_GROUP], self._waiting[_MAX_GROUP:]
                await self._write_group(group)
        finally:
            self._task = None

    async def _write_group(self, group: list[tuple[Row, asyncio.Future[None]]]) -> None:
        error: Exception | None = None
        taken: Container[str] = ()
        try:
            taken = await self._loop.run_in_executor(self._executor, self._write, [row for row, _ in group])
        except Exception as caught:  # The edge: whatever it was, the calls that wait must hear of it.
            logger.error("A group of %d rows was not written: %s.", len(group), type(caught).__name__)
            error = caught
        if isinstance(error, DatabaseError) and len(group) > 1:
            # One row that the database will not take must not cost the others theirs.
            for half in _halves(group):
                await self._write_group(half)
            return
        for row, future in group:
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            elif row["id"] in taken:
                future.set_exception(idempotency.InProgress())
            else:
                future.set_result(None)


def _halves(group: list[T]) -> tuple[list[T], list[T]]:
    return group[: len(group) // 2], group[len(group) // 2 :]


def _disconnect() -> None:
    """Closes the connection of the thread that it runs on."""
    connection.close()


def write_opened(rows: list[Row]) -> set[str]:
    """Inserts open calls with their idempotency keys; the ids of those that were not opened, because another
    call has their key. Raises DatabaseUnavailable."""
    keyed = _keyed(rows)
    with _available():
        if not keyed:
            _insert_opened(rows)
            return set()
        with operator_scope():
            taken = idempotency.claim(keyed)
            _insert_opened([row for row in rows if row["id"] not in taken])
        return taken


def _insert_opened(rows: list[Row]) -> None:
    """On Postgres the disk is not waited for: should the machine lose power, calls in flight are lost with
    it; a killed process loses none."""
    if connection.vendor == "postgresql":
        given, insert = _INSERT_OPEN.postgresql()
        _execute(rows, f"SET LOCAL synchronous_commit = off; {OPERATOR_SQL} WITH {given} {insert}")
    else:
        _execute(rows, _INSERT_OPEN.sqlite())


def withdraw(rows: list[Row]) -> None:
    """Removes the rows of calls that were not made, and frees their idempotency keys. Another process may
    have opened one of them since, and that row is its. Raises DatabaseUnavailable."""
    workers = {row["worker_id"] for row in rows}
    with _available(), operator_scope():
        OpenCall.objects.filter(id__in=[row["id"] for row in rows], worker_id__in=workers).delete()
        idempotency.give_up([row["id"] for row in _keyed(rows)])


def write_settled(rows: list[Row]) -> None:
    """Inserts usage records, adds their cost to what their budgets have spent, removes their open calls and
    keeps or frees their idempotency keys: in one transaction. A record that is there already adds nothing.
    Raises DatabaseUnavailable."""
    rows = list({row["id"]: row for row in rows}.values())
    keyed = _keyed(rows)
    with _available():
        if not keyed:
            return _insert_settled(rows)
        with operator_scope():
            _insert_settled([{**row, "idempotency": None} for row in rows])  # answers are no part of a record
            idempotency.finish(keyed)


def write_late(rows: list[Row]) -> None:
    """Settles calls of which the limiter did not hear, or which the database had not when it was asked: what
    their budgets have spent is asked for anew, by everybody. Raises DatabaseUnavailable."""
    write_settled(rows)
    if any(row.get("budgets") for row in rows):
        with _available():
            changes.announce()


def _insert_settled(rows: list[Row]) -> None:
    if connection.vendor == "postgresql":
        given, insert = _INSERT_USAGE.postgresql()
        recorded = f"recorded AS ({insert} RETURNING tenant_id, budgets, cost_nano_usd)"
        _execute(rows, f"{OPERATOR_SQL} WITH {given}, {_REMOVE_OPEN}, {recorded} {_SPEND}")
    else:
        spend = [_SPEND_SQLITE] if any(row["budgets"] for row in rows) else []
        _execute(rows, *spend, _INSERT_USAGE.sqlite(), _REMOVE_OPEN_SQLITE)


def _keyed(rows: list[Row]) -> list[Row]:
    return [row for row in rows if "idempotency" in row]


def _execute(rows: list[Row], *statements: str) -> None:
    """Runs the statements on this thread's connection, each with the rows as its one JSON parameter."""
    payload = msgspec.json.encode(rows).decode()
    if len(statements) == 1:
        with connection.cursor() as cursor:
            cursor.execute(statements[0], [payload])
        return
    with transaction.atomic(), connection.cursor() as cursor:
        for each in statements:
            cursor.execute(each, [payload])


@contextmanager
def _available() -> Iterator[None]:
    """Raises DatabaseUnavailable for what its absence raises; the next write then connects anew.

    An InternalError is a row's own (a damaged page, a broken index), but for the states of a transaction
    (class 25 of PostgreSQL's error codes): those are the connection's, as that of a standby is.
    """
    try:
        yield
    except AWAY as error:
        connection.close()
        state = getattr(error.__cause__, "sqlstate", None) or _TRANSACTION_STATES
        if isinstance(error, InternalError) and not state.startswith(_TRANSACTION_STATES):
            raise
        raise DatabaseUnavailable from error


class _Insert:
    """INSERT … SELECT from one JSON array of rows: the same for both databases but for its reader."""

    def __init__(self, model: type[models.Model]) -> None:
        self._model = model

    def _columns(self) -> list[tuple[str, str]]:
        fields = self._model._meta.concrete_fields
        return [(str(field.column), field.db_type(connection) or "") for field in fields]

    # Names are those of our own tables and columns; the values are one parameter.

    def postgresql(self) -> tuple[str, str]:
        """The rows as a table called `given`, and their insertion."""
        columns = self._columns()
        names = ", ".join(name for name, _ in columns)
        typed = ", ".join(f"{name} {type_}" for name, type_ in columns)
        given = f"given AS MATERIALIZED (SELECT * FROM json_to_recordset(%s::json) AS r({typed}))"  # noqa: S608
        return given, f"{self._into(names)} SELECT {names} FROM given ON CONFLICT (id) DO NOTHING"  # noqa: S608

    def sqlite(self) -> str:
        names = ", ".join(name for name, _ in self._columns())
        values = ", ".join(f"json_extract(value, '$.{name}')" for name, _ in self._columns())
        return (
            f"{self._into(names)} SELECT {values} FROM json_each(%s) WHERE true ON CONFLICT (id) DO NOTHING"  # noqa: S608
        )

    def _into(self, names: str) -> str:
        return f"INSERT INTO {self._model._meta.db_table} ({names})"


_INSERT_OPEN = _Insert(OpenCall)
_INSERT_USAGE = _Insert(UsageRecord)
_REMOVE_OPEN = "gone AS (DELETE FROM proxy_opencall WHERE id IN (SELECT id FROM given))"
_REMOVE_OPEN_SQLITE = (
    "DELETE FROM proxy_opencall WHERE id IN (SELECT json_extract(value, '$.id') FROM json_each(%s))"
)
_SPEND_COLUMNS = "accounts_spend (tenant_id, budget_id, subject, window_start, amount_nano_usd)"
_ADD_UP = (
    "ON CONFLICT (budget_id, subject, window_start) "
    "DO UPDATE SET amount_nano_usd = accounts_spend.amount_nano_usd + excluded.amount_nano_usd"
)
# In one order, so that two processes that add to the same rows wait for each other and do not deadlock.
_SPEND = (
    f"INSERT INTO {_SPEND_COLUMNS} SELECT tenant_id, (b->>'budget')::uuid, b->>'subject', "  # noqa: S608
    "(b->>'window_start')::timestamptz, sum(cost_nano_usd) FROM recorded, jsonb_array_elements(budgets) AS b "
    f"WHERE cost_nano_usd > 0 GROUP BY 1, 2, 3, 4 ORDER BY 2, 3, 4 {_ADD_UP}"
)
_SPEND_SQLITE = (
    f"INSERT INTO {_SPEND_COLUMNS} SELECT json_extract(r.value, '$.tenant_id'), "  # noqa: S608
    "json_extract(b.value, '$.budget'), json_extract(b.value, '$.subject'), "
    "json_extract(b.value, '$.window_start'), sum(json_extract(r.value, '$.cost_nano_usd')) "
    "FROM json_each(%s) AS r, json_each(r.value, '$.budgets') AS b "
    "WHERE json_extract(r.value, '$.cost_nano_usd') > 0 AND NOT EXISTS "
    "(SELECT 1 FROM proxy_usagerecord WHERE id = json_extract(r.value, '$.id')) "
    f"GROUP BY 1, 2, 3, 4 {_ADD_UP}"
)


def _append(spool: Path, rows: list[Row]) -> None:
    """A line each, after a line end: one that a full disk cut short must not spoil the next."""
    spool.parent.mkdir(parents=True, exist_ok=True)
    lines = [msgspec.json.encode(row) + b"\n" for row in rows]
    with _locked(spool) as file:
        file.write(b"\n" + b"".join(lines))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _locked(spool: Path) -> Iterator[BinaryIO]:
    """The file, made if need be, while no other process has it; one that was drained meanwhile is gone."""
    while True:
        with spool.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink:
                yield file
                return


def drain(spool: Path) -> int:
    """Settles what the file holds and removes it; how many rows came in. Raises DatabaseUnavailable.

    Of processes that find it together one brings it in. A line that was cut short was never acknowledged to
    anyone: it is left to the reaper. Rows that the database refuses stay in the file, behind all others: what
    it lacks, such as a partition, may be there at another time.
    """
    try:
        file = spool.open("rb")
    except FileNotFoundError:
        return 0
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not os.fstat(file.fileno()).st_nlink:
            return 0
        rows = list(_rows(file.read()))
        left: list[Row] = []
        for start in range(0, len(rows), _MAX_GROUP):
            if len(left) < _MAX_REFUSED:
                left += _refused(rows[start : start + _MAX_GROUP])
            else:  # It refuses whatever it is given, and would be kept busy with that.
                left = rows[start:] + left
                break
        _leave(spool, left)
    return len(rows) - len(left)


def _refused(rows: list[Row]) -> list[Row]:
    """Settles the rows; those of them that the database will not take. Raises DatabaseUnavailable."""
    try:
        write_late(rows)
    except DatabaseError as error:
        if len(rows) > 1:
            return [row for half in _halves(rows) for row in _refused(half)]
        logger.error("A usage record stays in the spool: the database refused it (%s).", type(error).__name__)
        return rows
    return []


def _leave(spool: Path, left: list[Row]) -> None:
    """Removes the file that was read, or has another with what is left of it take its place."""
    if not left:
        return spool.unlink()
    other = spool.with_suffix(".left")
    other.unlink(missing_ok=True)
    _append(other, left)
    other.replace(spool)
    return None


def _rows(spooled: bytes) -> Iterator[Row]:
    for line in filter(None, spooled.split(b"\n")):
        try:
            yield msgspec.json.decode(line, type=Row)
        except msgspec.DecodeError:
            logger.error("A line of a spool was cut short: its call is left to the reaper.")


def spool_file(directory: Path, worker_id: UUID) -> Path:
    """Where that worker spools."""
    return directory / "spool" / f"{worker_id}.jsonl"
