"""What the database itself keeps apart, asked in raw SQL, which knows nothing of `.of(tenant)`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from urllib.parse import unquote, urlsplit
from uuid import UUID

import pytest
from django.core.exceptions import ValidationError
from django.db import Error, ProgrammingError, connection, transaction

from accounts import keys
from accounts.ids import uuid7
from accounts.models import ApiKey, Budget, Limit, Membership, SecurityKey, Spend, Tenant, User
from accounts.tenancy import operator_scope, tenant_scope
from accounts.windows import EVER

TABLES = (
    *("accounts_membership", "accounts_securitykey", "accounts_apikey"),
    *("accounts_limit", "accounts_budget", "accounts_spend"),
)


@pytest.fixture
def rows(acme: Tenant, globex: Tenant, alice: User, bob: User, charlie: User) -> None:
    """Something in every table for either tenant."""
    with operator_scope():
        for tenant, user in ((acme, alice), (globex, charlie)):
            keys.make_api_key(tenant, user, "ci")
            keys.make_security_key(tenant, "main")
            Limit.objects.create(tenant=tenant, scope="key", concurrent=1)
            budget = Budget.objects.create(tenant=tenant, scope="tenant", amount_nano_usd=1, period="total")
            Spend.objects.create(tenant=tenant, budget=budget, subject="tenant", window_start=EVER)


@pytest.fixture
def superuser(transactional_db: None) -> Iterator[None]:
    """Django's connection, as a superuser for once."""
    parts = urlsplit(os.environ["DATABASE_URL"])
    login = {"USER": unquote(parts.username or ""), "PASSWORD": unquote(parts.password or "")}
    ordinary = {name: connection.settings_dict[name] for name in login}
    connection.close()
    connection.settings_dict |= login
    yield
    connection.close()
    connection.settings_dict |= ordinary


def query(sql: str, *values: UUID) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())


def execute(sql: str, *values: UUID) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return int(cursor.rowcount)


def owners(table: str) -> set[object]:
    return {row[0] for row in query(f"SELECT tenant_id FROM {table}")}


def slugs() -> set[object]:
    return {row[0] for row in query("SELECT slug FROM accounts_tenant")}


def refused() -> pytest.RaisesExc[ProgrammingError]:
    return pytest.raises(ProgrammingError, match=r"row-level security|permission denied")


@pytest.mark.postgres
def test_it_logs_in_as_nobody_special(db: None) -> None:
    """Otherwise nothing below proves anything."""
    assert query("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user") == [(False,)]


@pytest.mark.postgres
def test_it_shows_a_tenant_its_own_rows_and_no_others(rows: None, acme: Tenant) -> None:
    with tenant_scope(acme.id):
        assert slugs() == {"acme"}
        for table in TABLES:
            assert owners(table) == {acme.id}, table


@pytest.mark.postgres
def test_it_shows_nothing_outside_of_a_scope(rows: None) -> None:
    assert slugs() == set()
    for table in TABLES:
        assert owners(table) == set(), table


@pytest.mark.postgres
def test_it_shows_an_operator_everything(rows: None, acme: Tenant, globex: Tenant) -> None:
    with operator_scope():
        assert slugs() == {"acme", "globex"}
        for table in TABLES:
            assert owners(table) == {acme.id, globex.id}, table


@pytest.mark.postgres
def test_it_shows_nothing_to_a_tenant_that_is_not_there(rows: None) -> None:
    with tenant_scope(uuid7()):
        assert slugs() == set()


@pytest.mark.postgres
def test_it_writes_nothing_outside_of_a_scope(db: None) -> None:
    with refused(), transaction.atomic():
        Tenant.objects.create(slug="stowaway", name="Stowaway")


@pytest.mark.postgres
def test_it_does_not_let_a_tenant_write_rows_of_another(rows: None, acme: Tenant, globex: Tenant) -> None:
    with tenant_scope(acme.id):
        with refused(), transaction.atomic():
            SecurityKey.objects.create(tenant=globex, name="spare", prefix="", digest="d" * 64)
        with refused(), transaction.atomic():
            Tenant.objects.create(slug="initech", name="Initech")
        with refused(), transaction.atomic():
            execute("UPDATE accounts_securitykey SET tenant_id = %s", globex.id)


@pytest.mark.postgres
@pytest.mark.parametrize("table", TABLES)
def test_it_does_not_let_a_tenant_change_or_remove_rows_of_another(
    rows: None, acme: Tenant, globex: Tenant, table: str
) -> None:
    with tenant_scope(acme.id):
        assert execute(f"UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = %s", globex.id) == 0
        assert execute(f"DELETE FROM {table} WHERE tenant_id = %s", globex.id) == 0


@pytest.mark.postgres
def test_it_does_not_let_a_tenant_become_the_operator(rows: None, acme: Tenant) -> None:
    with tenant_scope(acme.id):
        query("SELECT set_config('tollgate.scope', 'operator', true)")
        assert slugs() == {"acme"}
        with refused(), transaction.atomic():
            Tenant.objects.create(slug="initech", name="Initech")


@pytest.mark.postgres
@pytest.mark.parametrize("table", ["accounts_user", "django_session", "django_admin_log"])
def test_it_keeps_a_tenant_from_tables_that_are_nobodys(rows: None, acme: Tenant, table: str) -> None:
    with tenant_scope(acme.id), refused(), transaction.atomic():
        query(f"SELECT * FROM {table}")


@pytest.mark.postgres
def test_it_shows_a_tenant_who_its_members_are_and_no_password(
    rows: None, acme: Tenant, globex: Tenant
) -> None:
    with tenant_scope(acme.id):
        assert set(query("SELECT username FROM accounts_user")) == {("alice",), ("bob",)}
        with refused(), transaction.atomic():
            query("SELECT password FROM accounts_user")
        with refused(), transaction.atomic():
            execute("UPDATE accounts_user SET is_superuser = true")
    with tenant_scope(globex.id):
        assert query("SELECT username FROM accounts_user") == [("charlie",)]
    assert len(query("SELECT password FROM accounts_user")) == 3


@pytest.mark.postgres
def test_it_lets_a_tenant_write_its_own_rows(rows: None, acme: Tenant, alice: User) -> None:
    with tenant_scope(acme.id):
        key, _ = keys.make_api_key(acme, alice, "second")
        key.revoke()
        Membership.objects.of(acme).update(role=Membership.Role.VIEWER)
        acme.name = "Acme Corporation"
        acme.save()
        assert ApiKey.objects.of(acme).filter(revoked_at=None).count() == 1


@pytest.mark.postgres
def test_it_holds_for_a_superuser_too(superuser: None, rows: None, acme: Tenant, globex: Tenant) -> None:
    if query("SELECT current_setting('is_superuser')") != [("on",)]:
        pytest.skip("DATABASE_URL is no superuser's; run on one that is: python -m tests.services pytest")
    assert slugs() == {"acme", "globex"}
    with tenant_scope(acme.id):
        assert slugs() == {"acme"}
        for table in TABLES:
            assert owners(table) == {acme.id}, table
        query("SELECT set_config('tollgate.scope', 'operator', true)")
        assert slugs() == {"acme"}
        with refused(), transaction.atomic():
            SecurityKey.objects.create(tenant=globex, name="spare", prefix="", digest="d" * 64)
    assert slugs() == {"acme", "globex"}


@pytest.mark.postgres
def test_it_ends_with_the_scope(transactional_db: None, rows: None, acme: Tenant) -> None:
    login = query("SELECT current_user")
    with tenant_scope(acme.id):
        assert query("SELECT current_user::text") == [("tollgate_tenant",)]
    with operator_scope():
        assert slugs() == {"acme", "globex"}
    assert query("SELECT current_user") == login
    assert slugs() == set()


@pytest.mark.postgres
def test_it_puts_the_outer_scope_back(rows: None, acme: Tenant, globex: Tenant) -> None:
    with operator_scope():
        with tenant_scope(acme.id):
            assert slugs() == {"acme"}
            with operator_scope():
                assert slugs() == {"acme", "globex"}
            with tenant_scope(globex.id):
                assert slugs() == {"globex"}
            assert slugs() == {"acme"}
        assert slugs() == {"acme", "globex"}
    assert slugs() == set()


@pytest.mark.postgres
def test_it_puts_the_outer_scope_back_after_a_failure(rows: None, acme: Tenant) -> None:
    with operator_scope():
        with pytest.raises(Error), tenant_scope(acme.id):
            query("SELECT 1 / 0")
        assert slugs() == {"acme", "globex"}


@pytest.mark.postgres
def test_it_divides_every_table_of_accounts_that_names_a_tenant(db: None) -> None:
    assert (
        query(
            """
        SELECT relname::text FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
        WHERE relkind IN ('r', 'p') AND relname LIKE 'accounts%%'
          AND (attname = 'tenant_id' OR relname = 'accounts_tenant' AND attname = 'id')
          AND NOT (relrowsecurity AND relforcerowsecurity)"""
        )
        == []
    )


def make_two_keys_of_one_name(tenant: Tenant) -> None:
    for _ in range(2):
        keys.make_security_key(tenant, "main")


@pytest.mark.parametrize("scope", [lambda tenant: tenant_scope(tenant.id), lambda tenant: operator_scope()])
def test_it_undoes_the_work_of_a_scope_that_fails(
    acme: Tenant, scope: Callable[[Tenant], AbstractContextManager[None]]
) -> None:
    with pytest.raises(ValidationError), scope(acme):
        make_two_keys_of_one_name(acme)
    with operator_scope():
        assert not SecurityKey.objects.of(acme).exists()


def test_it_reaches_a_tenants_rows_through_of(rows: None, acme: Tenant, globex: Tenant) -> None:
    with operator_scope():
        assert {key.tenant for key in ApiKey.objects.of(acme)} == {acme}
        assert {key.tenant_id for key in SecurityKey.objects.of(globex.id)} == {globex.id}
