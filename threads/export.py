"""All that is stored of a thread, or of a tenant, as lines of JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from uuid import UUID

import msgspec
from django.db.models import QuerySet

from accounts.tenancy import tenant_scope
from threads.history import Segment, items_in, segments, stored_item, unexpired
from threads.item_ids import CHAT_COMPLETION, RESPONSE
from threads.management import one_thread, public_id
from threads.models import Item, StoredResponse, Thread

_AT_ONCE = 20


def export_thread(tenant_id: UUID, thread_id: UUID) -> Iterator[bytes]:
    """The thread, its items from the very first on, then its responses. Raises NotFound("conversation").

    Each piece is whole lines. Between two pieces no transaction is open: each may be asked for on another
    thread, and what changes meanwhile may be in it or not.
    """
    with tenant_scope(tenant_id):
        thread = one_thread(tenant_id, thread_id)
        parts = segments(thread, thread.end)
    there = StoredResponse.objects.of(tenant_id).filter(thread_id=thread.id)
    heading = (_line(_of_thread(thread)),)
    return chain(heading, _items(tenant_id, thread, parts), _responses(tenant_id, there))


def export_tenant(tenant_id: UUID) -> Iterator[bytes]:
    """Every thread with the items of its own, then every response and chat completion. As `export_thread`.

    `branched_from` of a thread says whose items come before its own, and up to which position.
    """
    last = UUID(int=0)
    while True:
        with tenant_scope(tenant_id):
            found = Thread.objects.of(tenant_id).filter(unexpired(), id__gt=last).order_by("id").first()
        if found is None:
            break
        yield _line(_of_thread(found))
        yield from _items(tenant_id, found, [Segment(found.id, found.start, found.end)])
        last = found.id
    yield from _responses(tenant_id, StoredResponse.objects.of(tenant_id))


def _items(tenant_id: UUID, thread: Thread, parts: Sequence[Segment]) -> Iterator[bytes]:
    position = 0
    while True:
        with tenant_scope(tenant_id):
            rest = items_in(tenant_id, parts).filter(position__gte=position).order_by("position")
            some = list(rest[:_AT_ONCE])
        if not some:
            return
        yield b"".join(_line(_of_item(item, thread)) for item in some)
        position = some[-1].position + 1


def _responses(tenant_id: UUID, responses: QuerySet[StoredResponse]) -> Iterator[bytes]:
    last = UUID(int=0)
    while True:
        with tenant_scope(tenant_id):
            some = list(responses.filter(unexpired(), id__gt=last).order_by("id")[:_AT_ONCE])
        if not some:
            return
        yield b"".join(_line(_of_response(response)) for response in some)
        last = some[-1].id


def _of_thread(thread: Thread) -> dict[str, object]:
    return {
        "object": "thread",
        "id": public_id(thread),
        "conversation": thread.conversation,
        "user": thread.end_user,
        "title": thread.title,
        "metadata": thread.metadata,
        "branched_from": [
            {"thread": public_id(Thread(id=UUID(name))), "end": end} for name, end in thread.lineage
        ],
        "created_at": thread.created_at,
        "used_at": thread.used_at,
    }


def _of_item(item: Item, thread: Thread) -> dict[str, object]:
    return {
        "object": "thread.item",
        "thread": public_id(thread),
        "position": item.position,
        "response": None if item.response_id is None else RESPONSE + item.response_id.hex,
        "created_at": item.created_at,
        "item": msgspec.Raw(stored_item(item).whole()),
    }


def _of_response(response: StoredResponse) -> dict[str, object]:
    completion = response.kind == StoredResponse.Kind.CHAT_COMPLETION
    return {
        "object": "stored." + response.kind,
        "id": (CHAT_COMPLETION if completion else RESPONSE) + response.id.hex,
        "thread": None if response.thread_id is None else public_id(Thread(id=response.thread_id)),
        "status": response.status,
        "user": response.end_user,
        "created_at": response.created_at,
        "messages": msgspec.Raw(response.pending_input.encode()) if completion else None,
        "body": msgspec.Raw(response.body.encode()),
    }


def _line(document: dict[str, object]) -> bytes:
    # A raw value keeps the white space that it came with, and a new line would end ours.
    encoded = msgspec.json.encode(document)
    return (encoded if b"\n" not in encoded else msgspec.json.format(encoded, indent=-1)) + b"\n"
