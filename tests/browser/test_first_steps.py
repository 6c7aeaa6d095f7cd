"""The first five minutes of somebody with a gateway that knows nothing yet: each step leads to the next."""

from __future__ import annotations

import re

import httpx
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PHONE, Visit, accessible, sign_in
from tests.browser.test_live import as_person
from tests.conftest import StartGateway
from tests.deadline import until
from tests.managing import tenant_of_roles
from tests.server import Gateway
from tests.upstreams.scripted import ScriptedUpstream
from tests.watching import signed_in

PASSWORD = "what the first start was given"
MODEL = "gpt-test+words=400+pace=20"
SECRET = re.compile(r"sk-\w{20,}")


def step(page: Page, title: str) -> Locator:
    return page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=title))


def choose(page: Page, field: str, text: str) -> None:
    """In a field that searches as one types."""
    page.locator(f"[aria-labelledby=select2-id_{field}-container]").click()
    page.locator(f"[aria-controls=select2-id_{field}-results]").fill(text)
    page.get_by_role("option", name=re.compile(text)).first.click()


def save(page: Page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url(lambda url: not url.endswith("/add/"))


def add_upstream(page: Page, url: str) -> None:
    page.get_by_role("link", name="Add an upstream").click()
    page.fill("[name=name]", "mine")
    page.select_option("[name=dialect]", "openai")
    page.fill("[name=base_url]", url)
    save(page)


def add_model(page: Page) -> None:
    page.get_by_role("link", name="Add a model").click()
    page.fill("[name=name]", "*")
    page.locator("select[name=routes-0-upstream]").select_option("mine")
    save(page)


def make_key(page: Page) -> str:
    page.get_by_role("link", name="Make an API key").click()
    choose(page, "tenant", "default")
    choose(page, "user", "admin")
    page.fill("[name=name]", "laptop")
    save(page)
    expect(page.locator("body")).to_contain_text(SECRET)
    return str(SECRET.findall(page.locator("body").inner_text())[0])


def test_they_go_from_nothing_to_a_call_that_is_seen(
    visit: Visit, start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    gateway = start_gateway(OPENAI_BASE_URL="", OPENAI_API_KEY="", CONFIG_FILE="", ADMIN_PASSWORD=PASSWORD)
    tab = visit("/", gateway=gateway)
    page = tab.page
    expect(page.locator("main").get_by_role("link", name="Sign in")).to_be_visible()
    expect(page.get_by_role("heading", name="What to do next")).to_have_count(0)
    sign_in(tab, "admin", PASSWORD)
    tab.open("/")
    expect(page.get_by_text("0 of 5 done")).to_be_visible()
    accessible(page)
    add_upstream(page, upstream.url)
    tab.open("/")
    expect(step(page, "Add an upstream")).to_contain_text("done")
    add_model(page)
    tab.open("/")
    secret = make_key(page)
    tab.open("/")
    expect(page.get_by_text("3 of 5 done")).to_be_visible()
    command = step(page, "Send the first call").locator("pre")
    expect(command).to_contain_text(f"curl -N {gateway.url}/v1/chat/completions")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == command.inner_text()
    page.get_by_role("link", name="Watch live calls").click()
    expect(page.get_by_role("status")).to_have_text("Live")
    see_it(page, gateway, secret)
    until(gateway.usage, what="its record")
    tab.open("/")
    expect(page.locator("main").get_by_role("link", name="Live", exact=True)).to_be_visible()
    expect(page.get_by_role("heading", name="What to do next")).to_have_count(0)


def see_it(page: Page, gateway: Gateway, secret: str) -> None:
    """The call, as it comes."""
    url, headers = f"{gateway.url}/v1/chat/completions", {"authorization": f"Bearer {secret}"}
    body = {"model": MODEL, "stream": True, "messages": []}
    with httpx.stream("POST", url, headers=headers, json=body, trust_env=False) as stream:
        assert stream.status_code == 200
        row = page.get_by_role("table", name="Running").get_by_role("row").filter(has_text=MODEL)
        expect(row).to_be_visible(timeout=1000)
        expect(row).to_contain_text("laptop")


def test_people_see_the_steps_that_they_may_take(visit: Visit, session_gateway: Gateway) -> None:
    session_gateway.configure({"tenants": [tenant_of_roles("newcomers")]})
    names = ["owner", "member", "viewer"]
    people = signed_in(session_gateway, *(f"{name}@newcomers.test" for name in names))
    titles = {
        "owner": ["Make a key", "Send the first call", "See it arrive"],
        "member": ["Get a key", "Send the first call", "See it arrive"],
        "viewer": ["See it arrive"],
    }
    tab = visit("/readyz", width=PHONE)
    for name, person in zip(names, people, strict=True):
        as_person(tab, person)
        tab.open("/")
        expect(tab.page.locator("[data-step] h3")).to_contain_text(titles[name])
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE
    accessible(tab.page)
