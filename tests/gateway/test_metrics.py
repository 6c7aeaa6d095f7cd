"""What Prometheus is told, read by its own client's parsers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as in_openmetrics
from prometheus_client.parser import text_string_to_metric_families as in_text
from prometheus_client.samples import Sample

from accounts.actors import Actor
from accounts.models import Budget, Spend, Tenant
from accounts.money import NANO
from accounts.permissions import Role
from accounts.tenancy import operator_scope
from gateway import standing
from gateway.metrics import Told
from proxy import rollups
from proxy.histogram import histogram
from proxy.metrics import OTHERS, Kind, families
from proxy.models import OpenCall
from proxy.usage_query import Scope
from proxy.usage_report import Sums
from tests.managing import Cast, cast, error, key_of
from tests.recording import MOMENT, record, settle
from tests.server import Gateway

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
HOSTILE = 'measured-"\\n} 1 {x="\'; \U0001f600'


@pytest.fixture(scope="module")
def people(session_gateway: Gateway) -> Cast:
    """Calls of an owner and a member, and one of another tenant's owner."""
    people = cast(session_gateway, "scraped")
    prices = {"input_per_million": "1000", "output_per_million": "2000"}
    budget = {"scope": "tenant", "amount_usd": "25.00", "period": "month"}
    session_gateway.configure(
        {
            "tenants": [{"slug": "scraped", "budgets": [{**budget, "allow_unpriced": True}]}],
            "models": [
                {"name": "measured-priced", "routes": [{"upstream": "demo"}], "prices": prices},
                {"name": "measured-*", "routes": [{"upstream": "demo"}]},
            ],
        }
    )
    for tenant, role, model in (
        ("scraped", "owner", "measured-priced"),
        ("scraped", "owner", "measured-priced"),
        ("scraped", "member", HOSTILE),
        ("scraped-other", "owner", "measured-other"),
    ):
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
        headers = {"authorization": f"Bearer {key_of(tenant, role)}"}
        url = f"{session_gateway.url}/v1/chat/completions"
        answer = httpx.post(url, json=body, headers=headers, trust_env=False)
        assert answer.status_code == 200, answer.text
        session_gateway.usage_of(answer.headers["x-request-id"])
    return people


def asked(client: httpx.Client, **headers: str) -> httpx.Response:
    return client.get(str(client.base_url.join("/metrics")), headers=headers)


def told(client: httpx.Client) -> list[Sample]:
    answer = asked(client)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return [sample for family in in_text(answer.text) for sample in family.samples]


def told_by(actor: Actor) -> list[Sample]:
    found = standing.Standing.of(actor, Scope(None), datetime.now(UTC))
    return [sample for family in Told(found).collect() for sample in family.samples]


def total(samples: Iterable[Sample], name: str, **labels: str) -> float:
    return sum(
        sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items()
    )


def tenants(samples: Iterable[Sample]) -> set[str]:
    return {sample.labels["tenant"] for sample in samples if sample.name == "tollgate_calls_total"}


def test_it_tells_what_the_ledger_comes_to(people: Cast) -> None:
    [tenant] = people.gateway.query("SELECT id FROM accounts_tenant WHERE slug = %s", "scraped")
    rows = people.gateway.usage("tenant_id = %s", tenant["id"])
    samples = told(people.owner)
    assert total(samples, "tollgate_calls_total", status="completed", endpoint="chat.completions") == 3
    for type_, column in (("input", "input_tokens"), ("output", "output_tokens")):
        assert total(samples, "tollgate_tokens_total", type=type_) == sum(row[column] for row in rows)
    spent = sum(row["cost_nano_usd"] or 0 for row in rows) / 1e9
    assert total(samples, "tollgate_cost_dollars_total", model="measured-priced") == pytest.approx(spent)
    assert total(samples, "tollgate_unpriced_calls_total", upstream="demo") == 1
    for name in ("tollgate_call_duration_seconds", "tollgate_first_byte_seconds"):
        assert total(samples, f"{name}_count") == total(samples, f"{name}_bucket", le="+Inf") == 3
        assert 0 <= total(samples, f"{name}_sum") < 60


def test_it_tells_of_budgets(people: Cast) -> None:
    samples = told(people.owner)
    labels = {"tenant": "scraped", "scope": "tenant", "subject": "scraped", "period": "month"}
    cost = total(samples, "tollgate_cost_dollars_total")
    assert total(samples, "tollgate_budget_dollars", **labels) == 25
    assert total(samples, "tollgate_budget_spent_dollars", **labels) == pytest.approx(cost)


def test_it_tells_nobody_more_than_they_may_see(people: Cast) -> None:
    member, viewer, operator = told(people.member), told(people.viewer), told(people.operator)
    assert tenants(member) == tenants(viewer) == {"scraped"}
    assert total(member, "tollgate_calls_total") == 1
    assert not total(member, "tollgate_budget_dollars")
    assert total(viewer, "tollgate_calls_total") == 3
    assert tenants(told(people.outsider)) == {"scraped-other"}
    assert tenants(operator) >= {"scraped", "scraped-other"}


def test_it_tells_operators_alone_of_upstreams_and_processes(people: Cast) -> None:
    names = {sample.name for sample in told(people.operator)} - {sample.name for sample in told(people.owner)}
    assert names >= {"tollgate_upstream_answered", "tollgate_processes", "tollgate_usage_tail"}
    assert total(told(people.operator), "tollgate_processes", kind="web") >= 1


def test_it_keeps_what_callers_write_in_its_place(people: Cast) -> None:
    for accepted, read in (("*/*", in_text), (OPENMETRICS, in_openmetrics)):
        answer = asked(people.owner, accept=accepted)
        samples = [sample for family in read(answer.text) for sample in family.samples]
        assert total(samples, "tollgate_calls_total", model=HOSTILE) == 1
        assert {sample.name.partition("_")[0] for sample in samples} == {"tollgate"}


def test_it_is_for_keys_that_manage(people: Cast) -> None:
    with httpx.Client(base_url=people.gateway.url, trust_env=False) as nobody:
        assert error(nobody.get("/metrics"), 401)["code"] == "missing_api_key"
        security_key = {"authorization": "Bearer tests-scraped-security-key"}
        error(nobody.get("/metrics", headers=security_key), 403)
    error(people.owner.post(str(people.owner.base_url.join("/metrics"))), 405)


def test_it_counts_the_calls_under_way(db: None) -> None:
    with operator_scope():
        tenant = Tenant.objects.create(slug="acme", name="Acme")
        row = record(tenant.id)
        shared = {name: row[name] for name in ("endpoint", "model", "stream", "budgets")}
        OpenCall.objects.create(
            id=uuid4(),
            tenant_id=tenant.id,
            worker_id=uuid4(),
            input_tokens_estimate=1,
            started_at=datetime.now(UTC),
            **shared,
        )
    settle(row)
    samples = told_by(Actor(1, "Olga", Role.OPERATOR, None))
    assert total(samples, "tollgate_open_calls", tenant="acme") == 1
    assert total(samples, "tollgate_calls_total", tenant="acme") == 1
    assert total(samples, "tollgate_usage_tail") == 1


def test_it_divides_durations_as_the_histograms_do() -> None:
    kind = Kind("acme", "small", "openai", "embeddings", "completed")
    durations = sum(histogram(milliseconds) for milliseconds in (3, 90, 90, 4000, 2_000_000))
    samples = [
        sample
        for family in families([(kind, Sums(calls=5, durations=durations))])
        for sample in family.samples
        if sample.name == "tollgate_call_duration_seconds_bucket"
    ]
    ends = {float(sample.labels["le"]): sample.value for sample in samples}
    assert [value for _, value in sorted(ends.items())] == sorted(ends.values())
    for milliseconds, count in ((2, 0), (11, 1), (89, 1), (112, 3), (3900, 3), (5600, 4), (990_000, 4)):
        within = [value for end, value in ends.items() if 1000 * end > milliseconds]
        below = [value for end, value in ends.items() if 1000 * end <= milliseconds]
        assert max(below, default=0) <= count <= min(within), milliseconds
    assert ends[float("inf")] == 5


def test_it_lets_the_models_keep_their_names_that_were_called_first(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "MOST_MODELS", 2)
    with operator_scope():
        tenant = Tenant.objects.create(slug="acme", name="Acme")
    days = [MOMENT + number * timedelta(days=1) for number in range(4)]
    settle(*(record(tenant.id, day, model=f"{9 - number}") for number, day in enumerate(days)))
    rollups.roll_up()
    settle(*(record(tenant.id, days[3], model="6") for _ in range(9)))
    samples = told_by(Actor(1, "Olga", Role.OPERATOR, None))
    counts = {model: total(samples, "tollgate_calls_total", model=model) for model in ("9", "8", OTHERS)}
    assert counts == {"9": 1, "8": 1, OTHERS: 11}
    assert total(samples, "tollgate_calls_total") == 13


def test_it_tells_budgets_apart_that_are_for_the_same(db: None) -> None:
    with operator_scope():
        tenant = Tenant.objects.create(slug="acme", name="Acme")
        key = uuid4()
        for name, amount in (("", 10), ("ci", 20)):
            budget = Budget.objects.create(
                tenant=tenant, scope="key", name=name, amount_nano_usd=amount * NANO, period="total"
            )
            start = budget.window_start(MOMENT, "UTC")
            Spend.objects.create(tenant=tenant, budget=budget, subject=f"key:{key}", window_start=start)
    samples = told_by(Actor(1, "Olga", Role.OPERATOR, None))
    told = {s.labels["budget"]: s.value for s in samples if s.name == "tollgate_budget_dollars"}
    assert told == {"": 10, "ci": 20}
