"""Finding what was said."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import ProgrammingError, connection, transaction
from django.utils import timezone

from accounts.models import Tenant
from accounts.tenancy import operator_scope, tenant_scope
from tests.threads.turns import message, turn
from threads import conversations, responses
from threads.models import SEARCHED_CHARACTERS, Item, Thread
from threads.search import EXCERPT_CHARACTERS, MOST_FOUND, excerpt, search


def say(tenant: Tenant, *texts: str, user: str = "") -> Thread:
    return conversations.create(tenant.id, [message(text) for text in texts], retention_days=30, user=user)


def found(tenant: Tenant, text: str, user: str | None = None) -> list[str]:
    return [each.excerpt for each in search(tenant.id, text, user=user)]


def test_it_finds_items_with_all_the_words_newest_first(acme: Tenant) -> None:
    say(acme, "green tea in the garden", "black coffee")
    with tenant_scope(acme.id):
        Item.objects.of(acme).update(created_at=timezone.now() - timedelta(hours=1))
    say(acme, "tea that is Green")
    assert found(acme, "green tea") == ["tea that is Green", "green tea in the garden"]
    assert found(acme, "coffee GARDEN") == []


def test_it_tells_where_it_found_them(acme: Tenant) -> None:
    thread = say(acme, "tea", user="ann")
    (hit,) = search(acme.id, "tea")
    assert (hit.thread_id, hit.conversation, hit.end_user, hit.role) == (thread.id, True, "ann", "user")
    assert conversations.item(acme.id, thread.id, hit.item.id) == hit.item


def test_it_finds_what_was_asked_and_answered_in_a_chain(acme: Tenant) -> None:
    turn(acme, "tea")
    assert found(acme, "tea") == ["re: tea", "tea"]


def test_it_finds_what_one_end_user_said(acme: Tenant) -> None:
    say(acme, "tea of ann", user="ann")
    say(acme, "tea of ben", user="ben")
    assert found(acme, "tea", user="ann") == ["tea of ann"]


def test_it_finds_nothing_of_another_tenants(acme: Tenant, globex: Tenant) -> None:
    say(acme, "tea")
    assert found(globex, "tea") == []


def test_it_finds_nothing_that_is_deleted_or_has_expired(acme: Tenant) -> None:
    conversations.delete(acme.id, say(acme, "tea deleted").id)
    responses.delete(acme.id, turn(acme, "tea deleted too"))
    expired = say(acme, "tea expired")
    with tenant_scope(acme.id):
        Thread.objects.of(acme).filter(id=expired.id).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert found(acme, "tea") == []


@pytest.mark.parametrize("text", ["", "   ", "\0", "%", "_", "'", "100%", "tea'); --", "tea \ud800"])
def test_it_takes_any_text_to_search_for(acme: Tenant, text: str) -> None:
    say(acme, "nothing of that kind")
    assert found(acme, text) == []


def test_it_finds_words_in_whatever_script(acme: Tenant) -> None:
    say(acme, "Зелёный чай", "緑茶 ください", "thé vert")
    assert found(acme, "чай") == ["Зелёный чай"]
    assert found(acme, "緑茶") == ["緑茶 ください"]
    assert found(acme, "thé") == ["thé vert"]


def test_it_gives_so_many_and_no_more(acme: Tenant) -> None:
    for _ in range(MOST_FOUND // 20 + 1):
        say(acme, *["tea"] * 20)
    assert len(search(acme.id, "tea", limit=3)) == 3
    assert len(search(acme.id, "tea", limit=10 * MOST_FOUND)) == MOST_FOUND


LARGE = {
    "many words": " ".join(f"w{number:05}" for number in range(SEARCHED_CHARACTERS)),
    "a long word": "x" * 3_000_000,
    "wide characters": "é\U0001f375 " * SEARCHED_CHARACTERS,
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE.keys())
def test_it_keeps_texts_of_any_size(acme: Tenant, text: str) -> None:
    say(acme, text)
    with tenant_scope(acme.id):
        assert Thread.objects.of(acme).get().end == 1


def test_it_shows_the_place_where_a_word_is() -> None:
    text = "before " * 100 + "the tea is here " + "after " * 100
    shown = excerpt(text, "coffee TEA")
    assert "the tea is here" in shown
    assert len(shown) == EXCERPT_CHARACTERS
    assert excerpt("begins so", "nowhere") == "begins so"


# What PostgreSQL keeps of words


@pytest.mark.postgres
def test_it_has_an_index_that_row_security_does_not_keep_from_being_used(acme: Tenant) -> None:
    say(acme, "tea")
    with operator_scope(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(
            "EXPLAIN SELECT item_id FROM threads_itemwords WHERE words @> threads_words(%s, 'tea')",
            [str(acme.id)],
        )
        assert "threads_itemwords_words" in str(cursor.fetchall())


@pytest.mark.postgres
@pytest.mark.parametrize(
    "sql",
    ["SELECT * FROM threads_itemwords", "DELETE FROM threads_itemwords", "TRUNCATE threads_itemwords"],
)
def test_it_lets_no_tenant_at_the_words(acme: Tenant, sql: str) -> None:
    refused = pytest.raises(ProgrammingError, match="permission denied")
    with tenant_scope(acme.id), refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql)


@pytest.mark.postgres
def test_it_looks_for_the_tenant_whose_scope_it_is(acme: Tenant, globex: Tenant) -> None:
    say(acme, "tea")

    def items() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM threads_items_with('tea')")
            return int(cursor.fetchone()[0])

    with tenant_scope(acme.id):
        assert items() == 1
    with tenant_scope(globex.id):
        assert items() == 0
    with operator_scope():
        assert items() == 0


@pytest.mark.postgres
def test_it_keeps_no_words_of_items_that_are_gone(acme: Tenant) -> None:
    def kept() -> int:
        with operator_scope(), connection.cursor() as cursor:
            having = "words @> threads_words(%s, 'tea')"
            cursor.execute(f"SELECT count(*) FROM threads_itemwords WHERE {having}", [str(acme.id)])
            return int(cursor.fetchone()[0])

    thread = say(acme, "tea", "more tea")
    assert kept() == 2
    conversations.delete(acme.id, thread.id)
    assert kept() == 0
