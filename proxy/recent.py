"""What this process did lately, as the pages `/log` and `/log_errors` show it: who, what and how long; never
what was said."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

KEPT = 50

Fields = dict[str, Any]


@dataclass(slots=True)
class Recent:
    """The last calls, those of them that failed, and numbers over all since the process began."""

    calls: deque[tuple[datetime, Fields]] = field(default_factory=lambda: deque(maxlen=KEPT))
    errors: deque[tuple[datetime, Fields]] = field(default_factory=lambda: deque(maxlen=KEPT))
    count: int = 0
    error_count: int = 0
    total_milliseconds: int = 0
    longest_milliseconds: int = 0
    most_tokens: dict[str, int] = field(default_factory=dict)

    def note(self, at: datetime, fields: Fields, *, whole: bool) -> None:
        """A call has ended."""
        milliseconds = fields["duration_milliseconds"]
        self.calls.append((at, fields))
        self.count += 1
        self.total_milliseconds += milliseconds
        self.longest_milliseconds = max(self.longest_milliseconds, milliseconds)
        for name in ("input_tokens", "cached_input_tokens", "output_tokens"):
            if (tokens := fields.get(name)) and tokens > self.most_tokens.get(name, 0):
                self.most_tokens[name] = tokens
        if not whole:
            self.errors.append((at, fields))
            self.error_count += 1


RECENT = Recent()
