"""Single sign-on, through an OpenID Connect provider that somebody else wrote."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from allauth.socialaccount.models import SocialAccount
from django.test import Client
from pytest_django import Settings

from accounts.models import AuditEntry, Membership, Tenant, User
from accounts.tenancy import operator_scope
from gateway.environment import EnvironmentMistake
from gateway.sign_in.roles import Given, check_provider, claimed, given, read_table
from tests.accounts.conftest import acme, alice, globex
from tests.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider, identity_provider
from tests.services import free_port

__all__ = ["acme", "alice", "globex"]
TABLE = '{"engineers": "acme:member", "leads": ["acme:admin", "globex:viewer"], "platform": "operator"}'
DANA = {"sub": "dana", "email": "dana@acme.test", "email_verified": True, "name": "Dana"}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    with identity_provider(tmp_path_factory.mktemp("provider") / "log") as running:
        yield running


@pytest.fixture
def browser(settings: Settings, provider: IdentityProvider, acme: Tenant, globex: Tenant) -> Client:
    settings.OIDC_ISSUER, settings.OIDC_NAME = provider.issuer, "Example"
    settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET = CLIENT_ID, CLIENT_SECRET
    settings.OIDC_ROLES = read_table(TABLE)
    return Client(headers={"accept": "text/html"}, SERVER_NAME="127.0.0.1")


def come(browser: Client, provider: IdentityProvider, **claims: Any) -> Any:
    """Somebody presses the button, and comes back from the provider."""
    provider.is_at_the_desk(**claims)
    left = browser.post("/accounts/oidc/", {"next": "/readyz"})
    assert left.status_code == 200, left.content
    return browser.get(provider.leads_back(left.content))


def signed_in(browser: Client) -> str | None:
    return browser.session.get("_auth_user_id")


def roles(user: User) -> dict[str, str]:
    with operator_scope():
        found = Membership.objects.filter(user=user).values_list("tenant__slug", "role")
        return dict(found)


def audit_of(user: User) -> list[tuple[str, str, str]]:
    with operator_scope():
        found = AuditEntry.objects.filter(actor_id=user.pk).order_by("id")
        return list(found.values_list("action", "resource", "via"))


# Who comes


def test_it_lets_in_somebody_new_as_what_the_claims_say(browser: Client, provider: IdentityProvider) -> None:
    answer = come(browser, provider, **DANA, groups=["engineers", "chess"])
    assert (answer.status_code, answer["location"]) == (302, "/readyz")
    dana = User.objects.get(email="dana@acme.test")
    assert signed_in(browser) == str(dana.pk)
    assert roles(dana) == {"acme": "member"}
    assert not dana.has_usable_password()
    assert not dana.is_superuser
    assert audit_of(dana) == [
        ("single-sign-on", "users", "sso"),
        ("create", "members", "sso"),
        ("sign-in", "users", "session"),
    ]


def test_it_knows_somebody_again_whose_address_is_another(
    browser: Client, provider: IdentityProvider
) -> None:
    come(browser, provider, **DANA, groups="engineers")
    browser.logout()
    come(browser, provider, **{**DANA, "email": "d@elsewhere.test"}, groups="engineers")
    assert [user.email for user in User.objects.all()] == ["dana@acme.test"]
    assert signed_in(browser)


def test_it_links_who_is_there_by_a_verified_address(
    browser: Client, provider: IdentityProvider, alice: User
) -> None:
    come(browser, provider, sub="42", email="Alice@acme.test", email_verified=True)
    assert signed_in(browser) == str(alice.pk)
    assert roles(alice) == {"acme": "owner"}


@pytest.mark.parametrize("verified", [{}, {"email_verified": False}, {"email_verified": "no"}])
def test_it_makes_nobody_somebody_else_by_an_address_that_is_not_verified(
    browser: Client, provider: IdentityProvider, alice: User, verified: dict[str, Any]
) -> None:
    come(browser, provider, sub="mallory", email="alice@acme.test", groups=["engineers"], **verified)
    mallory = User.objects.exclude(pk=alice.pk).get()
    assert signed_in(browser) == str(mallory.pk)
    assert mallory.email == ""
    assert not SocialAccount.objects.filter(user=alice).exists()


def test_it_takes_another_issuers_subject_for_somebody_else(
    browser: Client, provider: IdentityProvider, settings: Settings
) -> None:
    come(browser, provider, **DANA, groups=["engineers"])
    dana = User.objects.get()
    with operator_scope():
        SocialAccount.objects.update(provider="oidc-of-another-issuer")
        dana.email = "dana.older@acme.test"
        dana.save()
    browser.logout()
    come(browser, provider, **DANA, groups=["engineers"])
    assert signed_in(browser) not in (None, str(dana.pk))


def test_it_makes_no_user_of_somebody_new_whom_the_claims_give_nothing(
    browser: Client, provider: IdentityProvider
) -> None:
    refused = come(browser, provider, **DANA, groups=["chess"])
    assert refused.status_code == 403
    assert b"nobody has given you a role here" in refused.content
    assert not User.objects.exists()
    assert signed_in(browser) is None


def test_it_lets_in_nobody_whose_account_is_closed(
    browser: Client, provider: IdentityProvider, alice: User
) -> None:
    alice.is_active = False
    alice.save()
    answer = come(
        browser, provider, sub="1", email="alice@acme.test", email_verified=True, groups=["platform"]
    )
    assert answer["location"] == "/accounts/inactive/"
    assert signed_in(browser) is None
    alice.refresh_from_db()
    assert not alice.is_superuser


# What they are


def test_it_follows_the_claims_at_each_sign_in(browser: Client, provider: IdentityProvider) -> None:
    come(browser, provider, **DANA, groups=["engineers", "leads", "platform"])
    dana = User.objects.get()
    assert roles(dana) == {"acme": "admin", "globex": "viewer"}
    assert (dana.is_superuser, dana.is_staff) == (True, True)
    come(browser, provider, **DANA, groups=["engineers"])
    dana.refresh_from_db()
    assert roles(dana) == {"acme": "member"}
    assert (dana.is_superuser, dana.is_staff) == (False, False)
    come(browser, provider, **DANA)
    assert roles(dana) == {}
    changes = [entry for entry in audit_of(dana) if entry[2] == "sso"]
    assert changes.count(("update", "members", "sso")) == 1
    assert changes.count(("delete", "members", "sso")) == 2
    assert changes.count(("update", "users", "sso")) == 2


def test_it_leaves_alone_what_somebody_else_gave(
    browser: Client, provider: IdentityProvider, alice: User
) -> None:
    alice.is_superuser = True
    alice.save()
    claims = {"sub": "1", "email": "alice@acme.test", "email_verified": True}
    come(browser, provider, **claims, groups=["engineers", "platform"])
    come(browser, provider, **claims, groups=[])
    alice.refresh_from_db()
    assert alice.is_superuser
    assert roles(alice) == {"acme": "owner"}


def test_it_leaves_a_membership_that_was_made_anew_by_hand(
    browser: Client, provider: IdentityProvider, acme: Tenant
) -> None:
    come(browser, provider, **DANA, groups=["engineers"])
    dana = User.objects.get()
    with operator_scope():
        Membership.objects.filter(user=dana).delete()
        Membership.objects.create(user=dana, tenant=acme, role="viewer")
    come(browser, provider, **DANA, groups=[])
    assert roles(dana) == {"acme": "viewer"}


# What goes wrong


def test_it_says_in_words_that_somebody_did_not_go_on(browser: Client, provider: IdentityProvider) -> None:
    answer = come(browser, provider, sub="shy", refuses=True)
    assert b"You have not gone on with Example" in browser.get(answer["location"]).content


@pytest.mark.parametrize("query", ["", "?code=x&state=y", "?error=server_error&state=y", "?state=" + "\x00"])
def test_it_believes_nobody_who_was_not_sent_there(browser: Client, query: str) -> None:
    refused = browser.get(f"/accounts/oidc/callback/{query}")
    assert refused.status_code == 401
    assert b"did not work" in refused.content


def test_it_takes_an_answer_once_and_in_the_browser_that_asked(
    browser: Client, provider: IdentityProvider
) -> None:
    provider.is_at_the_desk(**DANA, groups=["engineers"])
    back = provider.leads_back(browser.post("/accounts/oidc/").content)
    assert Client(SERVER_NAME="127.0.0.1").get(back).status_code == 401
    assert browser.get(back).status_code == 302
    assert browser.get(back).status_code == 401


def test_it_says_in_words_that_the_provider_is_away(browser: Client, settings: Settings) -> None:
    settings.OIDC_ISSUER = f"http://127.0.0.1:{free_port()}"
    refused = browser.post("/accounts/oidc/")
    assert refused.status_code == 503
    assert b"does not answer" in refused.content


def test_it_is_not_there_without_a_provider(client: Client, db: None) -> None:
    assert b"/accounts/oidc/" not in client.get("/accounts/login/").content
    assert client.post("/accounts/oidc/").status_code == 404
    assert client.get("/accounts/oidc/callback/").status_code == 404


# The table


def test_it_gives_the_most_that_any_value_gives() -> None:
    table = read_table(TABLE)
    assert given({"engineers", "leads", "other"}, table) == Given(
        {"acme": "admin", "globex": "viewer"}, False
    )
    assert given({"platform"}, table) == Given({}, True)
    assert not given({"other"}, table)


def test_it_finds_a_claim_whatever_its_shape() -> None:
    assert claimed({"groups": ["a", "b", 3, None]}, "groups") == {"a", "b"}
    assert claimed({"role": "a"}, "role") == {"a"}
    assert claimed({"realm_access": {"roles": ["a"]}}, "realm_access.roles") == {"a"}
    assert claimed({"https://x.test/groups": ["a"]}, "https://x.test/groups") == {"a"}
    assert claimed({"realm_access": "a"}, "realm_access.roles") == claimed({}, "groups") == set()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"a": "acme"}', '{"a": "acme:king"}', '{"a": ":owner"}', '{"a": [3]}', '{"a": null}']
)
def test_it_refuses_a_table_that_cannot_be_meant(text: str) -> None:
    with pytest.raises(EnvironmentMistake, match="OIDC_ROLES"):
        read_table(text)


def test_it_refuses_a_provider_that_anybody_may_play() -> None:
    with pytest.raises(EnvironmentMistake, match="https"):
        check_provider("http://id.example.com", "tollgate")
    with pytest.raises(EnvironmentMistake, match="OIDC_CLIENT_ID"):
        check_provider("https://id.example.com", "")
    check_provider("http://localhost:9000", "tollgate")
