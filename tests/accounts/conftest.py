"""The cast as rows: alice owns acme, bob is her colleague there, charlie owns globex."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import django
import pytest

django.setup()  # pytest may read this file before pytest-django has

from django.db import connection  # noqa: E402

from accounts import changes, database  # noqa: E402
from accounts.models import Installation, Membership, Tenant, User  # noqa: E402
from accounts.tenancy import operator_scope  # noqa: E402


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """SQLite in a file, as people have it: in memory, readers and writers lock each other out."""
    if connection.vendor == "sqlite":
        connection.settings_dict["TEST"]["NAME"] = str(tmp_path_factory.mktemp("sqlite") / "tests.sqlite3")


@pytest.fixture
def acme(db: None) -> Tenant:
    with operator_scope():
        return Tenant.objects.create(slug="acme", name="Acme")


@pytest.fixture
def globex(db: None) -> Tenant:
    with operator_scope():
        return Tenant.objects.create(slug="globex", name="Globex")


@pytest.fixture
def alice(acme: Tenant) -> User:
    return member(acme, "alice", Membership.Role.OWNER)


@pytest.fixture
def bob(acme: Tenant) -> User:
    return member(acme, "bob", Membership.Role.MEMBER)


@pytest.fixture
def charlie(globex: Tenant) -> User:
    return member(globex, "charlie", Membership.Role.OWNER)


def member(tenant: Tenant, name: str, role: Membership.Role) -> User:
    with operator_scope():
        user: User = User.objects.create_user(name, f"{name}@{tenant.slug}.test")
        Membership.objects.create(tenant=tenant, user=user, role=role)
    return user


@pytest.fixture
def database_threads(transactional_db: None) -> Iterator[None]:
    """What `database.run` does is committed, and seen by other connections; its own are closed afterwards."""
    Installation.current()  # which is gone where a test before this one flushed the database
    yield
    database.shutdown()


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """Grows by one with every change that this process hears of."""
    notes: list[str] = []
    listener: Callable[[], None] = lambda: notes.append("changed")  # noqa: E731
    changes.subscribe(listener)
    yield notes
    changes.unsubscribe(listener)
