"""Stored responses: what their caller can ask for, and what is left when one is deleted."""

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
from tests.threads.turns import begun, finished, message, next_turn, said_before, turn
from threads import history, responses
from threads.errors import NotFound
from threads.history import LONGEST_LINEAGE, NotContinuable
from threads.models import Item, StoredResponse, Thread
from threads.pages import Page
from threads.responses import Status

ALL = Page(limit=100, order="asc")


def asked(tenant: Tenant, response: UUID, page: Page = ALL) -> list[str]:
    return [
        json.loads(item.data)["content"] for item in responses.input_items(tenant.id, response, page).data
    ]


def items_left(tenant: Tenant) -> int:
    with tenant_scope(tenant.id):
        return Item.objects.of(tenant).count()


def threads_left(tenant: Tenant) -> int:
    with tenant_scope(tenant.id):
        return Thread.objects.of(tenant).count()


def test_it_keeps_what_the_client_got(acme: Tenant) -> None:
    begin = begun(acme, message("hello"), model="demo", metadata={"topic": "tea"}, user="ann")
    body = b'{ "status":"completed", "future": 1.50 }'
    responses.record(acme.id, begin, responses.Finished(Status.COMPLETED, body))
    row = responses.get(acme.id, begin.id)
    assert (row.body.encode(), row.metadata, row.end_user) == (body, {"topic": "tea"}, "ann")


def test_it_is_there_while_it_runs_with_its_input(acme: Tenant) -> None:
    first = turn(acme, "one")
    begin = begun(acme, message("two"), message("three"), past=history.past_of_response(acme.id, first))
    responses.begin(acme.id, begin)
    assert responses.get(acme.id, begin.id).status == "in_progress"
    assert asked(acme, begin.id) == ["one", "re: one", "two", "three"]
    assert asked(acme, begin.id, Page(limit=2)) == ["three", "two"]


def test_it_keeps_the_ids_of_its_input_when_it_ends(acme: Tenant) -> None:
    begin = begun(acme, message("hello"))
    responses.begin(acme.id, begin)
    before = responses.input_items(acme.id, begin.id, ALL)
    responses.finish(acme.id, begin.id, finished(message("hi", "assistant")))
    assert responses.input_items(acme.id, begin.id, ALL) == before


def test_it_lists_all_that_it_was_made_from(acme: Tenant) -> None:
    first = turn(acme, "one")
    second = next_turn(acme, first, "two")
    next_turn(acme, second, "three")
    assert asked(acme, first) == ["one"]
    assert asked(acme, second) == ["one", "re: one", "two"]
    newest = responses.input_items(acme.id, second, Page(limit=2))
    assert [json.loads(item.data)["content"] for item in newest.data] == ["two", "re: one"]
    assert newest.has_more
    assert asked(acme, second, Page(after=newest.last_id)) == ["one"]


def test_it_keeps_what_a_failed_one_was_asked(acme: Tenant) -> None:
    begin = begun(acme, message("hello"))
    responses.record(acme.id, begin, finished(message("half", "assistant"), status=Status.FAILED))
    assert asked(acme, begin.id) == ["hello"]
    assert items_left(acme) == 0


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED, Status.IN_PROGRESS, Status.QUEUED])
def test_it_cannot_be_gone_on_from_unless_it_answered(acme: Tenant, status: Status) -> None:
    begin = begun(acme, message("hello"), status=status)
    responses.begin(acme.id, begin)
    with pytest.raises(NotContinuable, match=status):
        history.past_of_response(acme.id, begin.id)


def test_it_can_be_gone_on_from_when_it_is_incomplete(acme: Tenant) -> None:
    begin = begun(acme, message("hello"))
    responses.record(acme.id, begin, finished(message("cut", "assistant"), status=Status.INCOMPLETE))
    assert said_before(acme, next_turn(acme, begin.id, "more"))[:2] == ["hello", "cut"]


def expire(tenant: Tenant, response: UUID) -> None:
    with tenant_scope(tenant.id):
        past = timezone.now() - timedelta(seconds=1)
        StoredResponse.objects.of(tenant).filter(id=response).update(expires_at=past)


Ask = Callable[[UUID, UUID], object]

ASKED: dict[str, Ask] = {
    "get": responses.get,
    "input items": lambda tenant, key: responses.input_items(tenant, key, ALL),
    "cancel": responses.request_cancel,
    "delete": responses.delete,
    "past": history.past_of_response,
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED.keys())
def test_it_is_not_there_for_charlie_nor_after_it_expired(acme: Tenant, globex: Tenant, ask: Ask) -> None:
    response = turn(acme, "secret")
    for tenant, key in ((globex, response), (acme, uuid7())):
        with pytest.raises(NotFound, match=r"^response$"):
            ask(tenant.id, key)
    assert asked(acme, response) == ["secret"]
    expire(acme, response)
    with pytest.raises(NotFound, match=r"^response$"):
        ask(acme.id, response)


def test_it_is_not_charlies_to_go_on_from(acme: Tenant, globex: Tenant) -> None:
    past = history.past_of_response(acme.id, turn(acme, "secret"))
    with pytest.raises(NotFound, match=r"^response$"):
        responses.begin(globex.id, begun(globex, message("more"), past=past))


def test_it_expires_when_the_tenants_time_is_over(acme: Tenant) -> None:
    begin = begun(acme, message("hello"), retention_days=7)
    responses.record(acme.id, begin, finished())
    assert responses.get(acme.id, begin.id).expires_at == begin.created_at + timedelta(days=7)
    for_ever = turn(acme, "hello", retention_days=None)
    assert responses.get(acme.id, for_ever).expires_at is None


# What is left of a chain when responses of it are deleted


def test_it_takes_its_items_with_it(acme: Tenant) -> None:
    response = turn(acme, "hello")
    responses.delete(acme.id, response)
    assert (items_left(acme), threads_left(acme)) == (0, 0)
    with pytest.raises(NotFound, match="response"):
        responses.delete(acme.id, response)


def test_it_leaves_its_items_to_what_goes_on_from_it(acme: Tenant) -> None:
    first = turn(acme, "one")
    second = next_turn(acme, first, "two")
    responses.delete(acme.id, first)
    assert said_before(acme, second) == ["one", "re: one", "two", "re: two"]
    responses.delete(acme.id, second)
    assert (items_left(acme), threads_left(acme)) == (0, 0)


def test_it_takes_those_before_it_that_were_only_left_for_it(acme: Tenant) -> None:
    first = turn(acme, "one")
    second = next_turn(acme, first, "two")
    third = next_turn(acme, second, "three")
    responses.delete(acme.id, second)
    assert items_left(acme) == 6
    responses.delete(acme.id, third)
    assert said_before(acme, first) == ["one", "re: one"]
    assert items_left(acme) == 2


def test_it_goes_on_from_where_one_was_deleted_as_a_branch(acme: Tenant) -> None:
    first = turn(acme, "one")
    responses.delete(acme.id, next_turn(acme, first, "two"))
    assert said_before(acme, next_turn(acme, first, "again"))[::2] == ["one", "again"]


def test_it_leaves_its_items_to_branches(acme: Tenant) -> None:
    first = turn(acme, "one")
    second = next_turn(acme, first, "two")
    third = next_turn(acme, second, "three")
    branch = next_turn(acme, second, "branch")
    for response in (third, first, second):
        responses.delete(acme.id, response)
    assert said_before(acme, branch)[::2] == ["one", "two", "branch"]
    assert items_left(acme) == 6
    responses.delete(acme.id, branch)
    assert (items_left(acme), threads_left(acme)) == (0, 0)


def test_it_leaves_nothing_of_the_deepest_branches(acme: Tenant) -> None:
    chain = [turn(acme, "0")]
    for number in range(LONGEST_LINEAGE + 3):
        chain.append(next_turn(acme, chain[-1], "another way"))
        chain.append(next_turn(acme, chain[-2], str(number)))
    for response in chain:
        responses.delete(acme.id, response)
    assert (items_left(acme), threads_left(acme)) == (0, 0)


def test_it_refuses_to_begin_after_what_is_gone(acme: Tenant) -> None:
    first = turn(acme, "one")
    past = history.past_of_response(acme.id, first)
    responses.delete(acme.id, first)
    with pytest.raises(NotFound, match="response"):
        responses.begin(acme.id, begun(acme, message("two"), past=past))
    with pytest.raises(NotFound, match="response"):
        responses.record(acme.id, begun(acme, message("two"), past=past), finished())
