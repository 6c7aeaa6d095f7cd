"""What all processes tell of one sight, put together, and what each viewer is sent of it. Pure.

A viewer who is slow gets no more than one who is not: a batch says how things stand when it is sent, and what
ended since the one before. What was too much for that is counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

import msgspec

from accounts.money import dollars
from proxy.live import Ended, Sight
from proxy.live_reports import Report, UnderWay

ENDED_KEPT = 200
ENDED_SHOWN = 50
RUNNING_SHOWN = 50
# A process that says nothing for so long has died, or cannot be heard.
SILENT_SECONDS = 6.0


class Names(Protocol):
    """What users and keys are called."""

    def user(self, id: int | None) -> str: ...

    def key(self, id: UUID | None) -> str: ...


@dataclass(slots=True)
class _Told:
    report: Report
    heard_at: float


@dataclass(slots=True)
class View:
    """Of one sight. Times are of this process' clock."""

    processes: dict[str, _Told] = field(default_factory=dict)
    count: int = 0  # of those that ended, so far
    history: int = 0  # how many of them did before anybody watched
    left_out: int = 0
    _ended: deque[Ended] = field(default_factory=lambda: deque(maxlen=ENDED_KEPT))
    _running: list[UnderWay] | None = None  # once it was asked for

    def hear(self, process: str, report: Report, now: float) -> None:
        """One more report of a process."""
        apart, is_new = now - report.told_at, process not in self.processes
        self.processes[process] = _Told(report, now)
        self._running = None
        self.left_out += report.left_out
        known = {ended.id for ended in self._ended} if report.ended else set()
        for ended in reversed(report.ended):
            if ended.id not in known:
                self._ended.append(msgspec.structs.replace(ended, at=ended.at + apart))
                self.count += 1
                self.history += is_new

    def forget_silent(self, now: float) -> bool:
        """Whether what a process told is no longer shown, since it tells nothing more."""
        silent = [name for name, told in self.processes.items() if now - told.heard_at > SILENT_SECONDS]
        for name in silent:
            del self.processes[name]
            self._running = None
        return bool(silent)

    def running(self) -> list[UnderWay]:
        """The newest of those that run, the newest first."""
        if self._running is None:
            self._running = self._newest()
        return self._running

    def _newest(self) -> list[UnderWay]:
        calls = [
            msgspec.structs.replace(call, started=call.started + told.heard_at - told.report.told_at)
            for told in self.processes.values()
            for call in told.report.running
        ]
        return sorted(calls, key=lambda call: -call.started)[:RUNNING_SHOWN]

    def ended_after(self, count: int) -> list[Ended]:
        """Those that came after so many: the newest, first."""
        new = min(self.count - count, len(self._ended))
        found = (self._ended[-1 - back] for back in range(new))
        return sorted(found, key=lambda ended: -ended.at)[:ENDED_SHOWN]


class Begun(msgspec.Struct, frozen=True):
    """A call that a viewer had not seen."""

    id: UUID
    tenant: str
    user: str
    key: str
    endpoint: str
    model: str
    stream: bool
    age_ms: int


class Over(msgspec.Struct, frozen=True):
    """A call that ended or was refused."""

    id: UUID
    tenant: str
    user: str
    key: str
    endpoint: str
    model: str
    stream: bool
    ago_ms: int
    status: str
    status_code: int | None
    error_code: str
    limit: str
    duration_ms: int | None
    first_byte_ms: int | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: str | None


class Batch(msgspec.Struct, frozen=True):
    """What a viewer is sent. `running` is everything that is shown as running, the newest first: id, whether
    it answers, tokens so far, tokens per second; what there is to know of a call comes once, in `begun`. Of
    those that ended, `left_out` are not shown. `missed` batches were not sent, since the viewer was slow.
    `everywhere`: other processes can be heard."""

    running: list[tuple[UUID, bool, int | None, float]]
    begun: list[Begun]
    ended: list[Over]
    left_out: int
    missed: int
    running_count: int
    ended_last_minute: int
    refused_last_minute: int
    tokens_per_second: float
    everywhere: bool


class Viewer:
    """Somebody who watches one sight, and what they were sent of it."""

    def __init__(self, sight: Sight, view: View) -> None:
        self.sight = sight
        self.view = view
        self.news = asyncio.Event()
        self.missed = 0
        self.goodbye: int | None = None
        self._seen: set[UUID] = set()
        self._count = 0
        self._history = 0
        self._left_out = view.left_out
        self._is_new = True

    def end(self, code: int) -> None:
        """They are not to see more; `code` is what closes their connection."""
        self.goodbye = code
        self.news.set()

    def unseen(self) -> tuple[list[UnderWay], list[Ended]]:
        """What the next batch has to tell all about."""
        begun = [call for call in self.view.running() if call.id not in self._seen]
        return begun, self.view.ended_after(self._count)

    def batch(self, names: Names, now: float, *, everywhere: bool) -> Batch:
        """The next one."""
        view, running = self.view, self.view.running()
        begun, ended = self.unseen()
        reports = [told.report for told in view.processes.values()]
        since = (view.count - view.history) - (self._count - self._history)
        unshown = 0 if self._is_new else max(0, since - len(ended))
        made = Batch(
            running=[(call.id, call.answering, call.tokens, call.rate) for call in running],
            begun=[_begun(call, names, now) for call in begun],
            ended=[_over(each, names, now) for each in ended],
            left_out=unshown + view.left_out - self._left_out,
            missed=self.missed,
            running_count=sum(report.running_count for report in reports),
            ended_last_minute=sum(report.ended_last_minute for report in reports),
            refused_last_minute=sum(report.refused_last_minute for report in reports),
            tokens_per_second=round(sum(report.rate for report in reports), 1),
            everywhere=everywhere,
        )
        self._seen = {call.id for call in running}
        self._count, self._history, self._left_out = view.count, view.history, view.left_out
        self._is_new, self.missed = False, 0
        return made


def _begun(call: UnderWay, names: Names, now: float) -> Begun:
    return Begun(
        id=call.id,
        tenant=call.tenant,
        user=names.user(call.user_id),
        key=names.key(call.key_id),
        endpoint=call.endpoint,
        model=call.model,
        stream=call.stream,
        age_ms=_milliseconds(now - call.started),
    )


def _over(ended: Ended, names: Names, now: float) -> Over:
    cost = ended.cost_nano_usd
    return Over(
        id=ended.id,
        tenant=ended.tenant,
        user=names.user(ended.user_id),
        key=names.key(ended.key_id),
        endpoint=ended.endpoint,
        model=ended.model,
        stream=ended.stream,
        ago_ms=_milliseconds(now - ended.at),
        status=ended.status,
        status_code=ended.status_code,
        error_code=ended.error_code,
        limit=ended.limit,
        duration_ms=ended.duration_milliseconds,
        first_byte_ms=ended.first_byte_milliseconds,
        input_tokens=ended.input_tokens,
        output_tokens=ended.output_tokens,
        cost_usd=None if cost is None else dollars(cost),
    )


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
