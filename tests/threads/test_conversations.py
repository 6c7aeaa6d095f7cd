"""Conversations and their items."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import Tenant
from accounts.tenancy import tenant_scope
from tests.threads.turns import begun, finished, message, next_turn, said, said_before, turn
from threads import conversations, history, responses
from threads.conversations import ITEMS_AT_ONCE, TooManyItems
from threads.errors import NotFound
from threads.history import NewItem, StoredItem
from threads.models import Item, Thread
from threads.pages import Page


def talk(tenant: Tenant, *texts: str, retention_days: int | None = 30, user: str = "") -> UUID:
    items = [message(text) for text in texts]
    made = conversations.create(tenant.id, items, retention_days=retention_days, user=user)
    return made.id


def texts(items: tuple[StoredItem, ...]) -> list[str]:
    return [json.loads(item.data)["content"] for item in items]


def all_said(tenant: Tenant, conversation: UUID) -> list[str]:
    return said(history.past_of_conversation(tenant.id, conversation))


def turn_in(tenant: Tenant, conversation: UUID, asked: str) -> UUID:
    return turn(tenant, asked, past=history.past_of_conversation(tenant.id, conversation))


def items_left(tenant: Tenant) -> int:
    with tenant_scope(tenant.id):
        return Item.objects.of(tenant).count()


def expire(tenant: Tenant, conversation: UUID) -> None:
    with tenant_scope(tenant.id):
        Thread.objects.of(tenant).filter(id=conversation).update(
            expires_at=timezone.now() - timedelta(seconds=1)
        )


def test_it_begins_with_the_items_it_is_given(acme: Tenant) -> None:
    conversation = talk(acme, "one", "two")
    assert all_said(acme, conversation) == ["one", "two"]


def test_it_keeps_and_replaces_metadata(acme: Tenant) -> None:
    made = conversations.create(acme.id, metadata={"topic": "tea", "mood": "calm"}, retention_days=None)
    assert conversations.get(acme.id, made.id).metadata == {"topic": "tea", "mood": "calm"}
    conversations.update(acme.id, made.id, {"topic": "milk"})
    assert conversations.get(acme.id, made.id).metadata == {"topic": "milk"}


def test_it_grows_by_every_response_in_it(acme: Tenant) -> None:
    conversation = talk(acme, "hello")
    turn_in(acme, conversation, "one")
    turn_in(acme, conversation, "two")
    assert all_said(acme, conversation) == ["hello", "one", "re: one", "two", "re: two"]


def test_it_is_as_it_was_after_a_response_that_failed(acme: Tenant) -> None:
    conversation = talk(acme, "hello")
    begin = begun(acme, message("lost"), past=history.past_of_conversation(acme.id, conversation))
    responses.begin(acme.id, begin)
    assert responses.finish(acme.id, begin.id, finished(message("half", "assistant"), status="failed"))
    assert all_said(acme, conversation) == ["hello"]


def test_it_grows_by_a_call_that_is_not_stored(acme: Tenant) -> None:
    conversation = talk(acme)
    asked = [message("one"), message("re: one", "assistant")]
    history.append_to_conversation(acme.id, conversation, asked, retention_days=30)
    assert all_said(acme, conversation) == ["one", "re: one"]


def test_it_stays_out_of_a_chain_that_leaves_it(acme: Tenant) -> None:
    conversation = talk(acme, "hello")
    inside = turn_in(acme, conversation, "inside")
    outside = next_turn(acme, inside, "outside")
    assert said_before(acme, outside) == ["hello", "inside", "re: inside", "outside", "re: outside"]
    assert all_said(acme, conversation) == ["hello", "inside", "re: inside"]


def test_it_lists_items_page_by_page_in_either_order(acme: Tenant) -> None:
    conversation = talk(acme, *"abcde")
    first = conversations.items(acme.id, conversation, Page(limit=2, order="asc"))
    assert texts(first.data) == ["a", "b"]
    assert (first.first_id, first.last_id, first.has_more) == (first.data[0].id, first.data[1].id, True)
    rest = conversations.items(acme.id, conversation, Page(limit=3, after=first.last_id, order="asc"))
    assert (texts(rest.data), rest.has_more) == (["c", "d", "e"], False)
    newest = conversations.items(acme.id, conversation, Page(limit=2))
    assert texts(newest.data) == ["e", "d"]
    assert texts(conversations.items(acme.id, conversation, Page(after=newest.last_id)).data) == [
        "c",
        "b",
        "a",
    ]


def test_it_lists_nothing_of_an_empty_one(acme: Tenant) -> None:
    found = conversations.items(acme.id, talk(acme), Page())
    assert (found.data, found.first_id, found.last_id, found.has_more) == ((), None, None, False)


def test_it_adds_items_and_finds_each(acme: Tenant) -> None:
    conversation = talk(acme, "one")
    two, three = conversations.add_items(
        acme.id, conversation, [message("two"), message("three")], retention_days=30
    )
    assert conversations.item(acme.id, conversation, three.id) == three
    assert conversations.item(acme.id, conversation, two.id) == two
    assert all_said(acme, conversation) == ["one", "two", "three"]


def test_it_takes_so_many_items_at_once_and_no_more(acme: Tenant) -> None:
    conversation = talk(acme, *map(str, range(ITEMS_AT_ONCE)))
    one_more = [message("")] * (ITEMS_AT_ONCE + 1)
    with pytest.raises(TooManyItems):
        conversations.add_items(acme.id, conversation, one_more, retention_days=30)
    with pytest.raises(TooManyItems):
        conversations.create(acme.id, one_more, retention_days=30)


def test_it_deletes_one_item(acme: Tenant) -> None:
    conversation = talk(acme, "one", "two", "three")
    _, two, _ = history.past_of_conversation(acme.id, conversation).items
    conversations.delete_item(acme.id, conversation, two.id)
    assert all_said(acme, conversation) == ["one", "three"]
    with pytest.raises(NotFound, match="item"):
        conversations.item(acme.id, conversation, two.id)


def test_it_finds_no_item_of_another_conversation_or_under_another_prefix(acme: Tenant) -> None:
    conversation, other = talk(acme, "one"), talk(acme, "other")
    (there,) = history.past_of_conversation(acme.id, other).items
    (here,) = history.past_of_conversation(acme.id, conversation).items
    for wrong in (there.id, here.id.replace("msg_", "rs_"), "msg_1", ""):
        with pytest.raises(NotFound, match="item"):
            conversations.item(acme.id, conversation, wrong)
        with pytest.raises(NotFound, match="item"):
            conversations.delete_item(acme.id, conversation, wrong)
        with pytest.raises(NotFound, match="item"):
            conversations.items(acme.id, conversation, Page(after=wrong or "x"))


def test_it_is_gone_with_its_items_when_deleted(acme: Tenant) -> None:
    conversation = talk(acme, "one", "two")
    conversations.delete(acme.id, conversation)
    assert items_left(acme) == 0
    with pytest.raises(NotFound, match="conversation"):
        conversations.delete(acme.id, conversation)


def test_it_leaves_its_responses_when_deleted_and_goes_with_the_last(acme: Tenant) -> None:
    conversation = talk(acme, "hello")
    response = turn_in(acme, conversation, "one")
    conversations.add_items(acme.id, conversation, [message("later")], retention_days=30)
    conversations.delete(acme.id, conversation)
    assert said_before(acme, response) == ["hello", "one", "re: one"]
    assert items_left(acme) == 3
    responses.delete(acme.id, response)
    assert items_left(acme) == 0


def test_it_lets_a_response_end_whose_conversation_was_deleted_meanwhile(acme: Tenant) -> None:
    conversation = talk(acme, "hello")
    begin = begun(acme, message("one"), past=history.past_of_conversation(acme.id, conversation))
    responses.begin(acme.id, begin)
    conversations.delete(acme.id, conversation)
    assert responses.finish(acme.id, begin.id, finished(message("re: one", "assistant")))
    assert said_before(acme, begin.id) == ["hello", "one", "re: one"]


def test_it_refuses_to_begin_in_one_that_is_gone(acme: Tenant) -> None:
    conversation = talk(acme, "hello")
    past = history.past_of_conversation(acme.id, conversation)
    conversations.delete(acme.id, conversation)
    with pytest.raises(NotFound, match="conversation"):
        responses.begin(acme.id, begun(acme, message("one"), past=past))


def test_it_expires_when_nobody_uses_it_for_the_tenants_time(acme: Tenant) -> None:
    made = conversations.create(acme.id, retention_days=1)
    assert made.expires_at is not None
    conversations.add_items(acme.id, made.id, [message("still here")], retention_days=2)
    used = conversations.get(acme.id, made.id)
    assert used.expires_at is not None
    assert timedelta(days=1.9) < used.expires_at - timezone.now() < timedelta(days=2.1)
    assert conversations.create(acme.id, retention_days=None).expires_at is None


def test_it_expires_later_for_every_response_in_it(acme: Tenant) -> None:
    conversation = talk(acme, "hello", retention_days=1)
    turn(acme, "one", past=history.past_of_conversation(acme.id, conversation), retention_days=9)
    expires_at = conversations.get(acme.id, conversation).expires_at
    assert expires_at is not None
    assert expires_at > timezone.now() + timedelta(days=8)


Ask = Callable[[UUID, UUID, str], object]

ASKED: dict[str, Ask] = {
    "get": lambda tenant, key, item: conversations.get(tenant, key),
    "update": lambda tenant, key, item: conversations.update(tenant, key, {"taken": "over"}),
    "delete": lambda tenant, key, item: conversations.delete(tenant, key),
    "items": lambda tenant, key, item: conversations.items(tenant, key, Page()),
    "add": lambda tenant, key, item: conversations.add_items(tenant, key, [message("hi")], retention_days=1),
    "item": conversations.item,
    "delete item": conversations.delete_item,
    "past": lambda tenant, key, item: history.past_of_conversation(tenant, key),
    "append": lambda tenant, key, item: history.append_to_conversation(
        tenant, key, [message("hi")], retention_days=1
    ),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED.keys())
def test_it_is_not_there_for_charlie_nor_after_it_expired(acme: Tenant, globex: Tenant, ask: Ask) -> None:
    conversation = talk(acme, "secret")
    (item,) = history.past_of_conversation(acme.id, conversation).items
    hidden = turn(acme, "hidden")  # whose thread is no conversation
    with tenant_scope(acme.id):
        chain = Thread.objects.of(acme).get(conversation=False).id
    for tenant, key in ((globex, conversation), (acme, uuid7()), (acme, chain), (acme, hidden)):
        with pytest.raises(NotFound, match=r"^conversation$"):
            ask(tenant.id, key, item.id)
    assert all_said(acme, conversation) == ["secret"]
    expire(acme, conversation)
    with pytest.raises(NotFound, match=r"^conversation$"):
        ask(acme.id, conversation, item.id)


def test_it_is_one_end_users_where_a_user_is_named(acme: Tenant) -> None:
    conversation, anybodys = talk(acme, "mine", user="ann"), talk(acme, "ours")
    assert said(history.past_of_conversation(acme.id, conversation, "ann")) == ["mine"]
    assert said(history.past_of_conversation(acme.id, anybodys, "ben")) == ["ours"]
    with pytest.raises(NotFound, match="conversation"):
        history.past_of_conversation(acme.id, conversation, "ben")


def test_it_resolves_references_to_items_of_the_tenant_alone(acme: Tenant, globex: Tenant) -> None:
    conversation = talk(acme, "one")
    (item,) = history.past_of_conversation(acme.id, conversation).items
    key = UUID(item.id.removeprefix("msg_"))
    assert history.items_by_id(acme.id, [key, uuid7()]) == {key: item}
    assert history.items_by_id(globex.id, [key]) == {}
    expire(acme, conversation)
    assert history.items_by_id(acme.id, [key]) == {}


def test_it_gives_an_item_its_id_in_its_json() -> None:
    assert json.loads(NewItem("message", b"{}").stored().whole()).keys() == {"id"}
    whole = json.loads(NewItem("message", b' { "type": "message"}').stored().whole())
    assert list(whole) == ["id", "type"]
