"""A part of the database as it stood at one moment, kept until a row changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from accounts import database

T = TypeVar("T")


class Snapshot(Generic[T]):
    """What `load` read. For one event loop; whoever makes one gives its `clear` to `changes.subscribe`."""

    def __init__(self, load: Callable[[], T]) -> None:
        self._load = load
        self._kept: T | None = None
        self._epoch = 0
        self._loading = asyncio.Lock()

    def clear(self) -> None:
        """Rows changed: whoever asks next loads them. From any thread."""
        self._epoch += 1
        self._kept = None

    async def get(self) -> T:
        """What was read last, or is read now; a load that began before a change is not kept.

        Raises database.DatabaseUnavailable.
        """
        if (kept := self._kept) is not None:
            return kept
        async with self._loading:
            if (kept := self._kept) is not None:
                return kept
            epoch = self._epoch
            loaded = await database.run(self._load)
            if epoch == self._epoch:
                self._kept = loaded
            return loaded
