"""What came before a call, and where its own items go: the only queries on items.

A response's past is a thread up to a position: all items of the threads that this one branched off, each up
to where it was left, and its own. `segments` says which those are, so that one query loads a chain of any
depth. What goes on from a thread's tip is appended to it; what goes on from elsewhere, or from a response
within a conversation, branches off into a thread of its own.

Invariant: whoever appends to a thread, or takes items out of one, holds the lock of its row. Rows are locked
in one order, so that nobody waits in a circle: younger threads before older ones, as a branch before its
parent, and a thread before its responses. Positions are never given out twice.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import (
    BinaryField,
    CharField,
    Count,
    F,
    Func,
    IntegerField,
    Max,
    Q,
    QuerySet,
    Sum,
    UUIDField,
    Value,
)
from django.db.models.functions import Cast, Now
from django.utils import timezone

from accounts.ids import uuid7
from accounts.tenancy import tenant_scope
from threads.errors import NotFound
from threads.item_ids import public_id, uuid_of
from threads.models import (
    LONGEST_TYPE,
    LONGEST_USER,
    SEARCHED_CHARACTERS,
    Item,
    StoredResponse,
    Thread,
    kept_text,
)
from threads.pages import Listed, Page, fitting, listed

LONGEST_LINEAGE = 32
LARGEST_PAST_BYTES = 64 * 1024 * 1024
_ITEM_BYTES = 256  # of memory, beside its data

Kind = StoredResponse.Kind
CONTINUABLE = (StoredResponse.Status.COMPLETED, StoredResponse.Status.INCOMPLETE)


class NotContinuable(Exception):
    """The previous response has no items to go on from: it is not there yet, it failed or was cancelled."""

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


class PastTooLarge(Exception):
    """What came before is more than LARGEST_PAST_BYTES."""


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item under the id that clients know; `data` is its JSON object, without that id."""

    id: str
    type: str
    data: bytes

    def whole(self) -> bytes:
        """The JSON object with its id, which comes first."""
        rest = self.data.strip()[1:].lstrip()
        return b'{"id":"%s"%s%s' % (self.id.encode(), b"" if rest.startswith(b"}") else b",", rest)


@dataclass(frozen=True, slots=True)
class NewItem:
    """An item to be kept: `data` is its JSON object without an id, `text` what a search shall find it by.

    `id` is new in the whole installation. What a client sends back is a new item, whatever id it once had.
    """

    type: str
    data: bytes
    role: str = ""
    text: str = ""
    id: UUID = field(default_factory=uuid7)

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", kept_text(self.type, LONGEST_TYPE))
        object.__setattr__(self, "role", kept_text(self.role, LONGEST_TYPE))
        object.__setattr__(self, "text", kept_text(self.text, SEARCHED_CHARACTERS))

    def stored(self) -> StoredItem:
        return StoredItem(public_id(self.type, self.id), self.type, self.data)


@dataclass(frozen=True, slots=True)
class Past:
    """What a call goes on from: a thread up to the position `end`, and the items so far, oldest first.

    In a `conversation` the call's items are appended wherever it ends by then; else they come after `end`.
    `upstreams` is what upstreams keep of the thread, by their ids, each with the `end` that it is good for.
    """

    thread_id: UUID | None = None
    end: int = 0
    items: tuple[StoredItem, ...] = ()
    conversation: bool = False
    upstreams: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


NOTHING = Past()


@dataclass(frozen=True, slots=True)
class Segment:
    """A thread's items from one position to before another."""

    thread_id: UUID
    start: int
    end: int


def segments(thread: Thread, end: int) -> tuple[Segment, ...]:
    """Where the items are that make up the thread up to a position, oldest first."""
    found = []
    start = 0
    for name, stop in (*thread.lineage, (thread.id.hex, end)):
        if start < min(stop, end):
            found.append(Segment(UUID(name), start, min(stop, end)))
        start = max(start, stop)
    return tuple(found)


def unexpired() -> Q:
    """The condition on a thread or a response that its time is not over."""
    return Q(expires_at=None) | Q(expires_at__gt=Now())


def expiry(moment: datetime, retention_days: int | None) -> datetime | None:
    """When what is kept from that moment on goes; None: never."""
    return None if retention_days is None else moment + timedelta(days=retention_days)


# What came before


def past_of_response(tenant_id: UUID, response_id: UUID) -> Past:
    """Raises NotFound("response"), NotContinuable, PastTooLarge."""
    with tenant_scope(tenant_id):
        responses = StoredResponse.objects.of(tenant_id).filter(unexpired(), id=response_id)
        chain = ("thread__conversation", "thread__lineage", "thread__start")
        kept = (
            responses.filter(kind=Kind.RESPONSE)
            .select_related("thread")
            .only("status", "end", *chain)
            .first()
        )
        if kept is None:
            raise NotFound("response")
        if kept.status not in CONTINUABLE:
            raise NotContinuable(kept.status)
        if kept.thread is None:
            raise NotFound("response")
        items = _load(tenant_id, segments(kept.thread, kept.end))
        return Past(kept.thread.id, kept.end, items, upstreams=kept.thread.upstreams)


def past_of_conversation(tenant_id: UUID, thread_id: UUID, user: str | None = None) -> Past:
    """All of a conversation; with a `user`, only one that is theirs or nobody's in particular.

    Raises NotFound("conversation"), PastTooLarge.
    """
    with tenant_scope(tenant_id):
        thread = conversation(tenant_id, thread_id)
        if user is not None and thread.end_user not in ("", kept_text(user, LONGEST_USER)):
            raise NotFound("conversation")
        items = _load(tenant_id, segments(thread, thread.end))
        return Past(thread.id, thread.end, items, conversation=True, upstreams=thread.upstreams)


def conversation(tenant_id: UUID, thread_id: UUID, *, lock: bool = False) -> Thread:
    """Within the tenant's scope: its conversation, whose row the transaction holds. Raises NotFound."""
    threads = Thread.objects.of(tenant_id).filter(unexpired(), id=thread_id, conversation=True)
    found: Thread | None = (threads.select_for_update(no_key=True) if lock else threads).first()
    if found is None:
        raise NotFound("conversation")
    return found


def items_by_id(tenant_id: UUID, ids: Collection[UUID]) -> dict[UUID, StoredItem]:
    """Those of the tenant's items that are there. Whoever asks compares the ids' prefixes too."""
    with tenant_scope(tenant_id):
        living = Q(thread__expires_at=None) | Q(thread__expires_at__gt=Now())
        found = Item.objects.of(tenant_id).filter(living, id__in=ids).only("id", "type", "data")
        return {item.id: stored_item(item) for item in found}


def items_in(tenant_id: UUID, parts: Sequence[Segment]) -> QuerySet[Item]:
    """Within the tenant's scope: the items of these parts, in no order."""
    if not parts:
        return Item.objects.none()
    conditions = (
        Q(thread_id=part.thread_id, position__gte=part.start, position__lt=part.end) for part in parts
    )
    found: QuerySet[Item] = Item.objects.of(tenant_id).filter(reduce(operator.or_, conditions))
    return found


def _load(tenant_id: UUID, parts: Sequence[Segment]) -> tuple[StoredItem, ...]:
    found = items_in(tenant_id, parts)
    total = found.aggregate(bytes=Sum(_size("data")), items=Count("id"))
    if (total["bytes"] or 0) + _ITEM_BYTES * total["items"] > LARGEST_PAST_BYTES:
        raise PastTooLarge
    return tuple(stored(found.order_by("position")))


def sizes_of(rows: QuerySet[Any], column: str) -> list[int]:
    """The bytes of each row's text, in the order of the query."""
    return list(rows.annotate(size=_size(column)).values_list("size", flat=True))


def _size(column: str) -> Func:
    if connection.vendor == "postgresql":
        return Func(F(column), function="octet_length", output_field=IntegerField())
    return Func(Cast(column, BinaryField()), function="length", output_field=IntegerField())


def stored(items: QuerySet[Item]) -> Iterator[StoredItem]:
    """The items, as the query orders them."""
    for item in items.only("id", "type", "data"):
        yield stored_item(item)


def stored_item(item: Item) -> StoredItem:
    """The item as clients know it."""
    return StoredItem(public_id(item.type, item.id), item.type, item.data.encode())


def page_of(tenant_id: UUID, parts: Sequence[Segment], page: Page) -> Listed[StoredItem]:
    """Within the tenant's scope: a page of the items of these parts. Raises NotFound("item")."""
    items = items_in(tenant_id, parts)
    if page.after is not None:
        position = _position(items, page.after)
        items = items.filter(**{"position__gt" if page.order == "asc" else "position__lt": position})
    in_order = items.order_by("position" if page.order == "asc" else "-position")
    limit = fitting(sizes_of(in_order[: page.limit], "data"), page.limit)
    return listed(list(stored(in_order[: limit + 1])), limit, lambda item: item.id)


def _position(items: QuerySet[Item], id: str) -> int:
    """Of the item that clients know by this id. Raises NotFound("item")."""
    return one_item(items, id).position


def one_item(items: QuerySet[Item], id: str) -> Item:
    """The one of these items that clients know by this id. Raises NotFound("item")."""
    key = uuid_of(id)
    found = items.filter(id=key).first() if key else None
    if found is None or public_id(found.type, found.id) != id:
        raise NotFound("item")
    return found


# What comes after


def append_to_conversation(
    tenant_id: UUID,
    thread_id: UUID,
    items: Sequence[NewItem],
    *,
    retention_days: int | None,
    user: str = "",
    response_id: UUID | None = None,
    elsewhere: Mapping[str, Any] | None = None,
) -> None:
    """Adds the items of a call that is itself not stored. Raises NotFound("conversation")."""
    with tenant_scope(tenant_id):
        thread = conversation(tenant_id, thread_id, lock=True)
        append(
            thread,
            items,
            user=user,
            response_id=response_id,
            expires_at=expiry(timezone.now(), retention_days),
            elsewhere=elsewhere,
        )


def append(
    thread: Thread,
    items: Sequence[NewItem],
    *,
    expires_at: datetime | None,
    user: str = "",
    response_id: UUID | None = None,
    elsewhere: Mapping[str, Any] | None = None,
) -> int:
    """Within the transaction that holds the thread's lock: the position of the first of them.

    `expires_at` is when the thread goes, if it is a conversation that nobody uses until then. `elsewhere` is
    what upstreams now keep of all of it, by their ids.
    """
    first: int = thread.end
    Item.objects.bulk_create(
        Item(
            id=item.id,
            tenant_id=thread.tenant_id,
            thread=thread,
            position=first + number,
            type=item.type,
            role=item.role,
            data=item.data.decode(),
            text=item.text,
            response_id=response_id,
        )
        for number, item in enumerate(items)
    )
    thread.end = first + len(items)
    thread.end_user = thread.end_user or kept_text(user, LONGEST_USER)
    thread.expires_at = expires_at if thread.conversation else None
    thread.used_at = timezone.now()
    changed = ["end", "end_user", "expires_at", "used_at"]
    if elsewhere:
        kept = {name: {**there, "end": thread.end} for name, there in elsewhere.items()}
        thread.upstreams = {**thread.upstreams, **kept}
        changed.append("upstreams")
    thread.save(update_fields=changed)
    return first


def thread_after(tenant_id: UUID, past: Past, user_id: int | None) -> Thread:
    """The thread that what comes after `past` is appended to, its row locked: the same, or a new one, which
    is that user's.

    Raises NotFound when what it goes on from is gone.
    """
    if past.thread_id is None:
        new: Thread = Thread.objects.create(tenant_id=tenant_id, conversation=False, user_id=user_id)
        return new
    thread = lock_past(tenant_id, past)
    if thread.conversation:  # else it never was one, or was deleted meanwhile
        return thread if past.conversation else _branch(thread, past.end, user_id)
    return thread if thread.end == past.end else _branch(thread, past.end, user_id)


def lock_past(tenant_id: UUID, past: Past) -> Thread:
    """The thread that `past` is of, its row locked. Raises NotFound when it is gone."""
    assert past.thread_id is not None
    threads = Thread.objects.of(tenant_id).select_for_update(no_key=True)
    found: Thread | None = threads.filter(id=past.thread_id).first()
    if found is None or found.end < past.end:
        raise NotFound("conversation" if past.conversation else "response")
    return found


def lock_thread_of(tenant_id: UUID, response_id: UUID) -> None:
    """Locks the row of the thread that a response is in, if it is in one: to be done before its own is."""
    its = StoredResponse.objects.of(tenant_id).filter(id=response_id).values("thread_id")
    Thread.objects.of(tenant_id).filter(id__in=its).select_for_update(no_key=True).first()


def _branch(thread: Thread, end: int, user_id: int | None) -> Thread:
    parts = segments(thread, end)
    if len(parts) > LONGEST_LINEAGE:
        return copy(thread, end, conversation=False, user_id=user_id)
    new: Thread = Thread.objects.create(
        tenant_id=thread.tenant_id,
        conversation=False,
        user_id=user_id,
        end_user=thread.end_user,
        parent=Thread(id=parts[-1].thread_id) if parts else None,
        lineage=[[part.thread_id.hex, part.end] for part in parts],
        start=end,
        end=end,
    )
    return new


def copy(thread: Thread, end: int, *, conversation: bool, user_id: int | None) -> Thread:
    """A new thread of that user's. Its items are those of the old one up to a position, under new ids."""
    new: Thread = Thread.objects.create(
        tenant_id=thread.tenant_id,
        conversation=conversation,
        user_id=user_id,
        end_user=thread.end_user,
        end=end,
    )
    copied = ("tenant_id", "position", "type", "role", "data", "text", "response_id", "created_at")
    parts = items_in(thread.tenant_id, segments(thread, end))
    rows = parts.annotate(new_id=_random_id(), new_thread=Value(new.id, UUIDField()))
    select, values = rows.values_list("new_id", "new_thread", *copied).query.sql_with_params()
    with connection.cursor() as cursor:
        columns = ", ".join(("id", "thread_id", *copied))
        cursor.execute(f"INSERT INTO threads_item ({columns}) {select}", values)
    return new


def _random_id() -> Func:
    """A UUID that the database makes, for each row another."""
    if connection.vendor == "postgresql":
        return Func(function="gen_random_uuid", output_field=UUIDField())
    return Func(template="lower(hex(randomblob(16)))", output_field=CharField())


# What nothing builds on


def prune(tenant_id: UUID, thread_ids: Collection[UUID]) -> None:
    """Takes out of threads that are no conversations the items which nothing goes on from any more.

    Those are the items after the last response and the last branch; without either all of the thread, and
    then its parent has one branch less to keep items for. Younger threads come first: so all who prune
    several lock them in one order.
    """
    waiting = set(thread_ids)
    while waiting:
        youngest = max(waiting)
        waiting.remove(youngest)
        threads = Thread.objects.of(tenant_id).filter(id=youngest)
        thread = threads.select_for_update().first()
        if thread is None or thread.conversation:
            continue
        needed = _needed(thread)
        if needed is not None:
            Item.objects.of(tenant_id).filter(thread_id=youngest, position__gte=needed).delete()
            continue
        threads.delete()
        if thread.parent_id is not None:
            waiting.add(thread.parent_id)


def _needed(thread: Thread) -> int | None:
    """The position up to which something goes on from the thread's items; None: nothing does."""
    of_responses: Any = thread.responses.aggregate(end=Max("end"))["end"]
    of_branches: Any = thread.branches.aggregate(end=Max("start"))["end"]
    return max((end for end in (of_responses, of_branches) if end is not None), default=None)
