"""The dashboard in a browser: what its charts show is what the ledger has."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import DESKTOP, PHONE, Visit, accessible, user_called
from tests.server import Gateway, Row

MODEL = "gpt-test+tag=<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def owner(session_gateway: Gateway) -> str:
    """Of a tenant with a budget and a few calls, one of which no upstream answered."""
    [owner] = session_gateway.tenant("charted")
    budget = {"scope": "tenant", "amount_usd": "5", "period": "month", "allow_unpriced": True}
    session_gateway.configure(
        {"tenants": [{"slug": "charted", "timezone": "Asia/Kathmandu", "budgets": [budget]}]}
    )
    headers = {"authorization": f"Bearer {owner.api_key}"}
    for model in ("gpt-4o-mini", "gpt-4o-mini", MODEL, "gpt-test+status=500"):
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
        url = f"{session_gateway.url}/v1/chat/completions"
        answer = httpx.post(url, json=body, headers=headers, trust_env=False, timeout=30)
        session_gateway.usage_of(answer.headers["x-request-id"])
    return user_called(session_gateway, "owner@charted.test")


def ledger(gateway: Gateway) -> list[Row]:
    [tenant] = gateway.query("SELECT id FROM accounts_tenant WHERE slug = 'charted'")
    return gateway.usage("tenant_id = %s", tenant["id"])


def drawn(page: Page, chart: str) -> dict[str, float]:
    """What the lines of a chart, as it was drawn, come to."""
    script = """id => Object.fromEntries(Chart.getChart(id).data.datasets.map(
        line => [line.label, line.data.reduce((sum, value) => sum + (value ?? 0), 0)]))"""
    found: dict[str, float] = page.evaluate(script, chart)
    return found


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_its_charts_show_the_ledger_and_lead_to_the_calls(
    visit: Visit, session_gateway: Gateway, owner: str, width: int
) -> None:
    rows = ledger(session_gateway)
    page = visit("/dashboard/?period=today", width=width, user=owner).page
    expect(page.get_by_role("heading", name="Usage")).to_be_visible()
    page.wait_for_function("window.Chart && Chart.getChart('calls')")
    assert drawn(page, "calls") == {"answered": 3, "cancelled": 0, "failed": 1}
    assert len(rows) == 4
    assert drawn(page, "tokens")["output"] == sum(row["output_tokens"] for row in rows)
    spent = sum(row["cost_nano_usd"] or 0 for row in rows)
    assert drawn(page, "cost")["cost"] == pytest.approx(spent / 10**9)
    burning: list[Any] = page.evaluate(
        "Chart.getChart(document.querySelector('canvas[id^=budget]')).data.datasets[0].data"
    )
    assert [left for left in burning if left is not None][-1] == pytest.approx(5 - spent / 10**9)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    accessible(page)
    page.locator("table[data-table=by-model]").get_by_role("link", name="listed").last.click()
    expect(page.get_by_role("heading", name="Calls")).to_be_visible()
    expect(page.locator("table[data-table=listed] tbody tr")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    accessible(page)


def test_a_click_on_a_bar_lists_its_calls(visit: Visit, session_gateway: Gateway, owner: str) -> None:
    page = visit("/dashboard/?period=7", user=owner).page
    page.wait_for_function("window.Chart && Chart.getChart('calls')")
    last = page.evaluate(
        "(({x, y}) => ({x, y: y + 5}))(Chart.getChart('calls').getDatasetMeta(0).data.at(-1))"
    )
    page.locator("#calls").click(position=last)
    page.wait_for_url("**/dashboard/calls/**")
    listed = page.locator("table[data-table=listed] code").all_text_contents()
    assert set(listed) == {str(row["id"]) for row in ledger(session_gateway)}
    expect(page.locator("table[data-table=listed]")).to_contain_text("<img src=x")
