"""The audit log itself: the admin writes to it too, and nothing alters it."""

from __future__ import annotations

import re

import pytest
from django.db import Error, connection, transaction
from django.test import Client
from django.urls import reverse

from accounts import audit
from accounts.models import AuditEntry, Budget, NotAltered, Tenant, User
from accounts.tenancy import operator_scope, tenant_scope

WHO = audit.Who(1, "root", "admin")


@pytest.fixture
def operator(db: None, client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


def written(tenant: Tenant) -> AuditEntry:
    with operator_scope():
        audit.record(WHO, audit.change("update", "tenants", tenant, tenant.id, ("name",)))
        found: AuditEntry = AuditEntry.objects.get()
        return found


def entries() -> list[tuple[str, str, str, list[str]]]:
    with operator_scope():
        rows = AuditEntry.objects.order_by("id")
        return [(row.actor, row.action, row.resource, row.fields) for row in rows]


def test_it_writes_down_what_the_admin_changes(operator: Client, acme: Tenant) -> None:
    add = reverse("admin:accounts_budget_add")
    values = {"tenant": str(acme.id), "scope": "tenant", "period": "month", "amount_nano_usd": "25"}
    assert operator.post(add, values).status_code == 302
    with operator_scope():
        row = Budget.objects.get()
    change = reverse("admin:accounts_budget_change", args=[row.id])
    assert operator.post(change, {"amount_nano_usd": "30"}).status_code == 302
    assert operator.post(change.replace("change", "delete"), {"post": "yes"}).status_code == 302
    assert entries() == [
        ("root", "create", "budgets", []),
        ("root", "update", "budgets", ["amount_nano_usd"]),
        ("root", "delete", "budgets", []),
    ]
    with operator_scope():
        assert {entry.tenant_id for entry in AuditEntry.objects.all()} == {acme.id}


def test_it_writes_down_no_key_that_the_admin_makes(operator: Client, acme: Tenant) -> None:
    add = reverse("admin:accounts_securitykey_add")
    page = operator.post(add, {"tenant": str(acme.id), "name": "main"}, follow=True).content.decode()
    [secret] = re.findall("sk-[0-9A-Za-z]{58}", page)
    with operator_scope():
        [entry] = AuditEntry.objects.values()
    assert entry["object_name"].startswith("main (sk-")
    assert secret not in str(entry)


def test_it_shows_the_log_in_the_admin_and_offers_no_change(operator: Client, acme: Tenant) -> None:
    entry = written(acme)
    assert b"tenants" in operator.get(reverse("admin:accounts_auditentry_changelist")).content
    change = reverse("admin:accounts_auditentry_change", args=[entry.id])
    assert operator.post(change, {"actor": "nobody"}).status_code == 403
    assert operator.post(change.replace("change", "delete"), {"post": "yes"}).status_code == 403


def test_it_refuses_to_alter_an_entry(acme: Tenant) -> None:
    entry = written(acme)
    entry.actor = "nobody"
    with operator_scope():
        for change in (entry.save, entry.delete, AuditEntry.objects.all().delete):
            with pytest.raises(NotAltered):
                change()
        with pytest.raises(NotAltered):
            AuditEntry.objects.update(actor="nobody")


@pytest.mark.postgres
@pytest.mark.parametrize(
    "sql", ["UPDATE accounts_auditentry SET actor = 'nobody'", "DELETE FROM accounts_auditentry"]
)
def test_it_has_the_database_refuse_it_too(acme: Tenant, sql: str) -> None:
    written(acme)
    for scope in (operator_scope(), tenant_scope(acme.id)):
        with pytest.raises(Error, match=r"only added|permission denied"), scope, transaction.atomic():
            connection.cursor().execute(sql)


@pytest.mark.postgres
def test_it_shows_a_tenant_what_concerns_it_alone(acme: Tenant, globex: Tenant) -> None:
    written(acme)
    with tenant_scope(globex.id):
        assert not AuditEntry.objects.exists()
    with tenant_scope(acme.id):
        assert AuditEntry.objects.exists()
