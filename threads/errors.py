"""What is not there."""

from __future__ import annotations


class NotFound(Exception):
    """The tenant has no such thing: it never was, it is deleted, it has expired, or another has it.

    It never says which of them. `what` is "response", "conversation", "item" or "chat completion".
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
