"""What calls came to, in the shapes that Prometheus takes: counters and histograms.

Nothing is counted here: the numbers are the ledger's own, by way of the rollups. So they are those of the
whole installation, whichever process tells them, and go on where they were when a process starts anew
(docs/decisions/0019).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from accounts.money import NANO
from proxy.histogram import BOUNDS, READ_AS, SLOTS, counts
from proxy.usage_report import Sums

OTHERS = "other"
# Where the buckets of a histogram end, in milliseconds; and the slots of proxy/histogram.py that end there.
_WANTED = (10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000, 300_000, 900_000)
_LAST_SLOTS = tuple(bisect_left(BOUNDS, wanted) for wanted in _WANTED)


@dataclass(frozen=True, slots=True)
class Kind:
    """What some calls have in common, in words."""

    tenant: str
    model: str
    upstream: str
    endpoint: str
    status: str


GROUPS = tuple(field.name for field in fields(Kind))


@dataclass(frozen=True, slots=True)
class _Counter:
    """One that only rises. `labels` are of Kind; `type`, where there is one, is one more."""

    name: str
    told: str
    labels: tuple[str, ...]
    numbers: dict[str, Callable[[Sums], float]]


_WHOSE = ("tenant", "model", "upstream")
_COUNTERS = (
    _Counter(
        "tollgate_calls",
        "Calls that ended, by how.",
        (*_WHOSE, "endpoint", "status"),
        {"": lambda sums: sums.calls},
    ),
    _Counter(
        "tollgate_tokens",
        "Tokens. The cached ones are among the input, those of reasoning among the output.",
        _WHOSE,
        {
            "input": lambda sums: sums.input_tokens,
            "cached_input": lambda sums: sums.cached_input_tokens,
            "output": lambda sums: sums.output_tokens,
            "reasoning": lambda sums: sums.reasoning_tokens,
        },
    ),
    _Counter(
        "tollgate_audio_seconds",
        "Audio that was transcribed.",
        _WHOSE,
        {"": lambda sums: sums.audio_milliseconds / 1000},
    ),
    _Counter(
        "tollgate_cost_dollars",
        "What calls cost that have a price.",
        _WHOSE,
        {"": lambda sums: sums.cost_nano_usd / NANO},
    ),
    _Counter(
        "tollgate_unpriced_calls", "Calls that have no price.", _WHOSE, {"": lambda sums: sums.unpriced}
    ),
    _Counter(
        "tollgate_estimated_calls",
        "Calls whose tokens nobody reported.",
        _WHOSE,
        {"": lambda sums: sums.estimated},
    ),
)
_HISTOGRAMS: tuple[tuple[str, str, Callable[[Sums], int]], ...] = (
    ("tollgate_call_duration_seconds", "How long calls took that completed.", lambda sums: sums.durations),
    ("tollgate_first_byte_seconds", "Until their first byte came.", lambda sums: sums.first_bytes),
)
_OF_HISTOGRAMS = ("model", "upstream")

Totals = Sequence[tuple[Kind, Sums]]


def families(totals: Totals, models: Container[str] | None = None) -> Iterator[Metric]:
    """Of what all calls of each kind came to, ever. If some `models` are given, all others have one name."""
    named = [
        (kind if models is None or kind.model in models else replace(kind, model=OTHERS), sums)
        for kind, sums in totals
    ]
    for counter in _COUNTERS:
        yield _counted(counter, named)
    for name, told, histogram in _HISTOGRAMS:
        family = HistogramMetricFamily(name, told, labels=_OF_HISTOGRAMS)
        for labels, sums in _summed(named, _OF_HISTOGRAMS).items():
            buckets, total = _buckets(histogram(sums))
            family.add_metric(labels, buckets, total)
        yield family


def _summed(totals: Totals, labels: tuple[str, ...]) -> dict[tuple[str, ...], Sums]:
    found: dict[tuple[str, ...], Sums] = {}
    for kind, sums in totals:
        key = tuple(getattr(kind, label) for label in labels)
        found[key] = found.get(key, Sums()) + sums
    return found


def _counted(counter: _Counter, totals: Totals) -> Metric:
    typed = "" not in counter.numbers
    family = CounterMetricFamily(
        counter.name, counter.told, labels=[*counter.labels, *(["type"] if typed else [])]
    )
    for labels, sums in _summed(totals, counter.labels).items():
        for type_, number in counter.numbers.items():
            family.add_metric([*labels, *([type_] if typed else [])], number(sums))
    return family


def _buckets(histogram: int) -> tuple[list[tuple[str, float]], float]:
    """How many took no longer than each bucket's end, and how long they took together: within
    the RELATIVE_ERROR there, for each slot is read as its middle."""
    slots = counts(histogram)
    slots += [0] * (SLOTS - len(slots))
    up_to = list(accumulate(slots))
    buckets = [(str(BOUNDS[last] / 1000), float(up_to[last])) for last in _LAST_SLOTS]
    total = sum(count * middle for count, middle in zip(slots, READ_AS, strict=True))
    return [*buckets, ("+Inf", float(up_to[-1]))], total / 1000
