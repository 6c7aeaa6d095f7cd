"""What a page of usage is asked for, and the addresses of others that are asked for nearly the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self
from urllib.parse import urlencode

from gateway.dashboard.period import CUSTOM, Period
from gateway.dashboard.viewer import Viewer, as_text, from_text
from proxy.usage_query import Question, Value

FILTERS = ("model", "key", "user", "upstream", "endpoint", "status", "error", "failure")
DASHBOARD, CALLS = "/dashboard/", "/dashboard/calls/"


@dataclass(frozen=True, slots=True)
class Asked:
    """By whom, of which time, and which calls."""

    viewer: Viewer
    period: Period
    filters: Mapping[str, Value]
    now: datetime

    @classmethod
    def of(cls, viewer: Viewer, query: Mapping[str, str], now: datetime) -> Self:
        """Raises BadPeriod, and Http404 for what cannot be a filter."""
        filters = {name: from_text(name, query[name]) for name in FILTERS if name in query}
        return cls(viewer, Period.of(query, viewer.zone, now), filters, now)

    def question(self) -> Question:
        period, filters = self.period, {name: (value,) for name, value in self.filters.items()}
        return Question(self.viewer.scope, period.start, period.end, self.viewer.zone, filters, self.now)

    def link(self, path: str = DASHBOARD, **changes: str) -> str:
        """The same with some parameters changed or added."""
        return self._address(path, self._of_time() | self._of_calls() | changes)

    def over(self, period: str) -> str:
        """The same calls, of another period."""
        return self._address(DASHBOARD, {"period": period} | self._of_calls())

    def without(self, name: str) -> str:
        """The same without one of its filters."""
        calls = {other: text for other, text in self._of_calls().items() if other != name}
        return self._address(DASHBOARD, self._of_time() | calls)

    def calls_between(self, start: datetime, end: datetime, **changes: str) -> str:
        """Where the calls of a stretch of time are listed."""
        between = {"start": str(int(start.timestamp())), "end": str(int(end.timestamp()))}
        return self.link(CALLS, **between, **changes)

    def _of_time(self) -> dict[str, str]:
        if self.period.name == CUSTOM:
            return {"from": self.period.first.isoformat(), "to": self.period.last.isoformat()}
        return {"period": self.period.name}

    def _of_calls(self) -> dict[str, str]:
        return {name: as_text(value) for name, value in self.filters.items()}

    def _address(self, path: str, parameters: dict[str, str]) -> str:
        tenant = self.viewer.tenant
        return f"{path}?{urlencode(({'tenant': tenant.slug} if tenant else {}) | parameters)}"
