"""The operators' admin: keys are shown once and then never, and revoked ones stop."""

from __future__ import annotations

import html
import re
from secrets import token_hex

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse

from accounts import keys
from accounts.models import ApiKey, AuditEntry, Budget, Limit, Membership, SecurityKey, Tenant, User
from accounts.tenancy import operator_scope

SECRET = re.compile("sk-[0-9A-Za-z]{58}")


@pytest.fixture
def operator(db: None, client: Client) -> Client:
    client.force_login(User.objects.create_superuser("root"))
    return client


def url(table: str, page: str, *args: object) -> str:
    return reverse(f"admin:accounts_{table}_{page}", args=args)


def text(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200
    return html.unescape(response.content.decode())


def make_api_key(client: Client, tenant: Tenant, user: User) -> str:
    """The page that an operator sees who has just made one."""
    values = {"tenant": str(tenant.id), "user": user.id, "name": "ci", "allowed_models": "gpt-*"}
    response = client.post(url("apikey", "add"), values, follow=True)
    assert response.status_code == 200
    return html.unescape(response.content.decode())


def test_it_shows_the_secret_of_a_new_api_key_once(operator: Client, acme: Tenant, alice: User) -> None:
    [secret] = SECRET.findall(make_api_key(operator, acme, alice))
    with operator_scope():
        key = ApiKey.objects.get()
        assert (key.tenant_id, key.user_id, key.allowed_models) == (acme.id, alice.id, ["gpt-*"])
        assert key.digest == keys.digest(secret)
    for address in (url("apikey", "changelist"), url("apikey", "change", key.id), "/admin/"):
        page = text(operator, address)
        assert secret not in page
        assert key.digest not in page


def test_it_asks_for_a_new_key_without_telling_of_what_is_not_there_yet(operator: Client) -> None:
    for table in ("apikey", "securitykey"):
        page = text(operator, url(table, "add"))
        assert "shown once" in page
        assert "Created at" not in page
        assert "Revoked at" not in page


def test_it_shows_the_secret_of_a_new_security_key_once(operator: Client, acme: Tenant) -> None:
    values = {"tenant": str(acme.id), "name": "main"}
    made = operator.post(url("securitykey", "add"), values, follow=True).content.decode()
    [secret] = SECRET.findall(made)
    with operator_scope():
        assert SecurityKey.objects.get().digest == keys.digest(secret)
    assert secret not in text(operator, url("securitykey", "changelist"))


def test_it_keeps_a_new_secret_out_of_the_database_however_much_there_is_to_tell(
    operator: Client, acme: Tenant
) -> None:
    with operator_scope():
        for number in range(30):
            keys.make_security_key(acme, f"{number} {token_hex(40)}")
        chosen = [str(key.pk) for key in SecurityKey.objects.all()]
    address = url("securitykey", "changelist")
    operator.post(address, {"action": "revoke", "_selected_action": chosen})
    operator.post(url("securitykey", "add"), {"tenant": str(acme.id), "name": "main"})
    kept = str([session.get_decoded() for session in Session.objects.all()])
    [secret] = SECRET.findall(text(operator, address))
    assert secret not in kept


def test_it_shows_a_new_secret_to_no_script_of_a_page(operator: Client, acme: Tenant) -> None:
    answer = operator.post(url("securitykey", "add"), {"tenant": str(acme.id), "name": "main"})
    assert answer.cookies["messages"]["httponly"]


def test_it_makes_no_key_for_somebody_of_another_tenant(
    operator: Client, acme: Tenant, charlie: User
) -> None:
    page = make_api_key(operator, acme, charlie)
    assert "not a member of the tenant" in page
    assert not SECRET.search(page)


def test_it_makes_no_key_of_a_name_that_is_taken(operator: Client, acme: Tenant, alice: User) -> None:
    make_api_key(operator, acme, alice)
    assert not SECRET.search(make_api_key(operator, acme, alice))


def test_it_changes_what_a_key_may_do_and_not_whose_it_is(
    operator: Client, acme: Tenant, alice: User, globex: Tenant, charlie: User
) -> None:
    with operator_scope():
        key, _ = keys.make_api_key(acme, alice, "ci")
    values = {"tenant": str(globex.id), "user": charlie.id, "name": "other", "allowed_models": "o3"}
    assert operator.post(url("apikey", "change", key.id), values).status_code == 302
    with operator_scope():
        after = ApiKey.objects.get()
    assert (after.tenant_id, after.user_id, after.name) == (acme.id, alice.id, "ci")
    assert after.allowed_models == ["o3"]
    assert after.digest == key.digest


@pytest.mark.parametrize("table", [ApiKey, SecurityKey])
def test_it_revokes_the_selected_keys(
    operator: Client, acme: Tenant, alice: User, table: type[ApiKey] | type[SecurityKey]
) -> None:
    with operator_scope():
        keys.make_api_key(acme, alice, "ci")
        keys.make_security_key(acme, "main")
        chosen = [str(key.pk) for key in table.objects.all()]
    values = {"action": "revoke", "_selected_action": chosen}
    page = operator.post(url(table._meta.model_name or "", "changelist"), values, follow=True)
    assert "Revoked" in page.content.decode()
    with operator_scope():
        assert {key.revoked_at is None for key in table.objects.all()} == {False}


def test_it_adds_a_tenant_with_its_first_member(operator: Client, alice: User) -> None:
    values = {
        "slug": "initech",
        "name": "Initech",
        "timezone": "Europe/Paris",
        "active": "on",
        "membership_set-TOTAL_FORMS": 1,
        "membership_set-INITIAL_FORMS": 0,
        "membership_set-0-user": alice.id,
        "membership_set-0-role": "owner",
    }
    prefix = membership_prefix(operator)
    named = {name.replace("membership_set", prefix): value for name, value in values.items()}
    assert operator.post(url("tenant", "add"), named).status_code == 302
    with operator_scope():
        membership = Membership.objects.get(tenant__slug="initech")
    assert (membership.user_id, membership.role) == (alice.id, "owner")


def membership_prefix(client: Client) -> str:
    found = re.search(r'name="([^"]+)-TOTAL_FORMS"', text(client, url("tenant", "add")))
    assert found is not None
    return found[1]


def test_it_refuses_a_time_zone_that_is_none(operator: Client) -> None:
    values = {"slug": "initech", "name": "Initech", "timezone": "Mars/Olympus"}
    assert "is not an IANA time zone" in html.unescape(
        operator.post(url("tenant", "add"), values).content.decode()
    )


def test_it_adds_a_user(operator: Client) -> None:
    values = {
        "username": "dora",
        "email": "dora@acme.test",
        "usable_password": "true",
        "password1": "correct horse battery",
        "password2": "correct horse battery",
    }
    assert operator.post(url("user", "add"), values).status_code == 302
    assert User.objects.get(username="dora").check_password("correct horse battery")


def test_it_refuses_a_second_user_of_an_address(operator: Client, alice: User) -> None:
    values = {"username": "alice2", "email": "ALICE@acme.test", "usable_password": "false"}
    assert operator.post(url("user", "add"), values).status_code == 200
    assert not User.objects.filter(username="alice2").exists()


@pytest.mark.parametrize(
    "table", ["user", "tenant", "membership", "apikey", "securitykey", "limit", "budget"]
)
def test_it_finds_what_is_acmes(
    operator: Client, acme: Tenant, alice: User, globex: Tenant, charlie: User, table: str
) -> None:
    with operator_scope():
        for tenant, user in ((acme, alice), (globex, charlie)):
            keys.make_api_key(tenant, user, "ci")
            keys.make_security_key(tenant, "main")
            Limit.objects.create(tenant=tenant, scope="key", concurrent=1)
            Budget.objects.create(tenant=tenant, scope="key", amount_nano_usd=1, period="day")
    page = text(operator, url(table, "changelist") + "?q=acme")
    assert "1 result" in page
    assert "globex" not in page[page.index('id="result_list"') : page.index("</table>")]


LIMIT = {"scope": "key", "name": "", "when_exceeded": "reject", "queue_seconds": "30"}
BUDGET = {"scope": "tenant", "name": "", "period": "month", "amount_nano_usd": "25.50"}


def refusal(client: Client, address: str, values: dict[str, str]) -> str:
    response = client.post(address, values)
    assert response.status_code == 200
    return html.unescape(response.content.decode())


def test_it_adds_and_alters_a_limit(operator: Client, acme: Tenant) -> None:
    values = LIMIT | {"tenant": str(acme.id), "requests_per_minute": "600"}
    assert operator.post(url("limit", "add"), values).status_code == 302
    with operator_scope():
        made = Limit.objects.get()
    altered = values | {"scope": "user", "requests_per_minute": "", "concurrent": "3"}
    assert operator.post(url("limit", "change", made.id), altered).status_code == 302
    with operator_scope():
        after = Limit.objects.get()
    assert (after.scope, after.requests_per_minute, after.concurrent) == ("key", None, 3)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "a limit of nothing limits nothing"),
        ({"concurrent": "0"}, "greater than or equal to 1"),
        ({"concurrent": "1", "queue_seconds": "601"}, "less than or equal to 600"),
        ({"concurrent": "1", "name": "absent"}, "The tenant has no key of this name."),
        ({"concurrent": "1", "scope": "user", "name": "charlie"}, "The tenant has no user of this name."),
        ({"concurrent": "1", "scope": "ip", "name": "x"}, "One IP address is wanted"),
        ({"concurrent": "1", "scope": "planet"}, "planet is not one of the available choices"),
    ],
)
def test_it_refuses_a_limit_that_cannot_be_meant(
    operator: Client, acme: Tenant, charlie: User, values: dict[str, str], sentence: str
) -> None:
    page = refusal(operator, url("limit", "add"), LIMIT | {"tenant": str(acme.id)} | values)
    assert sentence in page
    with operator_scope():
        assert not Limit.objects.exists()


def test_it_alters_a_limit_whose_key_is_gone(operator: Client, acme: Tenant) -> None:
    with operator_scope():
        row = Limit.objects.create(tenant=acme, scope="key", name="gone", concurrent=1)
    values = LIMIT | {"concurrent": "2"}
    assert operator.post(url("limit", "change", row.id), values).status_code == 302


def test_it_refuses_to_take_the_last_number_from_a_limit(operator: Client, acme: Tenant) -> None:
    with operator_scope():
        row = Limit.objects.create(tenant=acme, scope="key", concurrent=1)
    assert "limits nothing" in refusal(operator, url("limit", "change", row.id), LIMIT)


def test_it_takes_a_budget_in_dollars(operator: Client, acme: Tenant) -> None:
    values = BUDGET | {"tenant": str(acme.id)}
    assert operator.post(url("budget", "add"), values).status_code == 302
    with operator_scope():
        made = Budget.objects.get()
    assert made.amount_nano_usd == 25_500_000_000
    assert "$25.5" in text(operator, url("budget", "changelist"))
    assert 'value="25.5"' in text(operator, url("budget", "change", made.id))
    altered = BUDGET | {"period": "day", "amount_nano_usd": "30"}
    assert operator.post(url("budget", "change", made.id), altered).status_code == 302
    with operator_scope():
        after = Budget.objects.get()
    assert (after.period, after.amount_nano_usd) == ("month", 30_000_000_000)


@pytest.mark.parametrize("amount", ["0", "-1", "4000001", "0.0000000001", "", "NaN", "much"])
def test_it_refuses_a_budget_of_no_amount(operator: Client, acme: Tenant, amount: str) -> None:
    refusal(operator, url("budget", "add"), BUDGET | {"tenant": str(acme.id), "amount_nano_usd": amount})
    with operator_scope():
        assert not Budget.objects.exists()


def test_it_notes_as_altered_only_what_is(operator: Client, acme: Tenant) -> None:
    with operator_scope():
        row = Budget.objects.create(tenant=acme, scope="tenant", amount_nano_usd=25_500_000_000, period="day")
    operator.post(url("budget", "change", row.id), {"amount_nano_usd": "25.50", "allow_unpriced": "on"})
    with operator_scope():
        assert [entry.fields for entry in AuditEntry.objects.all()] == [["allow_unpriced"]]
    assert not LogEntry.objects.exists()
