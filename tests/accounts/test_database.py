"""Database work on threads of our own, and what becomes of it when the database goes away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import pytest
from django.core.exceptions import ObjectDoesNotExist
from django.db import (
    DEFAULT_DB_ALIAS,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    connection,
    connections,
)

from accounts import database
from accounts.changes import Installation
from accounts.database import DatabaseUnavailable

T = TypeVar("T")

pytestmark = pytest.mark.usefixtures("database_threads")


def fail(error: Exception) -> NoReturn:
    raise error


def driver_connection() -> Any:
    """This thread's connection, in use."""
    Installation.objects.count()
    return connection.connection


def backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def terminate(backends: list[int]) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) pid", [backends])
    finally:
        connection.close()


async def on_every_thread(function: Callable[[], T]) -> list[T]:
    """What `function` returns on each of the threads: none is free for a second job meanwhile."""
    barrier = threading.Barrier(database.THREADS)

    def job() -> T:
        barrier.wait(10)
        return function()

    return await asyncio.gather(*(database.run(job) for _ in range(database.THREADS)))


async def test_it_returns_what_the_function_returns() -> None:
    assert await database.run(max, 1, 2) == 2


async def test_it_works_on_threads_of_its_own() -> None:
    name = await database.run(lambda: threading.current_thread().name)
    assert name.startswith("database")


async def test_it_keeps_a_connection_from_job_to_job() -> None:
    before = await on_every_thread(driver_connection)
    after = await on_every_thread(driver_connection)
    assert {id(one) for one in before} == {id(one) for one in after}
    assert len({id(one) for one in before}) == database.THREADS


@pytest.mark.parametrize(
    "error", [OperationalError("gone"), InterfaceError("closed"), InternalError("a standby")]
)
async def test_it_says_that_the_database_is_unavailable(error: Exception) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        await database.run(fail, error)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [IntegrityError("twice"), ObjectDoesNotExist("none"), KeyError("k")])
async def test_it_passes_on_every_other_error(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await database.run(fail, error)
    assert caught.value is error


async def test_it_reconnects_every_thread_after_a_failure() -> None:
    before = await on_every_thread(driver_connection)
    with pytest.raises(DatabaseUnavailable):
        await database.run(fail, OperationalError("gone"))
    after = await on_every_thread(driver_connection)
    assert not {id(one) for one in before} & {id(one) for one in after}


@pytest.mark.postgres
async def test_it_loses_one_job_when_postgres_restarts_and_not_one_on_each_thread() -> None:
    before = await on_every_thread(backend)
    await asyncio.to_thread(terminate, before)
    with pytest.raises(DatabaseUnavailable):
        await database.run(backend)
    assert not set(before) & set(await on_every_thread(backend))


async def test_it_closes_its_connections_at_shutdown() -> None:
    await on_every_thread(driver_connection)
    wrappers = await on_every_thread(lambda: connections[DEFAULT_DB_ALIAS])
    await asyncio.to_thread(database.shutdown)
    assert [wrapper.connection for wrapper in wrappers] == [None] * database.THREADS


async def test_it_begins_anew_after_shutdown() -> None:
    await asyncio.to_thread(database.shutdown)
    await asyncio.to_thread(database.shutdown)
    assert await database.run(max, 1, 2) == 2
