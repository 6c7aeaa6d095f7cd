"""What upstreams keep of a thread, for those that remember what was said to them. Pure.

A thread's row has it under the upstream's id: `{"thread", "user", "instructions", "end"}`. It holds for the
thread up to the position `end` and under the same instructions; otherwise a new thread is begun there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class There:
    """A thread as one upstream knows it: its id there, what the upstream calls its user, and a digest of the
    instructions that it began with."""

    thread_id: str
    user_id: str | None
    instructions: str

    def kept(self) -> dict[str, Any]:
        return {"thread": self.thread_id, "user": self.user_id, "instructions": self.instructions}


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Of the thread that a call goes on with: what upstreams keep of it, where it ends, and how many of the
    call's messages, the last ones, are new to it."""

    kept: Mapping[str, Any]
    end: int
    fresh: int

    def there(self, upstream_id: UUID, instructions: str) -> There | None:
        """What that upstream has of all of it, and under these instructions; None where it has not."""
        found = self.kept.get(upstream_id.hex)
        if found is None or (found["end"], found["instructions"]) != (self.end, instructions):
            return None
        return There(found["thread"], found["user"], instructions)


def kept(noted: tuple[UUID, There] | None) -> dict[str, Any]:
    """What an upstream is noted to keep of a thread, as the thread's row has it."""
    return {} if noted is None else {noted[0].hex: noted[1].kept()}
