"""The operators' admin of upstreams, models, prices and calls."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from django.db.models import Model as Table
from django.test import Client

from accounts import keys
from accounts.ids import uuid7
from accounts.models import Membership, Tenant, User
from accounts.tenancy import operator_scope
from proxy.models import Price, Upstream, UsageRecord
from proxy.sealing import unseal, upstream_context

ADDRESS = "https://api.openai.com/v1"
FORM = {
    "name": "openai",
    "dialect": "openai",
    "base_url": ADDRESS,
    "responses": "auto",
    "connect_timeout_seconds": "5",
    "first_byte_timeout_seconds": "600",
    "idle_timeout_seconds": "120",
    "total_timeout_seconds": "900",
    "enabled": "on",
}


def path_of(row: Table) -> str:
    return f"/admin/proxy/{row._meta.model_name}/{row.pk}/change/"


@pytest.fixture
def openai(admin_client: Client) -> Upstream:
    answer = admin_client.post("/admin/proxy/upstream/add/", FORM | {"api_key": "sk-hush"})
    assert answer.status_code == 302, answer.content.decode()
    return Upstream.objects.get(name="openai")


def key_of(upstream: Upstream) -> str | None:
    upstream.refresh_from_db()
    sealed = upstream.sealed_api_key
    return None if sealed is None else unseal(bytes(sealed), upstream_context(upstream))


def test_it_seals_the_key_and_never_shows_it(admin_client: Client, openai: Upstream) -> None:
    assert key_of(openai) == "sk-hush"
    assert openai.sealed_api_key is not None
    assert b"sk-hush" not in bytes(openai.sealed_api_key)
    assert b"sk-hush" not in admin_client.get(path_of(openai)).content


def test_it_keeps_the_key_when_the_field_is_left_empty(admin_client: Client, openai: Upstream) -> None:
    assert admin_client.post(path_of(openai), FORM | {"organization": "org"}).status_code == 302
    assert key_of(openai) == "sk-hush"


def test_it_takes_the_key_away_when_asked_to(admin_client: Client, openai: Upstream) -> None:
    assert admin_client.post(path_of(openai), FORM | {"remove_api_key": "on"}).status_code == 302
    assert key_of(openai) is None


def test_it_sends_no_key_to_an_address_it_was_not_given_for(admin_client: Client, openai: Upstream) -> None:
    moved = FORM | {"base_url": "https://elsewhere.test/v1"}
    answer = admin_client.post(path_of(openai), moved)
    assert answer.status_code == 200
    assert b"Give this again" in answer.content
    assert admin_client.post(path_of(openai), moved | {"api_key": "sk-other"}).status_code == 302
    assert key_of(openai) == "sk-other"


@pytest.mark.parametrize("address", ["", "ftp://x", "http://169.254.169.254/", "https://user:word@host/"])
def test_it_refuses_an_address_that_is_none(admin_client: Client, address: str) -> None:
    answer = admin_client.post("/admin/proxy/upstream/add/", FORM | {"base_url": address})
    assert answer.status_code == 200
    assert not Upstream.objects.exists()


@pytest.mark.parametrize("field", ["api_key", "organization", "project"])
def test_it_refuses_what_no_header_can_hold(admin_client: Client, field: str) -> None:
    answer = admin_client.post("/admin/proxy/upstream/add/", FORM | {field: "a\nb"})
    assert answer.status_code == 200
    assert not Upstream.objects.exists()


def test_it_takes_prices_in_dollars_and_keeps_them_exactly(admin_client: Client) -> None:
    form = {"model_name": "gpt-4o-mini", "input_nano_usd_per_million": "0.15"}
    assert admin_client.post("/admin/proxy/price/add/", form).status_code == 302
    price = Price.objects.get()
    assert (price.input_nano_usd_per_million, price.output_nano_usd_per_million) == (150_000_000, None)
    assert b"$0.15" in admin_client.get("/admin/proxy/price/").content
    assert admin_client.post(path_of(price), form | {"input_nano_usd_per_million": "1"}).status_code == 403


@pytest.fixture
def record(db: None) -> UsageRecord:
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    with operator_scope():
        tenant = Tenant.objects.create(slug="acme", name="Acme")
        return UsageRecord.objects.create(
            id=uuid7(),
            tenant_id=tenant.pk,
            user_id=1,
            api_key_id=uuid4(),
            endpoint="chat.completions",
            model="gpt-4o-mini",
            stream=True,
            started_at=now,
            status=UsageRecord.Status.COMPLETED,
            estimated=False,
            cost_nano_usd=1_250_000,
            duration_milliseconds=5,
            ended_at=now,
        )


def test_it_shows_usage_and_changes_none(admin_client: Client, record: UsageRecord) -> None:
    shown = admin_client.get("/admin/proxy/usagerecord/").content.decode()
    assert "acme" in shown
    assert "$0.00125" in shown
    assert admin_client.get(path_of(record)).status_code == 200
    assert admin_client.post(path_of(record), {}).status_code == 403
    assert admin_client.get("/admin/proxy/usagerecord/add/").status_code == 403


@pytest.mark.parametrize("page", ["upstream", "model", "price", "opencall", "usagerecord"])
def test_it_has_a_page_for_operators_and_for_nobody_else(
    client: Client, admin_client: Client, page: str
) -> None:
    assert admin_client.get(f"/admin/proxy/{page}/").status_code == 200
    assert client.get(f"/admin/proxy/{page}/").status_code == 302


def test_it_tells_what_goes_with_a_tenant_before_it_is_deleted(admin_client: Client) -> None:
    with operator_scope():
        tenant = Tenant.objects.create(slug="acme", name="Acme")
        user = User.objects.create_user("alice", "alice@acme.test")
        Membership.objects.create(tenant=tenant, user=user, role="owner")
        for name in ("one", "two", "three"):
            keys.make_api_key(tenant, user, name)
    page = admin_client.get(f"/admin/accounts/tenant/{tenant.pk}/delete/")
    counts = dict(page.context["model_count"])
    assert (counts["API keys"], counts["members"]) == (3, 1)
    assert "API keys" in page.content.decode()


def test_it_takes_what_is_no_id_for_nothing(admin_client: Client) -> None:
    form = {"tenant": "1", "scope": "tenant", "period": "month", "amount_nano_usd": "5"}
    page = admin_client.post("/admin/accounts/budget/add/", form)
    assert page.status_code == 200
    assert "This field is required." in page.content.decode()


def test_it_says_of_an_address_only_what_is_wrong_with_it(admin_client: Client) -> None:
    page = admin_client.post("/admin/proxy/upstream/add/", FORM | {"base_url": "nonsense"})
    assert len(page.context["adminform"].form.errors["base_url"]) == 1


def test_it_says_in_words_that_an_address_is_taken(admin_client: Client) -> None:
    User.objects.create_user("alice", "alice@acme.test")
    form = {"username": "other", "email": "ALICE@acme.test", "usable_password": "false"}
    page = admin_client.post("/admin/accounts/user/add/", form)
    assert "Another user has this e-mail address." in page.content.decode()
