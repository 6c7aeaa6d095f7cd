"""OpenAI's usage API, asked by OpenAI's own SDK."""

from __future__ import annotations

import time
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types.admin.organization import UsageCompletionsResponse, UsageCostsResponse

from accounts.money import NANO
from proxy.api.organization import KINDS
from tests.deadline import until
from tests.managing import Cast, cast, error, key_of
from tests.server import BOOTSTRAP_API_KEY, Gateway

HOUR, DAY = 3600, 86_400
SOUND = {"file": ("a.wav", b"RIFF", "audio/wav")}
PRICES = {"input_per_million": "1000", "output_per_million": "2000"}


@pytest.fixture(scope="module")
def people(session_gateway: Gateway) -> Cast:
    """Calls of three people, some with a price; of another tenant's owner; and by the tenant's shared key."""
    people = cast(session_gateway, "reported")
    routes = [{"upstream": "demo"}]
    session_gateway.configure(
        {
            "models": [
                {"name": "priced", "routes": routes, "prices": PRICES},
                {"name": "free", "routes": routes},
            ]
        }
    )
    for role, model, times in (("owner", "priced", 2), ("member", "priced", 1), ("member", "free", 1)):
        for _ in range(times):
            called(people, "chat/completions", key_of("reported", role), {"model": model, "messages": []})
    called(people, "responses", "tests-reported-security-key", {"model": "free", "input": "x"})
    called(people, "embeddings", key_of("reported", "admin"), {"model": "free", "input": "Hello"})
    called(people, "completions", key_of("reported-other", "owner"), {"model": "free", "prompt": "Hello"})
    url = f"{session_gateway.url}/v1/audio/transcriptions"
    headers = {"authorization": f"Bearer {key_of('reported', 'admin')}"}
    answer = httpx.post(url, data={"model": "demo"}, files=SOUND, headers=headers, trust_env=False)
    assert answer.status_code == 200, answer.text
    return people


def called(people: Cast, path: str, key: str, body: dict[str, Any]) -> None:
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.post(f"{people.gateway.url}/v1/{path}", json=body, headers=headers, trust_env=False)
    assert answer.status_code == 200, answer.text
    people.gateway.usage_of(answer.headers["x-request-id"])


def sdk(people: Cast, key: str) -> OpenAI:
    made = OpenAI(admin_api_key=key, base_url=f"{people.gateway.url}/v1", max_retries=0, timeout=30)
    return people.gateway.closing.enter_context(made)


@pytest.fixture(scope="module")
def owner(people: Cast) -> OpenAI:
    return sdk(people, key_of("reported", "owner"))


@pytest.fixture
def since() -> int:
    return int(time.time()) - HOUR


def ledger(people: Cast, *endpoints: str, tenant: str = "reported") -> list[dict[str, Any]]:
    found = people.gateway.query("SELECT id FROM accounts_tenant WHERE slug = %s", tenant)
    rows = people.gateway.usage("tenant_id = %s", found[0]["id"])
    return [row for row in rows if not endpoints or row["endpoint"] in endpoints]


def results(page: Any) -> list[Any]:
    return [result for bucket in page.data for result in bucket.results]


def total(page: Any, name: str) -> int:
    return sum(getattr(result, name) for result in results(page))


def test_it_tells_completions_as_the_ledger_has_them(people: Cast, owner: OpenAI, since: int) -> None:
    rows = ledger(people, "chat.completions", "responses")
    for width in ("1m", "1h", "1d"):
        page = owner.admin.organization.usage.completions(start_time=since, bucket_width=width, limit=31)
        while width == "1m" and page.has_more:
            assert not results(page)
            page = owner.admin.organization.usage.completions(
                start_time=since, bucket_width="1m", limit=31, page=page.next_page or ""
            )
        assert (page.object, page.has_more, page.next_page) == ("page", False, None)
        assert total(page, "num_model_requests") == len(rows) == 5
        assert total(page, "input_tokens") == sum(row["input_tokens"] for row in rows)
        assert total(page, "output_tokens") == sum(row["output_tokens"] for row in rows)
        for result in results(page):
            assert (result.project_id, result.model, result.batch) == (None, None, None)


def test_it_groups_by_whatever_is_asked_for(people: Cast, owner: OpenAI, since: int) -> None:
    rows = ledger(people, "chat.completions", "responses")
    page = owner.admin.organization.usage.completions(
        start_time=since,
        group_by=["project_id", "user_id", "api_key_id", "model", "batch", "service_tier", "api_source"],
    )
    told = {(each.project_id, each.user_id, each.api_key_id, each.model): each for each in results(page)}
    keys = {(str(row["api_key_id"] or row["security_key_id"]), row["model"]) for row in rows}
    assert {(key, model) for _, _, key, model in told} == keys
    assert {project for project, *_ in told} == {str(rows[0]["tenant_id"])}
    assert {user for _, user, *_ in told} == {"owner@reported.test", "member@reported.test", None}
    assert {(each.batch, each.service_tier, each.api_source) for each in told.values()} == {
        (False, None, "unlabeled")
    }
    assert sum(each.num_model_requests for each in told.values()) == len(rows)


def test_it_leaves_out_what_is_not_asked_for(people: Cast, owner: OpenAI, since: int) -> None:
    usage = owner.admin.organization.usage
    key = next(row["api_key_id"] for row in ledger(people) if row["model"] == "priced")
    found: list[tuple[dict[str, Any], int]] = [
        ({"models": ["priced"]}, 3),
        ({"models": ["priced", "free"]}, 5),
        ({"user_ids": ["member@reported.test"]}, 2),
        ({"user_ids": ["member@reported.test"], "models": ["free"]}, 1),
        ({"user_ids": ["nobody@reported.test", "user-999999"]}, 0),
        ({"api_key_ids": [str(key)]}, 2),
        ({"api_key_ids": ["key_abc"]}, 0),
        ({"project_ids": ["reported"]}, 5),
        ({"project_ids": ["reported-other"]}, 0),
        ({"project_ids": []}, 5),
        ({"batch": True}, 0),
        ({"batch": False}, 5),
        ({"end_time": since + 1}, 0),
    ]
    for query, calls in found:
        assert total(usage.completions(start_time=since, **query), "num_model_requests") == calls, query


def test_it_tells_of_the_other_calls_under_their_own_paths(people: Cast, owner: OpenAI, since: int) -> None:
    usage = owner.admin.organization.usage
    [embeddings] = results(usage.embeddings(start_time=since, group_by=["model"]))
    assert (embeddings.object, embeddings.model) == ("organization.usage.embeddings.result", "free")
    assert embeddings.input_tokens == ledger(people, "embeddings")[0]["input_tokens"]
    [audio] = results(usage.audio_transcriptions(start_time=since))
    assert audio.object == "organization.usage.audio_transcriptions.result"
    heard = ledger(people, "audio.transcriptions")[0]["audio_milliseconds"]
    assert (audio.num_model_requests, audio.seconds) == (1, round((heard or 0) / 1000))
    for nothing in (usage.images, usage.moderations, usage.audio_speeches):
        page = nothing(start_time=since)
        assert page.data
        assert not results(page)


def test_it_bills_what_has_a_price(people: Cast, owner: OpenAI, since: int) -> None:
    page = owner.admin.organization.usage.costs(start_time=since, group_by=["line_item", "project_id"])
    [billed] = results(page)
    spent = [row["cost_nano_usd"] for row in ledger(people) if row["cost_nano_usd"] is not None]
    assert len(spent) == 3
    assert billed.amount.value == pytest.approx(sum(spent) / NANO)
    assert (billed.amount.currency, billed.line_item) == ("usd", "priced")
    assert UsageCostsResponse.model_validate(page.model_dump(), strict=True)


def test_it_gives_buckets_page_by_page_without_a_gap(people: Cast, owner: OpenAI) -> None:
    """From the middle of one hour to the middle of another one, with each call in exactly one bucket."""
    now = int(time.time())
    start, end = now - 30 * HOUR - 17, now + 5
    buckets, page = [], None
    while page is None or page.has_more:
        page = owner.admin.organization.usage.completions(
            start_time=start,
            end_time=end,
            bucket_width="1h",
            limit=7,
            page=page.next_page if page and page.next_page else openai.omit,
        )
        assert UsageCompletionsResponse.model_validate(page.model_dump(), strict=True)
        assert len(page.data) == 7 or not page.has_more
        buckets += page.data
    assert [bucket.end_time for bucket in buckets[:-1]] == [bucket.start_time for bucket in buckets[1:]]
    assert (buckets[0].start_time, buckets[-1].end_time) == (start, end)
    assert all(bucket.start_time % HOUR == 0 for bucket in buckets[1:])
    rows = ledger(people, "chat.completions", "responses")
    within: list[Any] = [result for bucket in buckets for result in bucket.results]
    assert sum(result.num_model_requests for result in within) == len(rows)


def test_it_shows_members_their_own_and_operators_everything(people: Cast, since: int) -> None:
    member = sdk(people, key_of("reported", "member")).admin.organization.usage
    assert total(member.completions(start_time=since), "num_model_requests") == 2
    assert (
        total(member.completions(start_time=since, user_ids=["owner@reported.test"]), "num_model_requests")
        == 0
    )
    other = sdk(people, key_of("reported-other", "viewer")).admin.organization.usage
    assert total(other.completions(start_time=since), "num_model_requests") == 1
    assert not results(other.completions(start_time=since, project_ids=["reported"]))
    operator = sdk(people, BOOTSTRAP_API_KEY).admin.organization.usage
    both = operator.completions(
        start_time=since, project_ids=["reported", "reported-other"], group_by=["project_id"]
    )
    assert sorted(int(each.num_model_requests) for each in results(both)) == [1, 5]


def test_it_counts_the_same_when_all_is_rolled_up(people: Cast, owner: OpenAI, since: int) -> None:
    def left() -> int:
        return int(people.gateway.query("SELECT count(*) AS n FROM proxy_usagetail")[0]["n"])

    until(lambda: left() == 0, seconds=25, what="the tail to be rolled up")
    page = owner.admin.organization.usage.completions(start_time=since - 2 * DAY)
    assert total(page, "num_model_requests") == 5


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({}, "start_time"),
        ({"start_time": "soon"}, "start_time"),
        ({"start_time": "-1"}, "start_time"),
        ({"start_time": "5", "end_time": "4"}, "end_time"),
        ({"start_time": "1", "bucket_width": "1w"}, "bucket_width"),
        ({"start_time": "1", "limit": "32"}, "limit"),
        ({"start_time": "1", "limit": "0"}, "limit"),
        ({"start_time": "1", "group_by": "colour"}, "group_by"),
        ({"start_time": "1", "page": "page_x"}, "page"),
        ({"start_time": "1", "page": "page_NS0z"}, "page"),
        ({"start_time": "1", "colour": "red"}, "colour"),
    ],
)
def test_it_refuses_a_query_that_cannot_be_meant(people: Cast, query: dict[str, str], param: str) -> None:
    answer = asked(people, "usage/completions", query, key_of("reported", "owner"))
    assert error(answer, 400)["param"] == param


@pytest.mark.parametrize("path", [*(f"usage/{name}" for name in KINDS), "costs"])
def test_it_answers_at_every_spelling_of_a_path_and_nobody_without_a_key(people: Cast, path: str) -> None:
    key = key_of("reported", "viewer")
    query = {"start_time": "1700000000", "end_time": "1760000000", "group_by[]": "project_id", "limit": "2"}
    answers = [
        asked(people, f"{path}{end}", query, key, prefix) for prefix in ("/v1", "") for end in ("", "/")
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.text for answer in answers} == {answers[0].text}
    assert answers[0].headers["x-request-id"]
    assert len(answers[0].json()["data"]) == 2
    assert error(asked(people, path, query, None), 401)["code"] == "missing_api_key"
    assert error(asked(people, path, query, "sk-nobody"), 401)["code"] == "invalid_api_key"
    assert error(asked(people, path, query, "tests-reported-security-key"), 403)
    url = f"{people.gateway.url}/v1/organization/{path}"
    assert error(httpx.post(url, headers={"authorization": f"Bearer {key}"}, trust_env=False), 405)
    asked_before = httpx.options(url, headers={"origin": "https://tools.test"}, trust_env=False)
    assert asked_before.status_code == 204
    assert "authorization" in asked_before.headers["access-control-allow-headers"]


def asked(
    people: Cast, path: str, query: dict[str, str], key: str | None, prefix: str = "/v1"
) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    url = f"{people.gateway.url}{prefix}/organization/{path}"
    return httpx.get(url, params=query, headers=headers, trust_env=False)
