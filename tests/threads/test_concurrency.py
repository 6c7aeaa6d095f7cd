"""Several at once on one conversation or one chain, each on a connection of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from uuid import UUID

import pytest
from django.db import connection

from accounts.models import Tenant
from accounts.tenancy import operator_scope, tenant_scope
from tests.deadline import until
from tests.threads.turns import begun, finished, message, next_turn, said, said_before, turn
from threads import conversations, history, management, responses
from threads.errors import NotFound
from threads.history import append, conversation
from threads.models import Item, StoredResponse, Thread

AT_ONCE = 6


@pytest.fixture
def acme(transactional_db: None) -> Tenant:
    with operator_scope():
        return Tenant.objects.create(slug="acme", name="Acme")


def alone(work: Callable[[], object]) -> Callable[[], object]:
    """The work on a connection that is closed when it is done."""

    def job() -> object:
        try:
            return work()
        finally:
            connection.close()

    return job


def at_once(*works: Callable[[], object]) -> list[object]:
    """What each of them returns, or the NotFound that it raised."""

    def outcome(future: Future[object]) -> object:
        error = future.exception()
        if error is None:
            return future.result()
        assert isinstance(error, NotFound), error
        return error

    with ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(alone(work)) for work in works]
    return [outcome(future) for future in futures]


def somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def talk(tenant: Tenant) -> UUID:
    return conversations.create(tenant.id, [message("hello")], retention_days=30).id


@pytest.mark.postgres
def test_it_lets_the_second_of_two_wait_and_come_after(acme: Tenant) -> None:
    there = talk(acme)
    past = history.past_of_conversation(acme.id, there)
    second = partial(turn, acme, "second", past=past)
    with ThreadPoolExecutor(1) as pool:
        with tenant_scope(acme.id):
            append(conversation(acme.id, there, lock=True), [message("first")], expires_at=None)
            waiting = pool.submit(alone(second))
            until(somebody_waits, what="the second one waits")
            append(conversation(acme.id, there, lock=True), [message("re: first")], expires_at=None)
        waiting.result()
    assert said(history.past_of_conversation(acme.id, there)) == [
        *("hello", "first", "re: first", "second", "re: second")
    ]


def test_it_keeps_the_items_of_each_of_many_together(acme: Tenant) -> None:
    there = talk(acme)
    past = history.past_of_conversation(acme.id, there)
    at_once(*(partial(turn, acme, str(number), past=past) for number in range(AT_ONCE)))
    texts = said(history.past_of_conversation(acme.id, there))
    assert texts[0] == "hello"
    assert sorted(texts[1::2]) == [str(number) for number in range(AT_ONCE)]
    assert texts[2::2] == [f"re: {asked}" for asked in texts[1::2]]


def test_it_gives_each_that_goes_on_from_one_response_a_chain_of_its_own(acme: Tenant) -> None:
    first = turn(acme, "one")
    past = history.past_of_response(acme.id, first)
    made = at_once(*(partial(turn, acme, str(number), past=past) for number in range(AT_ONCE)))
    for number, response in enumerate(made):
        assert isinstance(response, UUID)
        assert said_before(acme, response) == ["one", "re: one", str(number), f"re: {number}"]
    with tenant_scope(acme.id):
        assert Thread.objects.of(acme).count() == AT_ONCE  # the first appended, the others branched off


def test_it_never_loses_a_past_to_a_deletion_that_it_began_before(acme: Tenant) -> None:
    for _ in range(AT_ONCE):
        first = turn(acme, "one")
        past = history.past_of_response(acme.id, first)
        begin = begun(acme, message("two"), past=past)
        begins, deletes = at_once(
            partial(responses.begin, acme.id, begin), partial(responses.delete, acme.id, first)
        )
        assert deletes is None
        if begins is None:
            assert responses.finish(acme.id, begin.id, finished(message("re: two", "assistant")))
            assert said_before(acme, begin.id) == ["one", "re: one", "two", "re: two"]
            responses.delete(acme.id, begin.id)
    with tenant_scope(acme.id):
        assert (Item.objects.of(acme).count(), Thread.objects.of(acme).count()) == (0, 0)


def test_it_takes_a_whole_tree_apart_at_once(acme: Tenant) -> None:
    root = turn(acme, "root")
    stem = next_turn(acme, root, "stem")
    twigs = [next_turn(acme, stem, "twig") for _ in range(AT_ONCE)]
    leaves = [next_turn(acme, twig, "leaf") for twig in twigs]
    every = [root, stem, *twigs, *leaves]
    at_once(*(partial(responses.delete, acme.id, response) for response in every))
    with tenant_scope(acme.id):
        assert (Item.objects.of(acme).count(), Thread.objects.of(acme).count()) == (0, 0)
        assert StoredResponse.objects.of(acme).count() == 0


def test_it_ends_one_that_several_end_in_one_way(acme: Tenant) -> None:
    begin = begun(acme, message("hello"))
    responses.begin(acme.id, begin)
    outcomes = at_once(
        lambda: responses.finish(acme.id, begin.id, finished(message("one", "assistant"))),
        lambda: responses.finish(acme.id, begin.id, finished(message("two", "assistant"))),
        lambda: bool(responses.fail_orphans([])),
    )
    assert outcomes.count(True) == 1
    assert responses.get(acme.id, begin.id).status == ("failed" if outcomes[2] else "completed")


def test_it_erases_an_end_user_who_is_talking(acme: Tenant) -> None:
    def talk_on() -> None:
        last = turn(acme, "one", user="ann")
        for number in range(5):
            begin = begun(
                acme, message(str(number)), past=history.past_of_response(acme.id, last), user="ann"
            )
            responses.begin(acme.id, begin)
            responses.finish(acme.id, begin.id, finished(message("re", "assistant")))
            last = begin.id

    erase = partial(management.erase_user, acme.id, "ann")
    at_once(talk_on, talk_on, erase, erase)
    erase()
    with tenant_scope(acme.id):
        tables = (Thread, Item, StoredResponse)
        assert [table.objects.of(acme).count() for table in tables] == [0, 0, 0]
