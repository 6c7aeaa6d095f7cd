"""What the database itself keeps apart, asked in raw SQL; and what operators see of what is stored."""

from __future__ import annotations

from uuid import UUID

import pytest
from django.db import ProgrammingError, connection, transaction
from django.test import Client
from django.urls import reverse

from accounts.models import Tenant, User
from accounts.tenancy import operator_scope, tenant_scope
from tests.threads.test_completions import keep
from tests.threads.turns import turn
from threads import conversations
from threads.models import Item, StoredResponse, Thread

TABLES = ("threads_thread", "threads_item", "threads_storedresponse")


@pytest.fixture
def rows(acme: Tenant, globex: Tenant) -> None:
    """Something in every table for either tenant."""
    for tenant in (acme, globex):
        turn(tenant, "secret")


def owners(table: str) -> set[object]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT tenant_id FROM {table}")
        return {row[0] for row in cursor.fetchall()}


def execute(sql: str, *values: UUID) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return int(cursor.rowcount)


@pytest.mark.postgres
@pytest.mark.parametrize("table", TABLES)
def test_it_shows_a_tenant_its_own_rows_and_no_others(
    rows: None, acme: Tenant, globex: Tenant, table: str
) -> None:
    with tenant_scope(acme.id):
        assert owners(table) == {acme.id}
    with operator_scope():
        assert owners(table) == {acme.id, globex.id}
    assert owners(table) == set()


@pytest.mark.postgres
@pytest.mark.parametrize("table", TABLES)
def test_it_does_not_let_a_tenant_change_or_remove_rows_of_another(
    rows: None, acme: Tenant, globex: Tenant, table: str
) -> None:
    with tenant_scope(acme.id):
        assert execute(f"UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = %s", globex.id) == 0
        assert execute(f"DELETE FROM {table} WHERE tenant_id = %s", globex.id) == 0
        with pytest.raises(ProgrammingError, match="row-level security"), transaction.atomic():
            execute(f"UPDATE {table} SET tenant_id = %s", globex.id)


@pytest.mark.postgres
def test_it_forces_row_security_on_every_table_with_tenants_rows(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
            " WHERE attname = 'tenant_id' AND relkind IN ('r', 'p') AND relname LIKE 'threads_%%'"
            " AND relrowsecurity AND relforcerowsecurity"
        )
        assert {row[0] for row in cursor.fetchall()} == set(TABLES)


def test_it_tells_operators_of_what_is_stored_and_whose_it_is_and_not_what_it_says(
    acme: Tenant, globex: Tenant, client: Client
) -> None:
    client.force_login(User.objects.create_superuser("root"))
    turn(acme, "secret words", user="somebody")
    keep(globex, metadata={"secret": "pair"})
    conversations.create(
        globex.id, metadata={"secret": "pair"}, retention_days=1, user="somebody", title="secret title"
    )
    with operator_scope():
        there = [("thread", thread.pk) for thread in Thread.objects.all()]
        there += [("storedresponse", response.pk) for response in StoredResponse.objects.all()]
        assert Item.objects.count() == 2
    pages = {reverse(f"admin:threads_{table}_changelist") for table, _ in there}
    pages |= {reverse(f"admin:threads_{table}_change", args=[key]) for table, key in there}
    for address in pages:
        page = client.get(address)
        assert page.status_code == 200
        assert b"acme" in page.content or b"globex" in page.content
        assert b"secret" not in page.content


def test_it_lets_nobody_look_who_is_no_member(acme: Tenant, client: Client) -> None:
    staff = User.objects.create_user("staff", is_staff=True)
    client.force_login(staff)
    assert client.get(reverse("admin:threads_thread_changelist")).status_code == 302
