"""The calls under way in this process, by id, so that one can be told to stop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from proxy.http import Watch


class Cancelled(Exception):
    """Whoever may said that the call is to stop."""


class Running:
    """Which calls run here, each under the watch that can interrupt it."""

    def __init__(self) -> None:
        self._watches: dict[UUID, Watch] = {}

    @contextmanager
    def kept(self, call_id: UUID, watch: Watch) -> Iterator[None]:
        """While the call runs."""
        self._watches[call_id] = watch
        try:
            yield
        finally:
            del self._watches[call_id]

    def ids(self) -> list[UUID]:
        """Of the calls under way."""
        return list(self._watches)

    def cancel(self, call_id: UUID) -> bool:
        """Stops the call; whether it was under way here."""
        watch = self._watches.get(call_id)
        if watch is None:
            return False
        watch.interrupt(Cancelled())
        return True
