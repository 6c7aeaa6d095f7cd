"""What the dashboard shows: cards, charts and the same as tables, and by what the calls were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from accounts.money import NANO
from gateway.dashboard import numbers
from gateway.dashboard.asked import Asked
from gateway.dashboard.budgets import BurnDown, burn_downs, values_of
from gateway.dashboard.viewer import Names, Viewer, as_text
from proxy.models import UsageSeries, UsageTail
from proxy.usage_query import Value
from proxy.usage_report import MOST_LINES, Line, Sums, breakdown, one_moment, over_time

TABLES = {
    "tenant": "By tenant",
    "model": "By model",
    "key": "By key",
    "user": "By user",
    "upstream": "By upstream",
    "endpoint": "By endpoint",
    "failure": "What went wrong",
}
PERIODS = {"today": "Today", "7": "7 days", "30": "30 days", "90": "90 days"}


def numbers_of(asked: Asked, now: datetime) -> dict[str, Any]:
    """The context of the page. Raises ApiError where it takes too long."""
    question, bounds = asked.question(), asked.period.bounds
    groups = [group for group in TABLES if group != "tenant" or asked.viewer.tenant is None]
    with one_moment(asked.viewer.actor.scope()):
        lines = over_time(question, bounds)
        total, tables = breakdown(question, *groups)
        budgets = burn_downs(asked.viewer, now) if not asked.filters else []
        ever = bool(total.calls) or _ever(asked.viewer)
    names = Names(_together(_groups(tables), values_of(budgets), _filters(asked)))
    sums = [Sums()] * (len(bounds) - 1)
    for line in lines:
        sums[line.bucket] = line.sums
    labels, links = asked.period.labels(), _links(asked)
    return {
        **around(asked, names),
        "now": now,
        "total": total,
        "cards": _cards(total),
        "charts": [_chart(chart, labels, links, sums) for chart in numbers.CHARTS],
        "tables": [_table(asked, name, tables[name], total, names) for name in groups if tables[name]],
        "headings": numbers.HEADINGS,
        "budgets": [_budget(budget, names) for budget in budgets],
        "data": {"labels": labels, "links": links, "charts": _drawn(sums, budgets)},
        "ever": ever,
    }


def around(asked: Asked, names: Names) -> dict[str, Any]:
    """What every page of usage shows above its numbers."""
    return {
        "viewer": asked.viewer,
        "period": asked.period,
        "asked": asked,
        "periods": [
            {
                "title": title,
                "link": asked.over(name),
                "current": name == asked.period.name,
            }
            for name, title in PERIODS.items()
        ],
        "filters": [
            {"name": name, "value": names.of(name, value), "without": asked.without(name)}
            for name, value in asked.filters.items()
        ],
        "hidden": {name: as_text(value) for name, value in asked.filters.items()},
    }


def _ever(viewer: Viewer) -> bool:
    """Whether there ever were calls that they may see."""
    wanted: dict[str, Any] = {}
    if viewer.scope.tenant_id is not None:
        wanted["tenant_id"] = viewer.scope.tenant_id
    late = UsageTail.objects.filter(**wanted)
    if viewer.scope.user_id is not None:
        wanted["user_id"] = viewer.scope.user_id
    return UsageSeries.objects.filter(**wanted).exists() or late.exists()


def _groups(tables: Mapping[str, Sequence[Line]]) -> dict[str, list[Value]]:
    return {name: [line.group[0] for line in lines] for name, lines in tables.items()}


def _filters(asked: Asked) -> dict[str, list[Value]]:
    return {name: [value] for name, value in asked.filters.items()}


def _together(*many: Mapping[str, Iterable[Value]]) -> dict[str, list[Value]]:
    found: dict[str, list[Value]] = {}
    for values in many:
        for name, some in values.items():
            found.setdefault(name, []).extend(some)
    return found


def _cards(total: Sums) -> list[tuple[str, str, str]]:
    """Title, number and what there is to say of it."""
    latency = [numbers.lasting(each) for each in total.duration(*numbers.SHARES)]
    first = [numbers.lasting(each) for each in total.first_byte(*numbers.SHARES)]
    return [
        ("Calls", numbers.whole(total.calls), f"{total.cancelled:,} cancelled"),
        ("Failed", numbers.whole(total.failed), f"{numbers.share(total.failed, total.calls)} of all calls"),
        ("Input tokens", numbers.whole(total.input_tokens), f"{total.cached_input_tokens:,} of them cached"),
        (
            "Output tokens",
            numbers.whole(total.output_tokens),
            f"{total.reasoning_tokens:,} of them reasoning",
        ),
        ("Cost", numbers.round_money(total.cost), f"{total.unpriced:,} calls without a price"),
        ("Latency, median", latency[0], f"p95 {latency[1]}, p99 {latency[2]}"),
        ("First token, median", first[0], f"p95 {first[1]}, p99 {first[2]}"),
    ]


def _links(asked: Asked) -> list[str]:
    """To the calls of each stretch of time."""
    return [asked.calls_between(start, end) for start, end in pairwise(asked.period.bounds)]


def _chart(chart: numbers.Chart, labels: list[str], links: list[str], sums: Sequence[Sums]) -> dict[str, Any]:
    rows = [
        {"label": label, "link": link, "cells": [_cell(series, one) for series in chart.series]}
        for label, link, one in zip(labels, links, sums, strict=True)
    ]
    return {"chart": chart, "rows": rows}


def _cell(series: numbers.Series, sums: Sums) -> str:
    value = series.of(sums)
    return numbers.UNKNOWN if value is None else series.shown(value)


def _drawn(sums: Sequence[Sums], budgets: Sequence[BurnDown]) -> dict[str, Any]:
    """What the page's script draws, by the chart's id."""
    charts = {chart.id: numbers.chart_data(chart, sums) for chart in numbers.CHARTS}
    return charts | {each.id: _burning(each) for each in budgets if each.left}


def _burning(budget: BurnDown) -> dict[str, Any]:
    """The same of a budget. A point is what is left when a stretch begins; the last, when the window ends."""
    left = [None if nano is None else max(0, nano) / NANO for nano in budget.left]
    return {
        "kind": "line",
        "unit": "$",
        "labels": [*budget.period.labels(), "end"],
        "links": [],
        "series": [{"name": "left", "colour": "--chart-1", "values": left}],
    }


def _table(asked: Asked, name: str, lines: list[Line], total: Sums, names: Names) -> dict[str, Any]:
    shown = [line for line in lines if name != "failure" or line.sums.failed or line.sums.cancelled]
    rest = total
    for line in lines:
        rest -= line.sums
    return {
        "id": name,
        "title": TABLES[name],
        "rows": [_row(asked, name, line, names) for line in shown],
        "others": numbers.cells(rest) if len(lines) == MOST_LINES and rest.calls else None,
    }


def _row(asked: Asked, name: str, line: Line, names: Names) -> dict[str, Any]:
    value = line.group[0]
    text = names.of(name, value)
    only = {name: text if name == "tenant" else as_text(value)}
    calls = asked.calls_between(asked.period.start, asked.period.end, **only)
    count, *cells = numbers.cells(line.sums)
    return {"name": text, "link": asked.link(**only), "calls": calls, "count": count, "cells": cells}


def _budget(budget: BurnDown, names: Names) -> dict[str, Any]:
    left = [None if nano is None else max(0, nano) for nano in budget.left]
    rows = zip([*budget.period.labels(), "end"], map(numbers.money, left), strict=False)
    return {"budget": budget, "name": names.of(budget.group, budget.subject), "rows": list(rows)}
