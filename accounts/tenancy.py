"""Row-level security on PostgreSQL: the database itself keeps tenants apart.

Invariant: a secured table shows a row only to `tenant_scope` of the row's tenant and to
`operator_scope`; outside of both, an ordinary login sees none and writes none. It holds for the
login that owns the tables (row security is forced) and within `tenant_scope` for a superuser too
(the scope steps down to a role that cannot log in). SQLite has no such thing: there the scopes are
plain transactions, and `.of(tenant)` alone keeps tenants apart.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation

TENANT_ROLE = "tollgate_tenant"
OPERATOR_SQL = "SELECT set_config('tollgate.scope', 'operator', true);"

# Each is a query within, so that it is asked once for a statement, and not for every row. Without that,
# PostgreSQL also expects one row in 300 to pass, and sorts a whole ledger for the newest page of it.
_OPERATOR = (
    f"((SELECT current_user <> '{TENANT_ROLE}' AND current_setting('tollgate.scope', true) = 'operator'))"
)
_TENANT = "({column} = (SELECT NULLIF(current_setting('tollgate.tenant', true), '')::uuid))"

# set_config(…, true) is SET LOCAL: it ends with the transaction. An operator scope inside a tenant's
# steps up again; elsewhere it leaves the role alone, since some logins are given another by ALTER ROLE.
# What is asked for is small and in memory, which PostgreSQL does not expect. It would compile statements for
# a quarter of a second, take processors that calls need, and read a table in order to find a few of its rows.
_PLANNED = """set_config('jit', 'off', true), set_config('max_parallel_workers_per_gather', '0', true),
           set_config('random_page_cost', '1.1', true)"""
_ENTER_TENANT = f"""
    SELECT set_config('role', '{TENANT_ROLE}', true), set_config('tollgate.tenant', %s, true), {_PLANNED}"""
_ENTER_OPERATOR = f"""
    SELECT set_config('role', COALESCE(NULLIF(current_setting('role'), '{TENANT_ROLE}'), 'none'), true),
           set_config('tollgate.scope', 'operator', true), {_PLANNED}"""
_CURRENT = """
    SELECT current_setting('role'),
           current_setting('tollgate.tenant', true),
           current_setting('tollgate.scope', true)"""
_RESTORE = """
    SELECT set_config('role', %s, true),
           set_config('tollgate.tenant', %s, true),
           set_config('tollgate.scope', %s, true)"""


@contextmanager
def tenant_scope(tenant_id: uuid.UUID) -> Iterator[None]:
    """A transaction that reaches the rows of this tenant and no others."""
    with _scope(_ENTER_TENANT, [str(tenant_id)]):
        yield


@contextmanager
def operator_scope() -> Iterator[None]:
    """A transaction that reaches the rows of every tenant: for what spans them, and nothing else."""
    with _scope(_ENTER_OPERATOR, []):
        yield


@contextmanager
def _scope(enter: str, values: list[str]) -> Iterator[None]:
    nested = connection.in_atomic_block
    with transaction.atomic():
        if connection.vendor != "postgresql":
            yield
            return
        with connection.cursor() as cursor:
            before = _one_row(cursor, _CURRENT, []) if nested else None
            _one_row(cursor, enter, values)
        yield
        # Otherwise the end of the transaction, or going back to its savepoint, ends the settings too.
        if before is not None and not connection.needs_rollback:
            with connection.cursor() as cursor:
                _one_row(cursor, _RESTORE, [value or "" for value in before])


def _one_row(cursor: Any, sql: str, values: list[str]) -> tuple[str | None, ...]:
    cursor.execute(sql, values)
    row: tuple[str | None, ...] = cursor.fetchone()
    return row


class PostgresOperation(Operation):
    """A migration's step that changes no model and does nothing on SQLite."""

    def state_forwards(self, app_label: str, state: Any) -> None:
        pass

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        self._execute(schema_editor, self.forwards())

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        self._execute(schema_editor, self.backwards())

    def _execute(self, schema_editor: BaseDatabaseSchemaEditor, statements: list[str]) -> None:
        if schema_editor.connection.vendor == "postgresql":
            for statement in statements:
                schema_editor.execute(statement, params=None)

    def forwards(self) -> list[str]:
        raise NotImplementedError

    def backwards(self) -> list[str]:
        raise NotImplementedError


# Roles belong to the whole server, so another database's migration may be making this one meanwhile.
_CREATE_ROLE = f"""
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{TENANT_ROLE}') THEN
        CREATE ROLE {TENANT_ROLE} NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'As a superuser, run: CREATE ROLE {TENANT_ROLE} NOLOGIN';
END $$"""

# Since PostgreSQL 16 a login may be a member of a role which it cannot switch to.
_GRANT_ROLE = f"""
DO $$ BEGIN
    IF NOT pg_has_role(current_user, '{TENANT_ROLE}',
        CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END)
    THEN
        GRANT {TENANT_ROLE} TO current_user;
    END IF;
EXCEPTION
    WHEN unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'As a superuser, run: GRANT {TENANT_ROLE} TO %', quote_ident(current_user);
END $$"""

_GRANT_SCHEMA = f"""
DO $$ BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO {TENANT_ROLE}', current_schema());
END $$"""


class TenantRole(PostgresOperation):
    """The role that `tenant_scope` steps down to. Made by a login with CREATEROLE, else by hand."""

    def forwards(self) -> list[str]:
        return [_CREATE_ROLE, _GRANT_ROLE, _GRANT_SCHEMA]

    def backwards(self) -> list[str]:
        return []  # other databases of the server may be using it

    def describe(self) -> str:
        return f"Make the role {TENANT_ROLE}"


class TenantGrant(PostgresOperation):
    """Lets tenants use a table that is not divided among them; `privileges` such as "SELECT, UPDATE"."""

    def __init__(self, table: str, privileges: str) -> None:
        self.table = table
        self.privileges = privileges

    def forwards(self) -> list[str]:
        return [f'GRANT {self.privileges} ON "{self.table}" TO {TENANT_ROLE}']

    def backwards(self) -> list[str]:
        return [f'REVOKE {self.privileges} ON "{self.table}" FROM {TENANT_ROLE}']

    def describe(self) -> str:
        return f"Grant {self.privileges} on {self.table} to {TENANT_ROLE}"


class RowSecurity(PostgresOperation):
    """Divides a table among tenants by the column that holds the tenant's id."""

    def __init__(self, table: str, column: str = "tenant_id") -> None:
        self.table = table
        self.column = column

    def forwards(self) -> list[str]:
        tenant = _TENANT.format(column=f'"{self.column}"')
        return [
            f'ALTER TABLE "{self.table}" ENABLE ROW LEVEL SECURITY',
            f'ALTER TABLE "{self.table}" FORCE ROW LEVEL SECURITY',
            f'CREATE POLICY operator ON "{self.table}" USING {_OPERATOR} WITH CHECK {_OPERATOR}',
            f'CREATE POLICY tenant ON "{self.table}" TO {TENANT_ROLE} USING {tenant} WITH CHECK {tenant}',
            f'GRANT SELECT, INSERT, UPDATE, DELETE ON "{self.table}" TO {TENANT_ROLE}',
        ]

    def backwards(self) -> list[str]:
        return [
            f'REVOKE ALL ON "{self.table}" FROM {TENANT_ROLE}',
            f'DROP POLICY tenant ON "{self.table}"',
            f'DROP POLICY operator ON "{self.table}"',
            f'ALTER TABLE "{self.table}" NO FORCE ROW LEVEL SECURITY',
            f'ALTER TABLE "{self.table}" DISABLE ROW LEVEL SECURITY',
        ]

    def describe(self) -> str:
        return f"Divide {self.table} among tenants by {self.column}"


class RowSecurityAnew(RowSecurity):
    """Says once more how a table is divided, as RowSecurity does it by now."""

    def forwards(self) -> list[str]:
        tenant = _TENANT.format(column=f'"{self.column}"')
        return [
            f'ALTER POLICY operator ON "{self.table}" USING {_OPERATOR} WITH CHECK {_OPERATOR}',
            f'ALTER POLICY tenant ON "{self.table}" USING {tenant} WITH CHECK {tenant}',
        ]

    def backwards(self) -> list[str]:
        return []


class MembersAlone(PostgresOperation):
    """Shows tenants those users who are members of theirs, and of these no column but the ones named.

    Which memberships there are, the row security of their own table says. Others than tenants see all users.
    """

    def __init__(self, *columns: str) -> None:
        self.columns = ", ".join(f'"{column}"' for column in columns)

    def forwards(self) -> list[str]:
        other = f"(current_user <> '{TENANT_ROLE}')"
        member = "id IN (SELECT user_id FROM accounts_membership)"
        return [
            "ALTER TABLE accounts_user ENABLE ROW LEVEL SECURITY",
            f"CREATE POLICY others ON accounts_user USING {other} WITH CHECK {other}",
            f"CREATE POLICY tenant ON accounts_user FOR SELECT TO {TENANT_ROLE} USING ({member})",
            f"GRANT SELECT ({self.columns}) ON accounts_user TO {TENANT_ROLE}",
        ]

    def backwards(self) -> list[str]:
        return [
            f"REVOKE ALL ON accounts_user FROM {TENANT_ROLE}",
            "DROP POLICY tenant ON accounts_user",
            "DROP POLICY others ON accounts_user",
            "ALTER TABLE accounts_user DISABLE ROW LEVEL SECURITY",
        ]

    def describe(self) -> str:
        return "Show tenants their own members"


class AppendOnly(PostgresOperation):
    """Has the database refuse to alter or remove rows of a table, whoever asks."""

    def __init__(self, table: str) -> None:
        self.table = table

    def forwards(self) -> list[str]:
        return [
            f"""
            CREATE FUNCTION "{self.table}_stays"() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'rows of {self.table} are only added'; END $$""",
            f"""
            CREATE TRIGGER stays BEFORE UPDATE OR DELETE ON "{self.table}"
            FOR EACH ROW EXECUTE FUNCTION "{self.table}_stays"()""",
            f'REVOKE UPDATE, DELETE ON "{self.table}" FROM {TENANT_ROLE}',
        ]

    def backwards(self) -> list[str]:
        return [f'DROP TRIGGER stays ON "{self.table}"', f'DROP FUNCTION "{self.table}_stays"()']

    def describe(self) -> str:
        return f"Let rows of {self.table} only be added"
