"""The ledger through the management API: filtered, page by page, each role its own."""

from __future__ import annotations

from uuid import UUID

import httpx
import pytest

from accounts.ids import uuid7
from tests.deadline import until
from tests.managing import Cast, cast, error, key_of, results
from tests.server import Gateway
from tests.upstreams.scripted import ScriptedUpstream


@pytest.fixture(scope="module")
def people(session_gateway: Gateway) -> Cast:
    return cast(session_gateway, "counted")


def called(people: Cast, role: str = "owner", tenant: str = "counted", model: str = "demo") -> str:
    """The id of a call that ended."""
    headers = {"authorization": f"Bearer {key_of(tenant, role)}"}
    body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
    url = f"{people.gateway.url}/v1/chat/completions"
    answer = httpx.post(url, headers=headers, json=body, trust_env=False, timeout=30)
    return str(people.gateway.usage_of(answer.headers["x-request-id"])["id"])


def ids(answer: httpx.Response) -> list[str]:
    return [row["id"] for row in results(answer)]


def test_it_shows_a_call_as_the_ledger_has_it(people: Cast) -> None:
    id_ = called(people)
    shown = people.owner.get(f"usage/{id_}/").json()
    [record] = people.gateway.usage("id = %s", UUID(id_))
    for column in ("endpoint", "model", "status", "status_code", "upstream", "input_tokens", "output_tokens"):
        assert shown[column] == record[column], column
    assert shown["user"] == "owner@counted.test"
    assert shown["cost_usd"] is None
    assert UUID(shown["api_key_id"]) == record["api_key_id"]


def test_it_lists_calls_newest_first_page_by_page(people: Cast) -> None:
    made = [called(people, "admin") for _ in range(5)]
    seen: list[str] = []
    page = people.owner.get("usage/", params={"limit": 2, "user": "admin@counted.test"})
    while True:
        seen += ids(page)
        if page.json()["next"] is None:
            break
        page = people.owner.get(page.json()["next"])
    assert seen == made[::-1]


def test_it_lists_an_operator_the_calls_of_all_tenants(people: Cast) -> None:
    mine, theirs = called(people), called(people, tenant="counted-other")
    assert {mine, theirs} <= set(ids(people.operator.get("usage/", params={"limit": 50})))
    assert theirs not in ids(people.operator.get("usage/", params={"limit": 200, "tenant": "counted"}))


def test_it_finds_calls_by_what_they_were(people: Cast) -> None:
    lost, good = called(people, "viewer", model="nowhere-to-go"), called(people, "viewer")
    shown = people.owner.get(f"usage/{good}/").json()
    filters = [
        ({"model": "demo"}, True),
        ({"model": "other"}, False),
        ({"status": "completed"}, True),
        ({"status": "lost"}, False),
        ({"endpoint": "chat.completions"}, True),
        ({"stream": "false"}, True),
        ({"stream": "true"}, False),
        ({"api_key": shown["api_key_id"]}, True),
        ({"api_key": str(uuid7())}, False),
        ({"upstream": "demo"}, True),
        ({"user": "nobody@counted.test"}, False),
        ({"started_from": shown["started_at"]}, True),
        ({"started_before": shown["started_at"]}, False),
    ]
    for query, found in filters:
        assert (good in ids(people.owner.get("usage/", params=query))) is found, query
    assert lost != good


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"after": "x"}, "after"),
        ({"after": str(uuid7())}, "after"),
        ({"limit": "x"}, "limit"),
        ({"status": "fine"}, "status"),
        ({"api_key": "x"}, "api_key"),
        ({"started_from": "soon"}, "started_from"),
        ({"ordering": "id"}, "ordering"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_it_refuses_a_query_that_cannot_be_meant(people: Cast, query: dict[str, str], param: str) -> None:
    assert error(people.owner.get("usage/", params=query), 400)["param"] == param


def test_it_shows_a_member_their_own_calls_alone(people: Cast) -> None:
    mine, anothers = called(people, "member"), called(people, "owner")
    assert mine in ids(people.member.get("usage/"))
    assert anothers not in ids(people.member.get("usage/", params={"limit": 200}))
    assert people.member.get(f"usage/{anothers}/").status_code == 404


def test_it_goes_on_after_no_row_of_another_tenant(people: Cast) -> None:
    theirs = called(people, tenant="counted-other")
    answers = [people.owner.get("usage/", params={"after": after}) for after in (theirs, str(uuid7()))]
    assert answers[0].content == answers[1].content


def test_it_shows_a_call_while_it_is_open(people: Cast, upstream: ScriptedUpstream) -> None:
    upstream.behave("slow-to-end", "hang_after=1")
    headers = {"authorization": f"Bearer {key_of('counted', 'owner')}"}
    body = {"model": "slow-to-end", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    url = f"{people.gateway.url}/v1/chat/completions"
    with httpx.stream("POST", url, headers=headers, json=body, trust_env=False, timeout=30) as answer:
        id_ = str(UUID(answer.headers["x-request-id"]))
        shown = people.owner.get(f"open-calls/{id_}/").json()
        assert (shown["model"], shown["user"], shown["stream"]) == ("slow-to-end", "owner@counted.test", True)
        assert id_ in ids(people.viewer.get("open-calls/"))
        assert id_ not in ids(people.member.get("open-calls/"))
        assert id_ not in ids(people.outsider.get("open-calls/"))
    until(lambda: people.owner.get(f"open-calls/{id_}/").status_code == 404, seconds=5, what="its end")
    assert people.owner.get(f"usage/{id_}/").json()["status"] == "cancelled"
