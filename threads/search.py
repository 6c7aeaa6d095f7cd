"""Finds items by the words in them: on PostgreSQL as threads/words.py keeps them, on SQLite by reading."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.db.models import Q
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now

from accounts.tenancy import tenant_scope
from threads.history import StoredItem, stored_item
from threads.models import LONGEST_USER, Item, kept_text

MOST_FOUND = 100
LONGEST_SEARCH = 1000
EXCERPT_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Found:
    """An item that has the words, the thread that it is in, and the part of its text where they are."""

    thread_id: UUID
    conversation: bool
    end_user: str
    item: StoredItem
    role: str
    excerpt: str
    created_at: datetime


def search(
    tenant_id: UUID, text: str, *, limit: int = 20, user: str | None = None, user_id: int | None = None
) -> tuple[Found, ...]:
    """Items with all words of `text`, newest first, MOST_FOUND at most; with a `user`, of the threads of that
    end user; with a `user_id`, of those that this user began.

    On PostgreSQL a word is one of its full text search ("simple": of any language, in whatever case, as it is
    written). On SQLite any part of a text will do, and only the letters A to Z match in either case.
    """
    text = kept_text(text, LONGEST_SEARCH)
    with tenant_scope(tenant_id):
        living = Q(thread__expires_at=None) | Q(thread__expires_at__gt=Now())
        items = Item.objects.of(tenant_id).filter(living, _has_words(text)).select_related("thread")
        if user is not None:
            items = items.filter(thread__end_user=kept_text(user, LONGEST_USER))
        if user_id is not None:
            items = items.filter(thread__user_id=user_id)
        newest = items.order_by("-created_at", "-position")[: min(limit, MOST_FOUND)]
        return tuple(_found(item, text) for item in newest)


def _has_words(text: str) -> Q:
    if connection.vendor == "postgresql":
        having = RawSQL("SELECT threads_items_with(%s)", [text])  # the text is a parameter
        return Q(id__in=having)
    words = text.split()
    if not words:
        return Q(id__in=())
    condition = Q()
    for word in words:
        condition &= Q(text__icontains=word)
    return condition


def _found(item: Item, text: str) -> Found:
    return Found(
        thread_id=item.thread.id,
        conversation=item.thread.conversation,
        end_user=item.thread.end_user,
        item=stored_item(item),
        role=item.role,
        excerpt=excerpt(item.text, text),
        created_at=item.created_at,
    )


def excerpt(text: str, words: str) -> str:
    """The part of a text around the first place where one of the words is; its beginning, where none is."""
    pattern = "|".join(re.escape(word) for word in words.split())
    match = re.search(pattern, text, re.IGNORECASE) if pattern else None
    first = max(0, (match.start() if match else 0) - EXCERPT_CHARACTERS // 4)
    return text[first : first + EXCERPT_CHARACTERS]
