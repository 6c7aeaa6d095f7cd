"""Signing in as people do it: by password, with an authenticator app, by passkey, and through a provider."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from playwright.sync_api import Page, expect

from tests.browser.conftest import (
    DESKTOP,
    PHONE,
    SIGN_IN_PASSWORD,
    Tab,
    Visit,
    accessible,
    user_called,
)
from tests.conftest import StartGateway
from tests.identity_provider import CLIENT_ID, CLIENT_SECRET, identity_provider
from tests.server import Gateway


def fits(page: Page, width: int) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    accessible(page)


def confirm(page: Page) -> None:
    """By the password, that it is they who change how they sign in."""
    expect(page.get_by_role("heading", name="Is it you?")).to_be_visible()
    page.get_by_label("Password").fill(SIGN_IN_PASSWORD)
    page.get_by_role("button", name="Go on").click()


def code_of(secret: str) -> str:
    """The next one, which has not been used for setting it up."""
    return str(format_hotp_value(hotp_value(secret, int(time.time()) // 30 + 1)))


def at_localhost(tab: Tab, path: str) -> None:
    """Where browsers offer passkeys without HTTPS."""
    tab.page.goto(f"http://localhost:{tab.gateway.port}{path}")


def test_it_says_in_words_what_is_wrong(visit: Visit, session_gateway: Gateway) -> None:
    name = user_called(session_gateway, "often guessed")
    page = visit("/accounts/login/", width=PHONE).page
    fits(page, PHONE)
    for _ in range(5):
        page.get_by_label("User name").fill(name)
        page.get_by_label("Password").fill("a guess")
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_role("alert").first).to_contain_text("nobody with this name and this password")
    page.get_by_label("Password").fill(SIGN_IN_PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("alert").first).to_contain_text("That was wrong too often")
    fits(page, PHONE)


def test_it_lets_in_and_out(visit: Visit, session_gateway: Gateway) -> None:
    name = user_called(session_gateway, "somebody")
    tab = visit("/accounts/login/?next=/accounts/")
    page = tab.page
    fits(page, DESKTOP)
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(SIGN_IN_PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("banner")).to_contain_text(name)
    fits(page, DESKTOP)
    page.get_by_role("link", name="Change it").click()
    fits(page, DESKTOP)
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{session_gateway.url}/")
    expect(page.get_by_role("banner").get_by_role("link", name="Sign in")).to_be_visible()


def test_it_sets_up_an_app_and_asks_for_its_code(visit: Visit, session_gateway: Gateway) -> None:
    user = user_called(session_gateway, "with an app")
    tab = visit("/accounts/", user=user, width=PHONE)
    page = tab.page
    page.get_by_role("link", name="Set it up").click()
    confirm(page)
    expect(page.get_by_alt_text("A QR code with the secret")).to_be_visible()
    fits(page, PHONE)
    secret = page.locator("#totp-secret").inner_text()
    page.get_by_label("Code").fill(str(format_hotp_value(hotp_value(secret, int(time.time()) // 30))))
    page.get_by_role("button", name="Turn it on").click()
    expect(page.get_by_label("Recovery codes")).to_be_visible()
    fits(page, PHONE)
    page.get_by_role("button", name="Sign out").click()
    tab.open("/accounts/login/?next=/readyz")
    page.get_by_label("User name").fill(user)
    page.get_by_label("Password").fill(SIGN_IN_PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="One more step")).to_be_visible()
    fits(page, PHONE)
    page.get_by_label("Code").fill(code_of(secret))
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(f"{session_gateway.url}/readyz")


def test_it_adds_a_passkey_and_lets_in_by_it_alone(visit: Visit, session_gateway: Gateway) -> None:
    tab = visit("/", width=DESKTOP)
    page = tab.page
    device = authenticator(page)
    user = user_called(session_gateway, "with a passkey")
    at_localhost(tab, "/accounts/login/?next=/accounts/")
    page.get_by_label("User name").fill(user)
    page.get_by_label("Password").fill(SIGN_IN_PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("link", name="Add a passkey").click()
    confirm(page)
    fits(page, DESKTOP)
    page.get_by_label("Name").fill("<b>Phone</b>")
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_label("Recovery codes")).to_be_visible()
    page.get_by_role("link", name="I have kept them").click()
    expect(page.get_by_role("listitem").filter(has_text="<b>Phone</b>")).to_be_visible()
    fits(page, DESKTOP)
    page.get_by_role("button", name="Sign out").click()
    at_localhost(tab, "/accounts/login/?next=/readyz")
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.wait_for_url(f"http://localhost:{session_gateway.port}/readyz")
    device("WebAuthn.setUserVerified", isUserVerified=False)
    at_localhost(tab, "/accounts/logout/")
    page.get_by_role("main").get_by_role("button", name="Sign out").click()
    at_localhost(tab, "/accounts/login/")
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was signed")


def authenticator(page: Page) -> Any:
    """A passkey's device, as Chromium plays one; asked by commands of the DevTools protocol."""
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
    }
    made = session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return lambda command, **more: session.send(command, {"authenticatorId": made["authenticatorId"], **more})


def test_it_leads_through_a_provider_and_back(
    visit: Visit, start_gateway: StartGateway, tmp_path: Path
) -> None:
    with identity_provider(tmp_path / "log") as provider:
        gateway = start_gateway(
            OIDC_ISSUER=provider.issuer,
            OIDC_CLIENT_ID=CLIENT_ID,
            OIDC_CLIENT_SECRET=CLIENT_SECRET,
            OIDC_NAME="Example",
            OIDC_ROLES='{"engineers": "acme:viewer"}',
        )
        provider.is_at_the_desk(sub="dana", email="dana@acme.test", email_verified=True, groups=["engineers"])
        page = visit("/accounts/login/?next=/accounts/", gateway=gateway).page
        page.get_by_role("button", name="Sign in with Example").click()
        expect(page.get_by_role("banner")).to_contain_text("dana@acme.test")
        expect(page.get_by_role("main")).to_contain_text("You sign in with Example")
        accessible(page)
