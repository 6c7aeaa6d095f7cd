"""Takes the pictures of docs/screenshots: `make screenshots`.

A gateway with a month of made-up calls, on a database of its own, in front of the scripted upstream; then the
distribution's Chromium, signed in as an operator. Nothing in the pictures is anybody's.
"""

from __future__ import annotations

import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from tests import machine
from tests.browser.conftest import ARGUMENTS, CHROMIUM, DESKTOP, HEIGHT, PHONE, Tab, sign_in, user_called
from tests.made_models import MODELS
from tests.server import PROJECT, UPSTREAM_API_KEY, Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

FOLDER = PROJECT / "docs" / "screenshots"
OPERATOR = "olivia"
# What they are called upstream: they say a word every 60 ms, for two minutes.
TALKS = "gpt-test+pace=60+words=2000"
# The picture's name, the path, and the width.
PAGES = (
    ("home", "/", DESKTOP),
    ("dashboard", "/dashboard/?period=30", DESKTOP),
    ("live", "/dashboard/live/", DESKTOP),
    ("playground", "/playground/", DESKTOP),
    ("playground-phone", "/playground/", PHONE),
    ("admin", "/admin/", DESKTOP),
    ("api-keys", "/admin/accounts/apikey/", DESKTOP),
    ("budgets", "/admin/accounts/budget/", DESKTOP),
    ("upstreams", "/admin/proxy/upstream/", DESKTOP),
    ("usage-records", "/admin/proxy/usagerecord/", DESKTOP),
    ("audit", "/admin/accounts/auditentry/", DESKTOP),
    ("api", "/api/docs/", DESKTOP),
)


def document() -> dict[str, list[object]]:
    """A team with limits and budgets, and the models with their prices."""
    people = ("alice", "bob", "carol")
    team = {
        "slug": "acme",
        "name": "Acme",
        "timezone": "Europe/Paris",
        "members": [{"email": f"{name}@acme.example", "role": "owner"} for name in people[:1]]
        + [{"email": f"{name}@acme.example", "role": "member"} for name in people[1:]],
        "api_keys": [{"name": f"{name}-laptop", "user": f"{name}@acme.example"} for name in people],
        "limits": [{"scope": "key", "requests_per_minute": 600, "tokens_per_minute": 200_000}],
        "budgets": [{"scope": "tenant", "amount_usd": "25.00", "period": "month"}],
    }
    models = [
        {
            "name": name,
            "routes": [{"upstream": "openai", "model": TALKS}],
            "prices": {"input_per_million": costs_in, "output_per_million": costs_out},
        }
        for name, costs_in, costs_out, _ in MODELS
    ]
    return {"tenants": [team], "models": [*models]}


def talk(person: Person, model: str) -> None:
    """A call that streams for a while, for the page of live calls."""
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    until_stopped = suppress(httpx.TransportError)
    with until_stopped, person.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        for _ in answer.iter_raw():
            pass


def take(browser: Browser, gateway: Gateway) -> None:
    """Every picture."""
    for name, path, width in PAGES:
        context = browser.new_context(viewport={"width": width, "height": HEIGHT}, locale="en-US")
        tab = Tab(context.new_page(), gateway)
        sign_in(tab, OPERATOR)
        tab.open(path)
        if path == "/playground/":
            _ask(tab.page)
        tab.page.wait_for_load_state("load")
        tab.page.wait_for_timeout(1_000)  # for what is drawn by degrees
        tab.page.screenshot(path=FOLDER / f"{name}.png", full_page=name == "dashboard")
        context.close()
        print(f"docs/screenshots/{name}.png", flush=True)


def _ask(page: Page) -> None:
    page.get_by_role("combobox", name="Model").select_option("demo")
    page.get_by_role("textbox", name="Message").fill("What can you do?")
    page.get_by_role("button", name="Send").click()
    page.get_by_role("button", name="Stop").wait_for(state="hidden")


def main() -> None:
    program = machine.need("chromium", CHROMIUM)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, ScriptedUpstream() as upstream:
        given = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": UPSTREAM_API_KEY, "DRAIN_SECONDS": "0"}
        with Gateway(Path(folder), given) as gateway, sync_playwright() as playwright:
            gateway.configure(document())
            user_called(gateway, OPERATOR, superuser=True)
            gateway.manage(
                "shell", "--no-imports", "-c", "from tests import made_history; made_history.make()"
            )
            callers = [
                threading.Thread(target=talk, args=(person, name), daemon=True)
                for person, (name, *_) in zip(gateway.people.values(), MODELS, strict=True)
            ]
            for caller in callers:
                caller.start()
            take(playwright.chromium.launch(executable_path=program, args=ARGUMENTS), gateway)


if __name__ == "__main__":
    main()
