"""Signing in by password, with a second factor, and by passkey; who is kept out, and what is kept of it."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from http.cookies import SimpleCookie
from io import StringIO
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from accounts.errors import ApiError
from accounts.models import AuditEntry, Tenant, User
from accounts.tenancy import TENANT_ROLE, operator_scope
from gateway.live_rights import Pass, sight_of
from gateway.models import CacheEntry
from proxy import tasks
from tests.accounts.conftest import acme, alice

__all__ = ["acme", "alice"]
BROWSER = "text/html"
PASSWORD = "a pass phrase of the tests"
TOO_MANY = b"That was wrong too often"
WRONG = b"nobody with this name and this password"


@pytest.fixture(autouse=True)
def hashed_quickly(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def browser(client: Client, alice: User) -> Client:
    alice.set_password(PASSWORD)
    alice.save()
    client.defaults["HTTP_ACCEPT"] = BROWSER
    return client


def sign_in(browser: Client, name: str = "alice", password: str = PASSWORD, **more: Any) -> Any:
    return browser.post("/accounts/login/", {"login": name, "password": password}, **more)


def is_in(browser: Client) -> bool:
    return "_auth_user_id" in browser.session


def audit() -> list[tuple[str, str, list[str]]]:
    with operator_scope():
        return list(AuditEntry.objects.order_by("id").values_list("action", "actor", "fields"))


# Passwords


@pytest.mark.parametrize("name", ["alice", "ALICE", "alice@acme.test", "Alice@Acme.test", " alice "])
def test_it_lets_somebody_in_by_either_name(browser: Client, name: str) -> None:
    answer = sign_in(browser, name, query_params={"next": "/readyz"})
    assert (answer.status_code, answer["location"]) == (302, "/readyz")
    assert is_in(browser)
    assert audit() == [("sign-in", "alice@acme.test", [])]


@pytest.mark.parametrize(
    "there", ["https://elsewhere.test/", "//elsewhere.test", "javascript:alert(1)", "\\\\x"]
)
def test_it_leads_nobody_elsewhere(browser: Client, there: str) -> None:
    assert sign_in(browser, query_params={"next": there})["location"] == "/"


@pytest.mark.parametrize(("name", "password"), [("alice", "x"), ("nobody", PASSWORD), ("", ""), ("a\0", "b")])
def test_it_does_not_tell_what_was_wrong(browser: Client, name: str, password: str) -> None:
    answer = sign_in(browser, name, password)
    assert answer.status_code == 200
    assert not is_in(browser)


def test_it_tells_somebody_unknown_from_a_wrong_password_by_nothing(browser: Client) -> None:
    pages = [sign_in(browser, name, "x").content for name in ("alice", "alica")]
    assert WRONG in pages[0]
    first, second = ([line for line in page.splitlines() if b"value=" not in line] for page in pages)
    assert first == second


def test_it_gives_the_session_a_new_key_and_a_bounded_life(browser: Client) -> None:
    browser.get("/accounts/login/passkey/", headers={"accept": "application/json"})  # which starts a session
    before = browser.session.session_key
    sign_in(browser)
    assert browser.session.session_key not in (None, before)
    assert not Session.objects.filter(session_key=before).exists()
    cookies: SimpleCookie = browser.cookies
    cookie = cookies["sessionid"]
    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (True, "Lax", 7 * 24 * 3600)


def test_it_forgets_sessions_that_are_over(browser: Client) -> None:
    sign_in(browser)
    over = Session.objects.get()
    Session.objects.create(session_key="still on", expire_date=timezone.now() + timedelta(hours=1))
    Session.objects.filter(pk=over.pk).update(expire_date=timezone.now() - timedelta(seconds=1))
    tasks.housekeeping()
    assert [session.pk for session in Session.objects.all()] == ["still on"]


def test_it_signs_out_by_a_form_alone(browser: Client) -> None:
    sign_in(browser)
    assert b"<form" in browser.get("/accounts/logout/").content
    assert is_in(browser)
    browser.post("/accounts/logout/")
    assert not is_in(browser)


def test_it_takes_no_form_of_another_site(alice: User) -> None:
    strict = Client(enforce_csrf_checks=True, headers={"accept": BROWSER})
    refused = sign_in(strict)
    assert refused.status_code == 403
    assert b"not from here" in refused.content
    assert b"<style" not in refused.content


def test_it_keeps_what_it_shows_out_of_caches(browser: Client) -> None:
    sign_in(browser)
    for path in ("/accounts/", "/accounts/password/"):
        assert browser.get(path)["cache-control"] == "no-store"


def test_it_changes_the_password_and_ends_the_other_sessions(browser: Client, alice: User) -> None:
    sign_in(browser)
    other = Client()
    other.force_login(alice)
    form = {"oldpassword": PASSWORD, "password1": "another phrase 42", "password2": "another phrase 42"}
    assert browser.post("/accounts/password/", form).status_code == 302
    assert browser.get("/accounts/").status_code == 200
    assert other.get("/accounts/").status_code == 302
    assert ("password", "alice@acme.test", []) in audit()
    assert not Client().login(username="alice", password=PASSWORD)


def test_it_ends_sessions_when_an_operator_sets_the_password(browser: Client, alice: User) -> None:
    sign_in(browser)
    alice.set_password("another phrase 42")
    alice.save()
    assert browser.get("/accounts/")["location"].startswith("/accounts/login/")


def test_it_has_no_way_to_sign_up_or_to_be_sent_a_password(browser: Client) -> None:
    for path in ("signup", "password/reset", "email", "confirm-email", "3rdparty", "social/signup"):
        assert browser.get(f"/accounts/{path}/").status_code == 404, path


# Guesses


def test_it_looks_at_no_password_after_five_wrong_ones(browser: Client) -> None:
    names = ["alice", "alice@acme.test", "ALICE@acme.test", "alice", "alice"]
    for number, name in enumerate(names):  # whatever it is called, and whatever the gateway is called
        assert WRONG in sign_in(browser, name, "x", SERVER_NAME=f"host-{number}").content
    assert TOO_MANY in sign_in(browser, SERVER_NAME="elsewhere").content
    assert not is_in(browser)
    assert CacheEntry.objects.exists()


def test_it_counts_the_guesses_of_an_address_at_any_account(browser: Client, settings: Settings) -> None:
    for number in range(10):
        sign_in(browser, f"user {number}", "x", REMOTE_ADDR="203.0.113.9")
    assert TOO_MANY in sign_in(browser, REMOTE_ADDR="203.0.113.9").content
    assert sign_in(browser, REMOTE_ADDR="203.0.113.10").status_code == 302


def test_it_believes_an_address_from_trusted_proxies_alone(browser: Client, settings: Settings) -> None:
    for number in range(10):
        sign_in(browser, f"user {number}", "x", headers={"x-forwarded-for": f"198.51.100.{number}"})
    assert TOO_MANY in sign_in(browser, headers={"x-forwarded-for": "198.51.100.99"}).content
    cache.clear()
    settings.TRUSTED_PROXIES = settings.ENVIRONMENT.__class__({"T": "127.0.0.1"}).networks("T")
    for number in range(10):
        sign_in(browser, f"user {number}", "x", headers={"x-forwarded-for": f"198.51.100.{number}"})
    assert sign_in(browser, headers={"x-forwarded-for": "198.51.100.99"}).status_code == 302


def test_it_does_not_count_what_was_right(browser: Client) -> None:
    for _ in range(12):
        assert sign_in(browser).status_code == 302
        browser.post("/accounts/logout/")


# The admin


def test_it_has_one_form_for_the_admin_too(browser: Client, alice: User) -> None:
    alice.is_superuser = alice.is_staff = True
    alice.save()
    led = browser.get("/admin/", follow=True)
    assert led.redirect_chain[-1][0] == "/accounts/login/?next=/admin/"
    assert browser.post("/admin/login/", {"username": "alice", "password": PASSWORD}).status_code == 302
    assert not is_in(browser)
    sign_in(browser)
    assert browser.get("/admin/").status_code == 200
    assert browser.get("/admin/login/?next=//elsewhere.test")["location"] == "/admin/"
    assert b"ocial" not in browser.get("/admin/").content  # nor allauth's tables
    assert browser.get("/admin/password_change/")["location"] == "/accounts/password/"


def test_it_says_so_to_whom_the_admin_is_not_for(browser: Client) -> None:
    User.objects.create_user("nobody", password=PASSWORD)
    sign_in(browser, "nobody")
    assert browser.get("/admin/", follow=True).status_code == 403


# Second factors


def code_of(secret: str, *, periods_from_now: int = 0) -> str:
    return str(format_hotp_value(hotp_value(secret, int(time.time()) // 30 + periods_from_now)))


def with_an_app(browser: Client) -> str:
    """Signs in and sets up an authenticator app; its secret."""
    sign_in(browser)
    browser.post("/accounts/confirm/", {"password": PASSWORD})
    secret = browser.get("/accounts/app/").context["form"].secret
    answer = browser.post("/accounts/app/", {"code": code_of(secret)})
    assert answer["location"] == "/accounts/recovery-codes/"
    return str(secret)


@pytest.fixture
def committing(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has what waits for the commit done at once, since a test commits nothing."""
    monkeypatch.setattr(connection, "on_commit", lambda job, robust=False: job())


@pytest.mark.usefixtures("committing")
def test_it_asks_for_the_code_of_an_app_and_takes_each_once(browser: Client) -> None:
    secret = with_an_app(browser)
    browser.post("/accounts/logout/")
    assert sign_in(browser)["location"] == "/accounts/login/code/"
    assert browser.get("/admin/", follow=True).redirect_chain[-1][0].startswith("/accounts/login/")
    wrong = browser.post("/accounts/login/code/", {"code": "000000"})
    assert b"Incorrect code" in wrong.content
    code = code_of(secret, periods_from_now=1)
    assert browser.post("/accounts/login/code/", {"code": code}).status_code == 302
    assert is_in(browser)
    browser.post("/accounts/logout/")
    sign_in(browser)
    assert b"Incorrect code" in browser.post("/accounts/login/code/", {"code": code}).content
    assert not is_in(browser)
    added = [fields for action, _, fields in audit() if action == "second-factor-add"]
    assert sorted(added) == [["recovery_codes"], ["totp"]]


@pytest.mark.usefixtures("committing")
def test_it_keeps_secrets_sealed_and_recovery_codes_for_one_use(browser: Client, alice: User) -> None:
    secret = with_an_app(browser)
    page = browser.get("/accounts/recovery-codes/").content.decode()
    codes = page.partition("<pre")[2].partition(">")[2].partition("</pre>")[0].split()
    assert len(codes) == 10
    kept = json.dumps(list(Authenticator.objects.values_list("data", flat=True)))
    assert secret not in kept
    assert not [code for code in codes if code in kept]
    for expected in (True, False):
        browser.post("/accounts/logout/")
        sign_in(browser)
        browser.post("/accounts/login/code/", {"code": codes[0]})
        assert is_in(browser) is expected


@pytest.mark.usefixtures("committing")
def test_it_bounds_the_guesses_at_a_code(browser: Client) -> None:
    secret = with_an_app(browser)
    browser.post("/accounts/logout/")
    sign_in(browser)
    for number in range(5):
        browser.post("/accounts/login/code/", {"code": f"00000{number}"}, REMOTE_ADDR=f"203.0.113.{number}")
    right = code_of(secret, periods_from_now=1)
    assert TOO_MANY in browser.post("/accounts/login/code/", {"code": right}).content


@pytest.mark.usefixtures("committing")
def test_it_turns_the_app_off_after_the_password_alone(browser: Client) -> None:
    with_an_app(browser)
    browser.post("/accounts/logout/")
    assert Authenticator.objects.count() == 2
    fresh = Client()
    fresh.force_login(User.objects.get(username="alice"))
    assert fresh.post("/accounts/app/remove/")["location"].startswith("/accounts/confirm/")
    fresh.post("/accounts/confirm/", {"password": PASSWORD})
    fresh.post("/accounts/app/remove/")
    assert not Authenticator.objects.exists()
    assert [action for action, *_ in audit()].count("second-factor-remove") == 2


ODD_SIGNATURE = {"clientDataJSON": "e30", "authenticatorData": "AA", "signature": "AA", "userHandle": "MQ"}


@pytest.mark.usefixtures("committing")
def test_it_lets_an_operator_remove_what_somebody_has_lost(browser: Client) -> None:
    with_an_app(browser)
    call_command("remove_second_factor", "alice@acme.test", stdout=StringIO())
    browser.post("/accounts/logout/")
    sign_in(browser)
    assert is_in(browser)
    assert ("second-factor-remove", "manage.py", ["all"]) in audit()
    with pytest.raises(CommandError, match="no user"):
        call_command("remove_second_factor", "nobody")


@pytest.mark.parametrize(
    "credential",
    [
        json.dumps({"id": "AA", "rawId": "AA", "type": "public-key", "response": ODD_SIGNATURE}),
        "",
        "{",
        "[]",
        "3",
        "null",
        "{}",
        '{"id": 3}',
        '{"response": []}',
        '{"response": {"userHandle": 3}}',
    ],
)
def test_it_refuses_what_is_no_passkey(browser: Client, credential: str) -> None:
    browser.get("/accounts/login/passkey/", headers={"accept": "application/json"})
    answer = browser.post("/accounts/login/passkey/", {"credential": credential})
    assert (answer.status_code, answer["location"]) == (302, "/accounts/login/")
    assert not is_in(browser)


def test_it_asks_for_passkeys_of_the_host_that_is_called(browser: Client) -> None:
    options = browser.get(
        "/accounts/login/passkey/", headers={"accept": "application/json"}, SERVER_NAME="gateway.example"
    ).json()["request_options"]["publicKey"]
    assert options["rpId"] == "gateway.example"
    assert options["userVerification"] == "required"


# Who must have one


def test_it_leads_operators_without_a_second_factor_to_set_one_up(
    browser: Client, alice: User, settings: Settings
) -> None:
    settings.REQUIRE_MFA = "operators"
    sign_in(browser)
    assert browser.get("/api/limits/", headers={"accept": "*/*"}).status_code == 200
    alice.is_superuser = True
    alice.save()
    assert browser.get("/admin/")["location"] == "/accounts/"
    assert b"You need a second factor" in browser.get("/accounts/").content
    refused = browser.get("/api/limits/", headers={"accept": "*/*"})
    assert refused.status_code == 403
    assert "second factor" in refused.json()["error"]["message"]
    held = Pass(browser.session.session_key or "", "")
    with pytest.raises(ApiError, match="second factor"):
        sight_of(held)
    Authenticator.objects.create(user=alice, type="totp", data={})
    assert sight_of(held).tenant_id is None
    assert browser.get("/api/limits/", headers={"accept": "*/*"}).status_code == 200


def test_it_asks_a_second_factor_of_everybody_where_that_is_wanted(
    browser: Client, settings: Settings, acme: Tenant
) -> None:
    settings.REQUIRE_MFA = "everybody"
    sign_in(browser)
    assert browser.get("/api/limits/", headers={"accept": "*/*"}).status_code == 403
    assert browser.get("/accounts/login/", follow=True).status_code == 200
    assert Client(headers={"accept": "text/html"}).get("/").status_code == 200


# What tenants see of it


@pytest.mark.postgres
def test_it_gives_tenants_no_right_to_what_is_kept(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name FROM information_schema.role_table_grants WHERE grantee = %s", [TENANT_ROLE]
        )
        granted = {row[0] for row in cursor.fetchall()}
    assert granted
    ours = ("account_", "mfa_", "socialaccount_", "gateway_", "django_", "auth_")
    names_of_tables = {"django_content_type"}
    assert not [name for name in granted - names_of_tables if name.startswith(ours)]
