"""/metrics, for Prometheus. It exposes, and never counts.

By a member's API key, of what that member may see; an operator's key tells of every tenant, and of upstreams
and processes too. It tells of the whole installation: one address is asked, and not every process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.actors import Actor
from accounts.api.authentication import KeyAuthentication
from accounts.api.resource import EachActor
from accounts.money import NANO
from gateway.dashboard.viewer import Names
from gateway.standing import Installation, Spending, Standing
from proxy.api.organization import MaySeeUsage
from proxy.metrics import Kind, families
from proxy.usage_query import Scope, Value

OF_BUDGETS = ("tenant", "scope", "budget", "period", "subject", "subject_id")


class WhateverIsAccepted(BaseContentNegotiation):
    """It is text, in the version that the Accept header asks for; only what goes wrong is told in JSON."""

    def select_parser(self, request: Request, parsers: Iterable[Any]) -> Any:
        return None

    def select_renderer(
        self, request: Request, renderers: Iterable[Any], format_suffix: str | None = None
    ) -> tuple[Any, str]:
        first = next(iter(renderers))
        return first, first.media_type


@extend_schema(exclude=True)
class Metrics(APIView):
    authentication_classes = (KeyAuthentication,)
    permission_classes = (MaySeeUsage,)
    throttle_classes = (EachActor,)
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = WhateverIsAccepted
    http_method_names = ["get"]

    def get(self, request: Request) -> HttpResponse:
        actor = cast(Actor, request.auth)
        scope = Scope.of(actor)
        assert scope is not None
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Told(Standing.of(actor, scope, datetime.now(UTC))))
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return HttpResponse(encode(cast(Collector, registry)), content_type=content_type)


class Told(Collector):
    """All that is told of how things stand."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing
        ids = {"tenant": {*(line.group[0] for line in standing.calls), *dict(standing.open_calls)}}
        for each in standing.spendings:
            ids["tenant"].add(each.budget.tenant_id)
            ids.setdefault(each.budget.scope, set()).add(each.subject)
        self._names = Names(ids)

    def collect(self) -> Iterator[Metric]:
        standing = self._standing
        calls = [(self._kind(line.group), line.sums) for line in standing.calls]
        yield from families(calls, standing.models)
        running = [((self._names.of("tenant", id_),), number) for id_, number in standing.open_calls]
        yield gauge("tollgate_open_calls", "Calls under way.", ("tenant",), running)
        yield from self._budgets()
        if standing.installation is not None:
            yield from of_installation(standing.installation)

    def _kind(self, group: Sequence[Value]) -> Kind:
        """Of a line, whose groups are Kind's fields in their order."""
        tenant_id, *words = group
        return Kind(self._names.of("tenant", tenant_id), *map(str, words))

    def _budgets(self) -> Iterator[Metric]:
        rows = [(self._labels(each), each) for each in self._standing.spendings]
        amounts = [(labels, each.budget.amount_nano_usd / NANO) for labels, each in rows]
        spent = [(labels, each.spent_nano_usd / NANO) for labels, each in rows]
        yield gauge("tollgate_budget_dollars", "What may be spent in a period.", OF_BUDGETS, amounts)
        yield gauge("tollgate_budget_spent_dollars", "What was, since it began.", OF_BUDGETS, spent)

    def _labels(self, each: Spending) -> tuple[str, ...]:
        """Of one budget and one whom it is for, who may have the name of another."""
        budget, name = each.budget, self._names.of
        subject = name(budget.scope, each.subject), str(each.subject)
        return name("tenant", budget.tenant_id), budget.scope, budget.name, budget.period, *subject


def of_installation(found: Installation) -> Iterator[Metric]:
    """How upstreams do, as all processes saw it lately; and those processes."""
    upstreams = [((name,), health) for name, health in found.upstreams]
    told = "In the last five minutes: attempts that an upstream "
    for name, what, count in (
        ("tollgate_upstream_answered", f"{told}answered.", lambda health: health.answered),
        ("tollgate_upstream_failed", f"{told}failed.", lambda health: health.failed),
        (
            "tollgate_upstream_cooling",
            "Models that others are asked for first.",
            lambda health: len(health.cooling),
        ),
    ):
        yield gauge(name, what, ("upstream",), [(labels, count(health)) for labels, health in upstreams])
    processes = [((kind,), number) for kind, number in found.processes]
    yield gauge("tollgate_processes", "Processes that live.", ("kind",), processes)
    yield gauge("tollgate_usage_tail", "Records that the rollups do not hold yet.", (), [((), found.tail)])


def gauge(name: str, told: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], float]]) -> Metric:
    family = GaugeMetricFamily(name, told, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family
