"""What those who look after a tenant's threads can do with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import Tenant
from accounts.tenancy import operator_scope, tenant_scope
from tests.threads.test_completions import keep
from tests.threads.turns import begun, message, next_turn, said, said_before, turn
from threads import conversations, export, history, management, responses, retention
from threads.errors import NotFound
from threads.history import NewItem
from threads.management import Erased
from threads.models import Item, StoredResponse, Thread
from threads.pages import Page


def talk(tenant: Tenant, *texts: str, user: str = "") -> UUID:
    items = [message(text) for text in texts]
    return conversations.create(tenant.id, items, retention_days=30, user=user).id


def listed(tenant: Tenant, **filters: object) -> list[UUID]:
    page = management.threads(tenant.id, Page(limit=100, order="asc"), **filters)  # type: ignore[arg-type]
    return [thread.id for thread in page.data]


def thread_of(tenant: Tenant, response: UUID) -> UUID:
    thread = responses.get(tenant.id, response).thread_id
    assert thread is not None
    return thread


def left(tenant: Tenant) -> tuple[int, int, int]:
    """How many threads, items and responses the tenant has."""
    with tenant_scope(tenant.id):
        tables = (Thread, Item, StoredResponse)
        threads, items, kept = (table.objects.of(tenant).count() for table in tables)
        return threads, items, kept


def test_it_lists_threads_page_by_page(acme: Tenant) -> None:
    made = sorted(talk(acme) for _ in range(5))
    page = management.threads(acme.id, Page(limit=2, order="asc"))
    assert ([thread.id for thread in page.data], page.has_more) == (made[:2], True)
    assert page.last_id == f"conv_{made[1].hex}"
    rest = management.threads(acme.id, Page(limit=9, after=page.last_id))
    assert [thread.id for thread in rest.data] == made[:1]
    with pytest.raises(NotFound, match="conversation"):
        management.threads(acme.id, Page(after="conv_1"))


def test_it_lists_those_asked_for(acme: Tenant, globex: Tenant) -> None:
    anns, bens, talks = talk(acme, user="ann"), talk(acme, user="ben"), talk(globex)
    chain = thread_of(acme, turn(acme, "hello"))
    assert set(listed(acme)) == {anns, bens, chain}
    assert listed(acme, user="ann") == [anns]
    assert listed(acme, conversation=False) == [chain]
    assert set(listed(acme, conversation=True)) == {anns, bens}
    soon = timezone.now() + timedelta(minutes=1)
    assert len(listed(acme, created_before=soon)) == 3
    assert listed(acme, created_from=soon) == []
    assert listed(globex) == [talks]


# Branching


def test_it_branches_from_an_item_into_a_conversation_of_its_own(acme: Tenant) -> None:
    source = talk(acme, "one", "two", "three", user="ann")
    items = history.past_of_conversation(acme.id, source).items
    branch = management.branch(acme.id, source, items[1].id, retention_days=1, title="another way")
    assert said(history.past_of_conversation(acme.id, branch.id)) == ["one", "two"]
    conversations.add_items(acme.id, branch.id, [message("else")], retention_days=1)
    conversations.delete(acme.id, source)
    there = conversations.get(acme.id, branch.id)
    assert said(history.past_of_conversation(acme.id, branch.id)) == ["one", "two", "else"]
    assert (there.title, there.end_user) == ("another way", "ann")


def test_it_branches_from_the_middle_of_a_chain_of_branches(acme: Tenant) -> None:
    first = turn(acme, "one")
    next_turn(acme, first, "two")
    other = next_turn(acme, first, "other")
    answer = history.past_of_response(acme.id, first).items[1]
    branch = management.branch(acme.id, thread_of(acme, other), answer.id, retention_days=None)
    assert said(history.past_of_conversation(acme.id, branch.id)) == ["one", "re: one"]


# Export


def lines(pieces: Iterator[bytes]) -> list[dict[str, object]]:
    text = b"".join(pieces).decode()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_it_exports_a_thread_from_its_first_item_on(acme: Tenant) -> None:
    first = turn(acme, "one")
    next_turn(acme, first, "two")
    other = next_turn(acme, first, "other", user="ann")
    thread, *rest = lines(export.export_thread(acme.id, thread_of(acme, other)))
    assert (thread["object"], thread["conversation"]) == ("thread", False)
    items = [line["item"] for line in rest if line["object"] == "thread.item"]
    assert [item["content"] for item in items] == ["one", "re: one", "other", "re: other"]  # type: ignore[index]
    (response,) = [line for line in rest if line["object"] == "stored.response"]
    assert (response["id"], response["user"]) == (f"resp_{other.hex}", "ann")


def test_it_exports_all_of_a_tenant_and_nothing_of_another(acme: Tenant, globex: Tenant) -> None:
    talk(acme, *"abc")
    first = turn(acme, "one")
    next_turn(acme, first, "two")
    branch = next_turn(acme, first, "other")
    completion = keep(acme)
    talk(globex, "secret")
    found = lines(export.export_tenant(acme.id))
    objects = [line["object"] for line in found]
    assert {name: objects.count(name) for name in set(objects)} == {
        "thread": 3,
        "thread.item": 9,
        "stored.response": 3,
        "stored.chat.completion": 1,
    }
    assert "secret" not in json.dumps(found)
    (branched,) = [line for line in found if line.get("branched_from")]
    assert branched["id"] == f"conv_{thread_of(acme, branch).hex}"
    assert branched["branched_from"] == [{"thread": f"conv_{thread_of(acme, first).hex}", "end": 2}]
    (kept,) = [line for line in found if line.get("id") == f"chatcmpl-{completion.hex}"]
    assert kept["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]


def test_it_exports_one_line_for_each_even_of_json_with_line_breaks(acme: Tenant) -> None:
    item = NewItem("message", b'{\n "type": "message",\r\n "n": 1.50,\n "content": "a\\nb"\n}')
    thread = conversations.create(acme.id, [item], retention_days=1)
    exported = b"".join(export.export_thread(acme.id, thread.id))
    assert exported.count(b"\n") == 2
    assert b'"n":1.50' in exported
    kept = lines(iter([exported]))[1]["item"]
    assert kept == {"id": item.stored().id, "type": "message", "n": 1.5, "content": "a\nb"}


def test_it_exports_piece_by_piece(acme: Tenant) -> None:
    talk(acme, *map(str, range(20)))
    thread = listed(acme)[0]
    for _ in range(5):
        more = [message("more") for _ in range(20)]
        conversations.add_items(acme.id, thread, more, retention_days=1)
    pieces = list(export.export_thread(acme.id, thread))
    assert sum(piece.count(b"\n") for piece in pieces) == 121
    assert max(piece.count(b"\n") for piece in pieces) <= 20


# Deleting and erasing


def test_it_deletes_a_thread_with_its_responses(acme: Tenant) -> None:
    first = turn(acme, "one")
    last = next_turn(acme, first, "two")
    management.delete(acme.id, thread_of(acme, last))
    assert left(acme) == (0, 0, 0)


def test_it_deletes_a_conversation_and_leaves_branches_what_they_need(acme: Tenant) -> None:
    there = talk(acme, "hello")
    inside = turn(acme, "inside", past=history.past_of_conversation(acme.id, there))
    outside = next_turn(acme, inside, "outside")
    management.delete(acme.id, there)
    assert said_before(acme, outside)[::2] == ["hello", "re: inside", "re: outside"]
    with pytest.raises(NotFound):
        conversations.get(acme.id, there)
    with pytest.raises(NotFound):
        responses.get(acme.id, inside)
    management.delete(acme.id, thread_of(acme, outside))
    assert left(acme) == (0, 0, 0)


def test_it_erases_everything_of_one_end_user(acme: Tenant) -> None:
    anns = talk(acme, "ann's", user="ann")
    first = turn(acme, "asked by ann", user="ann")
    next_turn(acme, first, "and again", user="ann")
    next_turn(acme, first, "and otherwise", user="ann")
    keep(acme, user="ann")
    shared = talk(acme, "hello all")
    turn(acme, "ann here", past=history.past_of_conversation(acme.id, shared), user="ann")
    with tenant_scope(acme.id):  # which the first to speak gave their name
        Thread.objects.of(acme).filter(id=shared).update(end_user="")
    turn(acme, "ben here", past=history.past_of_conversation(acme.id, shared), user="ben")
    with tenant_scope(acme.id):
        Thread.objects.of(acme).filter(id=shared).update(end_user="")
    assert management.erase_user(acme.id, "ann") == Erased(threads=3, items=1 + 6 + 2, responses=3 + 1 + 1)
    assert said(history.past_of_conversation(acme.id, shared)) == ["hello all", "ben here", "re: ben here"]
    with pytest.raises(NotFound):
        conversations.get(acme.id, anns)
    assert "ann" not in b"".join(export.export_tenant(acme.id)).decode()
    assert management.erase_user(acme.id, "ann") == Erased()


def test_it_erases_what_others_go_on_from(acme: Tenant) -> None:
    first = turn(acme, "ann's secret", user="ann")
    bens = next_turn(acme, first, "ben's", user="ben")
    with tenant_scope(acme.id):
        Thread.objects.of(acme).update(end_user="ann")
    management.erase_user(acme.id, "ann")
    with pytest.raises(NotFound):
        history.past_of_response(acme.id, bens)


def test_it_erases_copies_too(acme: Tenant) -> None:
    there = talk(acme, "ann's", user="ann")
    (item,) = history.past_of_conversation(acme.id, there).items
    management.branch(acme.id, there, item.id, retention_days=None)
    assert management.erase_user(acme.id, "ann") == Erased(threads=2, items=2)
    assert left(acme) == (0, 0, 0)


def test_it_erases_nothing_of_another_tenants_user_of_the_same_name(acme: Tenant, globex: Tenant) -> None:
    talk(globex, "hello", user="ann")
    assert management.erase_user(acme.id, "ann") == Erased()
    assert left(globex) == (1, 1, 0)


def test_it_erases_nobody_without_a_name(acme: Tenant) -> None:
    talk(acme, "hello")
    with pytest.raises(ValueError, match="no end user"):
        management.erase_user(acme.id, "")
    assert left(acme) == (1, 1, 0)


Ask = Callable[[UUID, UUID, str], object]

ASKED: dict[str, Ask] = {
    "branch": lambda tenant, key, item: management.branch(tenant, key, item, retention_days=None),
    "delete": lambda tenant, key, item: management.delete(tenant, key),
    "export": lambda tenant, key, item: export.export_thread(tenant, key),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED.keys())
def test_it_is_not_there_for_charlie(acme: Tenant, globex: Tenant, ask: Ask) -> None:
    there = talk(acme, "secret")
    (item,) = history.past_of_conversation(acme.id, there).items
    for tenant, key in ((globex, there), (acme, uuid7())):
        with pytest.raises(NotFound, match=r"^conversation$"):
            ask(tenant.id, key, item.id)
    assert left(acme) == (1, 1, 0)


# Retention


def pass_by(tenant: Tenant, days: float) -> None:
    """Lets everything of the tenant be so much older."""
    with operator_scope():
        for table in (Thread, StoredResponse):
            for row in table.objects.of(tenant):
                row.created_at -= timedelta(days=days)
                if row.expires_at is not None:
                    row.expires_at -= timedelta(days=days)
                if isinstance(row, Thread):
                    row.used_at -= timedelta(days=days)
                row.save()


def test_it_removes_what_has_expired_with_its_items(acme: Tenant, globex: Tenant) -> None:
    talk(acme, "hello")
    turn(acme, "one")
    keep(acme)
    turn(globex, "one")
    pass_by(acme, 29)
    assert retention.remove_expired() == 0
    pass_by(acme, 2)
    assert retention.remove_expired() == 3
    assert left(acme) == (0, 0, 0)
    assert left(globex) == (1, 2, 1)


def test_it_keeps_items_that_younger_responses_go_on_from(acme: Tenant) -> None:
    first = turn(acme, "one")
    pass_by(acme, 20)
    second = next_turn(acme, first, "two")
    pass_by(acme, 20)
    assert retention.remove_expired() == 1
    with pytest.raises(NotFound):
        responses.get(acme.id, first)
    assert said_before(acme, second) == ["one", "re: one", "two", "re: two"]
    pass_by(acme, 20)
    retention.remove_expired()
    assert left(acme) == (0, 0, 0)


def test_it_keeps_for_ever_what_never_expires(acme: Tenant) -> None:
    turn(acme, "one", retention_days=None)
    conversations.create(acme.id, [message("hello")], retention_days=None)
    pass_by(acme, 10_000)
    assert retention.remove_expired() == 0


def test_it_removes_so_many_at_once(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "REMOVED_AT_ONCE", 2)
    for _ in range(3):
        turn(acme, "one")
    pass_by(acme, 31)
    assert [retention.remove_expired() for _ in range(3)] == [2, 1, 0]


@pytest.mark.parametrize(("days", "expired"), [(10, 3), (90, 0), (None, 0)])
def test_it_lets_a_tenants_new_time_hold_for_what_is_there(
    acme: Tenant, days: int | None, expired: int
) -> None:
    talk(acme, "hello")
    turn(acme, "one")
    keep(acme)
    pass_by(acme, 20)
    with operator_scope():
        Tenant.objects.filter(id=acme.id).update(retention_days=days)
    assert retention.follow_tenants() == 1
    assert retention.follow_tenants() == 0
    pass_by(acme, 0 if days else 10_000)
    assert retention.remove_expired() == expired


def test_it_does_all_of_it_in_the_housekeeping(acme: Tenant) -> None:
    turn(acme, "one")
    pass_by(acme, 20)
    with operator_scope():
        Tenant.objects.filter(id=acme.id).update(retention_days=1)
    retention.housekeeping()
    assert left(acme) == (0, 0, 0)


# A tenant that goes


def test_it_goes_with_its_tenant(acme: Tenant, globex: Tenant) -> None:
    there = talk(acme, "hello")
    inside = turn(acme, "inside", past=history.past_of_conversation(acme.id, there))
    next_turn(acme, inside, "outside")
    next_turn(acme, inside, "elsewhere")
    responses.begin(acme.id, begun(acme, message("running")))
    keep(acme)
    talk(globex, "stays")
    with operator_scope():
        acme.delete()
    with operator_scope():
        for table in (Thread, Item, StoredResponse):
            assert {row.tenant_id for row in table.objects.all()} <= {globex.id}
    assert left(globex) == (1, 1, 0)
