"""What a process tells of its calls, report after report, while somebody watches. Pure.

A report says how things stand, so that one that is lost does no lasting harm: what runs, up to RUNNING_TOLD
calls, and how many there are. Only what ended since the report before is said once. How much there is of a
running stream is asked of what it goes through; nothing counts it for this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from uuid import UUID

import msgspec

from proxy.admission import Ticket
from proxy.live import Ended, Live, Sight, key_of

RUNNING_TOLD = 50
ENDED_TOLD = 50
RATE_SECONDS = 3.0


class UnderWay(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A call that runs. `tokens` are those so far, None before a stream is read; `rate` is in tokens per
    second, of the last seconds. `started` is of the clock of whoever tells it."""

    id: UUID
    tenant_id: UUID
    tenant: str
    user_id: int | None
    key_id: UUID | None
    endpoint: str
    model: str
    stream: bool
    started: float
    answering: bool
    tokens: int | None
    rate: float


class Report(msgspec.Struct, frozen=True, array_like=True):
    """What one process has in one sight, at `told_at` of its own clock. `ended` is the newest first, and
    `left_out` how many more there were."""

    told_at: float
    running: list[UnderWay]
    running_count: int
    ended: list[Ended]
    left_out: int
    ended_last_minute: int
    refused_last_minute: int
    rate: float


class Meter:
    """How fast a count grows, over the last RATE_SECONDS."""

    __slots__ = ("_readings", "total")

    def __init__(self, total: int = 0) -> None:
        self.total = total
        self._readings: deque[tuple[float, int]] = deque()

    def read(self, now: float, total: int) -> int:
        """Notes what it is by now; by how much it grew since the last time."""
        grown, self.total = max(0, total - self.total), total
        self._readings.append((now, total))
        while len(self._readings) > 2 and self._readings[1][0] <= now - RATE_SECONDS:
            self._readings.popleft()
        return grown

    @property
    def rate(self) -> float:
        (first_at, first), (last_at, last) = self._readings[0], self._readings[-1]
        return max(0.0, (last - first) / (last_at - first_at)) if last_at > first_at else 0.0


class Reporter:
    """From when somebody begins to watch until nobody does."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._began = live.now()
        self._told = live.count
        self._calls: dict[UUID, Meter] = {}
        self._flows: dict[Sight, Meter] = {}
        self._ended: list[Ended] = []
        self._under_way: list[UnderWay] = []

    def look(self, tickets: Iterable[Ticket], sights: Collection[Sight]) -> None:
        """Takes in how things stand. What is `report`ed then, until the next look, is of this moment."""
        self._now = self._live.now()
        self._flows = {sight: self._flows.get(sight) or Meter() for sight in sights}
        self._grown = dict.fromkeys(sights, 0)
        watched = [ticket for ticket in tickets if any(_sees(sight, ticket) for sight in sights)]
        meters = {ticket.id: self._calls.get(ticket.id) or self._meter(ticket) for ticket in watched}
        self._under_way = [self._read(ticket, meters[ticket.id]) for ticket in watched]
        self._ended = list(self._live.since(self._told))
        self._told = self._live.count
        for ended in self._ended:
            before = self._calls[ended.id].total if ended.id in self._calls else 0
            self._flow(ended.tenant_id, ended.user_id, (ended.output_tokens or 0) - before)
        self._calls = meters
        for sight, meter in self._flows.items():
            meter.read(self._now, meter.total + self._grown[sight])

    def report(self, sight: Sight, *, with_history: bool) -> Report:
        """Of one of those sights; with what ended before, for somebody who has just come."""
        running = [call for call in self._under_way if sight.covers(call.tenant_id, call.user_id)]
        found = self._live.since(0) if with_history else self._ended
        ended = [each for each in found if sight.covers(each.tenant_id, each.user_id)]
        return Report(
            told_at=self._now,
            running=sorted(running, key=lambda call: call.started)[-RUNNING_TOLD:],
            running_count=len(running),
            ended=ended[:ENDED_TOLD],
            left_out=0 if with_history else max(0, len(ended) - ENDED_TOLD),
            ended_last_minute=self._live.ended_lately.count(self._now, sight),
            refused_last_minute=self._live.refused_lately.count(self._now, sight),
            rate=round(self._flows[sight].rate, 1),
        )

    def _meter(self, ticket: Ticket) -> Meter:
        """What a call said before anybody watched is not counted as if it came now."""
        return Meter((ticket.tokens_so_far or 0) if ticket.started < self._began else 0)

    def _read(self, ticket: Ticket, meter: Meter) -> UnderWay:
        caller, call, tokens = ticket.caller, ticket.call, ticket.tokens_so_far
        self._flow(caller.tenant_id, caller.user_id, meter.read(self._now, tokens or 0))
        return UnderWay(
            ticket.id,
            caller.tenant_id,
            caller.tenant_slug,
            caller.user_id,
            key_of(caller),
            call.endpoint,
            call.model,
            call.stream,
            ticket.started,
            ticket.ending.first_byte_milliseconds is not None,
            tokens,
            round(meter.rate, 1),
        )

    def _flow(self, tenant_id: UUID | None, user_id: int | None, grown: int) -> None:
        for sight in self._grown:
            if grown > 0 and sight.covers(tenant_id, user_id):
                self._grown[sight] += grown


def _sees(sight: Sight, ticket: Ticket) -> bool:
    return sight.covers(ticket.caller.tenant_id, ticket.caller.user_id)
