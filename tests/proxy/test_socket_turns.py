"""Turns that go on from each other on a WebSocket, alike over every kind of upstream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import AsyncOpenAI

from proxy import sse
from tests import open_responses
from tests.proxy.test_responses import each_kind, sent, texts
from tests.server import Gateway, Person
from tests.sockets import Event, connected_as
from tests.upstreams.scripted import ScriptedUpstream

pytestmark = pytest.mark.usefixtures("chatting")
UNKNOWN = "resp_01a1fde70e7272a68ce865fe153af2df"


def faults(events: list[Event]) -> list[str]:
    """What keeps the events of a turn from those that the specification knows."""
    found = [fault for event in events for fault in event_faults(event)]
    numbers = [event["sequence_number"] for event in events if "status" not in event]
    return found + ([] if numbers == list(range(len(numbers))) else [f"numbered {numbers}"])


def event_faults(event: Event) -> list[str]:
    if "status" in event:
        return open_responses.faults(event, "WebSocketErrorEvent")
    return open_responses.event_faults(event)


def is_not_found(event: Event) -> bool:
    """Whether it says that there is no such Response to go on from."""
    error = event.get("error") or {}
    return (event["type"], event.get("status"), error.get("code"), error.get("param")) == (
        *("error", 400),
        *("previous_response_not_found", "previous_response_id"),
    )


def items_stored(gateway: Gateway) -> int:
    return int(gateway.query("SELECT count(*) AS n FROM threads_item")[0]["n"])


@each_kind
@pytest.mark.parametrize("store", [True, False])
def test_one_response_is_whole_and_valid(alice: Person, model: str, store: bool) -> None:
    tools = [{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}]
    with connected_as(alice) as client:
        events = client.turn(model, store=store, tools=tools, instructions="Be.", metadata={"a": "b"})
    assert faults(events) == []
    assert events[0]["type"] == "response.created"
    last = events[-1]["response"]
    assert open_responses.faults(last, "ResponseResource") == []
    assert (last["status"], last["store"], last["metadata"]) == ("completed", store, {"a": "b"})
    assert last["output"]
    assert (alice.http.get(f"/v1/responses/{last['id']}").status_code == 200) is store


@each_kind
def test_what_is_stored_is_what_was_told(alice: Person, model: str) -> None:
    with connected_as(alice) as client:
        response = client.response(model)
    assert alice.http.get(f"/v1/responses/{response['id']}").json() == response


def test_a_turn_may_be_followed_over_http(alice: Person) -> None:
    with connected_as(alice) as client:
        events = client.turn()
    path = f"/v1/responses/{events[0]['response']['id']}"
    followed = alice.http.get(path, params={"stream": "true"}).content
    assert [json.loads(sse.data(event)) for event in sse.split(followed) if sse.data(event)] == events


@each_kind
@pytest.mark.parametrize("store", [True, False])
def test_turns_go_on_from_each_other(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream, model: str, store: bool
) -> None:
    before = items_stored(gateway)
    previous = None
    with connected_as(alice) as client:
        for number in range(5):
            events = client.turn(
                model, input=f"Turn {number}.", store=store, previous_response_id=previous, metadata=None
            )
            assert faults(events) == []
            response = events[-1]["response"]
            assert response["previous_response_id"] == previous
            previous = response["id"]
    if model != "demo":
        assert texts(sent(upstream))[::2] == [f"Turn {number}." for number in range(5)]
        assert len(texts(sent(upstream))) == 9
    assert items_stored(gateway) - before == (10 if store else 0)


@each_kind
def test_a_new_connection_goes_on_from_what_is_stored_and_from_nothing_else(
    alice: Person, upstream: ScriptedUpstream, model: str
) -> None:
    with connected_as(alice) as client:
        stored = client.response(model, input="One.")
        unstored = client.response(model, input="Unheard.", store=False)
    with connected_as(alice) as again:
        refusal = again.refusal(model, previous_response_id=unstored["id"], store=False)
        assert faults([refusal]) == []
        assert is_not_found(refusal)
        assert again.response(model, input="Two.", previous_response_id=stored["id"], store=False)
    if model != "demo":
        assert texts(sent(upstream))[::2] == ["One.", "Two."]


def test_what_does_not_exist_and_what_is_a_neighbours_are_the_same(alice: Person, charlie: Person) -> None:
    with connected_as(charlie) as client:
        theirs = client.response()["id"]
        local = client.response(store=False)["id"]
        with connected_as(alice) as mine:
            refusals = [
                mine.refusal(previous_response_id=each)
                for each in (UNKNOWN, theirs, local, "resp_upstream1", "nonsense", "resp_" + "é" * 40)
            ]
        assert client.response(previous_response_id=local)
    for refusal in refusals:
        assert is_not_found(refusal)
        del refusal["error"]["headers"]["x-request-id"]
        assert refusal == refusals[0]


FAILING: list[dict[str, Any]] = [
    {"model": "gpt-test+status=400"},
    {"model": "gpt-test+status=500"},
    {"model": "gpt-test+cut=4"},
    {"model": ""},
    {"input": [{"type": "function_call_output", "call_id": "call_unknown", "output": "1"}]},
    {"input": 5},
    {"stream": True},
    {"background": True},
]


@pytest.mark.parametrize("wrong", FAILING, ids=json.dumps)
def test_a_continuation_that_fails_ends_the_chain(alice: Person, wrong: dict[str, Any]) -> None:
    with connected_as(alice) as client:
        first = client.response(store=False)
        asked = {"model": "gpt-test", "store": False, "previous_response_id": first["id"], **wrong}
        failed = client.turn(**asked)
        assert failed[-1]["type"] in ("error", "response.failed")
        assert [fault for event in failed for fault in event_faults(event)] == []
        assert is_not_found(client.refusal(store=False, previous_response_id=first["id"]))
        assert client.response(store=False)


def test_a_turn_that_fails_by_itself_ends_no_chain(alice: Person, upstream: ScriptedUpstream) -> None:
    with connected_as(alice) as client:
        first = client.response(input="One.", store=False)
        for wrong in FAILING:
            assert (
                client.turn(**{"model": "gpt-test", "store": False, **wrong})[-1]["type"]
                != "response.completed"
            )
        client.response(input="Two.", store=False, previous_response_id=first["id"])
    assert texts(sent(upstream))[::2] == ["One.", "Two."]


def test_a_stored_response_outlives_a_continuation_that_failed(alice: Person) -> None:
    with connected_as(alice) as client:
        first = client.response()
        client.refusal("gpt-test+status=400", previous_response_id=first["id"])
        assert client.response(previous_response_id=first["id"])


def test_only_the_last_response_is_remembered(alice: Person) -> None:
    with connected_as(alice) as client:
        first = client.response(store=False)
        second = client.response(store=False, previous_response_id=first["id"])
        assert is_not_found(client.refusal(previous_response_id=first["id"]))
        assert client.response(store=False, previous_response_id=second["id"])


def test_what_was_not_stored_is_stored_with_what_goes_on_from_it(
    alice: Person, upstream: ScriptedUpstream
) -> None:
    with connected_as(alice) as client:
        first = client.response(input="One.", store=False)
        second = client.response(input="Two.", previous_response_id=first["id"])
    alice.sdk.responses.create(model="gpt-test", input="Three.", previous_response_id=second["id"])
    assert texts(sent(upstream))[::2] == ["One.", "Two.", "Three."]


def test_a_tool_may_answer_in_the_next_turn(alice: Person, upstream: ScriptedUpstream) -> None:
    asked = {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "call_1", "output": "seen"}
    with connected_as(alice) as client:
        first = client.response(input=[{"role": "user", "content": "Look."}, asked], store=False)
        client.response(input=[output], store=False, previous_response_id=first["id"])
        told = sent(upstream)["input"]
        assert [item["type"] for item in told if "call" in item["type"]] == [asked["type"], output["type"]]
        refusal = client.refusal(input=[output], store=False)
    assert (refusal["status"], refusal["error"]["param"]) == (400, "input")


def test_a_conversation_gathers_what_is_said_on_a_socket(alice: Person, upstream: ScriptedUpstream) -> None:
    conversation = alice.http.post("/v1/conversations", json={}).json()["id"]
    with connected_as(alice) as client:
        client.response(input="One.", conversation=conversation)
        client.response(input="Two.", conversation={"id": conversation}, store=False)
        client.response(input="Three.", conversation=conversation)
    assert texts(sent(upstream))[::2] == ["One.", "Two.", "Three."]


@each_kind
@pytest.mark.parametrize("store", [True, False])
def test_a_compacted_window_begins_a_new_chain(alice: Person, model: str, store: bool) -> None:
    said = [{"type": "message", "role": "user", "content": "Remember the number 42."}]
    compacted = alice.http.post("/v1/responses/compact", json={"model": model, "input": said}).json()
    assert open_responses.faults(compacted, "CompactResource") == []
    window = [*compacted["output"], {"type": "message", "role": "user", "content": "Which number?"}]
    with connected_as(alice) as client:
        events = client.turn(model, input=window, store=store)
        assert faults(events) == []
        first = events[-1]["response"]
        assert first["previous_response_id"] is None
        assert client.response(model, input="Again.", store=store, previous_response_id=first["id"])


@each_kind
def test_a_warm_up_is_gone_on_from_and_costs_nothing(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream, model: str
) -> None:
    calls, records = len(upstream.calls()), len(gateway.usage())
    with connected_as(alice) as client:
        events = client.turn(model, input="One.", store=False, generate=False)
        assert faults(events) == []
        warm = events[-1]["response"]
        assert open_responses.faults(warm, "ResponseResource") == []
        assert (warm["status"], warm["output"], warm["store"]) == ("completed", [], False)
        assert (len(upstream.calls()), len(gateway.usage())) == (calls, records)
        assert client.response(model, input="Two.", previous_response_id=warm["id"], generate=True)["output"]
        if model != "demo":
            assert texts(sent(upstream)) == ["One.", "Two."]
            assert "generate" not in sent(upstream)
        assert is_not_found(client.refusal(model, previous_response_id=UNKNOWN, generate=False))
        assert client.refusal(model, generate="no")["error"]["param"] == "generate"


# The official SDK


@each_kind
@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")  # the SDK's own use of it
def test_the_sdk_talks_turn_after_turn(alice: Person, model: str) -> None:
    texts_told, previous = [], None
    with alice.sdk.responses.connect() as connection:
        for text in ("One.", "Two."):
            connection.response.create(model=model, input=text, store=False, previous_response_id=previous)
            for event in connection:
                if event.type == "response.completed":
                    previous = event.response.id
                    texts_told.append(event.response.output_text)
                    break
        connection.response.create(model=model, input="Three.", previous_response_id=UNKNOWN)
        refusal = connection.recv()
    assert len(texts_told) == 2
    assert all(texts_told)
    assert refusal.type == "error"
    assert (refusal.status, refusal.error.code) == (400, "previous_response_not_found")


async def test_the_asynchronous_sdk_talks_too(gateway: Gateway, alice: Person) -> None:
    types = []
    sdk = AsyncOpenAI(api_key=alice.api_key, base_url=f"{gateway.url}/v1")
    async with sdk, sdk.responses.connect() as connection:
        await connection.response.create(model="gpt-test", input="Hello")
        async for event in connection:
            types.append(event.type)
            if event.type == "response.completed":
                break
    assert types[0] == "response.created"
