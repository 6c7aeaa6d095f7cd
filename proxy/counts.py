"""What this process has counted since it began, for whoever shows it."""

from __future__ import annotations

from collections import Counter


class Count:
    """A number that only rises, for each of some labels."""

    def __init__(self) -> None:
        self.by_label: Counter[str] = Counter()

    def add(self, label: str, number: int) -> None:
        if number:
            self.by_label[label] += number


# Control tokens taken out of the answers of gpt-oss models, by upstream: a sign of a server that leaks them.
HARMONY_TOKENS = Count()
