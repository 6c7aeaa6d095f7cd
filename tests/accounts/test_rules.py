"""The snapshot of limits and budgets: whose they are, and whom their names mean."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from accounts import keys
from accounts.models import LARGEST_BUDGET_NANO_USD, Budget, Limit, Spend, Tenant, User, kept_name
from accounts.rules import BudgetRule, LimitRule, SubjectId, TenantRules, load_rules
from accounts.tenancy import operator_scope, tenant_scope
from accounts.windows import EVER


def limit(tenant: Tenant, scope: str, name: str = "", **values: Any) -> Limit:
    given = {"concurrent": 1, **values}
    with operator_scope():
        row: Limit = Limit.objects.create(tenant=tenant, scope=scope, name=name, **given)
    return row


def budget(tenant: Tenant, scope: str, name: str = "", **values: Any) -> Budget:
    given = {"amount_nano_usd": 10**9, "period": "month", **values}
    with operator_scope():
        row: Budget = Budget.objects.create(tenant=tenant, scope=scope, name=name, **given)
    return row


def subjects(tenant: Tenant) -> list[SubjectId | None]:
    rules = load_rules().get(tenant.id, TenantRules((), ()))
    return [rule.subject_id for rule in rules.limits] + [rule.subject_id for rule in rules.budgets]


def test_it_finds_nothing_where_there_is_nothing(acme: Tenant) -> None:
    assert load_rules() == {}


def test_it_tells_whole_rules(acme: Tenant) -> None:
    acme.timezone = "Europe/Paris"
    with operator_scope():
        acme.save()
    each_ip = limit(acme, "ip", requests_per_second=2, when_exceeded="queue", queue_seconds=60)
    month = budget(acme, "tenant", allow_unpriced=True)
    assert load_rules()[acme.id] == TenantRules(
        (LimitRule(each_ip.id, "ip", None, 2, None, None, 1, 60),),
        (BudgetRule(month.id, "tenant", None, 10**9, "month", True, "Europe/Paris"),),
    )


def test_it_tells_no_queue_where_calls_are_rejected(acme: Tenant) -> None:
    limit(acme, "key", queue_seconds=60)
    assert load_rules()[acme.id].limits[0].queue_seconds is None


def test_it_tells_a_rules_window(acme: Tenant) -> None:
    budget(acme, "tenant", period="day")
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert load_rules()[acme.id].budgets[0].window(now) == (
        datetime(2026, 11, 21, tzinfo=UTC),
        datetime(2026, 11, 22, tzinfo=UTC),
    )


def test_it_knows_whom_a_name_means(acme: Tenant, alice: User) -> None:
    with operator_scope():
        key, _ = keys.make_api_key(acme, alice, "ci")
    limit(acme, "key", "ci")
    limit(acme, "user", "alice@acme.test")
    limit(acme, "ip", "203.0.113.7")
    limit(acme, "model", "gpt-4o")
    budget(acme, "key", "ci")
    assert subjects(acme) == ["203.0.113.7", key.id, "gpt-4o", alice.pk, key.id]


def test_it_holds_both_keys_of_a_name_each_alone(acme: Tenant, alice: User) -> None:
    with operator_scope():
        api_key, _ = keys.make_api_key(acme, alice, "main")
        security_key, _ = keys.make_security_key(acme, "main")
    limit(acme, "key", "main")
    assert subjects(acme) == [api_key.id, security_key.id]


def test_it_takes_no_key_of_another_tenant(acme: Tenant, globex: Tenant, charlie: User) -> None:
    with operator_scope():
        keys.make_api_key(globex, charlie, "ci")
    limit(acme, "key", "ci")
    assert load_rules() == {}


def test_it_keeps_tenants_apart(acme: Tenant, globex: Tenant) -> None:
    ours, theirs = limit(acme, "key"), limit(globex, "key")
    rules = load_rules()
    assert [rule.id for rule in rules[acme.id].limits] == [ours.id]
    assert [rule.id for rule in rules[globex.id].limits] == [theirs.id]


def test_it_announces_a_limit_and_a_budget(acme: Tenant, heard: list[str], transactional_db: None) -> None:
    limit(acme, "key")
    budget(acme, "key")
    assert len(heard) == 2


def test_it_announces_no_spending(acme: Tenant, heard: list[str], transactional_db: None) -> None:
    row = budget(acme, "key")
    del heard[:]
    with operator_scope():
        Spend.objects.create(tenant=acme, budget=row, subject="key:1", window_start=EVER)
        Spend.objects.of(acme).update(amount_nano_usd=5)
    assert heard == []


def test_it_forgets_what_was_spent_of_a_budget_that_goes(acme: Tenant) -> None:
    row = budget(acme, "key")
    with operator_scope():
        Spend.objects.create(tenant=acme, budget=row, subject="key:1", window_start=EVER)
        row.delete()
        assert not Spend.objects.exists()


def test_it_writes_what_was_spent_of_a_budget_that_is_gone(acme: Tenant) -> None:
    row = budget(acme, "key")
    gone = row.id
    with operator_scope():
        row.delete()
        Spend.objects.create(tenant=acme, budget_id=gone, subject="key:1", window_start=EVER)
        assert Spend.objects.count() == 1


def test_it_lets_a_tenant_read_and_write_its_spending(acme: Tenant) -> None:
    row = budget(acme, "key")
    with tenant_scope(acme.id):
        Spend.objects.create(tenant=acme, budget=row, subject="key:1", window_start=EVER)
        assert Spend.objects.of(acme).count() == 1


@pytest.mark.parametrize(
    "values",
    [
        *({"concurrent": None}, {"concurrent": 0}, {"concurrent": -1}, {"concurrent": 10**9 + 1}),
        {"queue_seconds": 601},
    ],
)
def test_it_cannot_write_a_limit_that_means_nothing(acme: Tenant, values: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        limit(acme, "key", **values)


@pytest.mark.parametrize("amount", [0, -1, LARGEST_BUDGET_NANO_USD + 1])
def test_it_cannot_write_a_budget_that_means_nothing(acme: Tenant, amount: int) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        budget(acme, "key", amount_nano_usd=amount)


def test_it_has_one_limit_and_one_budget_of_a_name(acme: Tenant) -> None:
    limit(acme, "key")
    with pytest.raises(IntegrityError), transaction.atomic():
        limit(acme, "key")
    budget(acme, "key")
    budget(acme, "key", period="day")
    with pytest.raises(IntegrityError), transaction.atomic():
        budget(acme, "key")


@pytest.mark.parametrize(
    ("scope", "name", "kept"),
    [
        ("key", "", ""),
        ("tenant", "", ""),
        ("key", "CI", "CI"),
        ("user", "Alice@Acme.test", "alice@acme.test"),
        ("user", "Root", "Root"),
        ("ip", "2001:DB8:0:0::1", "2001:db8::1"),
        ("ip", "::ffff:203.0.113.7", "203.0.113.7"),
        ("model", "gpt-4o", "gpt-4o"),
    ],
)
def test_it_keeps_a_name_in_one_way_to_write_it(scope: str, name: str, kept: str) -> None:
    assert kept_name(scope, name) == kept


@pytest.mark.parametrize(
    ("scope", "name"), [("tenant", "acme"), ("ip", "10.0.0.0/8"), ("ip", "localhost"), ("model", "gpt-*")]
)
def test_it_refuses_a_name_that_nothing_of_that_scope_has(scope: str, name: str) -> None:
    with pytest.raises(ValidationError):
        kept_name(scope, name)
