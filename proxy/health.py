"""How upstreams have been doing lately, as processes saw it: each tells with its heartbeat, and here it is
added up. docs/decisions/0013 says why so. The counting is pure.

What a process counts costs a call about a microsecond. It is lost with the process, as its cooldowns are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db.models.functions import Now

from proxy.models import Worker
from proxy.orphans import DEAD_AFTER

MINUTES = 5
_LONGEST_NAME = 200
_MOST_COOLING = 20

Report = dict[str, dict[str, Any]]


class State(StrEnum):
    """Of an upstream: some of its models are tried last now; it failed oftener than it answered; it answered;
    nobody asked it."""

    COOLING = "cooling"
    FAILING = "failing"
    WELL = "well"
    IDLE = "idle"


@dataclass(slots=True)
class _Seen:
    """Of one upstream: answers, failures and control tokens by minute, and the last failure."""

    answered: dict[int, int] = field(default_factory=dict)
    failed: dict[int, int] = field(default_factory=dict)
    control_tokens: dict[int, int] = field(default_factory=dict)
    last_failure: str = ""
    last_failure_seconds: float = 0.0


class Counts:
    """What one process sees. `now` is the loop's time."""

    def __init__(self) -> None:
        self._seen: dict[UUID, _Seen] = {}

    def answered(self, upstream_id: UUID, now: float) -> None:
        """It took a call."""
        seen = self._seen.get(upstream_id)
        if seen is None:
            seen = self._seen[upstream_id] = _Seen()
        minute = int(now // 60)
        seen.answered[minute] = seen.answered.get(minute, 0) + 1

    def failed(self, upstream_id: UUID, outcome: str, now: float) -> None:
        """It did not; `outcome` as in a record's `attempts`."""
        seen = self._seen.setdefault(upstream_id, _Seen())
        minute = int(now // 60)
        seen.failed[minute] = seen.failed.get(minute, 0) + 1
        seen.last_failure, seen.last_failure_seconds = outcome, now

    def leaked(self, upstream_id: UUID, control_tokens: int, now: float) -> None:
        """So many control tokens of gpt-oss were taken out of an answer of its."""
        seen = self._seen.setdefault(upstream_id, _Seen())
        minute = int(now // 60)
        seen.control_tokens[minute] = seen.control_tokens.get(minute, 0) + control_tokens

    def report(self, cool_until: Mapping[tuple[UUID, str], float], now: float, clock: datetime) -> Report:
        """For the heartbeat, as JSON: what was seen in the last MINUTES, and what cools down until when.

        `clock` is what `now` is on the clock. What is older is forgotten.
        """

        def at(seconds: float) -> str:
            return (clock + timedelta(seconds=seconds - now)).isoformat(timespec="seconds")

        told: Report = {}
        for upstream_id, seen in list(self._seen.items()):
            counts = [_lately(each, now) for each in (seen.answered, seen.failed, seen.control_tokens)]
            if not any(counts):
                del self._seen[upstream_id]
                continue
            told[str(upstream_id)] = {"answered": counts[0], "failed": counts[1]}
            if counts[2]:
                told[str(upstream_id)]["control_tokens"] = counts[2]
            if counts[1]:
                failure = {
                    "last_failure": seen.last_failure,
                    "last_failure_at": at(seen.last_failure_seconds),
                }
                told[str(upstream_id)] |= failure
        for (upstream_id, model), until in cool_until.items():
            if until > now:
                cooling = told.setdefault(str(upstream_id), {}).setdefault("cooling", {})
                if len(cooling) < _MOST_COOLING:
                    cooling[_printable(model)] = at(until)
        return told


def _lately(minutes: dict[int, int], now: float) -> int:
    """How many in the last MINUTES; those before are taken out."""
    for minute in [minute for minute in minutes if minute <= now // 60 - MINUTES]:
        del minutes[minute]
    return sum(minutes.values())


def _printable(model: str) -> str:
    """A caller may have written the name, where the route is a pattern's."""
    return (model if model.isprintable() else ascii(model)[1:-1])[:_LONGEST_NAME]


@dataclass(slots=True)
class Health:
    """Of one upstream, in the last MINUTES, as all `processes` that live saw it. `cooling` says of models, by
    the upstream's names for them, until when those that it failed try others first. `control_tokens` of
    gpt-oss were taken out of its answers: a server that lets them through wants mending."""

    processes: int = 0
    answered: int = 0
    failed: int = 0
    control_tokens: int = 0
    last_failure: str = ""
    last_failure_at: datetime | None = None
    cooling: dict[str, datetime] = field(default_factory=dict)

    @property
    def state(self) -> State:
        if self.cooling:
            return State.COOLING
        if self.failed > self.answered:
            return State.FAILING
        return State.WELL if self.answered else State.IDLE

    def add(self, part: Mapping[str, Any], now: datetime) -> None:
        """What one process said."""
        self.answered += part.get("answered", 0)
        self.failed += part.get("failed", 0)
        self.control_tokens += part.get("control_tokens", 0)
        at = datetime.fromisoformat(part["last_failure_at"]) if "last_failure_at" in part else None
        if at is not None and (self.last_failure_at is None or at > self.last_failure_at):
            self.last_failure, self.last_failure_at = part["last_failure"], at
        for model, text in part.get("cooling", {}).items():
            until = datetime.fromisoformat(text)
            if until > now:
                self.cooling[model] = max(until, self.cooling.get(model, until))


def healths(upstream_ids: Iterable[UUID], now: datetime) -> dict[UUID, Health]:
    """Of each of these. A database job."""
    living = Worker.objects.filter(kind__in=Worker.MAKE_CALLS, seen_at__gt=Now() - DEAD_AFTER)
    reports = list(living.values_list("health", flat=True))
    found = {upstream_id: Health(len(reports)) for upstream_id in upstream_ids}
    for report in reports:
        for upstream_id, health in found.items():
            health.add(report.get(str(upstream_id), {}), now)
    return found
