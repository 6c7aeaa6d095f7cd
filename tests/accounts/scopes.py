"""Database work of the tests of coroutines, and a database that is away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple

from django.db import connection

from accounts import database
from accounts.tenancy import operator_scope

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


async def as_operator(function: Callable[[*Arguments], T], *args: *Arguments) -> T:
    """What `function` returns, on a database thread and in the operators' scope."""

    def job() -> T:
        with operator_scope():
            return function(*args)

    return await database.run(job)


@asynccontextmanager
async def database_away() -> AsyncIterator[None]:
    """While it lasts, `database.run` finds no database."""
    with socket.socket() as nobody:  # has a port, which is nobody else's then, and takes no connection
        nobody.bind(("127.0.0.1", 0))
        if connection.vendor == "sqlite":
            nowhere = {"NAME": "/nonexistent/tests.sqlite3"}
        else:
            nowhere = {"HOST": "127.0.0.1", "PORT": str(nobody.getsockname()[1])}
        where = {name: connection.settings_dict[name] for name in nowhere}
        connection.settings_dict.update(nowhere)
        try:
            await asyncio.to_thread(database.shutdown)  # after that nobody is connected, nor can be
            yield
        finally:
            connection.settings_dict.update(where)
