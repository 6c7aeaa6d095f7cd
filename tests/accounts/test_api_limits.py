"""Limits and budgets through the management API, held to what the configuration file is held to."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.managing import Cast, cast, error, made, results
from tests.server import Gateway


@pytest.fixture(scope="module")
def people(session_gateway: Gateway) -> Cast:
    return cast(session_gateway, "held")


def test_it_makes_alters_and_deletes_a_limit(people: Cast) -> None:
    limit = made(people.owner.post("limits/", json={"scope": "ip", "requests_per_second": 2}))
    assert (limit["tenant"], limit["name"], limit["when_exceeded"]) == ("held", "", "reject")
    path = f"limits/{limit['id']}/"
    altered = people.owner.patch(path, json={"requests_per_second": None, "concurrent": 3}).json()
    assert (altered["requests_per_second"], altered["concurrent"]) == (None, 3)
    assert people.member.get(path).json() == altered
    assert people.owner.delete(path).status_code == 204
    assert error(people.owner.get(path), 404)["message"] == "No such limit."


def test_it_holds_calls_to_a_limit_from_then_on(people: Cast) -> None:
    limit = made(people.owner.post("limits/", json={"scope": "key", "requests_per_minute": 1}))
    url, headers = f"{people.gateway.url}/v1/chat/completions", dict(people.viewer.headers)
    body = {"model": "demo", "messages": [{"role": "user", "content": "x"}]}
    statuses = [people.viewer.post(url, headers=headers, json=body).status_code for _ in range(3)]
    people.owner.delete(f"limits/{limit['id']}/")
    assert statuses[-1] == 429
    assert people.viewer.post(url, headers=headers, json=body).status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"scope": "key"}, None),
        ({"scope": "planet", "concurrent": 1}, "scope"),
        ({"concurrent": 1}, "scope"),
        ({"scope": "key", "concurrent": 0}, "concurrent"),
        ({"scope": "key", "concurrent": -1}, "concurrent"),
        ({"scope": "key", "concurrent": 10**30}, "concurrent"),
        ({"scope": "key", "concurrent": "many"}, "concurrent"),
        ({"scope": "key", "concurrent": 1, "queue_seconds": 601}, "queue_seconds"),
        ({"scope": "key", "concurrent": 1, "name": "absent"}, None),
        ({"scope": "user", "concurrent": 1, "name": "owner@held-other.test"}, None),
        ({"scope": "ip", "concurrent": 1, "name": "x"}, None),
        ({"scope": "key", "concurrent": 1, "colour": "red"}, "colour"),
        ({"scope": "key", "concurrent": 1, "id": "x"}, "id"),
        ([], None),
        ("x", None),
    ],
)
def test_it_refuses_a_limit_that_cannot_be_meant(people: Cast, body: object, param: str | None) -> None:
    told = error(people.owner.post("limits/", json=body), 400)
    assert told["param"] == param
    assert told["type"] == "invalid_request_error"


def test_it_refuses_a_second_limit_of_the_same(people: Cast) -> None:
    body = {"scope": "model", "name": "twice", "concurrent": 1}
    made(people.owner.post("limits/", json=body))
    assert "already exists" in error(people.owner.post("limits/", json=body), 400)["message"]


def test_it_keeps_what_a_limit_is_for(people: Cast) -> None:
    limit = made(people.owner.post("limits/", json={"scope": "model", "name": "kept", "concurrent": 1}))
    told = error(people.owner.patch(f"limits/{limit['id']}/", json={"scope": "key"}), 400)
    assert told["param"] == "scope"


def test_it_makes_none_in_another_tenant(people: Cast) -> None:
    body = {"scope": "model", "name": "theirs", "concurrent": 1}
    other = people.owner.post("limits/", json={**body, "tenant": "held-other"})
    absent = people.owner.post("limits/", json={**body, "tenant": "absent"})
    assert error(other, 404) == error(absent, 404)
    assert (
        made(people.operator.post("limits/", json={**body, "tenant": "held-other"}))["tenant"] == "held-other"
    )


def test_it_lists_in_parts_filtered_and_in_order(people: Cast) -> None:
    names = [f"part-{number}" for number in range(3)]
    for each in names:
        made(people.outsider.post("limits/", json={"scope": "model", "name": each, "concurrent": 1}))
    whole = results(people.outsider.get("limits/", params={"scope": "model", "ordering": "-name"}))
    assert [row["name"] for row in whole if row["name"] in names] == names[::-1]
    first = people.outsider.get("limits/", params={"scope": "model", "ordering": "-name", "limit": 2})
    rest = people.outsider.get(first.json()["next"])
    assert first.json()["count"] == len(whole)
    assert [*results(first), *results(rest)] == whole[:4]
    assert [row["name"] for row in results(people.outsider.get("limits/", params={"name": "part-1"}))] == [
        "part-1"
    ]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"colour": "red"}, "colour"),
        ({"scope": "planet"}, "scope"),
        ({"ordering": "tenant__name"}, "ordering"),
        ({"limit": "0"}, "limit"),
        ({"limit": "1000"}, "limit"),
        ({"offset": "-1"}, "offset"),
    ],
)
def test_it_refuses_a_query_that_cannot_be_meant(people: Cast, query: dict[str, str], param: str) -> None:
    assert error(people.owner.get("limits/", params=query), 400)["param"] == param


def test_it_shows_how_much_of_a_budget_is_spent(people: Cast) -> None:
    price = {"input_per_million": "1000000", "output_per_million": "0"}
    people.gateway.configure(
        {"models": [{"name": "dear", "routes": [{"upstream": "demo"}], "prices": price}]}
    )
    body = {"scope": "tenant", "amount_usd": "1000.50", "period": "month", "tenant": "held"}
    budget = made(people.operator.post("budgets/", json=body))
    assert (budget["amount_usd"], budget["fullest"]) == ("1000.5", [])
    assert datetime.fromisoformat(budget["window_start"]).day == 1
    call = {"model": "dear", "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    answer = people.owner.post(f"{people.gateway.url}/v1/chat/completions", json=call)
    assert answer.status_code == 200
    spent = people.gateway.usage_of(answer.headers["x-request-id"])["cost_nano_usd"]
    [fullest] = people.viewer.get(f"budgets/{budget['id']}/").json()["fullest"]
    assert round(float(fullest["spent_usd"]) * 10**9) == spent > 0
    assert float(fullest["left_usd"]) == pytest.approx(1000.5 - spent / 10**9)
    people.operator.delete(f"budgets/{budget['id']}/")


@pytest.mark.parametrize(
    "amount", ["0", "-1", "4000001", "0.0000000001", "", "NaN", "much", None, True, [], {}]
)
def test_it_refuses_a_budget_of_no_amount(people: Cast, amount: object) -> None:
    body = {"scope": "tenant", "amount_usd": amount, "period": "day"}
    assert error(people.owner.post("budgets/", json=body), 400)["param"] == "amount_usd"


def test_it_says_in_dollars_what_a_budget_may_be(people: Cast) -> None:
    body = {"scope": "tenant", "amount_usd": "0", "period": "day"}
    told = error(people.owner.post("budgets/", json=body), 400)["message"]
    assert "more than $0, and $4000000 at most" in told
