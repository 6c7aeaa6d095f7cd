"""Where the gateway under measurement keeps its ledger: a SQLite file, or a Postgres database of its own."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString, Protocol
from urllib.parse import urlsplit

import psycopg
import redis
from psycopg import sql

LOCAL_POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"
LOCAL_REDIS = "redis://127.0.0.1:6379/0"
CONNECT_TIMEOUT_SECONDS = 2
COUNT_USAGE = "SELECT count(*) FROM proxy_usagerecord"
COUNT_OPEN = "SELECT count(*) FROM proxy_opencall"
# For a login that row-level security binds; the table owner who is a superuser does not need it.
OPERATOR_SCOPE = "SELECT set_config('tollgate.scope', 'operator', false)"


class Unavailable(Exception):
    """This machine does not have what a row needs."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """How many calls the database knows to have ended, and to be under way."""

    usage_records: int
    open_calls: int


class Store(Protocol):
    """What a gateway is given to remember with."""

    @property
    def title(self) -> str: ...

    @property
    def environment(self) -> Mapping[str, str]: ...

    def read_ledger(self) -> Ledger: ...


@dataclass(frozen=True, slots=True)
class SqliteStore:
    data_dir: Path
    title: str = "SQLite"

    @property
    def environment(self) -> Mapping[str, str]:
        return {"DATA_DIR": str(self.data_dir), "DATABASE_URL": "", "REDIS_URL": ""}

    def read_ledger(self) -> Ledger:
        with closing(sqlite3.connect(self.data_dir / "tollgate.sqlite3")) as database:
            return Ledger(
                usage_records=database.execute(COUNT_USAGE).fetchone()[0],
                open_calls=database.execute(COUNT_OPEN).fetchone()[0],
            )


@dataclass(frozen=True, slots=True)
class PostgresStore:
    data_dir: Path
    database_url: str
    redis_url: str
    title: str = "Postgres + Redis"

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "DATA_DIR": str(self.data_dir),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
        }

    def read_ledger(self) -> Ledger:
        with psycopg.connect(self.database_url) as database:
            database.execute(OPERATOR_SCOPE)
            return Ledger(count_rows(database, COUNT_USAGE), count_rows(database, COUNT_OPEN))


def count_rows(database: psycopg.Connection, query: LiteralString) -> int:
    row = database.execute(query).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def sqlite_store(folder: Path) -> Iterator[Store]:
    data_dir = folder / "sqlite"
    data_dir.mkdir()
    yield SqliteStore(data_dir)


@contextmanager
def postgres_store(folder: Path) -> Iterator[Store]:
    """A database that exists while the block runs. Raises Unavailable without Postgres or without Redis."""
    server_url = given_postgres() or LOCAL_POSTGRES
    redis_url = os.environ.get("REDIS_URL") or LOCAL_REDIS
    require_redis(redis_url)
    data_dir = folder / "postgres"
    data_dir.mkdir()
    name = f"tollgate_bench_{os.getpid()}"
    execute(server_url, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield PostgresStore(data_dir, urlsplit(server_url)._replace(path=f"/{name}").geturl(), redis_url)
    finally:
        execute(server_url, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def given_postgres() -> str | None:
    url = os.environ.get("DATABASE_URL", "")
    return url if url.startswith("postgres") else None


def require_redis(url: str) -> None:
    try:
        with closing(redis.Redis.from_url(url, socket_connect_timeout=CONNECT_TIMEOUT_SECONDS)) as client:
            client.ping()
    except redis.RedisError as error:
        raise Unavailable(f"no Redis at {urlsplit(url).hostname}: {error}") from error


def execute(url: str, statement: sql.Composed) -> None:
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_SECONDS) as server:
            server.execute(statement)
    except psycopg.Error as error:
        raise Unavailable(f"no Postgres to make a database in: {error}") from error
