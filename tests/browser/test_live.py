"""Live calls in a browser: a call comes within a second, streams and ends, and nothing of it is markup."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from playwright.sync_api import Locator, Page, WebSocketRoute, expect

from tests.browser.conftest import DESKTOP, PHONE, Tab, Visit, accessible
from tests.managing import key_of, tenant_of_roles
from tests.server import Gateway
from tests.watching import SignedIn, signed_in

SHOWN_MILLISECONDS = 1000
EVIL = "gpt-test<img src=x onerror=document.title='owned'>"


@pytest.fixture(scope="module")
def tenant(session_gateway: Gateway) -> str:
    limits = [{"scope": "key", "name": "admin", "requests_per_minute": 1}]
    document = {**tenant_of_roles("watched"), "limits": limits}
    session_gateway.configure({"tenants": [document]})
    return "watched"


@pytest.fixture(scope="module")
def owner(session_gateway: Gateway, tenant: str) -> SignedIn:
    (person,) = signed_in(session_gateway, f"owner@{tenant}.test")
    return person


def as_person(tab: Tab, person: SignedIn) -> Page:
    """The page, looked at by somebody who has signed in."""
    cookie = {"name": "sessionid", "value": person.session_key, "url": person.gateway.url}
    tab.page.context.add_cookies([cookie])  # type: ignore[list-item]  # a dictionary of Playwright's own type
    return tab.page


@contextmanager
def calling(gateway: Gateway, tenant: str, role: str, model: str) -> Iterator[None]:
    """While a stream is read."""
    body = {"model": model, "stream": True, "messages": []}
    headers = {"authorization": f"Bearer {key_of(tenant, role)}"}
    url = f"{gateway.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=headers, trust_env=False) as stream:
        assert stream.status_code == 200
        yield


def call(gateway: Gateway, tenant: str, role: str, model: str) -> int:
    body = {"model": model, "messages": []}
    headers = {"authorization": f"Bearer {key_of(tenant, role)}"}
    url = f"{gateway.url}/v1/chat/completions"
    return httpx.post(url, json=body, headers=headers, trust_env=False).status_code


def state(page: Page) -> Locator:
    return page.get_by_role("status")


def rows(page: Page, table: str) -> Locator:
    return page.get_by_role("table", name=table).get_by_role("row")


def test_a_call_comes_streams_and_ends(
    visit: Visit, session_gateway: Gateway, tenant: str, owner: SignedIn
) -> None:
    page = as_person(visit("/readyz"), owner)
    page.goto(f"{session_gateway.url}/dashboard/live/")
    expect(state(page)).to_have_text("Live")
    expect(page.get_by_text("Nothing is running.")).to_be_visible()
    model = "gpt-test+words=400+pace=20"
    with calling(session_gateway, tenant, "member", model):
        row = rows(page, "Running").filter(has_text=model)
        expect(row).to_be_visible(timeout=SHOWN_MILLISECONDS)
        expect(row).to_contain_text(f"member@{tenant}.test")
        tokens = row.get_by_role("cell").nth(3)
        before = tokens.inner_text()
        expect(tokens).not_to_have_text(before)
        accessible(page)
        page.get_by_role("button", name="Pause").click()
    expect(row).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(row).to_have_count(0)
    expect(rows(page, "Ended and refused").filter(has_text=model)).to_contain_text("client_left")
    assert {call(session_gateway, tenant, "admin", "gpt-test") for _ in range(2)} == {200, 429}
    refused = rows(page, "Ended and refused").filter(has_text="rate_limit_exceeded")
    expect(refused.first).to_contain_text("1 requests per minute and key")


def test_nothing_that_callers_write_is_markup(
    visit: Visit, session_gateway: Gateway, tenant: str, owner: SignedIn
) -> None:
    page = as_person(visit("/readyz", width=PHONE), owner)
    page.goto(f"{session_gateway.url}/dashboard/live/")
    expect(state(page)).to_have_text("Live")
    call(session_gateway, tenant, "member", EVIL)
    with calling(session_gateway, tenant, "member", "gpt-test+words=400+pace=20"):
        expect(rows(page, "Running").nth(1)).to_be_visible()
        expect(rows(page, "Ended and refused").filter(has_text=EVIL)).to_be_visible()
        assert page.locator("[data-live] img").count() == 0
        assert page.title() == "Live · Tollgate"
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
        accessible(page)


def refuse_sockets(page: Page) -> list[WebSocketRoute]:
    """As a proxy does that knows no WebSocket."""
    refused: list[WebSocketRoute] = []

    def refuse(route: WebSocketRoute) -> None:
        refused.append(route)
        route.close(code=1011)

    page.route_web_socket("**/ws/live/**", refuse)
    return refused


def test_it_asks_where_no_socket_gets_through(
    visit: Visit, session_gateway: Gateway, tenant: str, owner: SignedIn
) -> None:
    tab = visit("/readyz", width=DESKTOP)
    page = as_person(tab, owner)
    refused = refuse_sockets(page)
    page.goto(f"{session_gateway.url}/dashboard/live/")
    expect(state(page)).to_contain_text("Polling")
    assert refused
    model = "gpt-test+words=400+pace=20+tag=polled"
    with calling(session_gateway, tenant, "member", model):
        expect(rows(page, "Running").filter(has_text=model)).to_be_visible()
    expect(rows(page, "Ended and refused").filter(has_text=model)).to_be_visible()
    tab.expected.append("401")
    session_gateway.query("DELETE FROM django_session WHERE session_key = %s", owner.session_key)
    expect(state(page)).to_have_text("You are signed out.")
    expect(rows(page, "Ended and refused").filter(has_text=model)).to_have_count(0)
