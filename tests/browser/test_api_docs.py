"""The pages of the management API in a browser, under the policy that all our pages have."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import Visit


def test_it_draws_every_endpoint_without_a_script_or_style_of_the_page_s_own(visit: Visit) -> None:
    page = visit("/api/docs/").page
    expect(page.get_by_role("heading", name="Tollgate management API")).to_be_visible()
    page.locator(".opblock-summary-path", has_text="/api/api-keys/").first.click()
    expect(page.get_by_role("button", name="Try it out").first).to_be_visible()
