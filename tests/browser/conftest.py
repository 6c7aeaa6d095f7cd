"""A real browser for tests of pages: the distribution's Chromium, driven by Playwright.

* `visit(path, width=…, user=…)` opens a page of the session's gateway in a context of its own, signed in as
  that user where one is named; `visit(path, gateway=…)` of another gateway. At the end of the test nothing
  may stand in the console that is an error or a breach of the content security policy, unless the test
  says `page.expected.append("a part of the line")`.
* `accessible(page)` holds a page to axe-core's rules of serious and critical impact.
* `SIGN_IN_PASSWORD` is the password of everybody whom `user_called` makes.

The tests are slow ones: they run once, on PostgreSQL and Redis.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests import machine
from tests.server import Gateway

DESKTOP, PHONE = 1280, 390
HEIGHT = 800
WAIT_MILLISECONDS = 10_000
SIGN_IN_PASSWORD = "a pass phrase of the tests"
AXE = Path(__file__).parent / "axe"
CHROMIUM = "apt-get install chromium   (or: brew install chromium)"
# It runs as root in containers, and asks its maker for nothing.
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

Visit = Callable[..., "Tab"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)


class Tab:
    """A page, and what its console said that nobody expected."""

    def __init__(self, page: Page, gateway: Gateway) -> None:
        self.page = page
        self.gateway = gateway
        self.expected: list[str] = []
        self.said: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.said.append(str(error)))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error" or "Content Security Policy" in message.text:
            self.said.append(f"{message.text} ({message.location.get('url', '')})")

    def open(self, path: str) -> None:
        self.page.goto(f"{self.gateway.url}{path}")

    @property
    def unexpected(self) -> list[str]:
        return [line for line in self.said if not any(part in line for part in self.expected)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for each module: while Playwright runs, this thread has an event loop, and can run no other."""
    program = machine.need("chromium", CHROMIUM)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, session_gateway: Gateway) -> Iterator[Visit]:
    tabs: list[Tab] = []
    with ExitStack() as stack:

        def open_tab(
            path: str, *, width: int = DESKTOP, user: str | None = None, gateway: Gateway | None = None
        ) -> Tab:
            context = browser.new_context(
                viewport={"width": width, "height": HEIGHT}, has_touch=width < 600, locale="en-US"
            )
            stack.callback(context.close)
            context.set_default_timeout(WAIT_MILLISECONDS)
            tab = Tab(context.new_page(), gateway or session_gateway)
            tabs.append(tab)
            if user is not None:
                sign_in(tab, user)
            tab.open(path)
            return tab

        yield open_tab
        assert not [line for tab in tabs for line in tab.unexpected]


def sign_in(tab: Tab, username: str, password: str = SIGN_IN_PASSWORD) -> None:
    """By the form that people use."""
    tab.open("/accounts/login/?next=/readyz")
    tab.page.fill("input[name=login]", username)
    tab.page.fill("input[name=password]", password)
    tab.page.press("input[name=password]", "Enter")
    tab.page.wait_for_url(f"{tab.gateway.url}/readyz")


def user_called(gateway: Gateway, username: str, *, superuser: bool = False, staff: bool = True) -> str:
    """Gives that user, who may be a member already, the password of the tests; makes them if need be. Members
    that a configuration file names are called by their e-mail addresses."""
    gateway.manage(
        "shell",
        "--no-imports",
        "-c",
        "from accounts.models import User\n"
        f"user, _ = User.objects.get_or_create(username={username!r})\n"
        f"user.set_password({SIGN_IN_PASSWORD!r})\n"
        f"user.is_superuser, user.is_staff = {superuser}, {staff}\n"
        "user.save()",
    )
    return username


def accessible(page: Page, *, within: str = "body", known: tuple[str, ...] = ()) -> None:
    """Fails for every fault that axe-core calls serious or critical, but for what breaks `known` rules."""
    machine.node(AXE)
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate((AXE / "node_modules" / "axe-core" / "axe.min.js").read_text())
    found: list[dict[str, Any]] = page.evaluate("within => axe.run(within).then(it => it.violations)", within)
    faults = [
        {"rule": fault["id"], "help": fault["help"], "where": [node["html"] for node in fault["nodes"]]}
        for fault in found
        if fault["impact"] in ("serious", "critical") and fault["id"] not in known
    ]
    assert not faults, json.dumps(faults, indent=1)
