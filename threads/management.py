"""What those who look after a tenant's threads do with them: list, branch, delete, erase."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.tenancy import tenant_scope
from threads import conversations
from threads.errors import NotFound
from threads.history import (
    copy,
    expiry,
    items_in,
    lock_thread_of,
    one_item,
    prune,
    segments,
    unexpired,
)
from threads.item_ids import CONVERSATION, uuid_of
from threads.models import LONGEST_TITLE, LONGEST_USER, Item, StoredResponse, Thread, kept_text
from threads.pages import Listed, Page, listed
from threads.responses import remove


@dataclass(frozen=True, slots=True)
class Erased:
    """How many of each are gone; a chat completion is one of the responses."""

    threads: int = 0
    items: int = 0
    responses: int = 0


def public_id(thread: Thread) -> str:
    """What a thread is called, whether it is a conversation or not."""
    return CONVERSATION + thread.id.hex


def threads(
    tenant_id: UUID,
    page: Page,
    *,
    user: str | None = None,
    conversation: bool | None = None,
    created_from: datetime | None = None,
    created_before: datetime | None = None,
) -> Listed[Thread]:
    """In the order in which they were made. Raises NotFound("conversation") for an `after` that is none."""
    given = {
        "end_user": None if user is None else kept_text(user, LONGEST_USER),
        "conversation": conversation,
        "created_at__gte": created_from,
        "created_at__lt": created_before,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    with tenant_scope(tenant_id):
        found = Thread.objects.of(tenant_id).filter(unexpired(), **wanted)
        if page.after is not None:
            after = uuid_of(page.after)
            if after is None:
                raise NotFound("conversation")
            found = found.filter(Q(id__gt=after) if page.order == "asc" else Q(id__lt=after))
        in_order = found.order_by("id" if page.order == "asc" else "-id")
        return listed(list(in_order[: page.limit + 1]), page.limit, public_id)


def branch(
    tenant_id: UUID, thread_id: UUID, item_id: str, *, retention_days: int | None, title: str = ""
) -> Thread:
    """A new conversation, with copies of a thread's items up to this one. Raises NotFound of either."""
    with tenant_scope(tenant_id):
        thread = one_thread(tenant_id, thread_id)
        last = one_item(items_in(tenant_id, segments(thread, thread.end)), item_id)
        new = copy(thread, last.position + 1, conversation=True, user_id=thread.user_id)
        new.title = kept_text(title, LONGEST_TITLE)
        new.expires_at = expiry(timezone.now(), retention_days)
        new.save(update_fields=["title", "expires_at"])
        return new


def delete(tenant_id: UUID, thread_id: UUID) -> None:
    """A thread with its responses, and its items but for those that other threads branched off from.

    Raises NotFound("conversation").
    """
    with tenant_scope(tenant_id):
        thread = one_thread(tenant_id, thread_id, lock=True)
        StoredResponse.objects.of(tenant_id).filter(thread=thread).delete()
        conversations.let_go(thread)


def one_thread(tenant_id: UUID, thread_id: UUID, *, lock: bool = False) -> Thread:
    """Within the tenant's scope: any thread, a conversation or not. Raises NotFound("conversation")."""
    threads = Thread.objects.of(tenant_id).filter(unexpired(), id=thread_id)
    found: Thread | None = (threads.select_for_update(no_key=True) if lock else threads).first()
    if found is None:
        raise NotFound("conversation")
    return found


# Everything of one end user


def erase_user(tenant_id: UUID, user: str) -> Erased:
    """Takes away what was said by and to an end user, wherever it is, also what others go on from.

    That is their threads with all that is in them, their responses and chat completions, and the items of
    those in threads of others. What runs meanwhile may add to it: whoever needs to be sure erases again.
    Usage records say nothing of what was said, and stay. Raises ValueError without a user.
    """
    user = kept_text(user, LONGEST_USER)
    if not user:
        raise ValueError("There is no end user of this name.")
    total = Erased()
    for erase in (_erase_thread, _erase_response):
        while (erased := erase(tenant_id, user)) is not None:
            total = Erased(
                total.threads + erased.threads,
                total.items + erased.items,
                total.responses + erased.responses,
            )
    return total


def _erase_thread(tenant_id: UUID, user: str) -> Erased | None:
    """One of theirs; None: there is none left."""
    with tenant_scope(tenant_id):
        theirs = Thread.objects.of(tenant_id).filter(end_user=user).order_by("-id")
        thread = theirs.select_for_update().first()
        if thread is None:
            return None
        responses = _deleted(StoredResponse.objects.of(tenant_id).filter(thread=thread))
        items = _deleted(Item.objects.of(tenant_id).filter(thread=thread))
        thread.delete()
        prune(tenant_id, [thread.parent_id] if thread.parent_id else [])
        return Erased(1, items, responses)


def _erase_response(tenant_id: UUID, user: str) -> Erased | None:
    """One of theirs, in somebody else's thread or in none; None: there is none left."""
    with tenant_scope(tenant_id):
        theirs = StoredResponse.objects.of(tenant_id).filter(end_user=user)
        some = theirs.only("id").order_by("id").first()
        if some is None:
            return None
        lock_thread_of(tenant_id, some.id)
        response = theirs.filter(id=some.id).select_for_update().first()
        if response is None:
            return Erased()
        items = _deleted(Item.objects.of(tenant_id).filter(response_id=response.id))
        remove(response)
        return Erased(items=items, responses=1)


def _deleted(rows: QuerySet[Any]) -> int:
    """Deletes them; how many they were."""
    return rows.delete()[1].get(rows.model._meta.label, 0)
