"""Stored responses: from the moment that a call is admitted to its deletion.

Invariant: a response is queued or in progress until one change ends it, and each change is made only from the
state that it is meant for. So a worker thought dead, a second claim and a cancelled response change nothing.
Input and output items are appended in the transaction that ends a response well; after any other ending its
thread is as it was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from accounts.tenancy import operator_scope, tenant_scope
from threads.errors import NotFound
from threads.history import (
    CONTINUABLE,
    NOTHING,
    NewItem,
    Past,
    StoredItem,
    append,
    expiry,
    items_in,
    lock_past,
    lock_thread_of,
    page_of,
    prune,
    segments,
    stored,
    thread_after,
    unexpired,
)
from threads.models import LONGEST_USER, StoredResponse, kept_text
from threads.pages import Listed, Page, cut

Kind = StoredResponse.Kind
Status = StoredResponse.Status

UNFINISHED = (Status.QUEUED, Status.IN_PROGRESS)
ATTEMPTS = 2
_ORPHANS_AT_ONCE = 200
_WORKER_LOST = {"code": "server_error", "message": "The process that made this response is gone."}


class NotCancellable(Exception):
    """The response is not made in the background: whoever waits for it ends it by leaving."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A response as it begins; `body` is the JSON that the client sees, its status that of `status`.

    One in progress names the worker that is at it; one that is queued has a `request` to make it from.
    """

    id: UUID
    model: str
    body: bytes
    created_at: datetime
    retention_days: int | None
    past: Past = NOTHING
    input: tuple[NewItem, ...] = ()
    status: str = Status.IN_PROGRESS
    background: bool = False
    request: bytes = b""
    metadata: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    user_id: int | None = None
    api_key_id: UUID | None = None
    security_key_id: UUID | None = None
    worker_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """How a response ended, and what it answered; the items are kept if it is completed or incomplete, and
    with them what upstreams keep of the thread (threads/history.py)."""

    status: str
    body: bytes
    output: tuple[NewItem, ...] = ()
    elsewhere: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Orphan:
    """A response whose worker is gone, and how it stands now: queued, failed or cancelled."""

    id: UUID
    tenant_id: UUID
    status: str


def begin(tenant_id: UUID, begun: Begun) -> None:
    """Keeps a response that is under way. Raises NotFound when what it goes on from is gone meanwhile."""
    with tenant_scope(tenant_id):
        _hold(tenant_id, begun.past)
        response = _response(tenant_id, begun)
        response.pending_input = _pack(begun.input)
        response.save(force_insert=True)


def finish(tenant_id: UUID, response_id: UUID, finished: Finished, worker_id: UUID | None = None) -> bool:
    """Ends a response; False: it had ended, is deleted, or (with a `worker_id`) is another's by now."""
    with tenant_scope(tenant_id):
        lock_thread_of(tenant_id, response_id)
        rows = _unfinished(tenant_id).filter(id=response_id)
        if worker_id is not None:
            rows = rows.filter(worker_id=worker_id)
        response = rows.first()
        if response is None:
            return False
        _end(response, finished, _unpack(response))
        response.save()
        return True


def record(tenant_id: UUID, begun: Begun, finished: Finished) -> None:
    """`begin` and `finish` in one, for a response that nobody can ask for before it has ended.

    Raises NotFound when what it goes on from is gone meanwhile.
    """
    with tenant_scope(tenant_id):
        if finished.status not in CONTINUABLE:
            _hold(tenant_id, begun.past)
        response = _response(tenant_id, begun)
        _end(response, finished, begun.input)
        response.save(force_insert=True)


def _hold(tenant_id: UUID, past: Past) -> None:
    """Keeps what it goes on from where it is until the row is there that needs it. Raises NotFound."""
    if past.thread_id is not None:
        lock_past(tenant_id, past)


def _response(tenant_id: UUID, begun: Begun) -> StoredResponse:
    past = begun.past
    return StoredResponse(
        id=begun.id,
        tenant_id=tenant_id,
        thread_id=past.thread_id,
        kind=Kind.RESPONSE,
        model=begun.model,
        status=begun.status,
        background=begun.background,
        in_conversation=past.conversation,
        body=begun.body.decode(),
        metadata=dict(begun.metadata),
        end_user=kept_text(begun.user, LONGEST_USER),
        request=begun.request.decode(),
        input_start=past.end,
        output_start=past.end,
        end=past.end,
        user_id=begun.user_id,
        api_key_id=begun.api_key_id,
        security_key_id=begun.security_key_id,
        worker_id=begun.worker_id,
        attempts=1 if begun.status == Status.IN_PROGRESS else 0,
        created_at=begun.created_at,
        expires_at=expiry(begun.created_at, begun.retention_days),
    )


def _end(response: StoredResponse, finished: Finished, asked: tuple[NewItem, ...]) -> None:
    """Changes the response, and its thread. The response's row is locked, or not there yet."""
    if finished.status in CONTINUABLE:
        _append(response, asked, finished)
        response.pending_input = ""
    else:
        response.pending_input = _pack(asked)
    response.status = finished.status
    response.body = finished.body.decode()
    response.request = ""
    response.ended_at = timezone.now()


def _append(response: StoredResponse, asked: tuple[NewItem, ...], finished: Finished) -> None:
    past = Past(response.thread_id, response.end, conversation=response.in_conversation)
    thread = thread_after(response.tenant_id, past, response.user_id)
    kept_for = response.expires_at and response.expires_at - response.created_at
    response.input_start = append(
        thread,
        (*asked, *finished.output),
        user=response.end_user,
        response_id=response.id,
        elsewhere=finished.elsewhere,
        expires_at=timezone.now() + kept_for if kept_for else None,
    )
    response.output_start = response.input_start + len(asked)
    response.end = response.output_start + len(finished.output)
    response.thread = thread


# Items that are not in their thread yet, as JSON: the key, type, role, text and data of each.


class _Packed(msgspec.Struct, array_like=True):
    id: UUID
    type: str
    role: str
    text: str
    data: msgspec.Raw


def _pack(items: tuple[NewItem, ...]) -> str:
    packed = [_Packed(item.id, item.type, item.role, item.text, msgspec.Raw(item.data)) for item in items]
    return msgspec.json.encode(packed).decode() if packed else ""


def _unpack(response: StoredResponse) -> tuple[NewItem, ...]:
    if not response.pending_input:
        return ()
    packed = msgspec.json.decode(response.pending_input, type=list[_Packed])
    return tuple(
        NewItem(item.type, bytes(item.data), role=item.role, text=item.text, id=item.id) for item in packed
    )


# What its caller may ask for


def get(tenant_id: UUID, response_id: UUID, kind: str = Kind.RESPONSE) -> StoredResponse:
    """Raises NotFound."""
    with tenant_scope(tenant_id):
        return _one(_kept(tenant_id, kind), response_id, kind)


def input_items(tenant_id: UUID, response_id: UUID, page: Page) -> Listed[StoredItem]:
    """Everything that it was made from: what came before, then its own input.

    Source: https://github.com/openai/openai-openapi/issues/491 shows the second response of a chain list the
    first one's items too. Raises NotFound("response"), NotFound("item") for the page's `after`.
    """
    with tenant_scope(tenant_id):
        response = _one(_kept(tenant_id, Kind.RESPONSE).select_related("thread"), response_id)
        parts = segments(response.thread, response.output_start) if response.thread else ()
        if response.status in CONTINUABLE:
            return page_of(tenant_id, parts, page)
        before = stored(items_in(tenant_id, parts).order_by("position"))
        asked = (item.stored() for item in _unpack(response))
        return cut([*before, *asked], page, lambda item: item.id)


def delete(tenant_id: UUID, response_id: UUID, kind: str = Kind.RESPONSE) -> None:
    """Takes it away, and those of its items that nothing else goes on from. Raises NotFound."""
    with tenant_scope(tenant_id):
        lock_thread_of(tenant_id, response_id)
        remove(_one(_kept(tenant_id, kind).select_for_update(), response_id, kind))


def remove(response: StoredResponse) -> None:
    """Within the transaction that holds its lock and its thread's: as `delete`."""
    response.delete()
    if response.thread_id is not None:
        prune(response.tenant_id, [response.thread_id])


def _kept(tenant_id: UUID, kind: str) -> QuerySet[StoredResponse]:
    found: QuerySet[StoredResponse] = StoredResponse.objects.of(tenant_id).filter(unexpired(), kind=kind)
    return found


def _one(responses: QuerySet[StoredResponse], id: UUID, kind: str = Kind.RESPONSE) -> StoredResponse:
    found = responses.filter(id=id).first()
    if found is None:
        raise NotFound("response" if kind == Kind.RESPONSE else "chat completion")
    return found


def _unfinished(tenant_id: UUID) -> QuerySet[StoredResponse]:
    """Those that are queued or in progress, their rows locked."""
    rows = StoredResponse.objects.of(tenant_id).select_for_update()
    found: QuerySet[StoredResponse] = rows.filter(status__in=UNFINISHED)
    return found


# Those that run in the background


def request_cancel(tenant_id: UUID, response_id: UUID) -> StoredResponse:
    """The response as it is now: cancelled if it was waiting; one that is running, its worker is to stop.

    One that has ended stays what it is. Raises NotFound("response"), NotCancellable.
    """
    with tenant_scope(tenant_id):
        response = _one(_kept(tenant_id, Kind.RESPONSE).select_for_update(), response_id)
        if not response.background:
            raise NotCancellable
        if response.status == Status.QUEUED:
            _stop(response, Status.CANCELLED)
            response.save()
        elif response.status == Status.IN_PROGRESS and not response.cancel_requested:
            response.cancel_requested = True
            response.save(update_fields=["cancel_requested"])
        return response


def claim(worker_id: UUID, passing_over: Collection[UUID] = ()) -> StoredResponse | None:
    """The oldest response that is due, now in progress and this worker's; or none. Tenants that have enough
    of the worker are passed over.

    Of several that claim the same one, in whatever process, one gets it.
    """
    with operator_scope():
        due = Q(not_before=None) | Q(not_before__lte=Now())
        waiting = StoredResponse.objects.filter(due, status=Status.QUEUED).order_by("id")
        if passing_over:
            waiting = waiting.exclude(tenant_id__in=passing_over)
        response: StoredResponse | None = waiting.select_for_update(skip_locked=True).first()
        if response is None:
            return None
        response.status = Status.IN_PROGRESS
        response.body = body_with(response.body, status="in_progress").decode()
        response.worker_id = worker_id
        response.attempts += 1
        response.not_before = None
        changed = ("status", "body", "worker_id", "attempts", "not_before")
        values = {name: getattr(response, name) for name in changed}
        won = StoredResponse.objects.filter(id=response.id, status=Status.QUEUED).update(**values)
        return response if won else None


def requeue(tenant_id: UUID, response_id: UUID, worker_id: UUID, not_before: datetime) -> bool:
    """Puts back one that its worker cannot make now; this attempt does not count. False: it is not its to."""
    with tenant_scope(tenant_id):
        rows = _unfinished(tenant_id).filter(status=Status.IN_PROGRESS, worker_id=worker_id)
        response = rows.filter(id=response_id).first()
        if response is None:
            return False
        response.attempts -= 1
        _queue(response, not_before)
        response.save()
        return True


def note_produced(tenant_id: UUID, response_id: UUID) -> None:
    """Some of its answer was given out: should its worker die, it is not made again."""
    with tenant_scope(tenant_id):
        StoredResponse.objects.of(tenant_id).filter(id=response_id).update(produced=True)


def still_wanted(ids: Collection[UUID]) -> set[UUID]:
    """Those that are neither deleted, nor ended, nor to be cancelled. Across tenants."""
    with operator_scope():
        wanted = StoredResponse.objects.filter(id__in=ids, status__in=UNFINISHED, cancel_requested=False)
        return set(wanted.values_list("id", flat=True))


def fail_orphans(living: Collection[UUID] | QuerySet[Any, UUID]) -> list[Orphan]:
    """Ends the responses in progress whose worker is not among the living, a few hundred at a time.

    One that runs in the background, that nobody has seen any of, is queued again once. Across tenants.
    """
    with operator_scope():
        running = StoredResponse.objects.filter(status=Status.IN_PROGRESS).exclude(worker_id__in=living)
        orphans = running.select_for_update(skip_locked=True).order_by("id")[:_ORPHANS_AT_ONCE]
        return [let_down(response) for response in orphans]


def let_down(response: StoredResponse) -> Orphan:
    """Within the operators' transaction that holds its lock: its worker does not make it."""
    if response.cancel_requested:
        _stop(response, Status.CANCELLED)
    elif response.background and not response.produced and response.attempts < ATTEMPTS:
        _queue(response, None)
    else:
        _stop(response, Status.FAILED, error=_WORKER_LOST)
    response.save()
    return Orphan(response.id, response.tenant_id, response.status)


def _stop(response: StoredResponse, status: str, **members: Any) -> None:
    """Ends it as it is; the members are what becomes different in its body."""
    _end(response, Finished(status, body_with(response.body, status=status, **members)), _unpack(response))


def _queue(response: StoredResponse, not_before: datetime | None) -> None:
    response.status = Status.QUEUED
    response.body = body_with(response.body, status="queued").decode()
    response.worker_id = None
    response.not_before = not_before


def body_with(body: str, **members: Any) -> bytes:
    """The JSON object with these top-level members in place of its own; all others keep their bytes."""
    return msgspec.json.encode(msgspec.json.decode(body, type=dict[str, msgspec.Raw]) | members)
