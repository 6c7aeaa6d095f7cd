"""Stored responses as OpenAI's SDK looks at them again."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from proxy import sse
from tests.server import Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

Document = dict[str, Any]

MODELS = ("gpt-test", "chatting", "demo")

pytestmark = pytest.mark.usefixtures("chatting")


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    """One model of each kind of upstream."""
    name: str = request.param
    return name


@pytest.fixture
def sdk(alice: Person) -> OpenAI:
    return alice.sdk


def answered(person: Person, model: str, **asked: Any) -> Document:
    """A stored response, as its caller got it."""
    response = person.http.post("/v1/responses", json={"model": model, "input": "Hi", **asked})
    assert response.status_code == 200, response.text
    document: Document = response.json()
    return document


def streamed(person: Person, model: str, **asked: Any) -> list[Document]:
    """The events of a stored response, as its caller got them."""
    body = {"model": model, "input": "Hi", "stream": True, **asked}
    return events(person.http.post("/v1/responses", json=body))


def events(response: httpx.Response) -> list[Document]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return [json.loads(data) for event in sse.split(response.content) if (data := sse.data(event))]


def documents(page: Any) -> list[Document]:
    return [item.to_dict() for item in page]


def texts(items: list[Document]) -> list[str]:
    return [item["content"][0]["text"] for item in items]


# Retrieve


@pytest.mark.parametrize("stream", [False, True])
def test_it_is_what_its_caller_got(alice: Person, stream: bool, model: str) -> None:
    given = streamed(alice, model)[-1]["response"] if stream else answered(alice, model)
    assert alice.http.get(f"/v1/responses/{given['id']}").json() == given


def test_the_sdk_reads_it(sdk: OpenAI, model: str) -> None:
    made = sdk.responses.create(model=model, input="Hi", metadata={"topic": "demo"})
    found = sdk.responses.retrieve(made.id)
    assert found == made
    assert (found.output_text, found.metadata) == (made.output_text, {"topic": "demo"})


def test_one_that_is_not_stored_is_not_found(sdk: OpenAI, model: str) -> None:
    made = sdk.responses.create(model=model, input="Hi", store=False)
    with pytest.raises(NotFoundError) as refused:
        sdk.responses.retrieve(made.id)
    assert refused.value.body == {
        "message": "No such response.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


def test_looking_at_it_leaves_no_usage_record(gateway: Gateway, alice: Person) -> None:
    id_ = answered(alice, MODELS[0])["id"]
    looks = [
        alice.http.get(f"/v1/responses/{id_}"),
        alice.http.get(f"/v1/responses/{id_}?stream=true"),
        alice.http.get(f"/v1/responses/{id_}/input_items"),
    ]
    ids = {look.headers["x-request-id"].replace("-", "") for look in looks}
    assert not ids & {record["id"].hex for record in gateway.usage()}


# Its stream, once more


def test_its_stream_is_told_once_more(alice: Person, model: str) -> None:
    first = streamed(alice, model)
    id_ = first[-1]["response"]["id"]
    assert events(alice.http.get(f"/v1/responses/{id_}?stream=true")) == first


def test_its_stream_goes_on_after_any_event(alice: Person, model: str) -> None:
    first = streamed(alice, model)
    path = f"/v1/responses/{first[-1]['response']['id']}?stream=true"
    for number in range(len(first) - 1):
        assert events(alice.http.get(f"{path}&starting_after={number}")) == first[number + 1 :]
        header = {"last-event-id": str(number)}
        assert events(alice.http.get(path, headers=header)) == first[number + 1 :]


def test_each_event_bears_its_number_for_a_browser_to_name(alice: Person) -> None:
    id_ = streamed(alice, MODELS[0])[-1]["response"]["id"]
    told = alice.http.get(f"/v1/responses/{id_}?stream=true").content
    for event in sse.split(told):
        first, _, _ = event.partition(b"\n")
        assert first == b"id: %d" % json.loads(sse.data(event))["sequence_number"]


def test_how_far_a_browser_came_counts_more_than_where_it_began(alice: Person) -> None:
    first = streamed(alice, MODELS[0])
    path = f"/v1/responses/{first[-1]['response']['id']}?stream=true&starting_after=0"
    assert events(alice.http.get(path, headers={"last-event-id": "3"})) == first[4:]


def test_the_sdk_follows_it(sdk: OpenAI, model: str) -> None:
    made = sdk.responses.create(model=model, input="Hi")
    told = list(sdk.responses.retrieve(made.id, stream=True))
    assert told[0].type == "response.created"
    assert told[-1].type == "response.completed"
    assert told[-1].response == made
    assert [event.sequence_number for event in told] == list(range(len(told)))
    rest = list(sdk.responses.retrieve(made.id, stream=True, starting_after=4))
    assert rest == told[5:]


def test_one_that_was_never_a_stream_is_told_as_one(alice: Person, model: str) -> None:
    given = answered(alice, model)
    told = events(alice.http.get(f"/v1/responses/{given['id']}?stream=true"))
    deltas = [event["delta"] for event in told if event["type"] == "response.output_text.delta"]
    assert "".join(deltas) == given["output"][0]["content"][0]["text"]
    assert told[-1] == {
        "type": "response.completed",
        "sequence_number": len(told) - 1,
        "response": given,
    }


@pytest.mark.parametrize(
    ("query", "headers", "param"),
    [
        ("stream=perhaps", {}, "stream"),
        ("stream=true&starting_after=last", {}, "starting_after"),
        ("stream=true&starting_after=-2", {}, "starting_after"),
        ("stream=true", {"last-event-id": "msg_1"}, "Last-Event-ID"),
        ("include[]=everything", {}, "include"),
    ],
)
def test_a_query_that_cannot_be_is_refused_by_name(
    alice: Person, query: str, headers: dict[str, str], param: str
) -> None:
    refused = alice.http.get(f"/v1/responses/{answered(alice, MODELS[0])['id']}?{query}", headers=headers)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


# Delete


def test_it_is_deleted(sdk: OpenAI, alice: Person, model: str) -> None:
    made = sdk.responses.create(model=model, input="Hi")
    gone = alice.http.delete(f"/v1/responses/{made.id}")
    assert gone.json() == {"id": made.id, "object": "response", "deleted": True}
    for ask in (
        lambda: sdk.responses.retrieve(made.id),
        lambda: sdk.responses.retrieve(made.id, stream=True),
        lambda: sdk.responses.delete(made.id),
        lambda: sdk.responses.cancel(made.id),
        lambda: sdk.responses.input_items.list(made.id),
    ):
        with pytest.raises(NotFoundError):
            ask()


def test_the_sdk_deletes_it(sdk: OpenAI, model: str) -> None:
    made = sdk.responses.create(model=model, input="Hi")
    sdk.responses.delete(made.id)
    with pytest.raises(NotFoundError):
        sdk.responses.retrieve(made.id)


# Cancel


def test_one_that_its_caller_waited_for_is_not_cancelled(sdk: OpenAI, model: str) -> None:
    made = sdk.responses.create(model=model, input="Hi")
    with pytest.raises(BadRequestError, match=r"Cannot cancel a synchronous response\."):
        sdk.responses.cancel(made.id)


# Input items


def test_its_input_items_are_listed(sdk: OpenAI, model: str) -> None:
    made = sdk.responses.create(model=model, input="Hi")
    (item,) = documents(sdk.responses.input_items.list(made.id))
    assert item == {
        "id": item["id"],
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [{"type": "input_text", "text": "Hi"}],
    }


def test_its_input_items_have_the_ids_that_they_keep(sdk: OpenAI, model: str) -> None:
    made = sdk.responses.create(model=model, input="Hi")
    first, again = (documents(sdk.responses.input_items.list(made.id)) for _ in range(2))
    assert first == again
    assert first[0]["id"].startswith("msg_")


def test_the_input_items_of_a_chain_are_all_that_was_said_before(sdk: OpenAI, model: str) -> None:
    first = sdk.responses.create(model=model, input="one")
    made = sdk.responses.create(model=model, input="two", previous_response_id=first.id)
    listed = documents(sdk.responses.input_items.list(made.id, order="asc"))
    assert texts(listed) == ["one", first.output_text, "two"]
    assert [item["role"] for item in listed] == ["user", "assistant", "user"]


def test_input_items_are_listed_page_by_page(sdk: OpenAI, model: str) -> None:
    said: list[Any] = [{"role": "user", "content": str(number)} for number in range(7)]
    made = sdk.responses.create(model=model, input=said)
    newest = sdk.responses.input_items.list(made.id, limit=3)
    assert newest.has_more
    assert "".join(texts(documents(newest))) == "6543210"
    oldest = sdk.responses.input_items.list(made.id, limit=2, order="asc")
    assert "".join(texts(documents(oldest))) == "0123456"


def test_a_tools_output_is_among_the_input_items(sdk: OpenAI, model: str) -> None:
    said: list[Any] = [
        {"role": "user", "content": "Look."},
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "seen"},
    ]
    made = sdk.responses.create(model=model, input=said)
    _, call, output = documents(sdk.responses.input_items.list(made.id, order="asc"))
    assert (call["id"][:3], call["name"], call["status"]) == ("fc_", "look", "completed")
    assert (output["id"][:4], output["output"], output["status"]) == ("fco_", "seen", "completed")


@pytest.mark.parametrize(("query", "param"), [("limit=0", "limit"), ("order=up", "order")])
def test_a_page_that_cannot_be_is_refused_by_name(alice: Person, query: str, param: str) -> None:
    refused = alice.http.get(f"/v1/responses/{answered(alice, MODELS[0])['id']}/input_items?{query}")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_encrypted_reasoning_is_shown_to_those_who_ask(sdk: OpenAI, model: str) -> None:
    said: list[Any] = [
        {"type": "reasoning", "id": "rs_x", "summary": [], "encrypted_content": "xyz"},
        {"role": "user", "content": "Hi"},
    ]
    made = sdk.responses.create(model=model, input=said)
    hidden, _ = documents(sdk.responses.input_items.list(made.id, order="asc"))
    shown, _ = documents(
        sdk.responses.input_items.list(made.id, order="asc", include=["reasoning.encrypted_content"])
    )
    assert shown == {**hidden, "encrypted_content": "xyz"}
    assert "encrypted_content" not in hidden


def test_a_models_encrypted_reasoning_is_shown_to_those_who_ask(sdk: OpenAI) -> None:
    made = sdk.responses.create(model="gpt-test+reasoning=summary", input="Hi")
    hidden = sdk.responses.retrieve(made.id)
    shown = sdk.responses.retrieve(made.id, include=["reasoning.encrypted_content"])
    assert hidden == made
    (thought, *said), (asked, *answered) = hidden.output, shown.output
    assert answered == said
    assert asked.to_dict() == {**thought.to_dict(), "encrypted_content": "gAAA-upstream"}


def test_nothing_that_an_upstream_calls_things_is_ever_shown(
    alice: Person, upstream: ScriptedUpstream, model: str
) -> None:
    given = answered(alice, model)
    shown = [
        alice.http.get(f"/v1/responses/{given['id']}{rest}").text
        for rest in ("", "?stream=true", "/input_items")
    ]
    assert not any("upstream1" in text for text in shown)
