"""What those who look after a tenant's threads do with them: list, branch, delete, erase."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.tenancy import tenant_scope
from threads import conversations
from threads.errors import NotFound
from threads.history import copy, expiry, items_in, one_item, prune, segments, unexpired
from threads.item_ids import CONVERSATION, uuid_of
from threads.models import LONGEST_TITLE, LONGEST_USER, Item, StoredResponse, Thread, kept_text
from threads.pages import Listed, Page, listed

_ERASED_AT_ONCE = 100


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
        new = copy(thread, last.position + 1, conversation=True)
        new.title = kept_text(title, LONGEST_TITLE)
        new.expires_at = expiry(timezone.now(), retention_days)
        new.save(update_fields=["title", "expires_at"])
        return new


def delete(tenant_id: UUID, thread_id: UUID) -> None:
    """A thread with its responses, and its items but for those that other threads branched off from.

    Raises NotFound("conversation").
    """
    with tenant_scope(tenant_id):
        thread = one_thread(tenant_id, thread_id)
        _empty(tenant_id, [thread.id])
        conversations.let_go(thread)


def one_thread(tenant_id: UUID, thread_id: UUID) -> Thread:
    """Within the tenant's scope: any thread, a conversation or not. Raises NotFound("conversation")."""
    found: Thread | None = Thread.objects.of(tenant_id).filter(unexpired(), id=thread_id).first()
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
    for erase in (_erase_threads, _erase_responses):
        while (erased := erase(tenant_id, user)) != Erased():
            total = Erased(
                total.threads + erased.threads,
                total.items + erased.items,
                total.responses + erased.responses,
            )
    return total


def _erase_threads(tenant_id: UUID, user: str) -> Erased:
    """Some of them."""
    with tenant_scope(tenant_id):
        theirs = Thread.objects.of(tenant_id).filter(end_user=user).order_by("-id")[:_ERASED_AT_ONCE]
        parents = dict(theirs.values_list("id", "parent_id"))
        responses = _empty(tenant_id, parents)
        some = Thread.objects.of(tenant_id).filter(id__in=parents)
        items = _deleted(Item.objects.of(tenant_id).filter(thread_id__in=parents))
        threads = _deleted(some)
        prune(tenant_id, {parent for parent in parents.values() if parent is not None})
        return Erased(threads, items, responses)


def _erase_responses(tenant_id: UUID, user: str) -> Erased:
    """Some of them."""
    with tenant_scope(tenant_id):
        theirs = StoredResponse.objects.of(tenant_id).filter(end_user=user).order_by("id")[:_ERASED_AT_ONCE]
        threads = dict(theirs.values_list("id", "thread_id"))
        items = _deleted(Item.objects.of(tenant_id).filter(response_id__in=threads))
        responses = _deleted(StoredResponse.objects.of(tenant_id).filter(id__in=threads))
        prune(tenant_id, {thread for thread in threads.values() if thread is not None})
        return Erased(items=items, responses=responses)


def _empty(tenant_id: UUID, thread_ids: Collection[UUID]) -> int:
    """Deletes the responses of threads, and holds the threads, so that no other begins there; how many."""
    there = StoredResponse.objects.of(tenant_id).filter(thread_id__in=thread_ids)
    deleted = _deleted(there)  # before the lock, since whoever ends one locks it before its thread
    threads = Thread.objects.of(tenant_id).filter(id__in=thread_ids).order_by("-id")
    list(threads.select_for_update())
    return deleted + _deleted(there)


def _deleted(rows: QuerySet[Any]) -> int:
    """Deletes them; how many they were."""
    return rows.delete()[1].get(rows.model._meta.label, 0)
