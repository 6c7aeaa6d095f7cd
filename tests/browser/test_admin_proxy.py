"""An operator connects an upstream in a browser, and sees a call through it in the ledger."""

from __future__ import annotations

import csv
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.conftest import PHONE, Visit, accessible, user_called
from tests.deadline import until
from tests.server import UPSTREAM_API_KEY, Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

MODEL = "gpt-discovered"


def test_it_takes_an_operator_from_an_upstream_to_a_call_in_the_ledger(
    visit: Visit, gateway: Gateway, upstream: ScriptedUpstream, alice: Person, tmp_path: Path
) -> None:
    upstream.models.append(MODEL)
    operator = user_called(gateway, "connecting operator", superuser=True)
    page = visit("/admin/proxy/upstream/add/", user=operator).page
    page.fill("[name=name]", "found")
    page.fill("[name=base_url]", upstream.url)
    page.fill("[name=api_key]", UPSTREAM_API_KEY)
    page.get_by_role("button", name="Save", exact=True).click()

    status = page.get_by_role("status")
    page.get_by_role("button", name="Test connection").click()
    expect(status).to_contain_text("It answers, and lists 3 models. Status 200.")
    page.get_by_role("button", name="Discover models").click()
    page.get_by_label("Show").fill("DISCOV")
    page.get_by_label(MODEL).check()
    expect(page.get_by_label("gpt-test")).to_be_hidden()
    page.get_by_role("button", name="Make models of the chosen").click()
    expect(status).to_have_text("1 model and 1 route made.")
    expect(page.get_by_label(f"{MODEL} (asked for as {MODEL})")).to_be_visible()
    accessible(page, within="#upstream-tools")
    assert UPSTREAM_API_KEY not in page.content()

    until(lambda: called(alice) == "found", seconds=5, what="the new route to be in force")
    page.goto(f"{gateway.url}/admin/proxy/usagerecord/?model={MODEL}&upstream=found")
    row = page.get_by_role("row").filter(has_text=MODEL)
    expect(row).to_contain_text("alice@acme.test")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export CSV").click()
    download.value.save_as(tmp_path / "usage.csv")
    with open(tmp_path / "usage.csv", newline="") as file:
        [record] = csv.DictReader(file)
    assert (record["model"], record["upstream"], record["status"]) == (MODEL, "found", "completed")
    upstream.models.remove(MODEL)


def called(alice: Person) -> str:
    """The upstream that a call for the model went to."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
    answer = alice.http.post("/v1/chat/completions", json=body)
    return str(alice.gateway.usage_of(answer.headers["x-request-id"])["upstream"])


def test_it_fits_a_phone(visit: Visit, gateway: Gateway) -> None:
    operator = user_called(gateway, "walking operator", superuser=True)
    page = visit("/admin/proxy/upstream/", width=PHONE, user=operator).page
    page.get_by_role("link", name="demo").click()
    expect(page.get_by_role("button", name="Test connection")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
    page.get_by_role("button", name="Test connection").click()
    expect(page.get_by_role("status")).to_have_text("It is built in, and always answers.")
