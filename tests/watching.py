"""Watching live calls: as people who signed in, over WebSocket and by asking."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.server import Gateway

Row = dict[str, Any]
Batch = dict[str, Any]
PATIENCE_SECONDS = 10.0
_SESSIONS = """
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from accounts.models import User
for name in {names!r}:
    user, _ = User.objects.get_or_create(username=name, defaults={{"is_superuser": {superuser}}})
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    print(session.session_key)
"""


@dataclass(frozen=True)
class SignedIn:
    """Somebody with a session. `tenant` is the one that they name."""

    gateway: Gateway
    session_key: str
    tenant: str = ""

    @property
    def cookie(self) -> str:
        return f"sessionid={self.session_key}"

    @property
    def query(self) -> str:
        return f"?tenant={self.tenant}" if self.tenant else ""

    def ask(self) -> httpx.Response:
        """How things stand, over HTTP."""
        url = f"{self.gateway.url}/dashboard/live/events{self.query}"
        return httpx.get(url, headers={"cookie": self.cookie}, trust_env=False, timeout=10)


def signed_in(gateway: Gateway, *names: str, superuser: bool = False) -> list[SignedIn]:
    """A session for each of these users; one who is not there is made."""
    code = _SESSIONS.format(names=names, superuser=superuser)
    keys = gateway.manage("shell", "--no-imports", "-c", code).split()
    return [SignedIn(gateway, key) for key in keys]


class Watch:
    """One connection, and what it has shown so far."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.batches: list[Batch] = []

    def hear(self) -> Batch:
        batch: Batch = json.loads(self.connection.recv(timeout=PATIENCE_SECONDS))
        self.batches.append(batch)
        return batch

    def until(self, look: Callable[[Batch], Any]) -> Batch:
        """The first batch that this is true of, of those to come."""
        while not look(batch := self.hear()):
            pass
        return batch

    def begun(self, model: str) -> Row:
        """The call for this model, when it is shown to run."""
        batch = self.until(lambda batch: named(batch["begun"], model))
        return named(batch["begun"], model)[0]

    def over(self, model: str) -> Row:
        """The call for this model, when it is shown to have ended."""
        batch = self.until(lambda batch: named(batch["ended"], model))
        return named(batch["ended"], model)[0]

    def seen(self) -> set[str]:
        """The models of all calls that were shown so far, however they stand."""
        return {row["model"] for batch in self.batches for row in (*batch["begun"], *batch["ended"])}

    def closed(self) -> int | None:
        """The code that the server closes it with."""
        with suppress(ConnectionClosed):
            while True:
                self.hear()
        return self.connection.close_code


def named(rows: list[Row], model: str) -> list[Row]:
    return [row for row in rows if row["model"] == model]


@contextmanager
def watching(person: SignedIn, *, origin: str | None = "", gateway: Gateway | None = None) -> Iterator[Watch]:
    """Watches as that person, from a page of the gateway's own, or of another origin, or of none."""
    server = gateway or person.gateway
    with connect(
        f"ws://127.0.0.1:{server.port}/ws/live/{person.query}",
        additional_headers={
            "cookie": person.cookie,
            **({} if origin is None else {"origin": origin or server.url}),
        },
        proxy=None,
        max_size=None,
    ) as connection:
        yield Watch(connection)
