"""Numbers as they are shown, and the charts and tables that show them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from accounts.money import NANO, dollars
from proxy.usage_report import Sums

SHARES = (0.5, 0.95, 0.99)
UNKNOWN = "–"


def whole(number: int) -> str:
    return f"{number:,}"


def money(nano: int | None) -> str:
    """Exactly; of calls that have no price nothing is known."""
    return UNKNOWN if nano is None else dollars(nano)


def round_money(nano: int | None) -> str:
    """To cents or, of less than a dollar, to three digits."""
    if nano is None:
        return UNKNOWN
    if nano >= NANO or nano == 0:
        return f"${Decimal(nano) / NANO:,.2f}"
    return f"${Decimal(f'{Decimal(nano) / NANO:.3g}'):f}"


def lasting(milliseconds: float | None) -> str:
    if milliseconds is None:
        return UNKNOWN
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 100_000:
        return f"{milliseconds / 1000:.3g} s"
    return f"{milliseconds / 60_000:.3g} min"


def share(part: int, of: int) -> str:
    return f"{100 * part / of:.1f} %" if of else UNKNOWN


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart, or the stack of one colour: a number for each stretch, or None."""

    name: str
    colour: str  # a variable of the page's style
    of: Callable[[Sums], float | int | None]
    shown: Callable[[Any], str] = whole


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart and the same as a table."""

    id: str
    title: str
    kind: str  # bar (stacked) or line
    unit: str  # what the numbers are, for the axis
    series: tuple[Series, ...]


def _answered(sums: Sums) -> int:
    return sums.calls - sums.failed - sums.cancelled


def _dollars(sums: Sums) -> float | None:
    return None if sums.cost is None else sums.cost / NANO


def _percentile(name: str, index: int) -> Callable[[Sums], float | None]:
    return lambda sums: getattr(sums, name)(*SHARES)[index]


def _percentiles(name: str) -> tuple[Series, ...]:
    labels, colours = ("p50", "p95", "p99"), ("--chart-1", "--chart-2", "--chart-3")
    return tuple(
        Series(label, colour, _percentile(name, index), lasting)
        for index, (label, colour) in enumerate(zip(labels, colours, strict=True))
    )


CHARTS = (
    Chart(
        "calls",
        "Calls",
        "bar",
        "calls",
        (
            Series("answered", "--chart-1", _answered),
            Series("cancelled", "--chart-4", lambda sums: sums.cancelled),
            Series("failed", "--chart-bad", lambda sums: sums.failed),
        ),
    ),
    Chart(
        "tokens",
        "Tokens",
        "bar",
        "tokens",
        (
            Series("input", "--chart-1", lambda sums: sums.input_tokens - sums.cached_input_tokens),
            Series("cached input", "--chart-4", lambda sums: sums.cached_input_tokens),
            Series("output", "--chart-2", lambda sums: sums.output_tokens - sums.reasoning_tokens),
            Series("reasoning", "--chart-3", lambda sums: sums.reasoning_tokens),
        ),
    ),
    Chart(
        "cost",
        "Cost",
        "bar",
        "$",
        (Series("cost", "--chart-1", _dollars, lambda value: money(value and round(value * NANO))),),
    ),
    Chart("latency", "Latency", "line", "ms", _percentiles("duration")),
    Chart("first-byte", "Time to first token", "line", "ms", _percentiles("first_byte")),
)


def chart_data(chart: Chart, sums: Sequence[Sums]) -> dict[str, Any]:
    """What the script draws."""
    return {
        "kind": chart.kind,
        "unit": chart.unit,
        "series": [
            {"name": each.name, "colour": each.colour, "values": [each.of(one) for one in sums]}
            for each in chart.series
        ],
    }


def lasting_each(milliseconds: Sequence[float | None]) -> str:
    """Some that belong together, with their unit once where it is the same."""
    texts = [lasting(each) for each in milliseconds]
    units = {text.partition(" ")[2] for text in texts}
    if len(units) > 1 or texts[0] == UNKNOWN:
        return " / ".join(texts) if texts[0] != UNKNOWN else UNKNOWN
    return f"{' / '.join(text.partition(' ')[0] for text in texts)} {units.pop()}"


HEADINGS = (
    *("Calls", "Failed", "Input", "Cached", "Output", "Reasoning", "Cost"),
    *("Latency p50 / p95 / p99", "First token p50 / p95 / p99"),
)


def cells(sums: Sums) -> list[str]:
    """A line of a table under HEADINGS."""
    unpriced = f" + {sums.unpriced:,} unpriced" if sums.unpriced and sums.cost is not None else ""
    return [
        *map(whole, (sums.calls, sums.failed, sums.input_tokens, sums.cached_input_tokens)),
        *map(whole, (sums.output_tokens, sums.reasoning_tokens)),
        ("unpriced" if sums.cost is None else money(sums.cost)) + unpriced,
        lasting_each(sums.duration(*SHARES)),
        lasting_each(sums.first_byte(*SHARES)),
    ]
