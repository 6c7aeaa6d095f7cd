"""Writes down who changed what, once for the management API and the admin alike. Rows are only added.

Invariant: an entry names the fields that changed and never a value, so that it can hold no secret.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db.models import Model

from accounts.models import AuditEntry

_LONGEST_NAME = 300


@dataclass(frozen=True, slots=True)
class Who:
    """Who did it: a user, by a key or signed in (`via`: "key", "session" or "admin")."""

    user_id: int | None
    name: str
    via: str
    key_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class What:
    """What was done to what: `resource` as in the paths of the API, `name` as people know the thing."""

    action: str
    resource: str
    object_id: str
    name: str
    tenant_id: uuid.UUID | None
    fields: tuple[str, ...] = field(default=())
    reason: str = ""


def record(who: Who, what: What, request_id: uuid.UUID | None = None) -> None:
    """In the transaction of the change itself: both are there, or neither."""
    AuditEntry.objects.create(
        tenant_id=what.tenant_id,
        actor_id=who.user_id,
        actor=who.name,
        via=who.via,
        api_key_id=who.key_id,
        action=what.action,
        resource=what.resource,
        object_id=what.object_id,
        object_name=what.name[:_LONGEST_NAME],
        fields=sorted(what.fields),
        reason=what.reason,
        request_id=request_id,
    )


def change(
    action: str, resource: str, row: Model, tenant_id: uuid.UUID | None, fields: Iterable[str] = ()
) -> What:
    """A change to a row."""
    return What(action, resource, str(row.pk), str(row), tenant_id, tuple(fields))
