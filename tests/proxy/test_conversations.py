"""Conversations as OpenAI's SDK uses them."""

from __future__ import annotations

from typing import Any

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from tests.server import Gateway, Person

Document = dict[str, Any]

HELLO: Any = {"type": "message", "role": "user", "content": "Hello"}
# One of each kind that a client may put into a conversation, and members of it that come back.
ITEMS: list[Any] = [
    HELLO,
    {"role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
    {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Hi.", "annotations": []}],
    },
    {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": '{"at":1}'},
    {"type": "function_call_output", "call_id": "call_1", "output": "seen"},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "xyz"},
    {"type": "something_new", "shape": {"nobody": ["knows", None, 1.5]}},
]
PREFIXES = ["msg_", "msg_", "msg_", "fc_", "fco_", "rs_", "item_"]


@pytest.fixture
def sdk(alice: Person) -> OpenAI:
    return alice.sdk


def documents(page: Any) -> list[Document]:
    return [item.to_dict() for item in page]


def test_it_is_made_with_items_and_metadata(sdk: OpenAI) -> None:
    made = sdk.conversations.create(items=[HELLO], metadata={"topic": "demo"})
    assert made.id.startswith("conv_")
    assert (made.object, made.metadata) == ("conversation", {"topic": "demo"})
    assert sdk.conversations.retrieve(made.id) == made
    (item,) = sdk.conversations.items.list(made.id)
    assert item.to_dict() == {
        "id": item.id,
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [{"type": "input_text", "text": "Hello"}],
    }


@pytest.mark.parametrize("body", [b"", b"{}", b'{"items":null,"metadata":null}', b'{"items":[]}'])
def test_it_is_made_of_nothing(alice: Person, body: bytes) -> None:
    made = alice.http.post("/v1/conversations", content=body)
    assert made.status_code == 200
    assert made.json()["metadata"] == {}
    assert alice.http.get(f"/v1/conversations/{made.json()['id']}/items").json() == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


def test_new_metadata_takes_the_place_of_the_old(sdk: OpenAI) -> None:
    made = sdk.conversations.create(metadata={"a": "1", "b": "2"})
    changed = sdk.conversations.update(made.id, metadata={"b": "3"})
    assert changed.metadata == {"b": "3"}
    assert sdk.conversations.retrieve(made.id) == changed


def test_it_is_deleted_with_its_items(sdk: OpenAI) -> None:
    made = sdk.conversations.create(items=[HELLO])
    (item,) = sdk.conversations.items.list(made.id)
    gone = sdk.conversations.delete(made.id)
    assert (gone.id, gone.object, gone.deleted) == (made.id, "conversation.deleted", True)
    for ask in (
        lambda: sdk.conversations.retrieve(made.id),
        lambda: sdk.conversations.items.retrieve(item.id or "", conversation_id=made.id),
        lambda: sdk.conversations.items.create(made.id, items=[HELLO]),
        lambda: sdk.conversations.delete(made.id),
    ):
        with pytest.raises(NotFoundError):
            ask()


def test_items_come_back_as_they_went_in(alice: Person) -> None:
    id_ = alice.http.post("/v1/conversations").json()["id"]
    added = alice.http.post(f"/v1/conversations/{id_}/items", json={"items": ITEMS}).json()
    assert [item["id"].rpartition("_")[0] + "_" for item in added["data"]] == PREFIXES
    assert (added["first_id"], added["last_id"]) == (added["data"][0]["id"], added["data"][-1]["id"])
    assert added["has_more"] is False
    listed = alice.http.get(f"/v1/conversations/{id_}/items?order=asc").json()
    assert listed == added
    for given, item in zip(ITEMS, added["data"], strict=True):
        kept = {name for name in given if name not in ("content", "encrypted_content")}
        assert {name: item[name] for name in kept} == {name: given[name] for name in kept}


def test_items_of_several_calls_follow_each_other(sdk: OpenAI) -> None:
    made = sdk.conversations.create(items=[HELLO])
    for text in ("one", "two"):
        sdk.conversations.items.create(made.id, items=[{"role": "user", "content": text}])
    texts = [item["content"][0]["text"] for item in documents(sdk.conversations.items.list(made.id))]
    assert texts == ["two", "one", "Hello"]


def test_items_are_listed_page_by_page(sdk: OpenAI) -> None:
    given: list[Any] = [{"role": "user", "content": str(number)} for number in range(7)]
    made = sdk.conversations.create(items=given)
    for order, expected in (("asc", "0123456"), ("desc", "6543210")):
        listed = sdk.conversations.items.list(made.id, limit=3, order=order)  # type: ignore[arg-type]
        assert listed.has_more is True
        assert "".join(item["content"][0]["text"] for item in documents(listed)) == expected


def test_one_item_is_retrieved_and_deleted(sdk: OpenAI) -> None:
    made = sdk.conversations.create(items=ITEMS[3:5])
    call, output = sdk.conversations.items.list(made.id, order="asc")
    assert sdk.conversations.items.retrieve(call.id or "", conversation_id=made.id) == call
    assert sdk.conversations.items.delete(call.id or "", conversation_id=made.id) == made
    assert documents(sdk.conversations.items.list(made.id)) == [output.to_dict()]


def test_encrypted_reasoning_is_shown_to_those_who_ask(sdk: OpenAI) -> None:
    made = sdk.conversations.create(items=[ITEMS[5]])
    (hidden,) = documents(sdk.conversations.items.list(made.id))
    (shown,) = documents(sdk.conversations.items.list(made.id, include=["reasoning.encrypted_content"]))
    assert "encrypted_content" not in hidden
    assert shown == {**hidden, "encrypted_content": "xyz"}
    again = sdk.conversations.items.retrieve(
        hidden["id"], conversation_id=made.id, include=["reasoning.encrypted_content"]
    )
    assert again.to_dict() == shown


def test_an_item_gets_an_id_of_its_own_whatever_id_it_came_with(sdk: OpenAI) -> None:
    named: Any = {**HELLO, "id": "msg_theirs"}
    made = sdk.conversations.create(items=[named])
    item: Any
    (item,) = documents(sdk.conversations.items.list(made.id))
    again = sdk.conversations.create(items=[item])
    (copy,) = documents(sdk.conversations.items.list(again.id))
    assert len({"msg_theirs", item["id"], copy["id"]}) == 3
    assert {**copy, "id": ""} == {**item, "id": ""}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"items": HELLO}, "items"),
        ({"items": "Hello"}, "items"),
        ({"items": [7]}, "items[0]"),
        ({"items": [HELLO, {"type": "message", "role": "user"}]}, "items[1].content"),
        ({"items": [{"type": "message", "role": "king", "content": "a"}]}, "items[0].role"),
        ({"items": [{"type": "item_reference", "id": "msg_1"}]}, "items"),
        ({"items": [HELLO] * 21}, "items"),
        ({"metadata": "red"}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {"a" * 65: "b"}}, "metadata"),
        ({"metadata": {"a": "b" * 513}}, "metadata"),
        ({"metadata": {str(number): "a" for number in range(17)}}, "metadata"),
    ],
)
def test_it_refuses_what_no_conversation_holds(alice: Person, body: Document, param: str) -> None:
    refused = alice.http.post("/v1/conversations", json=body)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == param


def test_it_wants_to_know_what_to_add_or_change(sdk: OpenAI) -> None:
    made = sdk.conversations.create()
    for path, param in (
        (f"/conversations/{made.id}", "metadata"),
        (f"/conversations/{made.id}/items", "items"),
    ):
        with pytest.raises(BadRequestError) as refused:
            sdk.post(path, body={}, cast_to=object)
        assert refused.value.param == param


def test_items_are_kept_all_or_none(sdk: OpenAI) -> None:
    made = sdk.conversations.create()
    broken: Any = {"type": "message"}
    with pytest.raises(BadRequestError):
        sdk.conversations.items.create(made.id, items=[HELLO, broken])
    assert documents(sdk.conversations.items.list(made.id)) == []


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order"), ("include[]=all", "include")],
)
def test_a_query_that_cannot_be_is_refused_by_name(alice: Person, query: str, param: str) -> None:
    id_ = alice.http.post("/v1/conversations").json()["id"]
    refused = alice.http.get(f"/v1/conversations/{id_}/items?{query}")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_a_page_after_an_item_of_another_conversation_is_not_found(sdk: OpenAI) -> None:
    one, other = (sdk.conversations.create(items=[HELLO]) for _ in range(2))
    (item,) = sdk.conversations.items.list(other.id)
    with pytest.raises(NotFoundError):
        list(sdk.conversations.items.list(one.id, after=item.id or ""))


def test_colleagues_share_their_tenants_conversations(alice: Person, bob: Person) -> None:
    made = alice.sdk.conversations.create(items=[HELLO])
    bob.sdk.conversations.items.create(made.id, items=[HELLO])
    assert len(documents(alice.sdk.conversations.items.list(made.id))) == 2


def test_a_conversation_leaves_no_usage_record(gateway: Gateway, alice: Person) -> None:
    made = alice.http.post("/v1/conversations", json={"items": [HELLO]})
    read = alice.http.get(f"/v1/conversations/{made.json()['id']}")
    ids = {response.headers["x-request-id"].replace("-", "") for response in (made, read)}
    assert not ids & {record["id"].hex for record in gateway.usage()}
