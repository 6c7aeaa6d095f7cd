"""manage.py quickstart: sets up what is missing, says where to look, and serves."""

from __future__ import annotations

import logging
import os
import shlex
import sqlite3
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection

from gateway.bootstrap import Outcome, bootstrap
from gateway.rows import Kind, Mistakes, called
from proxy.endpoints.endpoint import MAX_IMAGE_JSON_BYTES

_OLDEST_PYTHON = (3, 11)
_OLDEST_SQLITE = (3, 38)  # JSON functions always built in, which the ledger writes with

# Longer than the load balancers in front, which must be the ones to close a connection (nginx: 75).
_KEEP_ALIVE_SECONDS = 80

# Often enough that nobody between us and the client takes silence for death; a client that works on what it
# was told, and reads nothing meanwhile, has the longer time before it counts as gone.
_PING_SECONDS, _PONG_SECONDS = 20, 60

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  # addresses to listen on, and none to call

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Migrate, make the first tenant, keys and upstreams from the environment, and serve."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--no-serve", action="store_true", help="set up only")

    def handle(self, *, no_serve: bool, **_: Any) -> None:
        _check_machine()
        try:
            outcome = bootstrap()
        except Mistakes as mistakes:
            raise CommandError(f"nothing was changed:\n{mistakes}") from None
        self.stdout.write(_welcome(outcome))
        self.stdout.flush()
        if not no_serve:
            connection.close()
            os.execv(sys.executable, [sys.executable, *server_arguments()])  # noqa: S606  # it takes our place


def server_arguments() -> list[str]:
    """uvicorn's command line."""
    options = {
        "--app-dir": settings.BASE_DIR,
        "--host": settings.HOST,
        "--port": settings.PORT,
        "--workers": settings.WORKERS,
        "--loop": "uvloop",
        "--http": "gateway.asgi:HttpProtocol",
        "--ws": "gateway.asgi:SocketProtocol",
        "--ws-max-size": MAX_IMAGE_JSON_BYTES,
        "--ws-ping-interval": _PING_SECONDS,
        "--ws-ping-timeout": _PONG_SECONDS,
        "--ws-per-message-deflate": False,  # as event streams, whose pieces are as small
        "--lifespan": "on",
        "--log-config": settings.LOGGING_FILE,
        "--log-level": settings.LOG_LEVEL,
        "--timeout-keep-alive": _KEEP_ALIVE_SECONDS,
        "--timeout-graceful-shutdown": settings.DRAIN_SECONDS,
    }
    words = [str(word) for option in options.items() for word in option]
    return [
        *("-m", "uvicorn", "gateway.asgi:application", *words),
        *("--no-access-log", "--no-server-header", "--no-proxy-headers"),  # TRUSTED_PROXIES decides instead
    ]


def _check_machine() -> None:
    if sys.version_info < _OLDEST_PYTHON:
        raise CommandError("Python 3.11 or newer is needed; this is " + sys.version.split()[0])
    if connection.vendor == "sqlite" and sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise CommandError(
            f"SQLite 3.38 or newer is needed; this Python has {sqlite3.sqlite_version}. "
            "Set DATABASE_URL to a PostgreSQL instead, or use a newer Python."
        )
    try:
        connection.ensure_connection()
    except DatabaseError as error:
        where = "DATABASE_URL" if settings.DATABASE_URL else "DATA_DIR"
        raise CommandError(f"the database that {where} names does not answer: {error}") from None


def _welcome(outcome: Outcome) -> str:
    host = f"[{settings.HOST}]" if ":" in settings.HOST else settings.HOST
    here = f"http://{'127.0.0.1' if settings.HOST in _EVERYWHERE else host}:{settings.PORT}"
    made = {(key.kind, key.name): key.secret for key in outcome.made}
    first = made.pop((Kind.API_KEY, ("default", "default")), None)
    lines = [
        "Tollgate is set up.",
        "",
        f"  Home        {here}/  {_login(outcome.password)}",
        f"  Dashboard   {here}/dashboard/",
        f"  Playground  {here}/playground/",
        f"  Admin       {here}/admin/",
        f"  API         {here}/v1",
    ]
    if first:
        lines.append(f"  API key     {first}  (shown this once)")
    for (kind, name), secret in made.items():
        lines.append(f"  {kind} {called(name)}: {secret}  (shown this once)")
    return "\n".join([*lines, "", _curl(here, first), ""])


def _login(password: str | None) -> str:
    name = settings.ADMIN_USERNAME
    if password is not None:
        return f"user {name}, password {password}  (shown this once)"
    return f"user {name}"


def _curl(here: str, api_key: str | None) -> str:
    """A line to paste. A key that was given, or shown before, is not repeated."""
    variable = "BOOTSTRAP_API_KEY" if settings.BOOTSTRAP_API_KEY else "TOLLGATE_API_KEY"
    key = api_key or f"${variable}"
    title = "See it stream:" if api_key else f"See it stream, with your key in {variable}:"
    body = '{"model":"demo","stream":true,"messages":[{"role":"user","content":"Hello"}]}'
    return (
        f"{title}\n\n"
        f'  curl -N {here}/v1/chat/completions -H "Authorization: Bearer {key}" '
        f'-H "Content-Type: application/json" -d {shlex.quote(body)}'
    )
