"""How full limits and budgets are, as the pages tell it."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest

from accounts import keys
from accounts.models import ApiKey, Budget, Limit, Membership, Spend, Tenant, User
from accounts.tenancy import operator_scope
from proxy.fullness import Fill, fills, pairs_for, pairs_of
from tests.server import Gateway

PASSWORD = "a pass phrase of the tests"


@pytest.fixture
def acme(db: None) -> Tenant:
    with operator_scope():
        return Tenant.objects.create(slug="acme", name="Acme")


@pytest.fixture
def key(acme: Tenant) -> ApiKey:
    with operator_scope():
        user = User.objects.create_user("alice", "alice@acme.test")
        Membership.objects.create(tenant=acme, user=user, role="owner")
        return keys.make_api_key(acme, user, "ci")[0]


def spent(budget: Budget, subject: str, amount: int) -> None:
    start = budget.window_start(datetime.now(UTC), budget.tenant.timezone)
    Spend.objects.create(
        tenant=budget.tenant, budget=budget, subject=subject, window_start=start, amount_nano_usd=amount
    )


def test_it_tells_what_was_spent_where_no_limiter_runs(acme: Tenant, key: ApiKey) -> None:
    with operator_scope():
        limit = Limit.objects.create(tenant=acme, scope="key", concurrent=1)
        each = Budget.objects.create(tenant=acme, scope="key", amount_nano_usd=1000, period="day")
        whole = Budget.objects.create(tenant=acme, scope="tenant", amount_nano_usd=4000, period="total")
        spent(each, f"key:{key.id}", 900)
        spent(whole, f"tenant:{acme.id}", 1000)
        found = fills(pairs_of([limit, whole, each]))
    assert [(fill.rule_id, fill.subject, fill.share) for fill in found] == [
        (each.id, key.id, 0.9),
        (whole.id, acme.id, 0.25),
    ]
    assert found[1].words == "$0.000001 of $0.000004 in total"


def test_it_finds_the_rules_that_hold_for_a_key(acme: Tenant, key: ApiKey) -> None:
    with operator_scope():
        keys.make_api_key(acme, key.user, "other")
        rows = [
            Limit.objects.create(tenant=acme, scope=scope, name=name, concurrent=1)
            for scope, name in (
                *(("tenant", ""), ("key", ""), ("key", "ci"), ("key", "other")),
                *(("user", "alice@acme.test"), ("ip", ""), ("model", "demo")),
            )
        ]
        found = pairs_for(rows, {"tenant": acme.id, "key": key.id, "user": key.user_id})
    told = [(str(row), subject) for row in rows for rule, subject in found if rule.id == row.id]
    assert told == [
        ("the tenant", acme.id),
        ("each key", key.id),
        ("key ci", key.id),
        ("user alice@acme.test", key.user_id),
    ]


def test_it_says_numbers_and_dollars_in_words(acme: Tenant) -> None:
    assert Fill(acme.id, 1, "requests per minute", 1200, 6000).words == "1,200 of 6,000 requests per minute"
    assert Fill(acme.id, 1, "a day", 10**9, 2 * 10**9, in_dollars=True).words == "$1 of $2 a day"


def signed_in(gateway: Gateway, username: str) -> httpx.Client:
    """Somebody's browser, as it were."""
    gateway.manage(
        "shell",
        "--no-imports",
        "-c",
        "from accounts.models import User\n"
        f"user = User.objects.get(username={username!r})\n"
        f"user.set_password({PASSWORD!r})\n"
        "user.save()",
    )
    browser = gateway.closing.enter_context(
        httpx.Client(base_url=gateway.url, trust_env=False, timeout=30, follow_redirects=True)
    )
    browser.get("/accounts/login/")
    form = {"login": username, "password": PASSWORD, "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
    assert browser.post("/accounts/login/", data=form).status_code == 200
    return browser


def test_it_asks_the_limiter_that_lets_calls_in(session_gateway: Gateway) -> None:
    [owner] = session_gateway.tenant("measured")
    limits = [{"scope": "user", "requests_per_minute": 4, "concurrent": 7}]
    session_gateway.configure({"tenants": [{"slug": "measured", "limits": limits}]})
    browser = signed_in(session_gateway, "owner@measured.test")
    body = {"model": "gpt-test", "messages": [{"role": "user", "content": "x"}]}
    assert owner.http.post("/v1/chat/completions", json=body).status_code == 200
    page = browser.get("/admin/accounts/limit/").text
    assert "1 of 4 requests per minute" in page
    assert 'value="0.250"' in page
