"""Responses that are remembered, alike over an upstream that has them, one that only chats, and the demo."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from proxy import sse
from tests import open_responses
from tests.deadline import until
from tests.server import Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

RESPONSES = "/v1/responses"
COMPACT = f"{RESPONSES}/compact"
MODELS = ("gpt-test", "chatting", "demo")
pytestmark = pytest.mark.usefixtures("chatting")
each_kind = pytest.mark.parametrize("model", MODELS)


def sent(upstream: ScriptedUpstream) -> dict[str, Any]:
    """What the upstream was asked last."""
    document: dict[str, Any] = upstream.calls()[-1].document
    return document


def texts(document: dict[str, Any]) -> list[str]:
    """What was said so far, as the upstream was told it."""
    said = document.get("messages") or document["input"]
    return [_text(each["content"]) for each in said]


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


@each_kind
def test_it_chains_twenty_turns(alice: Person, upstream: ScriptedUpstream, model: str) -> None:
    previous = None
    for number in range(20):
        response = alice.sdk.responses.create(
            model=model, input=f"Turn {number}.", previous_response_id=previous or openai.omit
        )
        assert response.previous_response_id == previous
        previous = response.id
    assert response.output_text
    if model != "demo":
        said = texts(sent(upstream))
        assert said[::2] == [f"Turn {number}." for number in range(20)]
        assert len(said) == 39


@each_kind
def test_it_streams_what_it_would_have_answered(alice: Person, model: str) -> None:
    with alice.sdk.responses.stream(model=model, input="Hello") as stream:
        events = list(stream)
        final = stream.get_final_response()
    whole = alice.sdk.responses.create(model=model, input="Hello")
    assert events[0].type == "response.created"
    assert final.output_text == whole.output_text
    assert final.id == events[0].response.id
    assert whole.usage is not None
    assert final.usage == whole.usage


@each_kind
@pytest.mark.parametrize("stream", [False, True])
def test_everything_is_valid(alice: Person, model: str, stream: bool) -> None:
    tools = [{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}]
    document = {"model": model, "input": "Hello", "stream": stream, "tools": tools, "instructions": "Be."}
    response = alice.http.post(RESPONSES, json=document)
    assert response.status_code == 200
    if stream:
        assert open_responses.stream_faults(response.content) == []
    else:
        assert open_responses.faults(response.json(), "ResponseResource") == []


def test_an_upstream_is_called_statelessly(alice: Person, upstream: ScriptedUpstream) -> None:
    first = alice.sdk.responses.create(model="gpt-test", input="One.", metadata={"a": "b"})
    alice.sdk.responses.create(model="gpt-test", input="Two.", previous_response_id=first.id)
    document = sent(upstream)
    assert document["store"] is False
    assert not {"previous_response_id", "conversation", "background", "metadata"} & document.keys()
    assert "resp_" not in str(document)


def test_it_goes_on_from_any_response_of_a_chain(alice: Person, upstream: ScriptedUpstream) -> None:
    sdk = alice.sdk
    first = sdk.responses.create(model="gpt-test", input="One.")
    sdk.responses.create(model="gpt-test", input="Two.", previous_response_id=first.id)
    sdk.responses.create(model="gpt-test", input="Another two.", previous_response_id=first.id)
    assert texts(sent(upstream))[::2] == ["One.", "Another two."]


def test_instructions_are_each_calls_own(alice: Person, upstream: ScriptedUpstream) -> None:
    first = alice.sdk.responses.create(model="gpt-test", input="One.", instructions="Be brief.")
    second = alice.sdk.responses.create(model="gpt-test", input="Two.", previous_response_id=first.id)
    assert (first.instructions, second.instructions) == ("Be brief.", None)
    assert "instructions" not in sent(upstream)


def test_what_is_not_stored_cannot_be_continued(gateway: Gateway, alice: Person) -> None:
    before = gateway.query("SELECT count(*) AS n FROM threads_item")
    response = alice.sdk.responses.create(model="gpt-test", input="One.", store=False)
    assert response.store is False  # type: ignore[attr-defined]
    with pytest.raises(openai.NotFoundError) as refused:
        alice.sdk.responses.create(model="gpt-test", input="Two.", previous_response_id=response.id)
    assert refused.value.code == "previous_response_not_found"
    assert refused.value.param == "previous_response_id"
    assert gateway.query("SELECT count(*) AS n FROM threads_item") == before


def test_a_conversation_gathers_what_is_said_in_it(alice: Person, upstream: ScriptedUpstream) -> None:
    conversation = alice.sdk.conversations.create()
    for number, store in enumerate((True, False, True)):
        response = alice.sdk.responses.create(
            model="gpt-test", input=f"Turn {number}.", conversation=conversation.id, store=store
        )
        assert response.conversation is not None
        assert response.conversation.id == conversation.id
    assert texts(sent(upstream))[::2] == ["Turn 0.", "Turn 1.", "Turn 2."]


def test_a_call_that_fails_is_not_stored(gateway: Gateway, alice: Person) -> None:
    before = gateway.query("SELECT count(*) AS n FROM threads_storedresponse")
    for stream in (False, True):
        body = {"model": "gpt-test+status=400", "input": "x", "stream": stream}
        assert alice.http.post(RESPONSES, json=body).status_code == 400
    assert gateway.query("SELECT count(*) AS n FROM threads_storedresponse") == before


def test_a_stream_that_breaks_is_stored_as_failed(alice: Person) -> None:
    document = {"model": "gpt-test+cut=5+pace=20", "input": "x", "stream": True}
    response = alice.http.post(RESPONSES, json=document)
    last = json.loads(sse.data(list(sse.split(response.content))[-1]))
    assert last["type"] == "response.failed"
    kept = alice.sdk.responses.retrieve(last["response"]["id"])
    assert kept.status == "failed"
    assert kept.error is not None


def test_a_tool_output_that_answers_nothing_is_refused(alice: Person, upstream: ScriptedUpstream) -> None:
    output = {"type": "function_call_output", "call_id": "call_unknown", "output": "1"}
    response = alice.http.post(RESPONSES, json={"model": "gpt-test", "input": [output]})
    assert response.status_code == 400
    assert "call_unknown" in response.json()["error"]["message"]
    assert upstream.calls() == []


@pytest.mark.parametrize(
    "members",
    [
        {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
        {"tools": [{"type": "code_interpreter", "container": "cntr_1"}]},
        {"prompt": {"id": "pmpt_1"}},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
    ],
)
def test_ids_of_an_upstreams_objects_are_refused(
    alice: Person, upstream: ScriptedUpstream, members: dict[str, Any]
) -> None:
    response = alice.http.post(RESPONSES, json={"model": "gpt-test", "input": "x", **members})
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith(next(iter(members)))
    assert upstream.calls() == []


def test_a_tool_that_only_some_upstreams_have_is_refused_by_name(alice: Person) -> None:
    body = {"model": "chatting", "input": "x", "tools": [{"type": "web_search"}]}
    error = alice.http.post(RESPONSES, json=body).json()["error"]
    assert "web_search" in error["message"]
    assert alice.http.post(RESPONSES, json={**body, "model": "gpt-test"}).status_code == 200


def test_items_may_be_sent_by_reference(alice: Person, charlie: Person, upstream: ScriptedUpstream) -> None:
    said = alice.sdk.responses.create(model="gpt-test", input="One.").output[0]
    given: list[dict[str, Any]] = [{"type": "item_reference", "id": said.id}]
    given.append({"role": "user", "content": "Two."})
    body = {"model": "gpt-test", "input": given}
    assert alice.http.post(RESPONSES, json=body).status_code == 200
    assert len(texts(sent(upstream))) == 2
    theirs = charlie.http.post(RESPONSES, json=body)
    given[0] = {**given[0], "id": "msg_" + "0" * 32}
    unknown = charlie.http.post(RESPONSES, json=body)
    assert (theirs.status_code, theirs.content) == (404, unknown.content)


# Counting, and making one item of many


@each_kind
def test_it_counts_an_input(alice: Person, model: str) -> None:
    counted = alice.http.post(f"{RESPONSES}/input_tokens", json={"model": model, "input": "Hello there."})
    assert counted.json()["object"] == "response.input_tokens"
    assert counted.json()["input_tokens"] > 0
    assert counted.json()["estimated"] is True


@each_kind
def test_a_compacted_window_goes_on(
    alice: Person, bob: Person, charlie: Person, upstream: ScriptedUpstream, model: str
) -> None:
    first = alice.sdk.responses.create(model=model, input="My name is Ada.")
    compacted = alice.http.post(COMPACT, json={"model": model, "previous_response_id": first.id}).json()
    assert open_responses.faults(compacted, "CompactResource") == []
    assert [item["type"] for item in compacted["output"]] == ["message", "compaction"]
    window = [*compacted["output"], {"role": "user", "content": "Who am I?"}]
    assert bob.http.post(RESPONSES, json={"model": model, "input": window}).status_code == 200
    if model != "demo":
        assert "Summary of the conversation" in texts(sent(upstream))[1]
    assert charlie.http.post(RESPONSES, json={"model": model, "input": window}).status_code == 400


def test_compacting_needs_a_model(alice: Person) -> None:
    response = alice.http.post(COMPACT, json={"input": "x"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "model")


@pytest.mark.parametrize("path", ["/input_tokens", "/compact"])
def test_each_is_on_record_once(gateway: Gateway, alice: Person, path: str) -> None:
    response = alice.http.post(RESPONSES + path, json={"model": "gpt-test", "input": "x"})
    record = gateway.usage_of(response.headers["x-request-id"])
    assert record["status"] == "completed"
    assert record["endpoint"] == "responses" + path.replace("/", ".")


def test_compacting_is_under_a_budget(gateway: Gateway) -> None:
    (owner,) = gateway.tenant("compacting")
    budget = {"scope": "tenant", "amount_usd": "0.001", "period": "total"}
    prices = {"input_per_million": "1", "output_per_million": "1000"}
    routes = [{"upstream": "openai", "model": "gpt-test"}]
    model = {"name": "compacted", "routes": routes, "prices": prices}
    gateway.configure({"tenants": [{"slug": "compacting", "budgets": [budget]}], "models": [model]})

    def refused() -> str | None:
        """A Redis that is new for two seconds cannot tell what is left (docs/errors.md)."""
        code = owner.http.post(COMPACT, json={"model": "compacted", "input": "x"}).json()["error"]["code"]
        return None if code == "budget_unavailable" else str(code)

    assert until(refused, seconds=5) == "insufficient_quota"


def test_encrypted_reasoning_goes_back_without_an_id_and_open_reasoning_with_one_of_ours(
    alice: Person, upstream: ScriptedUpstream
) -> None:
    sealed = {"type": "reasoning", "id": "rs_theirs", "summary": [], "encrypted_content": "gAAA"}
    told: dict[str, Any] = {"type": "reasoning", "id": "rs_theirs", "summary": []}
    told["content"] = [{"type": "reasoning_text", "text": "Hm."}]
    given = [sealed, told, {"role": "user", "content": "x"}]
    body = {"model": "gpt-test", "input": given, "store": False}
    assert alice.http.post(RESPONSES, json=body).status_code == 200
    first, second, _ = upstream.calls()[0].document["input"]
    assert "id" not in first
    assert second["id"].startswith("rs_")
    assert second["id"] != "rs_theirs"


def test_an_upstream_that_refuses_a_chat_too_is_not_taken_for_one_that_only_chats(
    alice: Person, upstream: ScriptedUpstream
) -> None:
    body = {"model": "gpt-test+status=404", "input": "x"}
    assert alice.http.post(RESPONSES, json=body).status_code == 404
    assert alice.http.post(RESPONSES, json={"model": "gpt-test", "input": "x"}).status_code == 200
    assert [call.path for call in upstream.calls(model="gpt-test")] == ["/v1/responses"]
