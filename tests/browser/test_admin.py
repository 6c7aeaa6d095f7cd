"""The admin panel in a browser: a key's life, members and their roles, and who sees what."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import DESKTOP, PHONE, Visit, accessible, user_called
from tests.deadline import until
from tests.managing import ROLES, tenant_of_roles
from tests.server import Gateway

SECRET = re.compile("sk-[0-9A-Za-z]{58}")
KEYS, MEMBERS = "/admin/accounts/apikey/", "/admin/accounts/membership/"


@pytest.fixture(scope="module")
def staffed(session_gateway: Gateway) -> Gateway:
    """The gateway, with a tenant of one of each role who can all sign in, and another tenant."""
    session_gateway.configure(
        {
            "tenants": [
                {**tenant_of_roles("paneled"), "limits": [{"scope": "key", "requests_per_minute": 4}]},
                tenant_of_roles("paneled-other"),
            ]
        }
    )
    for role in ROLES:
        user_called(session_gateway, f"{role}@paneled.test", staff=False)
    return session_gateway


def status_with(gateway: Gateway, secret: str) -> int:
    """What a call with that key is answered."""
    body = {"model": "gpt-test", "messages": [{"role": "user", "content": "x"}]}
    headers = {"authorization": f"Bearer {secret}"}
    answer = httpx.post(
        f"{gateway.url}/v1/chat/completions", headers=headers, json=body, trust_env=False, timeout=30
    )
    return answer.status_code


def refuses(gateway: Gateway, *secrets: str) -> bool:
    return all(status_with(gateway, secret) == 401 for secret in secrets)


def shown_secret(page: Page) -> str:
    """The one that the page shows, as its copy button copies it."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    [secret] = set(SECRET.findall(page.content()))
    assert page.evaluate("navigator.clipboard.readText()") == secret
    return str(secret)


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_it_makes_rotates_and_revokes_a_key(visit: Visit, staffed: Gateway, width: int) -> None:
    page = visit(f"{KEYS}add/", width=width, user="owner@paneled.test").page
    page.get_by_label("Name").fill(f"made at {width}")
    page.get_by_role("button", name="Save", exact=True).click()
    first = shown_secret(page)
    assert status_with(staffed, first) == 200
    page.goto(f"{staffed.url}{KEYS}")
    assert not SECRET.search(page.content())

    page.get_by_role("link", name=f"made at {width}").click()
    expect(page.get_by_text("1 of 4 requests per minute")).to_be_visible()
    address = page.url.removesuffix("change/")
    page.goto(f"{address}rotate/")
    page.get_by_label("The secret that it has now still works").select_option("for an hour")
    page.get_by_role("button", name="Rotate").click()
    second = shown_secret(page)
    assert [status_with(staffed, secret) for secret in (first, second)] == [200, 200]

    page.goto(f"{address}revoke/")
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("Revoked: ")).to_be_visible()
    until(lambda: refuses(staffed, first, second), seconds=1, what="the revocation")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_changes_a_members_role(visit: Visit, staffed: Gateway) -> None:
    page = visit(f"{MEMBERS}add/", user="admin@paneled.test").page
    assert page.get_by_label("Role").locator("option").all_inner_texts() == ["Admin", "Member", "Viewer"]
    page.get_by_label("Email").fill("new@paneled.test")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("row").get_by_role("link", name="new@paneled.test").first.click()
    page.get_by_label("Role").select_option("viewer")
    page.get_by_role("button", name="Save", exact=True).click()
    row = page.get_by_role("row").filter(has_text="new@paneled.test")
    expect(row.first).to_contain_text("Viewer")
    page.get_by_role("row").get_by_role(
        "link", name="owner@paneled.test"
    ).first.click()  # above an admin: only to look at
    expect(page.get_by_role("button", name="Save", exact=True)).to_have_count(0)


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_it_shows_a_viewer_everything_of_their_tenant_to_look_at(
    visit: Visit, staffed: Gateway, width: int
) -> None:
    tab = visit(KEYS, width=width, user="viewer@paneled.test")
    page = tab.page
    expect(page.get_by_text("Paneled", exact=False).first).to_be_attached()
    assert "paneled-other" not in page.content()
    page.get_by_role("link", name="owner", exact=True).click()
    expect(page.get_by_text("owner@paneled.test").first).to_be_visible()
    for button in ("Save", "Rotate", "Revoke"):
        expect(page.get_by_role("button", name=button)).to_have_count(0)
        expect(page.get_by_role("link", name=button)).to_have_count(0)
    accessible(page)
    tab.expected.append("404 (Not Found)")
    for table in ("apikey", "securitykey", "membership"):
        [row, *_] = staffed.query(
            f"SELECT id FROM accounts_{table} WHERE tenant_id ="
            " (SELECT id FROM accounts_tenant WHERE slug = 'paneled-other')"
        )
        tab.open(f"/admin/accounts/{table}/{row['id']}/change/")
        expect(page.get_by_role("heading", name="404")).to_be_visible()


def test_it_has_pages_that_axe_finds_no_fault_in(visit: Visit, staffed: Gateway) -> None:
    operator = user_called(staffed, "paneling operator", superuser=True)
    page = visit("/admin/", width=PHONE, user=operator).page
    accessible(page)
    page.get_by_role("button", name="Menu").first.press("Enter")
    page.get_by_role("navigation").get_by_role("link", name="API keys").click()
    expect(page.get_by_text("paneled-other").first).to_be_attached()
    for path in (KEYS, f"{KEYS}add/", "/admin/accounts/limit/", "/admin/accounts/tenant/add/"):
        page.goto(f"{staffed.url}{path}")
        accessible(page)
