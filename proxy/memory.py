"""What a connection remembers of its last Response: what it said, and all before it, stored nowhere.

It counts as the bytes of bodies do. Where it would be too much it is forgotten: who goes on from it is told
that there is no such Response, and sends everything again.
"""

from __future__ import annotations

import msgspec

from proxy.before import Item, Local, encoded, off_the_loop
from proxy.intake import Held, Holding, TooMuchAtOnce
from threads.history import LARGEST_PAST_BYTES


class Memory(Local):
    """One connection's."""

    def __init__(self, held: Held) -> None:
        self._id = ""
        self._said = b"[]"
        self._holding = Holding(held, "")

    @property
    def size(self) -> int:
        return len(self._said)

    async def said(self, response_id: str) -> tuple[Item, ...] | None:
        if not self._id or response_id != self._id:
            return None
        return await off_the_loop(self.size, _decoded, self._said)

    async def remember(self, response_id: str, said: tuple[Item, ...], size: int) -> None:
        self.forget()
        document = await off_the_loop(size, encoded, said)
        if len(document) > LARGEST_PAST_BYTES:
            return
        try:
            self._holding.grow(len(document))
        except TooMuchAtOnce:
            return
        self._id, self._said = response_id, document

    def forget(self) -> None:
        """Nothing can go on from it any more."""
        self._id, self._said = "", b"[]"
        self._holding.release()

    def is_named_in(self, event: bytes) -> bool:
        """Whether an event, whatever is wrong with it, wants to go on from what is remembered."""
        return bool(self._id) and self._id.encode() in event


def _decoded(said: bytes) -> tuple[Item, ...]:
    """Item by item, as it was encoded."""
    return tuple([msgspec.json.decode(item) for item in msgspec.json.decode(said, type=list[msgspec.Raw])])
