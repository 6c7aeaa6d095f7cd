"""Databases of the tests' own on a given PostgreSQL, reached through an ordinary login.

A superuser passes row-level security by; so the tests and the servers they start log in as a role
that may create databases and roles, and nothing more.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

PROJECT = Path(__file__).resolve().parent.parent
MIGRATE_SECONDS = 40
LOGIN = "tollgate_tests"
TENANT_ROLE = "tollgate_tenant"
_LOCK = 7_105_003  # one at a time makes the role, when two test runs share a PostgreSQL


def ordinary_login(url: str) -> str:
    """The same PostgreSQL through LOGIN, made when missing; `url` itself when it is no superuser's."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
        if row is None or not row[0]:
            return url
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        password = hashlib.sha256(url.encode()).hexdigest()
        _make_login(connection, password)
    return _as(url, LOGIN, password)


def _make_login(connection: psycopg.Connection, password: str) -> None:
    verb = "ALTER" if _role_exists(connection, LOGIN) else "CREATE"
    connection.execute(
        sql.SQL("{} ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD {}").format(
            sql.SQL(verb), sql.Identifier(LOGIN), sql.Literal(password)
        )
    )
    if _role_exists(connection, TENANT_ROLE):  # made by another login, which alone could grant it
        connection.execute(
            sql.SQL("GRANT {} TO {} WITH ADMIN OPTION").format(
                sql.Identifier(TENANT_ROLE), sql.Identifier(LOGIN)
            )
        )


def _role_exists(connection: psycopg.Connection, name: str) -> bool:
    return connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone() is not None


def _as(url: str, user: str, password: str) -> str:
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user)}:{password}@{address}"))


@contextmanager
def database(url: str, name: str, template: str = "template1") -> Iterator[str]:
    """The URL of a new database of that name, a copy of `template`, dropped afterwards."""
    identifier = sql.Identifier(name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(identifier, sql.Identifier(template))
        )
    yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))


def migrate(environment: dict[str, str]) -> None:
    """Makes the tables of a database that others are then copied from. Each copy makes itself an installation
    of its own when it starts: by the id in that row it is known in Redis."""
    for arguments in (["migrate", "--verbosity=0"], ["shell", "--no-imports", "-c", _FORGET_INSTALLATION]):
        subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=environment,
            check=True,
            timeout=MIGRATE_SECONDS,
        )


_FORGET_INSTALLATION = """
from accounts.changes import Installation
Installation.objects.all().delete()
"""
