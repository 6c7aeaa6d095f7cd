"""What this process did lately, as the pages `/log` and `/log_errors` show it: who, what and how long; and
what was said, where an operator wants that (proxy/content.py)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from proxy.content import Said

KEPT = 50
SAID_FOR = timedelta(hours=1)

Fields = dict[str, Any]


@dataclass(slots=True)
class Entry:
    """A call that ended."""

    at: datetime
    fields: Fields
    said: Said | None


@dataclass(slots=True)
class Recent:
    """The last calls, those of them that failed, and numbers over all since the process began."""

    calls: deque[Entry] = field(default_factory=lambda: deque(maxlen=KEPT))
    errors: deque[Entry] = field(default_factory=lambda: deque(maxlen=KEPT))
    count: int = 0
    error_count: int = 0
    total_milliseconds: int = 0
    longest_milliseconds: int = 0
    most_tokens: dict[str, int] = field(default_factory=dict)

    def note(self, entry: Entry, *, whole: bool) -> None:
        """A call has ended."""
        if entry.said is not None:
            self.forget(entry.at)
        milliseconds = entry.fields["duration_milliseconds"]
        self.calls.append(entry)
        self.count += 1
        self.total_milliseconds += milliseconds
        self.longest_milliseconds = max(self.longest_milliseconds, milliseconds)
        for name in ("input_tokens", "cached_input_tokens", "output_tokens"):
            if (tokens := entry.fields.get(name)) and tokens > self.most_tokens.get(name, 0):
                self.most_tokens[name] = tokens
        if not whole:
            self.errors.append(entry)
            self.error_count += 1

    def forget(self, now: datetime) -> None:
        """What was said longer ago than SAID_FOR."""
        for entry in (*self.calls, *self.errors):
            if now - entry.at > SAID_FOR:
                entry.said = None


RECENT = Recent()
