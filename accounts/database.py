"""Runs database work for coroutines, on threads of our own.

Invariant: a job that fails for want of the database leaves no connection behind that the next job
could trip over: not its own, and not those which other threads opened before it failed.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from django.db import DEFAULT_DB_ALIAS, InterfaceError, InternalError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

THREADS = 8
# What its absence raises. InternalError too: so psycopg (3.3, 2026-11) tells PostgreSQL's 25006,
# read_only_sql_transaction. The server became a standby, and only another connection leads to the primary.
AWAY = (OperationalError, InterfaceError, InternalError)

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class DatabaseUnavailable(Exception):
    """The database does not answer, or not as a database should: our trouble, and worth trying again."""


class _Pool:
    """The threads and the connection of each, which is kept from one job to the next."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "database", self._enter)
        self._connections: list[BaseDatabaseWrapper] = []
        self._here = threading.local()
        self._failed_at = 0.0

    async def run(self, function: Callable[[*Arguments], T], *args: *Arguments) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._job, function, *args)

    def _enter(self) -> None:
        connection = connections[DEFAULT_DB_ALIAS]  # of this thread alone
        connection.inc_thread_sharing()  # so that `close` may close it when the thread has ended
        self._connections.append(connection)
        self._here.since = time.monotonic()

    def _job(self, function: Callable[[*Arguments], T], *args: *Arguments) -> T:
        if self._here.since <= self._failed_at:
            self._reconnect()
        try:
            return function(*args)
        except AWAY as error:
            self._failed_at = time.monotonic()
            raise DatabaseUnavailable from error

    def _reconnect(self) -> None:
        self._here.since = time.monotonic()
        connections[DEFAULT_DB_ALIAS].close()

    def close(self) -> None:
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()


_pool: _Pool | None = None
_pool_lock = threading.Lock()


def _opened_pool() -> _Pool:
    global _pool
    with _pool_lock:
        _pool = _pool or _Pool()
        return _pool


async def run(function: Callable[[*Arguments], T], *args: *Arguments) -> T:
    """What `function(*args)` returns, called on a database thread where it may use the ORM.

    Raises DatabaseUnavailable in place of what is AWAY. A caller that is
    cancelled stops waiting; the job itself runs to its end.
    """
    return await _opened_pool().run(function, *args)


def shutdown() -> None:
    """Waits for the jobs under way and closes their connections; the next `run` begins anew.

    Not to be called on an event loop's thread: Django closes no connection there.
    """
    global _pool
    with _pool_lock:
        pool, _pool = _pool, None
    if pool is not None:
        pool.close()
