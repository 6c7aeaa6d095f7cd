"""Responses that are made in the background: queued, made, followed, cancelled, refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.deadline import until
from tests.server import Gateway, Person, Row
from tests.upstreams.scripted import ScriptedUpstream
from threads.item_ids import uuid_of

Document = dict[str, Any]
RESPONSES = "/v1/responses"
SLOW = "gpt-test+pace=100+words=20"


def asked(model: str = "gpt-test", **more: object) -> Document:
    return {"model": model, "input": "Say something.", "background": True, **more}


def queue(person: Person, model: str = "gpt-test", **more: object) -> Document:
    """The response as its caller gets it at once."""
    response = person.http.post(RESPONSES, json=asked(model, **more))
    assert response.status_code == 200, response.text
    document: Document = response.json()
    return document


def look(person: Person, response_id: str) -> Document:
    """The response as it is now. The tenant's own key outlives that of whoever asked for it."""
    headers = {"authorization": f"Bearer {person.security_key}"}
    response = httpx.get(f"{person.gateway.url}{RESPONSES}/{response_id}", headers=headers, trust_env=False)
    document: Document = response.json()
    return document


def ended(person: Person, response_id: str, seconds: float = 15.0) -> Document:
    """The response once it has ended."""

    def look_again() -> Document | None:
        response = look(person, response_id)
        return response if response["status"] not in ("queued", "in_progress") else None

    return until(look_again, seconds=seconds, what=f"the end of {response_id}")


def in_progress(person: Person, response_id: str) -> None:
    until(lambda: look(person, response_id)["status"] == "in_progress", what="its beginning")


def record_of(gateway: Gateway, response_id: str, seconds: float = 5.0) -> Row:
    """Its one usage record, and no open call."""
    key = uuid_of(response_id)
    assert key is not None
    record = gateway.usage_of(str(key), seconds)
    assert gateway.query("SELECT id FROM proxy_opencall WHERE id = %s", key) == []
    return record


Events = list[Document]


def events(lines: Iterator[str]) -> Iterator[Document]:
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


@contextmanager
def stream(person: Person, response_id: str, after: int | None = None) -> Iterator[Iterator[Document]]:
    """The events of a response, as they come."""
    query = "" if after is None else f"&starting_after={after}"
    with person.http.stream("GET", f"{RESPONSES}/{response_id}?stream=true{query}") as response:
        assert response.status_code == 200, response.read()
        yield events(response.iter_lines())


def followed(person: Person, response_id: str, after: int | None = None) -> Events:
    with stream(person, response_id, after) as told:
        return list(told)


def numbers(told: Events) -> list[int]:
    return [event["sequence_number"] for event in told]


# Made


@pytest.mark.parametrize("streamed", [False, True])
def test_it_is_queued_and_then_made(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream, streamed: bool
) -> None:
    model = f"gpt-test+words=3+tag={uuid4().hex}"
    if streamed:
        with alice.http.stream("POST", RESPONSES, json=asked(model, stream=True)) as response:
            told = list(events(response.iter_lines()))
        assert told[0]["type"] == "response.created"
        assert numbers(told) == list(range(len(told)))
        made = told[-1]["response"]
    else:
        queued = queue(alice, model)
        assert (queued["status"], queued["output"], queued["background"]) == ("queued", [], True)
        made = ended(alice, queued["id"])
    assert made == look(alice, made["id"])
    assert made["status"] == "completed"
    assert made["output"][0]["content"][0]["text"] == "w1 w2 w3"
    assert len(upstream.calls(model)) == 1
    record = record_of(gateway, made["id"])
    assert (record["status"], record["estimated"], record["endpoint"]) == ("completed", False, "responses")


def test_its_id_is_that_of_its_request(alice: Person) -> None:
    response = alice.http.post(RESPONSES, json=asked())
    assert uuid_of(response.json()["id"]) == UUID(response.headers["x-request-id"])


def test_the_sdk_polls_it(alice: Person) -> None:
    response = alice.sdk.responses.create(model="gpt-test", input="Hi", background=True)
    while response.status in ("queued", "in_progress"):
        response = alice.sdk.responses.retrieve(response.id)
    assert response.status == "completed"
    assert response.output_text == "w1 w2 w3 w4 w5"


def test_the_sdk_resumes_its_stream(alice: Person) -> None:
    seen = []
    with alice.sdk.responses.create(model=SLOW, input="Hi", background=True, stream=True) as first:
        for event in first:
            seen.append(event)
            if len(seen) == 8:
                break
    assert seen[0].type == "response.created"
    rest = alice.sdk.responses.retrieve(
        seen[0].response.id, stream=True, starting_after=seen[-1].sequence_number
    )
    seen += list(rest)
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[-1].type == "response.completed"


def test_it_goes_on_from_the_previous_one(alice: Person, upstream: ScriptedUpstream) -> None:
    model = f"gpt-test+tag={uuid4().hex}"
    first = ended(alice, queue(alice, "gpt-test", input="First.")["id"])
    second = ended(alice, queue(alice, model, input="Second.", previous_response_id=first["id"])["id"])
    assert second["previous_response_id"] == first["id"]
    sent = upstream.call(model).document["input"]
    assert [item["role"] for item in sent] == ["user", "assistant", "user"]
    listed = alice.http.get(f"{RESPONSES}/{second['id']}/input_items?order=asc").json()["data"]
    assert [item["role"] for item in listed] == ["user", "assistant", "user"]


def test_its_tenants_prompt_is_put_before_it_once(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    (person,) = gateway.tenant(f"prompted-{uuid4().hex[:8]}")
    gateway.configure({"tenants": [{"slug": person.tenant, "name": "P", "system_prompt": "Be brief."}]})
    model = f"gpt-test+tag={uuid4().hex}"
    response = ended(person, queue(person, model, instructions="Rhyme.")["id"])
    assert upstream.call(model).document["instructions"] == "Be brief.\n\nRhyme."
    assert response["instructions"] == "Rhyme."


# Followed


def test_it_is_followed_from_any_event_by_several_at_once(alice: Person) -> None:
    response_id = queue(alice, SLOW)["id"]
    in_progress(alice, response_id)
    with stream(alice, response_id) as first, stream(alice, response_id, after=5) as second:
        whole = [next(first) for _ in range(4)]
        part = [next(second)]
        whole += first
        part += second
    assert numbers(whole) == list(range(len(whole)))
    assert part == whole[6:]
    assert whole[-1]["response"] == look(alice, response_id)
    assert followed(alice, response_id, after=len(whole) - 2) == whole[-1:]


def test_it_is_followed_while_it_waits(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    (person,) = one_at_a_time(gateway)
    first, second = occupied(person, upstream), queue(person)["id"]
    told = followed(person, second)
    assert numbers(told) == list(range(len(told)))
    assert told[-1]["response"]["status"] == "completed"
    assert look(person, first)["status"] == "completed"


# Cancelled


def test_it_stops_when_it_is_cancelled(gateway: Gateway, alice: Person, upstream: ScriptedUpstream) -> None:
    model = f"{SLOW}+tag={uuid4().hex}"
    response_id = queue(alice, model)["id"]
    with stream(alice, response_id) as told:
        assert next(told)["type"] == "response.created"
        cancelled = alice.http.post(f"{RESPONSES}/{response_id}/cancel")
        last = list(told)[-1]
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert last["response"]["status"] == "cancelled"
    assert upstream.ended(model).ending == "left"
    assert record_of(gateway, response_id)["status"] == "cancelled"


def test_it_is_never_made_when_it_is_cancelled_before(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    (person,) = one_at_a_time(gateway)
    model = f"gpt-test+tag={uuid4().hex}"
    first, second = occupied(person, upstream), queue(person, model)["id"]
    until(lambda: look(person, second)["status"] == "queued", what="that it waits")
    assert person.http.post(f"{RESPONSES}/{second}/cancel").json()["status"] == "cancelled"
    assert ended(person, first)["status"] == "completed"
    assert followed(person, second)[-1]["response"]["status"] == "cancelled"
    assert upstream.calls(model) == []
    assert gateway.usage("model = %s", model) == []


def test_it_stops_when_it_is_deleted(gateway: Gateway, alice: Person, upstream: ScriptedUpstream) -> None:
    model = f"{SLOW}+tag={uuid4().hex}"
    response_id = queue(alice, model)["id"]
    upstream.call(model)
    assert alice.http.delete(f"{RESPONSES}/{response_id}").status_code == 200
    assert upstream.ended(model).ending == "left"
    assert record_of(gateway, response_id)["status"] == "cancelled"
    assert alice.http.get(f"{RESPONSES}/{response_id}").status_code == 404


# Refused


@pytest.mark.parametrize(
    ("more", "status", "param"),
    [
        ({"store": False}, 400, "background"),
        ({"previous_response_id": f"resp_{uuid4().hex}"}, 404, "previous_response_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, 400, "input"),
    ],
)
def test_what_is_wrong_is_said_at_once(
    gateway: Gateway, alice: Person, more: Document, status: int, param: str
) -> None:
    before = gateway.query("SELECT count(*) AS rows FROM threads_storedresponse")
    response = alice.http.post(RESPONSES, json=asked(**more) | more)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)
    assert gateway.query("SELECT count(*) AS rows FROM threads_storedresponse") == before


def test_a_key_queues_nothing_for_a_model_that_it_may_not_use(gateway: Gateway) -> None:
    (person,) = gateway.tenant(f"narrow-{uuid4().hex[:8]}")
    key = {"name": "owner", "user": f"owner@{person.tenant}.test", "models": ["gpt-other"]}
    gateway.configure({"tenants": [{"slug": person.tenant, "name": "Narrow", "api_keys": [key]}]})
    until(lambda: person.http.post(RESPONSES, json=asked()).status_code == 403, what="a narrower key")
    rows = gateway.query("SELECT count(*) AS rows FROM threads_storedresponse WHERE model = 'gpt-test'")
    refused = person.http.post(RESPONSES, json=asked())
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
    assert rows == gateway.query(
        "SELECT count(*) AS rows FROM threads_storedresponse WHERE model = 'gpt-test'"
    )


def test_it_fails_as_its_upstream_does(gateway: Gateway, alice: Person) -> None:
    response = ended(alice, queue(alice, "gpt-test+status=400")["id"])
    assert response["status"] == "failed"
    assert response["error"]["message"]
    assert record_of(gateway, response["id"])["status"] == "failed"
    assert followed(alice, response["id"])[-1]["type"] == "response.failed"


def test_it_fails_in_the_middle_as_its_upstream_does(gateway: Gateway, alice: Person) -> None:
    response = ended(alice, queue(alice, "gpt-test+cut=6")["id"])
    assert (response["status"], response["error"]["code"]) == ("failed", "upstream_truncated")
    assert record_of(gateway, response["id"])["status"] == "truncated"


def test_it_waits_for_its_limits(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    (person,) = one_at_a_time(gateway)
    model = f"gpt-test+delay=300+tag={uuid4().hex}"
    ids = [queue(person, model)["id"] for _ in range(3)]
    assert [ended(person, each, 30)["status"] for each in ids] == ["completed"] * 3
    spans = sorted((call.at, call.ended_at or 0.0) for call in upstream.calls(model))
    assert len(spans) == 3
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans))
    for each in ids:
        assert record_of(gateway, each)["status"] == "completed"


def one_at_a_time(gateway: Gateway) -> list[Person]:
    """Somebody of a tenant of their own, whose calls run one after the other."""
    people = gateway.tenant(f"serial-{uuid4().hex[:8]}")
    limits = [{"scope": "tenant", "concurrent": 1}]
    gateway.configure({"tenants": [{"slug": people[0].tenant, "name": "Serial", "limits": limits}]})
    return people


def occupied(person: Person, upstream: ScriptedUpstream) -> str:
    """A response that takes two seconds, and has reached its upstream."""
    model = f"{SLOW}+tag={uuid4().hex}"
    response_id: str = queue(person, model)["id"]
    upstream.call(model)
    return response_id


def test_it_fails_when_its_budget_is_spent(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    (person,) = gateway.tenant(f"poor-{uuid4().hex[:8]}")
    model, prices = f"dear-{uuid4().hex}", {"input_per_million": "1000000", "output_per_million": "1000000"}
    routes = [{"upstream": "openai", "model": "gpt-test"}]
    budget = {"scope": "tenant", "amount_usd": "0.01", "period": "total"}
    gateway.configure(
        {
            "tenants": [{"slug": person.tenant, "name": "Poor", "budgets": [budget]}],
            "models": [{"name": model, "routes": routes, "prices": prices}],
        }
    )
    response = ended(person, queue(person, model)["id"])
    assert (response["status"], response["error"]["code"]) == ("failed", "insufficient_quota")
    assert gateway.usage("model = %s", model) == []


def test_it_fails_when_its_key_is_revoked_meanwhile(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    (person,) = one_at_a_time(gateway)
    first, second = occupied(person, upstream), queue(person)["id"]
    of_tenant = "WHERE tenant_id = (SELECT id FROM accounts_tenant WHERE slug = %s)"
    gateway.query(f"UPDATE accounts_apikey SET revoked_at = created_at {of_tenant}", person.tenant)
    assert ended(person, second)["error"]["code"] == "invalid_api_key"
    assert ended(person, first)["status"] == "completed"


def test_a_tenant_may_have_a_thousand_of_them_waiting(gateway: Gateway) -> None:
    (person,) = one_at_a_time(gateway)
    response_id = queue(person)["id"]
    ended(person, response_id)
    copy_row(gateway, response_id, 1000)
    response = person.http.post(RESPONSES, json=asked())
    assert (response.status_code, response.json()["error"]["code"]) == (429, "queue_full")
    gateway.query("DELETE FROM threads_storedresponse WHERE status = 'queued'")


def copy_row(gateway: Gateway, response_id: str, count: int) -> None:
    """As many responses more, which wait until far from now."""
    key = uuid_of(response_id)
    [row] = gateway.query("SELECT * FROM threads_storedresponse WHERE id = %s", key)
    new = {
        "id": "gen_random_uuid()" if gateway.database_url else "lower(hex(randomblob(16)))",
        "status": "'queued'",
        "not_before": "'2100-01-01'",
    }
    columns = ", ".join(f'"{name}"' for name in row)
    values = ", ".join(new.get(name, f'"{name}"') for name in row)
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
    gateway.query(
        f"INSERT INTO threads_storedresponse ({columns}) {numbers} "
        f"SELECT {values} FROM threads_storedresponse, n WHERE id = %s",
        key,
    )


# Repeated


def test_a_key_makes_it_once(gateway: Gateway, alice: Person, upstream: ScriptedUpstream) -> None:
    model, headers = f"gpt-test+tag={uuid4().hex}", {"idempotency-key": uuid4().hex}
    first, again = (alice.http.post(RESPONSES, json=asked(model), headers=headers) for _ in range(2))
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["x-tollgate-idempotent-replay"] == "true"
    ended(alice, first.json()["id"])
    assert len(upstream.calls(model)) == 1


def test_a_stream_takes_no_key(alice: Person) -> None:
    headers = {"idempotency-key": uuid4().hex}
    response = alice.http.post(RESPONSES, json=asked(stream=True), headers=headers)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "Idempotency-Key")
