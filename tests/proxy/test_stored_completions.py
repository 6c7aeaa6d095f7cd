"""Chat completions that were stored, as OpenAI's SDK looks at them again."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import openai
import pytest
from openai import NotFoundError, OpenAI
from openai.types.chat import ChatCompletion

from tests.server import Gateway, Person

Document = dict[str, Any]

MODEL = "gpt-test"
HELLO: Any = {"role": "user", "content": "Hello"}


@pytest.fixture
def sdk(alice: Person) -> OpenAI:
    return alice.sdk


def completed(sdk: OpenAI, *messages: Any, model: str = MODEL, **metadata: str) -> ChatCompletion:
    """A stored completion, as its caller got it."""
    said = list(messages) or [HELLO]
    return sdk.chat.completions.create(model=model, messages=said, store=True, metadata=metadata)


def ids(completions: Any) -> list[str]:
    return [completion.id for completion in completions]


def test_it_is_what_its_caller_got(sdk: OpenAI) -> None:
    made = completed(sdk, topic="demo")
    found = sdk.chat.completions.retrieve(made.id).to_dict()
    assert found.pop("metadata") == {"topic": "demo"}
    assert found == made.to_dict()


def test_a_stream_is_kept_as_the_answer_that_it_came_to(sdk: OpenAI) -> None:
    with sdk.chat.completions.create(model=MODEL, messages=[HELLO], store=True, stream=True) as stream:
        (id_,) = {chunk.id for chunk in stream}
    found = sdk.chat.completions.retrieve(id_)
    assert found.object == "chat.completion"
    assert found.choices[0].message.content == "w1 w2 w3 w4 w5"


@pytest.mark.parametrize("store", [False, None, openai.omit])
def test_one_that_is_not_stored_is_not_found(sdk: OpenAI, store: Any) -> None:
    made = sdk.chat.completions.create(model=MODEL, messages=[HELLO], store=store)
    with pytest.raises(NotFoundError) as refused:
        sdk.chat.completions.retrieve(made.id)
    assert refused.value.body == {
        "message": "No such chat completion.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


def test_they_are_listed_oldest_first_page_by_page(sdk: OpenAI) -> None:
    run = uuid4().hex
    made = ids(completed(sdk, run=run) for _ in range(5))
    assert ids(sdk.chat.completions.list(metadata={"run": run}, limit=2)) == made
    assert ids(sdk.chat.completions.list(metadata={"run": run}, limit=2, order="desc")) == made[::-1]
    page = sdk.chat.completions.list(metadata={"run": run}, limit=2, after=made[1])
    assert (ids(page.data), page.has_more) == (made[2:4], True)


def test_they_are_found_by_all_their_metadata_and_their_model(sdk: OpenAI) -> None:
    run = uuid4().hex
    red = completed(sdk, run=run, colour="red")
    blue = completed(sdk, run=run, colour="blue", size="l & xl = 2")
    other = completed(sdk, run=run, model="gpt-other")
    found = sdk.chat.completions.list
    assert ids(found(metadata={"run": run})) == [red.id, blue.id, other.id]
    assert ids(found(metadata={"run": run, "colour": "blue"})) == [blue.id]
    assert ids(found(metadata={"run": run, "size": "l & xl = 2"})) == [blue.id]
    assert ids(found(metadata={"run": run}, model="gpt-other")) == [other.id]
    assert ids(found(metadata={"run": run, "colour": "green"})) == []


def test_new_metadata_takes_the_place_of_the_old(sdk: OpenAI) -> None:
    run = uuid4().hex
    made = completed(sdk, run=run, colour="red")
    changed = sdk.chat.completions.update(made.id, metadata={"run": run + "x"})
    assert changed.to_dict()["metadata"] == {"run": run + "x"}
    assert sdk.chat.completions.retrieve(made.id) == changed
    assert ids(sdk.chat.completions.list(metadata={"run": run})) == []
    assert ids(sdk.chat.completions.list(metadata={"run": run + "x"})) == [made.id]


def test_metadata_may_be_taken_away(sdk: OpenAI) -> None:
    made = completed(sdk, colour="red")
    assert sdk.chat.completions.update(made.id, metadata=None).to_dict()["metadata"] == {}


def test_it_is_deleted(sdk: OpenAI) -> None:
    run = uuid4().hex
    made = completed(sdk, run=run)
    gone = sdk.chat.completions.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "chat.completion.deleted", True)
    assert ids(sdk.chat.completions.list(metadata={"run": run})) == []
    for ask in (
        lambda: sdk.chat.completions.retrieve(made.id),
        lambda: sdk.chat.completions.update(made.id, metadata={}),
        lambda: sdk.chat.completions.messages.list(made.id),
        lambda: sdk.chat.completions.delete(made.id),
    ):
        with pytest.raises(NotFoundError):
            ask()


def test_its_messages_are_what_it_was_asked_with(sdk: OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    said: list[Document] = [
        {"role": "system", "content": "Be brief."},
        {**HELLO, "name": "anna"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "seen"},
    ]
    made = completed(sdk, *said)
    listed = [message.to_dict() for message in sdk.chat.completions.messages.list(made.id, limit=3)]
    assert [message.pop("id") for message in listed] == [f"{made.id}-{number}" for number in range(4)]
    assert listed == [{**message, "content_parts": None} for message in said]
    newest = sdk.chat.completions.messages.list(made.id, order="desc", limit=1)
    assert (newest.data[0].id, newest.has_more) == (f"{made.id}-3", True)


def test_a_message_in_parts_stays_in_parts(sdk: OpenAI) -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://example.test/a.png"}},
    ]
    (message,) = sdk.chat.completions.messages.list(completed(sdk, {"role": "user", "content": parts}).id)
    assert message.content is None
    assert [part.to_dict() for part in message.content_parts or []] == parts


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("order=up", "order"), ("metadata=red", "metadata")],
)
def test_a_query_that_cannot_be_is_refused_by_name(alice: Person, query: str, param: str) -> None:
    refused = alice.http.get(f"/v1/chat/completions?{query}")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "body", [{}, {"metadata": "red"}, {"metadata": {"a": 1}}, {"metadata": {"a": "b" * 513}}]
)
def test_a_change_that_cannot_be_is_refused_by_name(alice: Person, body: Document) -> None:
    made = completed(alice.sdk)
    refused = alice.http.post(f"/v1/chat/completions/{made.id}", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "metadata")
    assert alice.sdk.chat.completions.retrieve(made.id).to_dict()["metadata"] == {}


def test_a_list_begins_after_a_completion_only(alice: Person) -> None:
    refused = alice.http.get("/v1/chat/completions?after=x")
    assert (refused.status_code, refused.json()["error"]["message"]) == (404, "No such chat completion.")


def test_looking_at_it_leaves_no_usage_record(gateway: Gateway, alice: Person) -> None:
    id_ = completed(alice.sdk).id
    paths = ("", f"/{id_}", f"/{id_}/messages")
    looks = [alice.http.get(f"/v1/chat/completions{path}") for path in paths]
    seen = {look.headers["x-request-id"].replace("-", "") for look in looks}
    assert not seen & {record["id"].hex for record in gateway.usage()}
