"""Which database: SQLite in the data folder, or the PostgreSQL that a URL names."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

# What libpq calls the parts of an address when they are given as options, and what Django does.
_PARTS = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}


def sqlite(folder: Path) -> dict[str, Any]:
    """One writer at a time, which waits for its turn; committed rows survive a killed process."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": folder / "tollgate.sqlite3",
        "CONN_MAX_AGE": 0,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 5,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }


def postgres(url: str) -> dict[str, Any]:
    """postgres://user:password@host:port/name?option=value; host=/folder picks a Unix socket."""
    parts = urlsplit(url)
    settings: dict[str, Any] = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.removeprefix("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": 0,
        "DISABLE_SERVER_SIDE_CURSORS": True,  # so that a transaction-pooling PgBouncer may stand between
        "OPTIONS": {"connect_timeout": "5"},
    }
    for name, value in parse_qsl(parts.query):
        if name in _PARTS:
            settings[_PARTS[name]] = value
        else:
            settings["OPTIONS"][name] = value
    return settings
