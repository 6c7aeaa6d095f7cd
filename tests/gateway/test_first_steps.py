"""What somebody new is told to do next, and the pages around it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from accounts.ids import uuid7
from accounts.keys import make_api_key
from accounts.models import Membership, Tenant, User
from accounts.tenancy import operator_scope
from gateway.first_steps import FirstSteps
from proxy.models import Model, Route, Upstream, UsageRecord
from tests.gateway.test_pages import BROWSER

EVERY = ["upstream", "model", "key", "call", "live"]


@pytest.fixture
def tenant(db: None) -> Tenant:
    with operator_scope():
        return Tenant.objects.create(slug="acme", name="Acme")


def member(tenant: Tenant, role: str) -> User:
    with operator_scope():
        user: User = User.objects.create_user(f"{role}@acme.test")
        Membership.objects.create(tenant=tenant, user=user, role=role)
    return user


def record(tenant: Tenant, user: User | None = None, started_at: datetime | None = None) -> None:
    now = started_at or datetime.now(UTC)
    with operator_scope():
        UsageRecord.objects.create(
            id=uuid7(),
            tenant_id=tenant.pk,
            user_id=None if user is None else user.pk,
            endpoint="chat.completions",
            model="demo",
            stream=True,
            started_at=now,
            status=UsageRecord.Status.COMPLETED,
            estimated=False,
            duration_milliseconds=5,
            ended_at=now,
        )


def steps(client: Client) -> FirstSteps | None:
    """What the home page shows them."""
    answer = client.get("/", headers={"accept": BROWSER})
    assert answer.status_code == 200
    found = answer.context["first_steps"]
    assert found is None or isinstance(found, FirstSteps)
    assert (b"What to do next" in answer.content) == (found is not None)
    return found


def names(found: FirstSteps | None, *, done: bool | None = None) -> Sequence[str]:
    assert found is not None
    return [step.name for step in found.steps if done in (None, step.done)]


def test_an_operator_is_led_from_an_upstream_to_a_call(admin_client: Client, tenant: Tenant) -> None:
    assert names(steps(admin_client), done=False) == EVERY
    with operator_scope():
        Upstream.objects.create(name="demo", dialect="demo")
        mine = Upstream.objects.create(name="mine", dialect="openai", base_url="http://127.0.0.1:9/v1")
    assert names(steps(admin_client), done=True) == ["upstream"]
    with operator_scope():
        for name in ("*", "it's", "gpt-mine"):
            Route.objects.create(model=Model.objects.create(name=name), upstream=mine)
        default = Tenant.objects.create(slug="default", name="Default")
        make_api_key(default, member(default, "owner"), "default")
    found = steps(admin_client)
    assert found is not None
    assert (names(found, done=True), found.next, found.model) == (["upstream", "model"], "key", "gpt-mine")
    with operator_scope():
        make_api_key(default, User.objects.get(username="owner@acme.test"), "laptop")
    assert names(steps(admin_client), done=False) == ["call", "live"]
    record(tenant)
    assert names(steps(admin_client), done=False) == ["live"]
    assert admin_client.get("/dashboard/live/").status_code == 200
    assert steps(admin_client) is None


def test_looking_before_there_is_a_call_is_not_seeing_one(admin_client: Client) -> None:
    admin_client.get("/dashboard/live/")
    assert "live" in names(steps(admin_client), done=False)


@pytest.mark.parametrize(
    ("role", "shown"),
    [
        ("owner", ["key", "call", "live"]),
        ("admin", ["key", "call", "live"]),
        ("member", ["key", "call", "live"]),
        ("viewer", ["live"]),
    ],
)
def test_people_see_what_they_may_do(client: Client, tenant: Tenant, role: str, shown: list[str]) -> None:
    client.force_login(member(tenant, role))
    found = steps(client)
    assert names(found) == shown
    assert found is not None
    led_to = {step.path for step in found.steps if step.path}
    assert ("/admin/accounts/apikey/add/" in led_to) == (role in ("owner", "admin"))


def test_a_members_own_key_and_call_count(client: Client, tenant: Tenant) -> None:
    person, colleague = member(tenant, "member"), member(tenant, "owner")
    with operator_scope():
        make_api_key(tenant, colleague, "theirs")
    record(tenant, colleague)
    client.force_login(person)
    assert names(steps(client), done=True) == []
    with operator_scope():
        make_api_key(tenant, person, "mine")
    record(tenant, person)
    assert names(steps(client), done=True) == ["key", "call"]


def test_another_tenants_calls_and_keys_do_not(client: Client, tenant: Tenant) -> None:
    with operator_scope():
        other = Tenant.objects.create(slug="globex", name="Globex")
        make_api_key(other, member(other, "viewer"), "theirs")
    record(other)
    client.force_login(member(tenant, "owner"))
    assert names(steps(client), done=True) == []


def test_nobody_is_new_for_ever(client: Client, tenant: Tenant) -> None:
    record(tenant, started_at=datetime.now(UTC) - timedelta(days=2))
    client.force_login(member(tenant, "owner"))
    assert steps(client) is None


@pytest.mark.django_db
def test_who_is_nobody_here_is_led_to_nothing(client: Client) -> None:
    assert steps(client) is None
    assert b"Sign in" in client.get("/", headers={"accept": BROWSER}).content
    client.force_login(User.objects.create_user("stranger"))
    assert steps(client) is None
    assert client.get("/dashboard/live/").status_code == 403
    page = client.get("/", headers={"accept": BROWSER}).content.decode()
    assert "You are a member of no tenant" in page
    assert 'href="/dashboard/"' not in page
    assert "curl" not in page


@pytest.mark.parametrize("role", ["owner", "member", "viewer"])
def test_it_leads_nobody_to_where_they_are_refused(client: Client, tenant: Tenant, role: str) -> None:
    client.force_login(member(tenant, role))
    answer = client.get("/", headers={"accept": BROWSER})
    links = [place.path for place in answer.context["places"]()]
    assert {"/dashboard/", "/dashboard/live/", "/admin/"} <= set(links)
    assert ("/playground/" in links) == (role != "viewer")
    refused = {path: client.get(path).status_code for path in links}
    assert set(refused.values()) == {200}, refused
    assert f'href="{links[0]}"' in client.get("/nowhere", headers={"accept": BROWSER}).content.decode()


def test_who_saw_a_call_live_saw_it_also_when_they_sign_in_again(client: Client, tenant: Tenant) -> None:
    person = member(tenant, "owner")
    record(tenant)
    client.force_login(person)
    assert "live" in names(steps(client), done=False)
    client.get("/dashboard/live/")
    client.logout()
    client.force_login(person)
    assert "live" in names(steps(client), done=True)


def test_the_dashboard_has_the_steps_and_the_panel(client: Client, tenant: Tenant) -> None:
    client.force_login(member(tenant, "owner"))
    page = client.get("/dashboard/", headers={"accept": BROWSER}).content.decode()
    assert "What to do next" in page
    assert "No call has been made yet" not in page
    assert 'data-tenant="acme"' in page


def test_the_live_page_is_for_who_signed_in_and_names_their_tenants(client: Client, tenant: Tenant) -> None:
    assert client.get("/dashboard/live/").status_code == 302
    person = member(tenant, "member")
    client.force_login(person)
    page = client.get("/dashboard/live/").content.decode()
    assert 'data-tenant="acme"' in page
    assert "<select" not in page
    with operator_scope():
        other = Tenant.objects.create(slug="globex", name="Globex")
        Membership.objects.create(tenant=other, user=person, role="viewer")
    page = client.get("/dashboard/live/?tenant=globex").content.decode()
    assert 'data-tenant="globex"' in page
    assert '<option value="globex" selected>' in page
    assert "data-of-all" not in page
