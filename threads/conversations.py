"""Conversations: threads that clients know by name, and the items in them.

A conversation that is deleted, or expires, is not found from that moment on. Its items go with it, but for
those that a stored response or a branch goes on from: they stay for as long as that does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from django.utils import timezone

from accounts.ids import uuid7
from accounts.tenancy import tenant_scope
from threads.history import (
    NewItem,
    StoredItem,
    append,
    conversation,
    expiry,
    items_in,
    one_item,
    page_of,
    prune,
    segments,
    stored,
)
from threads.models import LONGEST_TITLE, LONGEST_USER, Thread, kept_text
from threads.pages import Listed, Page

# Source: OpenAI API reference, "Create a conversation", "Create items", 2026-11.
ITEMS_AT_ONCE = 20


class TooManyItems(Exception):
    """More than ITEMS_AT_ONCE."""


def create(
    tenant_id: UUID,
    items: Sequence[NewItem] = (),
    metadata: Mapping[str, str] | None = None,
    *,
    retention_days: int | None,
    user: str = "",
    user_id: int | None = None,
    title: str = "",
    id: UUID | None = None,
) -> Thread:
    """A new conversation of that end `user`, begun by a key of `user_id`'s. `metadata` went through
    `check_metadata`. Raises TooManyItems."""
    _check_number(items)
    with tenant_scope(tenant_id):
        thread = Thread(
            id=id or uuid7(),
            tenant_id=tenant_id,
            conversation=True,
            user_id=user_id,
            end_user=kept_text(user, LONGEST_USER),
            title=kept_text(title, LONGEST_TITLE),
            metadata=dict(metadata or {}),
            expires_at=expiry(timezone.now(), retention_days),
        )
        thread.save(force_insert=True)
        if items:
            append(thread, items, expires_at=thread.expires_at)
        return thread


def get(tenant_id: UUID, thread_id: UUID) -> Thread:
    """Raises NotFound("conversation")."""
    with tenant_scope(tenant_id):
        return conversation(tenant_id, thread_id)


def update(tenant_id: UUID, thread_id: UUID, metadata: Mapping[str, str]) -> Thread:
    """With this metadata in place of all that it had. Raises NotFound("conversation")."""
    with tenant_scope(tenant_id):
        thread = conversation(tenant_id, thread_id, lock=True)
        thread.metadata = dict(metadata)
        thread.save(update_fields=["metadata"])
        return thread


def delete(tenant_id: UUID, thread_id: UUID) -> None:
    """Raises NotFound("conversation")."""
    with tenant_scope(tenant_id):
        let_go(conversation(tenant_id, thread_id, lock=True))


def let_go(thread: Thread) -> None:
    """Within the transaction that holds its lock: it is no conversation any more, only what others need."""
    thread.conversation = False
    thread.expires_at = None
    thread.title = ""
    thread.metadata = {}
    thread.save(update_fields=["conversation", "expires_at", "title", "metadata"])
    prune(thread.tenant_id, [thread.id])


def items(tenant_id: UUID, thread_id: UUID, page: Page) -> Listed[StoredItem]:
    """Raises NotFound("conversation"), NotFound("item") for the page's `after`."""
    with tenant_scope(tenant_id):
        thread = conversation(tenant_id, thread_id)
        return page_of(tenant_id, segments(thread, thread.end), page)


def add_items(
    tenant_id: UUID, thread_id: UUID, items: Sequence[NewItem], *, retention_days: int | None
) -> tuple[StoredItem, ...]:
    """The items as they are kept, after all others. Raises NotFound("conversation"), TooManyItems."""
    _check_number(items)
    with tenant_scope(tenant_id):
        thread = conversation(tenant_id, thread_id, lock=True)
        append(thread, items, expires_at=expiry(timezone.now(), retention_days))
    return tuple(item.stored() for item in items)


def item(tenant_id: UUID, thread_id: UUID, item_id: str) -> StoredItem:
    """The one of a conversation that clients know by this id. Raises NotFound of either."""
    with tenant_scope(tenant_id):
        thread = conversation(tenant_id, thread_id)
        there = items_in(tenant_id, segments(thread, thread.end))
        found = one_item(there, item_id)
        return next(stored(there.filter(id=found.id)))


def delete_item(tenant_id: UUID, thread_id: UUID, item_id: str) -> Thread:
    """The conversation without it, and so whatever goes on from there. Raises NotFound of either."""
    with tenant_scope(tenant_id):
        thread = conversation(tenant_id, thread_id, lock=True)
        one_item(items_in(tenant_id, segments(thread, thread.end)), item_id).delete()
        return thread


def _check_number(items: Sequence[NewItem]) -> None:
    if len(items) > ITEMS_AT_ONCE:
        raise TooManyItems
