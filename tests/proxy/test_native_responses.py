"""Responses over an upstream that speaks them: what it is asked, and what becomes of what it says."""

from __future__ import annotations

import json
from typing import Any

import openai
import pydantic
import pytest

from proxy import sse
from tests import open_responses
from tests.server import UPSTREAM_API_KEY, Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

Document = dict[str, Any]

RESPONSES = "/v1/responses"
ENCRYPTED = "reasoning.encrypted_content"
LOOK: Document = {
    "type": "function",
    "name": "look",
    "parameters": {"type": "object", "properties": {"where": {"type": "string"}}},
    "strict": False,
}
NOTE: Document = {"type": "custom", "name": "note"}
HOSTED: list[Document] = [
    {"type": "web_search"},
    {"type": "code_interpreter", "container": {"type": "auto"}},
]


class Place(pydantic.BaseModel):
    where: str
    far: int


def told(person: Person, model: str, **members: Any) -> list[Document]:
    """The events of a stream."""
    body = {"model": model, "input": "Hello", "stream": True, **members}
    content = person.http.post(RESPONSES, json=body).content
    return [json.loads(sse.data(event)) for event in sse.split(content) if sse.data(event)]


def whole(person: Person, model: str, **members: Any) -> Document:
    document: Document = person.http.post(
        RESPONSES, json={"model": model, "input": "Hello", **members}
    ).json()
    return document


@pytest.mark.parametrize(
    "options",
    [
        *("reasoning=summary", "reasoning=content", "tools", "tools+reasoning=summary", "spaces", "private"),
        *("sparse", "sparse+tools", "sparse+reasoning=content", "usage=missing", "escaped", "noencrypted"),
        *("ends=incomplete", "ends=failed", "ends=error", "cut=7+pace=20", "end=6", "crlf"),
    ],
)
def test_whatever_it_sends_is_valid_and_names_nothing_of_its_own(alice: Person, options: str) -> None:
    body = {"model": f"gpt-test+{options}", "input": "Hello", "stream": True, "tools": [LOOK]}
    content = alice.http.post(RESPONSES, json=body).content
    events = b"".join(event for event in sse.split(content) if sse.data(event))
    assert open_responses.stream_faults(events) == []
    assert b"upstream1" not in content
    assert b"gguf" not in content
    answer = alice.http.post(RESPONSES, json={**body, "stream": False})
    if answer.status_code == 200:
        assert open_responses.faults(answer.json(), "ResponseResource") == []
    assert "upstream1" not in answer.text


@pytest.mark.parametrize("stream", [False, True])
def test_hosted_tools_are_its_own_and_its_objects_are_not_named(
    alice: Person, upstream: ScriptedUpstream, stream: bool
) -> None:
    body = {"model": "gpt-test", "input": "Hello", "stream": stream, "tools": HOSTED}
    response = alice.http.post(RESPONSES, json=body)
    assert "upstream1" not in response.text
    assert upstream.call("gpt-test").document["tools"] == HOSTED
    made = response.json() if not stream else told(alice, "gpt-test", tools=HOSTED)[-1]["response"]
    search, code, message = made["output"]
    assert [item["id"].partition("_")[0] for item in (search, code, message)] == ["ws", "ci", "msg"]
    assert message["content"][0]["annotations"][0]["container_id"] == code["container_id"]


def test_a_tool_goes_round(alice: Person, upstream: ScriptedUpstream) -> None:
    model, sdk, tools = "gpt-test+tools+reasoning=summary", alice.sdk, [LOOK, NOTE]
    options: Any = {"model": model, "tools": tools}
    with sdk.responses.stream(input="Look.", **options) as stream:
        asked = stream.get_final_response()
    thought, look, note = asked.output
    assert thought.type == "reasoning"
    assert look.type == "function_call"
    assert note.type == "custom_tool_call"
    results: Any = [
        {"type": "function_call_output", "call_id": look.call_id, "output": "far"},
        {"type": "custom_tool_call_output", "call_id": note.call_id, "output": "noted"},
    ]
    answer = sdk.responses.create(input=results, previous_response_id=asked.id, **options)
    assert answer.output_text == "w1 w2 w3 w4 w5"
    sent = upstream.call(model).document
    kinds = [item.get("type", "message") for item in sent["input"]]
    calls = ["function_call", "custom_tool_call"]
    assert kinds == ["message", "reasoning", *calls, *(f"{kind}_output" for kind in calls)]
    assert sent["store"] is False


def test_its_reasoning_goes_back_encrypted(alice: Person, upstream: ScriptedUpstream) -> None:
    model = "gpt-test+reasoning=summary"
    first = whole(alice, model)
    assert ENCRYPTED in upstream.call(model).document["include"]
    assert "gAAA" not in json.dumps(first)
    second = whole(alice, model, previous_response_id=first["id"])
    assert second["status"] == "completed"
    (thought,) = [item for item in upstream.call(model).document["input"] if item.get("type") == "reasoning"]
    assert thought["encrypted_content"] == "gAAA-upstream"


def test_its_encrypted_reasoning_is_shown_to_who_asks(alice: Person) -> None:
    model, included = "gpt-test+reasoning=summary", {"include": [ENCRYPTED], "store": False}
    shown = whole(alice, model, **included)["output"][0]
    assert shown["encrypted_content"] == "gAAA-upstream"
    done = [event for event in told(alice, model, **included) if event["type"] == "response.output_item.done"]
    assert done[0]["item"]["encrypted_content"] == "gAAA-upstream"


def test_a_model_that_cannot_encrypt_is_asked_without(alice: Person, upstream: ScriptedUpstream) -> None:
    model = "gpt-test+noencrypted"
    assert whole(alice, model)["status"] == "completed"
    assert ENCRYPTED not in upstream.call(model).document.get("include", [])


def test_a_schema_is_kept_to(alice: Person) -> None:
    for model in ("gpt-test+schema", "gpt-test+schema+sparse"):
        with alice.sdk.responses.stream(model=model, input="Where?", text_format=Place) as stream:
            assert stream.get_final_response().output_parsed == Place(where="word", far=7)


def test_a_response_that_is_cut_short_says_why(alice: Person) -> None:
    made = told(alice, "gpt-test+ends=incomplete")[-1]
    assert made["type"] == "response.incomplete"
    assert made["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert made["response"]["output"][0]["status"] == "incomplete"
    assert whole(alice, "gpt-test+ends=incomplete")["status"] == "incomplete"


@pytest.mark.parametrize("ends", ["ends=failed", "ends=error", "error_after=7", "cut=7+pace=20", "end=7"])
def test_a_response_that_fails_says_so_last(gateway: Gateway, alice: Person, ends: str) -> None:
    events = told(alice, f"gpt-test+{ends}+tag=failing")
    assert events[-1]["type"] == "response.failed"
    failed = events[-1]["response"]
    assert failed["status"] == "failed"
    assert failed["error"]["message"]
    assert "".join(part["text"] for part in failed["output"][0]["content"]).startswith("w1")
    record = gateway.usage_of(failed["id"].removeprefix("resp_"))
    assert record["status"] in ("failed", "truncated")


def test_a_failure_names_our_model(alice: Person) -> None:
    failed = told(alice, "gpt-test+ends=failed")[-1]["response"]
    assert failed["model"] == "gpt-test+ends=failed"


def test_a_whole_response_that_failed_is_an_error(alice: Person) -> None:
    with pytest.raises(openai.InternalServerError, match="broke down"):
        alice.sdk.with_options(max_retries=0).responses.create(model="gpt-test+ends=failed", input="x")


def test_what_it_counts_is_what_was_counted(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream
) -> None:
    """By an upstream of its own: of the shared one it may be known by now that it does not count."""
    counts = {"name": "counts", "dialect": "openai", "base_url": upstream.url, "api_key": UPSTREAM_API_KEY}
    route = {"upstream": "counts", "model": "gpt-test+counts+prompt=77"}
    gateway.configure({"upstreams": [counts], "models": [{"name": "counting", "routes": [route]}]})
    counted = alice.http.post(f"{RESPONSES}/input_tokens", json={"model": "counting", "input": "Hello"})
    assert counted.json() == {"object": "response.input_tokens", "input_tokens": 77}
