"""The dashboard and the calls behind it: numbers that are the ledger's, and nobody else's."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone

from accounts import keys
from accounts.models import ApiKey, Budget, Membership, Spend, Tenant, User
from accounts.money import NANO, dollars
from accounts.tenancy import operator_scope
from accounts.windows import EVER
from gateway.dashboard.period import BadPeriod, Period
from proxy import rollups, usage_report
from proxy.ledger import Row
from tests.accounts.conftest import acme, alice, bob, charlie, django_db_modify_db_settings, globex
from tests.recording import record, settle

__all__ = ["acme", "alice", "bob", "charlie", "django_db_modify_db_settings", "globex"]

EVIL = "</script><script>alert(1)</script>' \"=cmd()\u2028{{ 7 }}"
DAY = timedelta(days=1)

Which = Callable[[Row], bool]


@pytest.fixture
def key(acme: Tenant, bob: User) -> ApiKey:
    with operator_scope():
        return keys.make_api_key(acme, bob, "bob's key")[0]


@pytest.fixture
def rows(acme: Tenant, globex: Tenant, alice: User, bob: User, key: ApiKey) -> list[Row]:
    """Calls of acme from now to 80 days ago, some of them rolled up; and one of globex."""
    now = timezone.now()
    made = [
        record(
            acme.pk,
            now - hours * timedelta(hours=13),
            user_id=(bob if hours % 3 else alice).pk,
            api_key_id=key.pk if hours % 3 else None,
            model=EVIL if hours % 5 == 0 else "gpt-test",
            upstream="" if hours % 7 == 0 else "openai",
            status=("completed", "failed", "cancelled")[hours % 11 % 3],
            error_code="upstream_timeout" if hours % 11 % 3 == 1 else "",
            cost_nano_usd=None if hours % 4 == 0 else 10**6 + hours,
            input_tokens=hours,
            cached_input_tokens=hours // 2,
        )
        for hours in range(150)
    ]
    settle(*made[::2], record(globex.pk, now))
    rollups.roll_up()
    settle(*made[1::2])
    return made


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def shown(who: User, path: str = "/dashboard/", status: int = 200, /, **query: object) -> str:
    answer = signed_in(who).get(path, {name: str(value) for name, value in query.items()})
    assert answer.status_code == status, answer.content.decode()
    return answer.content.decode()


def table(page: str, name: str) -> dict[str, list[str]]:
    """A table of the page: the cells of each row by what is at its head."""
    [body] = re.findall(rf'<table data-table="{name}">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)
    found: dict[str, list[str]] = {}
    for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL):
        head, *cells = [
            html.unescape(re.sub(r"<[^>]*>", "", cell)).strip()
            for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        ]
        found[head] = cells
    return found


def drawn(page: str) -> dict[str, Any]:
    [text] = re.findall(r'<script id="numbers" type="application/json">(.*?)</script>', page, re.DOTALL)
    found: dict[str, Any] = json.loads(text)
    return found


def links(page: str, path: str) -> list[dict[str, str]]:
    """The queries of the page's links there."""
    found = [html.unescape(link) for link in re.findall(r'href="([^"]*)"', page)]
    return [dict(parse_qsl(urlsplit(link).query, True)) for link in found if urlsplit(link).path == path]


def lately(rows: Sequence[Row], days: int, zone: str = "UTC") -> list[Row]:
    """Those of today and the days before, there."""
    there = ZoneInfo(zone)
    today = datetime.now(there).date()
    return [row for row in rows if started(row).astimezone(there).date() > today - days * DAY]


def started(row: Row) -> datetime:
    return datetime.strptime(row["started_at"], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)


def all_calls(page: str) -> int:
    """What the columns of the table of calls come to."""
    return sum_of([cell for cells in table(page, "calls").values() for cell in cells])


def sum_of(values: Sequence[str]) -> int:
    return sum(int(value.replace(",", "")) for value in values)


@pytest.mark.parametrize(("period", "days"), [("today", 1), ("7", 7), ("30", 30), ("90", 90)])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns"])
def test_its_tables_and_charts_are_the_ledger(
    rows: list[Row], acme: Tenant, alice: User, period: str, days: int, zone: str
) -> None:
    with operator_scope():
        Tenant.objects.filter(id=acme.pk).update(timezone=zone)
    within = lately(rows, days, zone)
    page = shown(alice, period=period)
    calls = table(page, "calls").values()
    assert all_calls(page) == len(within)
    assert sum_of([cells[2] for cells in calls]) == sum(row["status"] == "failed" for row in within)
    tokens = table(page, "tokens").values()
    assert sum_of([cell for cells in tokens for cell in cells[:2]]) == sum(
        row["input_tokens"] for row in within
    )
    by_model = table(page, "by-model")
    costs = [row["cost_nano_usd"] for row in within if row["model"] == "gpt-test" and row["cost_nano_usd"]]
    assert not costs or by_model["gpt-test"][6].startswith(dollars(sum(costs)))
    series = drawn(page)["charts"]["calls"]["series"]
    assert sum(sum(each["values"]) for each in series) == len(within)
    assert len(drawn(page)["labels"]) == (24 if days == 1 else days)


def test_each_number_leads_to_its_calls(rows: list[Row], acme: Tenant, alice: User, bob: User) -> None:
    with operator_scope():
        Tenant.objects.filter(id=acme.pk).update(timezone="Asia/Kathmandu")
    page = shown(alice, period="90")
    per_day = [
        query
        for query in links(page, "/dashboard/calls/")
        if query.keys() == {"tenant", "period", "start", "end"}
    ][:90]
    assert len({query["start"] for query in per_day}) == 90
    busiest = per_day[-2]
    listed = shown(alice, "/dashboard/calls/", **busiest)
    within = [row for row in rows if int(busiest["start"]) <= started(row).timestamp() < int(busiest["end"])]
    assert {UUID(id_) for id_ in re.findall(r"<code>([\w-]{36})</code>", listed)} == {
        UUID(row["id"]) for row in within
    }
    found: list[tuple[dict[str, object], Which]] = [
        ({"model": EVIL}, lambda row: row["model"] == EVIL),
        (
            {"user": bob.pk, "failure": "failed upstream_timeout"},
            lambda row: row["user_id"] == bob.pk and row["status"] == "failed",
        ),
        ({"key": "none", "upstream": ""}, lambda row: not row["api_key_id"] and not row["upstream"]),
    ]
    for filters, which in found:
        theirs = [row for row in lately(rows, 90, "Asia/Kathmandu") if which(row)]
        assert theirs
        assert listed_ids(alice, period="90", **filters) == ids(theirs), filters


def ids(rows: Sequence[Row]) -> list[UUID]:
    """The newest first."""
    return [UUID(row["id"]) for row in sorted(rows, key=started, reverse=True)]


def listed_ids(who: User, /, **query: object) -> list[UUID]:
    """The calls of all pages of a list."""
    found: list[UUID] = []
    while True:
        page = shown(who, "/dashboard/calls/", 200, **query)
        found += map(UUID, re.findall(r"<code>([\w-]{36})</code>", page))
        older = [each for each in links(page, "/dashboard/calls/") if "after" in each]
        if not older:
            return found
        query = dict(older[0])


def test_the_list_goes_back_page_by_page(rows: list[Row], alice: User) -> None:
    assert listed_ids(alice, period="90") == ids(lately(rows, 90))
    usual = [row for row in lately(rows, 90) if row["model"] == "gpt-test"]
    assert listed_ids(alice, period="90", model="gpt-test") == ids(usual)
    shown(alice, "/dashboard/calls/", 404, after=str(UUID(int=0)))


def test_it_counts_only_what_is_asked_for(rows: list[Row], alice: User, bob: User, key: ApiKey) -> None:
    found: list[tuple[dict[str, object], Which]] = [
        ({"model": "gpt-test"}, lambda row: row["model"] == "gpt-test"),
        ({"key": key.pk}, lambda row: row["api_key_id"] is not None),
        (
            {"key": "none", "status": "completed"},
            lambda row: not row["api_key_id"] and row["status"] == "completed",
        ),
        ({"user": bob.pk, "upstream": ""}, lambda row: row["user_id"] == bob.pk and not row["upstream"]),
        ({"model": "nothing"}, lambda row: False),
    ]
    for query, which in found:
        within = [row for row in lately(rows, 30) if which(row)]
        assert all_calls(shown(alice, period="30", **query)) == len(within), query
    assert "bob@acme.test" in table(shown(alice), "by-user")
    assert "bob&#x27;s key" in shown(alice)


def test_a_member_sees_their_own_calls_alone(rows: list[Row], acme: Tenant, alice: User, bob: User) -> None:
    own = [row for row in lately(rows, 90) if row["user_id"] == bob.pk]
    page = shown(bob, period="90")
    assert all_calls(page) == len(own)
    assert list(table(page, "by-user")) == ["bob@acme.test"]
    assert set(listed_ids(bob, period="90")) == {UUID(row["id"]) for row in own}
    assert not listed_ids(bob, period="90", user=alice.pk)
    with operator_scope():
        Membership.objects.of(acme).filter(user=bob).update(role="viewer")
    assert len(table(shown(bob, period="90"), "by-user")) == 2


def test_anothers_usage_is_not_there(
    rows: list[Row], acme: Tenant, globex: Tenant, charlie: User, alice: User
) -> None:
    page = shown(charlie, period="90")
    assert all_calls(page) == 1
    for path in ("/dashboard/", "/dashboard/calls/"):
        shown(charlie, path, 404, tenant=acme.slug)
        shown(charlie, path, 404, tenant="never-was")
    shown(alice, "/dashboard/calls/", 404, after=listed_ids(charlie)[0])


def test_an_operator_sees_all_tenants_together_and_each_alone(
    rows: list[Row], acme: Tenant, globex: Tenant
) -> None:
    with operator_scope():
        operator = User.objects.create_superuser("root", password="unused")
        Tenant.objects.filter(id=acme.pk).update(timezone="Asia/Kathmandu")
    page = shown(operator, period="90")
    assert {name: cells[0] for name, cells in table(page, "by-tenant").items()} == {
        "acme": str(len(lately(rows, 90))),
        "globex": "1",
    }
    assert "Times are those of UTC" in page
    assert len(listed_ids(operator, period="90")) == len(lately(rows, 90)) + 1
    assert "Times are those of Asia/Kathmandu" in shown(operator, tenant="acme")
    assert [query["tenant"] for query in links(page, "/dashboard/") if "tenant" in query] == [
        "acme",
        "globex",
    ]
    shown(operator, "/dashboard/", 404, tenant="never-was")


def test_a_member_of_two_tenants_looks_at_one_at_a_time(rows: list[Row], globex: Tenant, bob: User) -> None:
    with operator_scope():
        Membership.objects.create(tenant=globex, user=bob, role="viewer")
    assert '<option value="acme" selected>' in shown(bob)
    assert all_calls(shown(bob, tenant="globex")) == 1


def test_it_lets_nobody_in_who_is_not_signed_in_or_a_member(db: None) -> None:
    for path in ("/dashboard/", "/dashboard/calls/?model=x"):
        answer = Client().get(path)
        assert answer.status_code == 302
        assert answer["location"].startswith(str(settings.LOGIN_URL))
    with operator_scope():
        stranger = User.objects.create_user("stranger")
    assert "member of no tenant" in shown(stranger, "/dashboard/", 403)


def test_it_says_what_to_do_before_the_first_call(acme: Tenant, alice: User, bob: User) -> None:
    assert "/admin/accounts/apikey/add/" in shown(alice)
    assert "An owner or an admin of your team makes one for you" in shown(bob)
    settle(record(acme.pk, timezone.now() - 50 * DAY, user_id=bob.pk))
    assert "No such call in this time" in shown(alice)
    assert "No call has been made" not in shown(alice)


@pytest.mark.parametrize(
    "query",
    [
        {"period": "week"},
        {"from": "2026-02-30"},
        {"from": "2026-03-02", "to": "2026-03-01"},
        {"from": "2001-01-01", "to": "2026-03-01"},
        {"from": "0001-01-01"},
    ],
)
def test_it_refuses_a_period_that_is_none(acme: Tenant, alice: User, query: dict[str, str]) -> None:
    shown(alice, "/dashboard/", 400, **query)


@pytest.mark.parametrize(
    "query", [{"key": "x"}, {"user": "x"}, {"user": "9" * 30}, {"start": "x"}, {"after": "x"}]
)
def test_it_finds_nothing_under_a_filter_that_is_none(
    acme: Tenant, alice: User, query: dict[str, str]
) -> None:
    shown(alice, "/dashboard/calls/", 404, **query)


def test_nothing_that_a_caller_wrote_runs_in_the_page(rows: list[Row], alice: User) -> None:
    for page in (
        shown(alice, period="90", model=EVIL),
        shown(alice, "/dashboard/calls/", period="90", model=EVIL),
    ):
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page
        assert not re.search(r"<(script|style)>|\son\w+=|\sstyle=|javascript:", page)


def test_a_budget_burns_down_to_what_is_left(
    rows: list[Row], acme: Tenant, alice: User, bob: User, key: ApiKey
) -> None:
    spent = sum(row["cost_nano_usd"] or 0 for row in lately(rows, 30))
    with operator_scope():
        budget = Budget.objects.create(tenant=acme, scope="tenant", amount_nano_usd=NANO, period="total")
        Spend.objects.create(
            tenant=acme, budget=budget, subject=f"tenant:{acme.pk}", window_start=EVER, amount_nano_usd=spent
        )
        Budget.objects.filter(id=budget.pk).update(created_at=timezone.now() - DAY)
        of_key = Budget.objects.create(tenant=acme, scope="key", amount_nano_usd=NANO, period="total")
        Spend.objects.create(
            tenant=acme, budget=of_key, subject=f"key:{key.pk}", window_start=EVER, amount_nano_usd=2 * NANO
        )
    page = shown(alice)
    left = drawn(page)["charts"][f"budget-{budget.pk.hex}-{acme.pk}"]["series"][0]["values"]
    assert left[0] == 1
    assert left[-1] == pytest.approx((NANO - spent) / NANO)
    assert left == sorted(left, reverse=True)
    assert page.index("It is used up.") < page.index("At this rate")
    assert "bob&#x27;s key" in page
    seen_by_member = shown(bob)
    assert f"budget-{budget.pk.hex}-{acme.pk}" not in drawn(seen_by_member)["charts"]
    assert f"budget-{of_key.pk.hex}-{key.pk}" in drawn(seen_by_member)["charts"]


def test_it_says_so_when_too_many_ask_at_once(
    acme: Tenant, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_report, "WAIT_SECONDS", 0.01)
    for _ in range(usage_report.AT_ONCE):
        usage_report._asking.acquire()
    try:
        assert "Too many ask" in shown(alice, "/dashboard/", 503)
    finally:
        usage_report._asking.release(usage_report.AT_ONCE)
    shown(alice)


def test_periods_follow_the_clocks() -> None:
    noon = datetime(2026, 3, 29, 12, tzinfo=UTC)
    summer = Period.of({"period": "today"}, "Europe/Paris", noon)
    assert (len(summer.bounds), summer.unit) == (24, "hour")
    assert summer.labels()[1:3] == ["01:00", "03:00"]
    year = Period.of({"from": "2025-01-15", "to": "2025-12-31"}, "Asia/Kathmandu", noon)
    assert (year.labels()[0], len(year.labels()), year.unit) == ("Jan 2025", 12, "month")
    with pytest.raises(BadPeriod):
        Period.of({"period": "8"}, "UTC", noon)
