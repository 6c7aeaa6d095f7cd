"""A client of Responses over WebSocket, on the `websockets` library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.server import Gateway, Person

Event = dict[str, Any]
TERMINAL = ("response.completed", "response.incomplete", "response.failed")
PATIENCE_SECONDS = 20.0
BROKEN = 1006  # a connection that ended without a code


class Client:
    """One connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def create(self, model: str = "gpt-test", **members: object) -> None:
        """Asks for a Response."""
        self.send({"type": "response.create", "model": model, "input": "Hello", **members})

    def send(self, event: object) -> None:
        self.connection.send(json.dumps(event))

    def hear(self) -> Event:
        """The next event."""
        event: Event = json.loads(self.connection.recv(timeout=PATIENCE_SECONDS))
        return event

    def answer(self) -> list[Event]:
        """The events of one turn: to a Response's end, or to the error in place of one."""
        events = [self.hear()]
        while events[-1]["type"] not in TERMINAL and "status" not in events[-1]:
            events.append(self.hear())
        return events

    def turn(self, model: str = "gpt-test", **members: object) -> list[Event]:
        self.create(model, **members)
        return self.answer()

    def response(self, model: str = "gpt-test", **members: object) -> Event:
        """The Response that a turn ends with, which has to be a whole one."""
        last = self.turn(model, **members)[-1]
        assert last["type"] == "response.completed", last
        response: Event = last["response"]
        return response

    def refusal(self, model: str = "gpt-test", **members: object) -> Event:
        """The one event of a turn that is refused."""
        [event] = self.turn(model, **members)
        assert event["type"] == "error"
        return event

    def closed(self) -> int:
        """The code that the server closes the connection with, whatever it says before."""
        try:
            while True:
                self.connection.recv(timeout=PATIENCE_SECONDS)
        except ConnectionClosed as ending:
            return ending.rcvd.code if ending.rcvd else BROKEN


@contextmanager
def connected(
    gateway: Gateway, *offered: str, path: str = "/v1/responses", **headers: str
) -> Iterator[Client]:
    """A connection with these headers (`_` for `-`) that offers these subprotocols."""
    with connect(
        f"ws://127.0.0.1:{gateway.port}{path}",
        additional_headers={name.replace("_", "-"): value for name, value in headers.items()},
        subprotocols=[Subprotocol(name) for name in offered] or None,
        proxy=None,
        max_size=None,
        close_timeout=PATIENCE_SECONDS,
    ) as connection:
        assert isinstance(connection, ClientConnection)
        yield Client(connection)


@contextmanager
def connected_as(person: Person, **headers: str) -> Iterator[Client]:
    """A connection with the person's API key."""
    with connected(person.gateway, authorization=f"Bearer {person.api_key}", **headers) as client:
        yield client


def refused(gateway: Gateway, *offered: str, path: str = "/v1/responses", **headers: str) -> Response:
    """The HTTP answer that somebody gets in place of a connection."""
    with pytest.raises(InvalidStatus) as refusal, connected(gateway, *offered, path=path, **headers):
        pass
    return refusal.value.response


def code_of(response: Response) -> str:
    """The code of the error that it bears."""
    code = json.loads(response.body or b"{}")["error"]["code"]
    assert isinstance(code, str)
    return code
