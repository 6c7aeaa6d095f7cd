"""The permission table, walked: every page of the admin panel, as every role, here and elsewhere.

A table without a sample here fails. Whether a page can be shown at all is asked where tenants have a role of
the database's that may read little; whether it shows what is another tenant's, where the database does not
hide that anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.db.models import Model as Table
from django.http.response import HttpResponseBase
from django.test import Client

from accounts import audit
from accounts.ids import uuid7
from accounts.models import ApiKey, AuditEntry, Budget, Limit, Membership, SecurityKey, Tenant, User
from accounts.panel import OperatorsAlone, RowAdmin
from accounts.permissions import Reach, Role, reach
from accounts.tenancy import operator_scope
from proxy.models import Model, OpenCall, Price, Route, Upstream, UsageRecord
from threads.models import StoredResponse, Thread

_NUMBERS = count(1)
_NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
Sample = Callable[[Tenant], Table]


def somebody(tenant: Tenant, role: str = "viewer") -> User:
    user: User = User.objects.create_user(f"somebody{next(_NUMBERS)}")
    Membership.objects.create(tenant=tenant, user=user, role=role)
    return user


def key_row(tenant: Tenant) -> dict[str, Any]:
    number = next(_NUMBERS)
    return {"tenant": tenant, "name": f"key {number}", "prefix": "sk-x", "digest": f"{number:064}"}


def model(tenant: Tenant) -> Table:
    """One that only this tenant can use."""
    upstream = Upstream.objects.create(name=f"u{next(_NUMBERS)}", dialect="demo", tenant=tenant)
    row = Model.objects.create(name=f"m{next(_NUMBERS)}")
    Route.objects.create(model=row, upstream=upstream)
    return row


def response(tenant: Tenant) -> Table:
    thread = Thread.objects.create(tenant=tenant, conversation=False)
    return StoredResponse.objects.create(
        id=uuid7(), tenant=tenant, thread=thread, kind="response", model="demo", status="completed", body="{}"
    )


def entry(tenant: Tenant) -> Table:
    audit.record(audit.Who(1, "root", "admin"), audit.change("update", "tenants", tenant, tenant.id))
    row = AuditEntry.objects.order_by("id").last()
    assert row is not None
    return row


def call_row(tenant: Tenant) -> dict[str, Any]:
    started = {"started_at": _NOW, "endpoint": "chat.completions", "model": "demo", "stream": False}
    return {"id": uuid7(), "tenant_id": tenant.id, **started}


# Each makes a row that belongs to the tenant and to none of the people who look at it.
SAMPLES: dict[type[Table], Sample] = {
    Tenant: lambda tenant: tenant,
    Membership: lambda tenant: Membership.objects.get(user=somebody(tenant)),
    ApiKey: lambda tenant: ApiKey.objects.create(user=somebody(tenant), **key_row(tenant)),
    SecurityKey: lambda tenant: SecurityKey.objects.create(**key_row(tenant)),
    Limit: lambda tenant: Limit.objects.create(
        tenant=tenant, scope="model", name=f"m{next(_NUMBERS)}", concurrent=1
    ),
    Budget: lambda tenant: Budget.objects.create(
        tenant=tenant, scope="key", name=f"k{next(_NUMBERS)}", period="day", amount_nano_usd=10**9
    ),
    User: somebody,
    AuditEntry: entry,
    Upstream: lambda tenant: Upstream.objects.create(
        name=f"u{next(_NUMBERS)}", dialect="demo", tenant=tenant
    ),
    Model: model,
    Price: lambda tenant: Price.objects.create(
        model_name=f"m{next(_NUMBERS)}", input_nano_usd_per_million=1, source=Price.Source.OPERATOR
    ),
    OpenCall: lambda tenant: OpenCall.objects.create(
        worker_id=uuid4(), input_tokens_estimate=1, **call_row(tenant)
    ),
    UsageRecord: lambda tenant: UsageRecord.objects.create(
        status="completed", estimated=False, duration_milliseconds=1, ended_at=_NOW, **call_row(tenant)
    ),
    Thread: lambda tenant: Thread.objects.create(tenant=tenant, conversation=True),
    StoredResponse: response,
}
EVERYBODYS = (Price,)  # whose rows are every tenant's


@dataclass(frozen=True)
class Page:
    """One page of a table: `name` as its URL has it, and the right that it takes."""

    table: type[Table]
    resource: str
    name: str
    right: str

    def __str__(self) -> str:
        return f"{self.table.__name__}.{self.name}"

    @property
    def is_of_one(self) -> bool:
        return self.name not in ("list", "add")

    def path(self, id_: object = "") -> str:
        options = self.table._meta
        table = f"/admin/{options.app_label}/{options.model_name}/"
        return {"list": table, "add": f"{table}add/"}.get(self.name, f"{table}{id_}/{self.name}/")

    def reach(self, role: Role) -> Reach:
        if issubclass(type(admin.site.get_model_admin(self.table)), OperatorsAlone):
            return Reach.ALL if role is Role.OPERATOR else Reach.NONE
        return reach(role, self.resource, self.right)


_PAGES = {"list": "read", "add": "create", "change": "read", "delete": "delete", "history": "read"}
OWN_PAGES: dict[type[Table], dict[str, str]] = {
    ApiKey: {"revoke": "revoke", "rotate": "rotate"},
    SecurityKey: {"revoke": "revoke"},
    Thread: {"content": "content"},
    StoredResponse: {"content": "content"},
}


def pages() -> Iterator[Page]:
    for table, of_table in admin.site._registry.items():
        assert isinstance(of_table, RowAdmin)
        for name, right in (_PAGES | OWN_PAGES.get(table, {})).items():
            yield Page(table, of_table.resource, name, right)


PAGES = list(pages())
TABLES = sorted({page.table for page in PAGES}, key=lambda table: table.__name__)
# What the table lets some do that these pages do not offer.
NOT_OFFERED = {"StoredResponse.delete"}
each_table = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)


@pytest.fixture
def acme(db: None) -> Tenant:
    with operator_scope():
        return Tenant.objects.create(slug="acme", name="Acme")


@pytest.fixture
def globex(db: None) -> Tenant:
    with operator_scope():
        return Tenant.objects.create(slug="globex", name="Globex")


@pytest.fixture
def people(acme: Tenant) -> dict[Role, Client]:
    """One of each role in acme, signed in."""
    clients = {role: Client() for role in Role}
    with operator_scope():
        for role, client in clients.items():
            operator = role is Role.OPERATOR
            client.force_login(User.objects.create_superuser("root") if operator else somebody(acme, role))
    return clients


def sampled(page: Page, tenant: Tenant) -> Table:
    with operator_scope():
        return SAMPLES[page.table](tenant)


def granted(answer: HttpResponseBase) -> bool:
    return answer.status_code in (200, 302)


def far(page: Page, role: Role) -> Reach:
    return Reach.NONE if str(page) in NOT_OFFERED else page.reach(role)


def test_it_has_a_sample_of_every_table() -> None:
    assert set(TABLES) == set(SAMPLES)


@pytest.mark.postgres
@each_table
def test_it_shows_each_role_what_the_permission_table_says(
    acme: Tenant, people: dict[Role, Client], table: type[Table]
) -> None:
    for page in (page for page in PAGES if page.table is table):
        row = sampled(page, acme)
        for role, client in people.items():
            answer = client.get(page.path(row.pk))
            if far(page, role) is Reach.NONE:
                assert answer.status_code == 403, (page, role)
            elif far(page, role) is Reach.OWN and page.is_of_one:
                assert answer.status_code == 404, (page, role)
            else:
                assert granted(answer), (page, role)


@pytest.mark.sqlite
@each_table
def test_it_knows_nothing_of_another_tenants(
    acme: Tenant, globex: Tenant, people: dict[Role, Client], table: type[Table]
) -> None:
    for page in (page for page in PAGES if page.table is table and page.is_of_one):
        theirs = sampled(page, globex).pk
        for role, client in people.items():
            answers = [client.get(page.path(id_)) for id_ in (uuid7(), "1%27", theirs)]
            if role is Role.OPERATOR or table in EVERYBODYS:
                shown = answers.pop()
                assert granted(shown) is (far(page, role) is not Reach.NONE), (page, role)
            wanted = 403 if far(page, role) is Reach.NONE else 404
            said = {(answer.status_code, answer.content) for answer in answers}
            assert said == {(wanted, answers[0].content)}, (page, role)


@pytest.mark.sqlite
@each_table
def test_it_lists_no_row_of_another_tenant(
    acme: Tenant, globex: Tenant, people: dict[Role, Client], table: type[Table]
) -> None:
    [page] = [page for page in PAGES if page.table is table and page.name == "list"]
    row = sampled(page, globex)
    for role, client in people.items():
        answer = client.get(page.path()).content.decode()
        seen = str(row.pk) in answer or "globex" in answer
        wanted = role is Role.OPERATOR or (table in EVERYBODYS and far(page, role) is not Reach.NONE)
        assert seen is wanted, role


@pytest.mark.sqlite
@each_table
def test_it_changes_and_deletes_only_where_the_permission_table_says_so(
    acme: Tenant, globex: Tenant, people: dict[Role, Client], table: type[Table]
) -> None:
    resource = admin.site.get_model_admin(table).resource  # type: ignore[attr-defined]
    for name, right in (("change", "update"), ("delete", "delete")):
        step = Page(table, resource, name, right)
        for role, client in people.items():
            own, other = (step.path(rows_to_lose(step, tenant).pk) for tenant in (acme, globex))
            answers = [client.post(path, {"post": "yes"}) for path in (other, own)]
            if far(step, role) is Reach.NONE:
                assert {answer.status_code for answer in answers} == {403}, (step, role)
            elif far(step, role) is Reach.OWN:
                assert {answer.status_code for answer in answers} == {404}, (step, role)
            else:
                assert granted(answers[1]), (step, role)
                everywhere = role is Role.OPERATOR or table in EVERYBODYS
                assert granted(answers[0]) if everywhere else answers[0].status_code == 404, (step, role)


def rows_to_lose(step: Page, tenant: Tenant) -> Table:
    """A tenant that is deleted is one that nobody needs."""
    if str(step) != "Tenant.delete":
        return sampled(step, tenant)
    with operator_scope():
        return Tenant.objects.create(slug=f"gone-{next(_NUMBERS)}", name="Gone")


def test_it_asks_strangers_to_sign_in(client: Client, db: None) -> None:
    for page in PAGES:
        for answer in (client.get(page.path(uuid7())), client.post(page.path(uuid7()))):
            assert answer.status_code == 302, page
            assert answer["location"].startswith("/admin/login/"), page
