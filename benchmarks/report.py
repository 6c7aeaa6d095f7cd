"""What the rounds come to, as the table that `make bench` prints."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from statistics import median, quantiles

from benchmarks.client import ALONE_NANOSECONDS
from benchmarks.measure import JSON_AT_ONCE, LONG_EVENTS, SHORT_EVENTS, STREAMS_AT_ONCE, Round
from benchmarks.stores import Ledger
from benchmarks.upstream import EVENTS_PER_SECOND, JSON_BODY

JSON_TARGET = 45.0
CHUNK_TARGET = 4.0
LIMITS_TARGET_MILLISECONDS = 0.15
# Below this share of events arriving on their own, a cheap chunk is a sign of buffering and meets no target.
ALONE_REQUIRED = 0.95
NONE = "–"
HEADINGS = ("server", "JSON call", "× nginx", "calls/s", "chunk", "× nginx", "alone", "on its way p50 / p99")
EXPLANATION = f"""
CPU of the server process and its children, without what it uses when idle;
median of {{rounds}} interleaved rounds (lowest–highest).
JSON call: a {len(JSON_BODY)}-byte answer, {JSON_AT_ONCE} at once.
Chunk: one event at {EVENTS_PER_SECOND}/s; the slope from {SHORT_EVENTS} to {LONG_EVENTS} events, \
{STREAMS_AT_ONCE} streams at once.
Alone: no other event of its stream reached the client within {ALONE_NANOSECONDS // 1_000_000} ms of it.
"""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, and how far they lie apart."""

    middle: float
    lowest: float
    highest: float

    def shown(self, digits: int) -> str:
        return f"{self.middle:.{digits}f} ({self.lowest:.{digits}f}–{self.highest:.{digits}f})"


def spread(values: list[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Result:
    """Every round of one server, and the same rounds of nginx where there is nginx."""

    title: str
    rounds: list[Round]
    nginx: list[Round]

    def json_ratio(self) -> Spread | None:
        pairs = zip(self.rounds, self.nginx, strict=bool(self.nginx))
        ratios = [own.json_milliseconds / floor.json_milliseconds for own, floor in pairs]
        return spread(ratios) if ratios else None

    def chunk_ratio(self) -> Spread | None:
        pairs = zip(self.rounds, self.nginx, strict=bool(self.nginx))
        ratios = [own.chunk_milliseconds / floor.chunk_milliseconds for own, floor in pairs]
        return spread(ratios) if ratios else None

    def alone(self) -> float:
        return sum(one.events_alone for one in self.rounds) / sum(one.events for one in self.rounds)

    def delays_milliseconds(self) -> tuple[float, float]:
        """Median and 99th percentile of an event's way from the upstream to the client."""
        percentiles = quantiles(chain.from_iterable(one.delays_nanoseconds for one in self.rounds), n=100)
        return percentiles[49] / 1e6, percentiles[98] / 1e6


def table(results: list[Result]) -> str:
    """One line a server, in columns."""
    rows = [HEADINGS, *(row(result) for result in results)]
    widths = [max(len(line[column]) for line in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def row(result: Result) -> tuple[str, ...]:
    json_ratio, chunk_ratio = result.json_ratio(), result.chunk_ratio()
    middle, late = result.delays_milliseconds()
    return (
        result.title,
        spread([one.json_milliseconds for one in result.rounds]).shown(3) + " ms",
        json_ratio.shown(1) if json_ratio else NONE,
        f"{median(one.json_per_second for one in result.rounds):.0f}",
        spread([one.chunk_milliseconds for one in result.rounds]).shown(4) + " ms",
        chunk_ratio.shown(2) if chunk_ratio else NONE,
        f"{result.alone():.2%}",
        f"{middle:.1f} / {late:.1f} ms",
    )


def explanation(rounds: int) -> str:
    return EXPLANATION.format(rounds=rounds)


def verdict(result: Result) -> str:
    """The targets beside the figures, for one gateway."""
    json_ratio, chunk_ratio = result.json_ratio(), result.chunk_ratio()
    if not json_ratio or not chunk_ratio:
        targets = f"JSON ≤ {JSON_TARGET:g} ×, chunk ≤ {CHUNK_TARGET:g} ×"
        return f"{result.title}: no nginx to compare with (targets: {targets})"
    single = result.alone() >= ALONE_REQUIRED
    joined = "" if single else f" (under {ALONE_REQUIRED:.0%} came alone: buffered, or starved)"
    chunk_met = chunk_ratio.middle <= CHUNK_TARGET and single
    return (
        f"{result.title}: JSON {json_ratio.middle:.1f} × nginx, target ≤ {JSON_TARGET:g}: "
        f"{met(json_ratio.middle <= JSON_TARGET)}; chunk {chunk_ratio.middle:.2f} × nginx, "
        f"target ≤ {CHUNK_TARGET:g}: {met(chunk_met)}{joined}"
    )


def limits_line(result: Result) -> str:
    """What limits cost: calls of a tenant with a limit of every kind on every scope, and a budget."""
    extra = [
        one.limited_milliseconds - one.json_milliseconds
        for one in result.rounds
        if one.limited_milliseconds is not None
    ]
    if not extra:
        return f"{result.title}: limits not measured"
    shown = spread(extra)
    return (
        f"{result.title}: a fully limited call costs {shown.shown(3)} ms more, "
        f"target ≤ {LIMITS_TARGET_MILLISECONDS:g}: {met(shown.middle <= LIMITS_TARGET_MILLISECONDS)}"
    )


def met(holds: bool) -> str:
    return "met" if holds else "MISSED"


def ledger_line(title: str, calls_made: int, ledger: Ledger) -> str:
    exact = "exact" if ledger == Ledger(calls_made, 0) else "WRONG"
    return (
        f"{title}: {calls_made} calls made, {ledger.usage_records} usage records, "
        f"{ledger.open_calls} open: {exact}"
    )
