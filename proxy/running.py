"""The calls under way in this process, by id: one can be told to stop, and their end can be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID

from proxy.admission import Ticket
from proxy.http import Watch


class Cancelled(Exception):
    """Whoever may said that the call is to stop."""


class Running:
    """Which calls run here, each under the watch that can interrupt it."""

    def __init__(self) -> None:
        self.most_at_once = 0
        self._calls: dict[UUID, tuple[Ticket, Watch]] = {}
        self._none = asyncio.Event()
        self._none.set()

    @contextmanager
    def kept(self, ticket: Ticket, watch: Watch) -> Iterator[None]:
        """While the call runs."""
        self._calls[ticket.id] = ticket, watch
        self._none.clear()
        try:
            yield
        finally:
            del self._calls[ticket.id]
            if not self._calls:
                self._none.set()

    def ids(self) -> list[UUID]:
        """Of the calls under way."""
        return list(self._calls)

    def tickets(self) -> Iterable[Ticket]:
        """Of the calls under way, for the moment."""
        return (ticket for ticket, _ in self._calls.values())

    async def ended(self) -> None:
        """Returns when no call is under way: each is settled."""
        await self._none.wait()

    def cancel(self, call_id: UUID) -> bool:
        """Stops the call; whether it was under way here."""
        if call_id not in self._calls:
            return False
        self._calls[call_id][1].interrupt(Cancelled())
        return True
