"""Waiting for something to become true, with a deadline, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

PAUSE_SECONDS = 0.02


class DeadlinePassed(AssertionError):
    """What was waited for did not happen in time."""


def until(look: Callable[[], Found | None], *, seconds: float = 10.0, what: str = "it") -> Found:
    """The first truthy value that `look` returns; DeadlinePassed after `seconds` without one."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise DeadlinePassed(f"{what}: not within {seconds:g} s; last seen: {found!r}")
        time.sleep(PAUSE_SECONDS)
