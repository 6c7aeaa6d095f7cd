"""The home page in a browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import DESKTOP, PHONE, Visit, accessible, user_called
from tests.server import Gateway


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_it_says_how_to_call_the_gateway(visit: Visit, width: int) -> None:
    page = visit("/", width=width).page
    expect(page.get_by_role("heading", name="Tollgate")).to_be_visible()
    expect(page.locator("pre")).to_contain_text("/v1/chat/completions")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    accessible(page)


def test_it_lets_an_operator_sign_in(visit: Visit, session_gateway: Gateway) -> None:
    operator = user_called(session_gateway, "browsing operator", superuser=True)
    page = visit("/admin/", user=operator).page
    expect(page.get_by_role("heading", name="Site administration")).to_be_visible()
