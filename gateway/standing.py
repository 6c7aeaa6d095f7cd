"""How things stand at one moment: what calls came to, which are under way, what is left of budgets, and how
upstreams and processes do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from django.db.models import Count, Min, OuterRef, Subquery
from django.db.models.functions import Now

from accounts.actors import Actor
from accounts.models import Budget, Spend
from accounts.permissions import Role
from accounts.windows import EVER
from proxy.health import Health, healths
from proxy.metrics import GROUPS
from proxy.models import OpenCall, Upstream, UsageSeries, UsageSpan, UsageTail, Worker
from proxy.orphans import DEAD_AFTER
from proxy.rollups import UTC_ZONE
from proxy.usage_query import Question, Scope, Value
from proxy.usage_report import Line, one_moment, over_time

MOST_BUDGETS, MOST_SPENDINGS = 500, 2000
MOST_MODELS = 200  # that are told by their names: callers write those, where a route takes any


@dataclass(frozen=True, slots=True)
class Spending:
    """What one whom a budget is for has spent since its window began."""

    budget: Budget
    subject: Value
    spent_nano_usd: int


@dataclass(frozen=True, slots=True)
class Installation:
    """What only operators may know: how upstreams do, how many processes of each kind live, and how many
    records the rollups do not hold yet."""

    upstreams: Sequence[tuple[str, Health]]
    processes: Sequence[tuple[str, int]]
    tail: int


@dataclass(frozen=True, slots=True)
class Standing:
    """All that whoever asks may see. `calls` are of all time, each line of one kind (proxy/metrics.py).
    `models` are those that keep their names, None if all do; `open_calls` are counted by tenant."""

    calls: Sequence[Line]
    models: Collection[str] | None
    open_calls: Sequence[tuple[Value, int]]
    spendings: Sequence[Spending]
    installation: Installation | None

    @classmethod
    def of(cls, actor: Actor, scope: Scope, now: datetime) -> Self:
        """Raises ApiError (503) where it takes too long."""
        with one_moment(actor.scope()):
            calls = over_time(Question(scope, EVER, now, now=now), (EVER, now), *GROUPS)
            return cls(
                calls,
                _first_models(scope) if len({line.group[1] for line in calls}) > MOST_MODELS else None,
                _open_calls(scope),
                [] if scope.user_id else list(_spendings(scope, now)),
                _installation(now) if actor.role is Role.OPERATOR else None,
            )


def _first_models(scope: Scope) -> list[str]:
    """Those that were called first, and always will have been: no count ever goes to another name."""
    days = UsageSpan.objects.filter(series_id=OuterRef("id"), unit=UsageSpan.Unit.DAY, zone=UTC_ZONE)
    series = UsageSeries.objects.all() if scope.tenant_id is None else UsageSeries.objects.of(scope.tenant_id)
    if scope.user_id is not None:
        series = series.filter(user_id=scope.user_id)
    first = Subquery(days.order_by("start_at").values("start_at")[:1])
    found = series.annotate(day=first).filter(day__isnull=False).values("model").annotate(first=Min("day"))
    return list(found.order_by("first", "model").values_list("model", flat=True)[:MOST_MODELS])


def _open_calls(scope: Scope) -> list[tuple[Value, int]]:
    calls = OpenCall.objects.all() if scope.tenant_id is None else OpenCall.objects.of(scope.tenant_id)
    if scope.user_id is not None:
        calls = calls.filter(user_id=scope.user_id)
    return list(calls.values_list("tenant_id").annotate(Count("id")))


def _spendings(scope: Scope, now: datetime) -> Iterator[Spending]:
    """Of the budgets that were made first, those who have spent most. A tenant's own is told from the start,
    others' once they spend."""
    rows = Budget.objects.all() if scope.tenant_id is None else Budget.objects.of(scope.tenant_id)
    budgets = {row.pk: row for row in rows.select_related("tenant").order_by("id")[:MOST_BUDGETS]}
    starts = {id_: row.window_start(now, row.tenant.timezone) for id_, row in budgets.items()}
    spends = Spend.objects.filter(budget_id__in=budgets, window_start__in=set(starts.values()))
    most = spends.order_by("-amount_nano_usd")[:MOST_SPENDINGS]
    found = [spend for spend in most if spend.window_start == starts[spend.budget_id]]
    for spend in found:
        yield Spending(budgets[spend.budget_id], spend.subject_id, spend.amount_nano_usd)
    for id_ in budgets.keys() - {spend.budget_id for spend in found}:
        if budgets[id_].scope == Budget.Scope.TENANT:
            yield Spending(budgets[id_], budgets[id_].tenant_id, 0)


def _installation(now: datetime) -> Installation:
    names = dict(Upstream.objects.order_by("name").values_list("id", "name"))
    found = healths(names, now)
    living = Worker.objects.filter(kind__in=Worker.MAKE_CALLS, seen_at__gt=Now() - DEAD_AFTER)
    counted = dict(living.values_list("kind").annotate(Count("id")))
    return Installation(
        [(name, found[id_]) for id_, name in names.items()],
        [(kind, counted.get(kind, 0)) for kind in Worker.MAKE_CALLS],
        UsageTail.objects.count(),
    )
