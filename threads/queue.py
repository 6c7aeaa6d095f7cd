"""The responses that wait to be made in the background, and those whose worker gave them up.

Every change is made only from the state that it is meant for, as in threads/responses.py.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.db.models import Q

from accounts.tenancy import operator_scope, tenant_scope
from threads import responses
from threads.models import StoredResponse
from threads.responses import Begun, Orphan, Status

MOST_QUEUED = 1000  # of one tenant


class QueueFull(Exception):
    """As many of the tenant's responses wait as may."""


def put(tenant_id: UUID, begun: Begun) -> None:
    """Queues a response. Raises QueueFull, NotFound when what it goes on from is gone meanwhile."""
    with tenant_scope(tenant_id):
        waiting = StoredResponse.objects.of(tenant_id).filter(status=Status.QUEUED)
        if waiting.count() >= MOST_QUEUED:
            raise QueueFull
        responses.begin(tenant_id, begun)


def postpone(response: StoredResponse, not_before: datetime) -> None:
    """Lets those wait that would be refused as this one was: by the same key, for the same model."""
    with tenant_scope(response.tenant_id):
        due = Q(not_before=None) | Q(not_before__lt=not_before)
        alike = StoredResponse.objects.of(response.tenant_id).filter(due, status=Status.QUEUED)
        alike.filter(
            model=response.model,
            user_id=response.user_id,
            api_key_id=response.api_key_id,
            security_key_id=response.security_key_id,
        ).update(not_before=not_before)


def held_by(worker_id: UUID) -> set[UUID]:
    """The responses that this worker is said to be making. Across tenants."""
    with operator_scope():
        held = StoredResponse.objects.filter(status=Status.IN_PROGRESS, worker_id=worker_id)
        return set(held.values_list("id", flat=True))


def producers(ids: Collection[UUID]) -> dict[UUID, UUID | None]:
    """Of those that have not ended, the worker that makes each; None: it waits for one. Across tenants."""
    with operator_scope():
        unfinished = StoredResponse.objects.filter(id__in=ids, status__in=responses.UNFINISHED)
        return dict(unfinished.values_list("id", "worker_id"))


def let_down(worker_id: UUID, ids: Collection[UUID]) -> list[Orphan]:
    """Ends those of these that the worker holds and does not make, or queues them again. Across tenants."""
    with operator_scope():
        held = StoredResponse.objects.filter(id__in=ids, status=Status.IN_PROGRESS, worker_id=worker_id)
        return [responses.let_down(response) for response in held.select_for_update().order_by("id")]
