"""The calls under way in this process, by id: one can be told to stop, and their end can be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from proxy.http import Watch


class Cancelled(Exception):
    """Whoever may said that the call is to stop."""


class Running:
    """Which calls run here, each under the watch that can interrupt it."""

    def __init__(self) -> None:
        self.most_at_once = 0
        self._watches: dict[UUID, Watch] = {}
        self._none = asyncio.Event()
        self._none.set()

    @contextmanager
    def kept(self, call_id: UUID, watch: Watch) -> Iterator[None]:
        """While the call runs."""
        self._watches[call_id] = watch
        self._none.clear()
        try:
            yield
        finally:
            del self._watches[call_id]
            if not self._watches:
                self._none.set()

    def ids(self) -> list[UUID]:
        """Of the calls under way."""
        return list(self._watches)

    async def ended(self) -> None:
        """Returns when no call is under way: each is settled."""
        await self._none.wait()

    def cancel(self, call_id: UUID) -> bool:
        """Stops the call; whether it was under way here."""
        watch = self._watches.get(call_id)
        if watch is None:
            return False
        watch.interrupt(Cancelled())
        return True
