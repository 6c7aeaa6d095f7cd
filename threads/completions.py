"""Stored chat completions: `store: true` on a chat call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import msgspec
from django.db import connection
from django.db.models import BooleanField, Q, QuerySet
from django.db.models.expressions import RawSQL
from django.utils import timezone

from accounts.tenancy import tenant_scope
from threads import responses
from threads.errors import NotFound
from threads.history import StoredItem, expiry, sizes_of, unexpired
from threads.item_ids import CHAT_COMPLETION, uuid_of
from threads.models import LONGEST_USER, StoredResponse, kept_text
from threads.pages import Listed, Page, cut, fitting, listed

_KIND = StoredResponse.Kind.CHAT_COMPLETION


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A chat completion: `body` is the JSON that the client got, `messages` what it asked with, as JSON."""

    id: UUID
    model: str
    body: bytes
    messages: Sequence[bytes]
    created_at: datetime
    retention_days: int | None
    metadata: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    user_id: int | None = None
    api_key_id: UUID | None = None
    security_key_id: UUID | None = None


def record(tenant_id: UUID, completed: Completed) -> None:
    """Keeps it. `metadata` went through `check_metadata`."""
    with tenant_scope(tenant_id):
        StoredResponse.objects.create(
            id=completed.id,
            tenant_id=tenant_id,
            kind=_KIND,
            model=completed.model,
            status=StoredResponse.Status.COMPLETED,
            body=completed.body.decode(),
            pending_input=msgspec.json.encode([msgspec.Raw(each) for each in completed.messages]).decode(),
            metadata=dict(completed.metadata),
            end_user=kept_text(completed.user, LONGEST_USER),
            user_id=completed.user_id,
            api_key_id=completed.api_key_id,
            security_key_id=completed.security_key_id,
            created_at=completed.created_at,
            ended_at=timezone.now(),
            expires_at=expiry(completed.created_at, completed.retention_days),
        )


def get(tenant_id: UUID, completion_id: UUID) -> StoredResponse:
    """Raises NotFound("chat completion")."""
    return responses.get(tenant_id, completion_id, _KIND)


def delete(tenant_id: UUID, completion_id: UUID) -> None:
    """Raises NotFound("chat completion")."""
    responses.delete(tenant_id, completion_id, _KIND)


def update(tenant_id: UUID, completion_id: UUID, metadata: Mapping[str, str]) -> StoredResponse:
    """With this metadata in place of all that it had, in its body too. Raises NotFound("chat completion")."""
    with tenant_scope(tenant_id):
        found = _kept(tenant_id).select_for_update().filter(id=completion_id).first()
        if found is None:
            raise NotFound("chat completion")
        found.metadata = dict(metadata)
        found.body = responses.body_with(found.body, metadata=found.metadata).decode()
        found.save(update_fields=["metadata", "body"])
        return found


def completions(
    tenant_id: UUID, page: Page, *, model: str | None = None, metadata: Mapping[str, str] | None = None
) -> Listed[StoredResponse]:
    """Those for this model that have all these pairs, in the order in which their calls began.

    Raises NotFound("chat completion") for an `after` that is none.
    """
    with tenant_scope(tenant_id):
        found = _kept(tenant_id)
        if model is not None:
            found = found.filter(model=model)
        for key, value in (metadata or {}).items():
            found = found.filter(_has_pair(key, value))
        if page.after is not None:
            after = _key(page.after)
            found = found.filter(Q(id__gt=after) if page.order == "asc" else Q(id__lt=after))
        in_order = found.defer("pending_input").order_by("id" if page.order == "asc" else "-id")
        limit = fitting(sizes_of(in_order[: page.limit], "body"), page.limit)
        return listed(list(in_order[: limit + 1]), limit, public_id)


def messages(tenant_id: UUID, completion_id: UUID, page: Page) -> Listed[StoredItem]:
    """What it was asked with; a message's id is the completion's with its number behind.

    Raises NotFound("chat completion"), NotFound("item") for the page's `after`.
    """
    completion = get(tenant_id, completion_id)
    given = msgspec.json.decode(completion.pending_input, type=list[msgspec.Raw])
    entries = [
        StoredItem(f"{public_id(completion)}-{number}", "message", bytes(message))
        for number, message in enumerate(given)
    ]
    return cut(entries, page, lambda entry: entry.id)


def public_id(completion: StoredResponse) -> str:
    """What clients call it."""
    return CHAT_COMPLETION + completion.id.hex


def _key(completion_id: str) -> UUID:
    key = uuid_of(completion_id)
    if key is None or not completion_id.startswith(CHAT_COMPLETION):
        raise NotFound("chat completion")
    return key


def _has_pair(key: str, value: str) -> Q | RawSQL:
    """The condition that the metadata has this pair."""
    if connection.vendor == "postgresql":
        return Q(metadata__contains={key: value})
    pairs = "SELECT 1 FROM json_each(threads_storedresponse.metadata) AS pair"
    condition = f"EXISTS ({pairs} WHERE pair.key = %s AND pair.value = %s)"
    return RawSQL(condition, [key, value], output_field=BooleanField())  # noqa: S611  # nothing of a caller's


def _kept(tenant_id: UUID) -> QuerySet[StoredResponse]:
    found: QuerySet[StoredResponse] = StoredResponse.objects.of(tenant_id).filter(unexpired(), kind=_KIND)
    return found
