"""Chains of responses: what came before each of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Tenant
from accounts.tenancy import tenant_scope
from tests.threads.turns import begun, finished, next_turn, said_before, turn
from threads import history, responses
from threads.history import LONGEST_LINEAGE, PastTooLarge
from threads.models import Thread


def statements(work: Callable[[], object]) -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        work()
    return len(captured)


def threads_of(tenant: Tenant) -> int:
    with tenant_scope(tenant.id):
        return Thread.objects.of(tenant).count()


def test_it_remembers_what_was_said_in_order(acme: Tenant) -> None:
    first = turn(acme, "one")
    second = next_turn(acme, first, "two")
    assert said_before(acme, second) == ["one", "re: one", "two", "re: two"]


def test_it_keeps_items_byte_for_byte(acme: Tenant) -> None:
    rest = b'"type":"future_thing", "n":1.50, "s":"\\u0000\\ud800 \xc3\xa9", "n":2 }'
    data = b"{ " + rest
    begin = begun(acme, history.NewItem("future_thing", data, text="\0\ud800"))
    responses.record(acme.id, begin, finished())
    (item,) = history.past_of_response(acme.id, begin.id).items
    assert item.data == data
    assert item.id.startswith("item_")
    assert item.whole() == b'{"id":"%s",%s' % (item.id.encode(), rest)


def test_it_refuses_a_past_that_is_too_large(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "LARGEST_PAST_BYTES", 2_000)
    first = turn(acme, "x" * 300)
    second = next_turn(acme, first, "x" * 300)
    with pytest.raises(PastTooLarge):
        history.past_of_response(acme.id, second)
    assert len(said_before(acme, first)) == 2


def test_it_counts_bytes_and_not_characters(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = begun(acme, history.NewItem("message", b'"' + "é".encode() * 500 + b'"'))
    responses.record(acme.id, begin, finished())
    monkeypatch.setattr(history, "LARGEST_PAST_BYTES", 1_000)
    with pytest.raises(PastTooLarge):
        history.past_of_response(acme.id, begin.id)


def test_it_branches_where_a_response_is_continued_twice(acme: Tenant) -> None:
    first = turn(acme, "one")
    left = next_turn(acme, first, "left")
    right = next_turn(acme, first, "right")
    assert said_before(acme, left) == ["one", "re: one", "left", "re: left"]
    assert said_before(acme, right) == ["one", "re: one", "right", "re: right"]


def test_it_keeps_a_chain_that_only_goes_on_in_one_thread(acme: Tenant) -> None:
    last = turn(acme, "0")
    for number in range(1, 5):
        last = next_turn(acme, last, str(number))
    assert threads_of(acme) == 1


def test_it_goes_on_from_within_a_branch_of_a_branch(acme: Tenant) -> None:
    a = turn(acme, "a")
    b = next_turn(acme, a, "b")
    next_turn(acme, b, "c")
    d = next_turn(acme, b, "d")
    e = next_turn(acme, d, "e")
    next_turn(acme, e, "f")
    again = next_turn(acme, d, "again")
    from_a = next_turn(acme, a, "from a")
    assert said_before(acme, again)[::2] == ["a", "b", "d", "again"]
    assert said_before(acme, from_a)[::2] == ["a", "from a"]


def test_it_bounds_how_deep_branches_go(acme: Tenant) -> None:
    last = turn(acme, "0")
    for number in range(1, LONGEST_LINEAGE * 2):
        next_turn(acme, last, "another way")
        last = next_turn(acme, last, str(number))
    assert said_before(acme, last)[::2] == [str(number) for number in range(LONGEST_LINEAGE * 2)]
    with tenant_scope(acme.id):
        deepest = max(len(thread.lineage) for thread in Thread.objects.of(acme))
    assert 2 <= deepest <= LONGEST_LINEAGE


def test_it_does_the_same_work_at_turn_200_as_at_turn_2(acme: Tenant) -> None:
    turns = [turn(acme, "1")]
    counts = [statements(lambda: turns.append(next_turn(acme, turns[-1], "more"))) for _ in range(2, 201)]
    assert len(said_before(acme, turns[-1])) == 400
    assert counts[-1] == counts[0]
