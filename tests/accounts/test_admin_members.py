"""The admin panel for a tenant's people: what the permission table cannot say holds here as in the API."""

from __future__ import annotations

import html
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from accounts import keys
from accounts.models import ApiKey, AuditEntry, Limit, Membership, Tenant, User
from accounts.tenancy import operator_scope
from tests.accounts.conftest import member

MEMBERS, KEYS = "/admin/accounts/membership/", "/admin/accounts/apikey/"


@pytest.fixture
def adam(acme: Tenant, alice: User) -> User:
    return member(acme, "adam", Membership.Role.ADMIN)


@pytest.fixture
def admin(adam: User) -> Client:
    client = Client()
    client.force_login(adam)
    return client


@pytest.fixture
def owner(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


def of(user: User, page: str = "change") -> str:
    with operator_scope():
        return f"{MEMBERS}{Membership.objects.get(user=user).pk}/{page}/"


def roles() -> dict[str, str]:
    with operator_scope():
        return {each.user.username: each.role for each in Membership.objects.select_related("user")}


def told(client: Client, address: str, values: Mapping[str, object]) -> str:
    """The page of a form that was refused."""
    answer = client.post(address, values)
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def test_it_adds_a_member_by_e_mail_address_whether_known_or_new(
    admin: Client, acme: Tenant, charlie: User
) -> None:
    for email in ("CHARLIE@globex.test", "new@acme.test"):
        assert admin.post(f"{MEMBERS}add/", {"email": email, "role": "member"}).status_code == 302
    assert "already exists" in told(
        admin, f"{MEMBERS}add/", {"email": "charlie@globex.test", "role": "viewer"}
    )
    with operator_scope():
        people = Membership.objects.of(acme).select_related("user")
        found = {each.user.email: each.user for each in people}
        assert not found["new@acme.test"].has_usable_password()
    assert found["charlie@globex.test"] == charlie


def test_it_makes_no_user_where_it_makes_no_member(admin: Client) -> None:
    told(admin, f"{MEMBERS}add/", {"email": "new@acme.test", "role": "owner"})
    assert not User.objects.filter(email="new@acme.test").exists()


def test_it_gives_and_takes_no_role_above_ones_own(
    admin: Client, owner: Client, alice: User, bob: User
) -> None:
    assert "not one of the available choices" in told(admin, of(bob), {"role": "owner"})
    assert admin.get(of(alice)).status_code == 200
    assert admin.post(of(alice), {"role": "viewer"}).status_code == 403
    assert admin.post(of(alice, "delete"), {"post": "yes"}).status_code == 403
    assert owner.post(of(bob), {"role": "owner"}).status_code == 302
    assert roles() == {"alice": "owner", "adam": "admin", "bob": "owner"}


def test_it_keeps_the_last_owner(owner: Client, alice: User, bob: User) -> None:
    assert "last owner stays one" in told(owner, of(alice), {"role": "member"})
    assert owner.post(of(alice, "delete"), {"post": "yes"}).status_code == 403
    with operator_scope():
        chosen = [str(each.pk) for each in Membership.objects.all()]
    values = {"action": "delete_selected", "_selected_action": chosen, "post": "yes"}
    assert owner.post(MEMBERS, values).status_code == 403
    assert roles() == {"alice": "owner", "bob": "member"}
    owner.post(of(bob), {"role": "owner"})
    assert owner.post(of(alice), {"role": "member"}).status_code == 302


def test_it_makes_and_rotates_no_key_for_somebody_who_may_do_more(
    admin: Client, acme: Tenant, alice: User, adam: User, charlie: User
) -> None:
    for user in (alice, charlie):
        values = {"user": user.pk, "name": "mine"}
        assert "not one of the available choices" in told(admin, f"{KEYS}add/", values)
    with operator_scope():
        hers, _ = keys.make_api_key(acme, alice, "hers")
        his, _ = keys.make_api_key(acme, adam, "his")
    assert admin.post(f"{KEYS}{hers.pk}/rotate/", {"overlap_seconds": 0}).status_code == 403
    assert admin.post(f"{KEYS}{his.pk}/rotate/", {"overlap_seconds": 3600}).status_code == 302
    assert admin.post(f"{KEYS}{hers.pk}/revoke/").status_code == 302
    with operator_scope():
        hers.refresh_from_db()
        his.refresh_from_db()
        noted = {(each.action, tuple(each.fields)) for each in AuditEntry.objects.of(acme)}
    assert hers.revoked_at is not None
    assert his.old_until is not None
    assert noted == {("rotate", ("secret",)), ("revoke", ())}


def test_it_makes_a_key_of_the_tenant_whatever_else_is_sent(
    owner: Client, acme: Tenant, globex: Tenant, alice: User
) -> None:
    values = {"tenant": str(globex.id), "user": alice.pk, "name": "ci", "allowed_models": "gpt-*\n o3 \n"}
    assert owner.post(f"{KEYS}add/", values).status_code == 302
    with operator_scope():
        key = ApiKey.objects.get()
    assert (key.tenant_id, key.allowed_models) == (acme.id, ["gpt-*", "o3"])
    assert "already exists" in told(owner, f"{KEYS}add/", values)


@pytest.fixture
def key(acme: Tenant, alice: User) -> ApiKey:
    with operator_scope():
        return keys.make_api_key(acme, alice, "ci")[0]


def test_it_wants_a_key_to_expire_in_times_to_come_only_when_that_is_changed(
    owner: Client, key: ApiKey
) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    values = {"expires_at_0": past.strftime("%Y-%m-%d"), "expires_at_1": past.strftime("%H:%M:%S")}
    assert "a time that is to come" in told(owner, f"{KEYS}{key.pk}/change/", values)
    with operator_scope():
        ApiKey.objects.update(expires_at=past.replace(microsecond=0))
    assert owner.post(f"{KEYS}{key.pk}/change/", {**values, "allowed_models": "o3"}).status_code == 302


def test_it_asks_before_it_rotates_or_revokes(owner: Client, key: ApiKey) -> None:
    for doing in ("rotate", "revoke"):
        assert owner.get(f"{KEYS}{key.pk}/{doing}/").status_code == 200
    with operator_scope():
        after = ApiKey.objects.get()
    assert (after.digest, after.revoked_at) == (key.digest, None)
    owner.post(f"{KEYS}{key.pk}/revoke/")
    for doing in ("rotate", "revoke"):
        assert owner.post(f"{KEYS}{key.pk}/{doing}/").status_code == 403


def test_it_leaves_to_operators_what_is_theirs(owner: Client, acme: Tenant) -> None:
    values = {"slug": "other", "name": "Other", "timezone": "Europe/Paris", "public": "on"}
    assert owner.post(f"/admin/accounts/tenant/{acme.pk}/change/", values).status_code == 302
    with operator_scope():
        after = Tenant.objects.get(pk=acme.pk)
    assert (after.slug, after.public, after.active, after.name) == ("acme", False, True, "Other")


def test_it_shows_what_happened_to_a_row_to_whoever_may_read_the_log(
    owner: Client, acme: Tenant, bob: User
) -> None:
    with operator_scope():
        row = Limit.objects.create(tenant=acme, scope="key", concurrent=1)
        other = Limit.objects.create(tenant=acme, scope="user", concurrent=1)
    for each in (row, other):
        owner.post(f"/admin/accounts/limit/{each.pk}/change/", {**LIMIT, "concurrent": "2"})
    page = owner.get(f"/admin/accounts/limit/{row.pk}/history/", follow=True).content.decode()
    listed = page[page.index('id="result_list"') :]
    assert "each key" in listed
    assert "each user" not in listed
    client = Client()
    client.force_login(bob)
    assert client.get(f"/admin/accounts/limit/{row.pk}/history/", follow=True).status_code == 403
    assert "history/" not in client.get(f"/admin/accounts/limit/{row.pk}/change/").content.decode()


LIMIT = {"when_exceeded": "reject", "queue_seconds": "30"}


@pytest.mark.parametrize(
    "query", ["digest__startswith=a", "user__password__startswith=a", "tenant__system_prompt__contains=a"]
)
def test_it_is_searched_by_no_column_that_it_does_not_show(owner: Client, key: ApiKey, query: str) -> None:
    answer = owner.get(f"{KEYS}?{query}")
    assert answer.status_code == 400


def test_it_looks_among_users_for_operators_alone(owner: Client, charlie: User) -> None:
    query = {"term": "char", "app_label": "accounts", "model_name": "apikey", "field_name": "user"}
    assert owner.get("/admin/autocomplete/", query).status_code == 403
    page = owner.get(f"{KEYS}add/").content.decode()
    assert "charlie" not in page
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    assert "charlie" in client.get("/admin/autocomplete/", query).content.decode()


def test_it_filters_by_tenant_for_operators(owner: Client, key: ApiKey, globex: Tenant) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    assert str(key.pk) in client.get(f"{KEYS}?tenant=acme").content.decode()
    for other in ("globex", "absent"):
        assert str(key.pk) not in client.get(f"{KEYS}?tenant={other}").content.decode()
    assert owner.get(f"{KEYS}?tenant=acme").status_code == 400
