"""Takes away what a tenant keeps no longer. What has expired is not found any more; here its rows go."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from accounts.models import Tenant
from accounts.tenancy import operator_scope
from threads import conversations, responses
from threads.history import lock_thread_of
from threads.models import StoredResponse, Thread

REMOVED_AT_ONCE = 200


def housekeeping() -> None:
    """All of it, some rows at a time. It is idempotent, and several may do it at once."""
    follow_tenants()
    remove_expired()


def remove_expired() -> int:
    """Removes responses and conversations whose time is over, with the items that nothing else goes on from.

    How many, REMOVED_AT_ONCE of each at most. Each is a transaction of its own.
    """
    removed = 0
    while removed < REMOVED_AT_ONCE and _remove_response():
        removed += 1
    let_go = 0
    while let_go < REMOVED_AT_ONCE and _let_conversation_go():
        let_go += 1
    return removed + let_go


def _remove_response() -> bool:
    with operator_scope():
        expired = StoredResponse.objects.filter(expires_at__lte=Now()).order_by("expires_at")
        oldest = expired.only("id", "tenant_id").first()
        if oldest is None:
            return False
        lock_thread_of(oldest.tenant_id, oldest.id)
        response = expired.filter(id=oldest.id).select_for_update().first()
        if response is not None:
            responses.remove(response)
        return True


def _let_conversation_go() -> bool:
    with operator_scope():
        expired = Thread.objects.filter(conversation=True, expires_at__lte=Now()).order_by("expires_at")
        thread = expired.select_for_update(no_key=True, skip_locked=True).first()
        if thread is not None:
            conversations.let_go(thread)
        return thread is not None


def follow_tenants() -> int:
    """Lets a tenant's new `retention_days` hold for what is stored already; how many tenants did."""
    same = Q(retention_days=F("retention_applied")) | Q(retention_days=None, retention_applied=None)
    with operator_scope():
        changed = list(Tenant.objects.exclude(same).values_list("id", "retention_days"))
    for tenant_id, days in changed:
        with operator_scope():
            _apply(tenant_id, days)
    return len(changed)


def _apply(tenant_id: UUID, days: int | None) -> None:
    kept: QuerySet[StoredResponse] = StoredResponse.objects.of(tenant_id)
    talks: QuerySet[Thread] = Thread.objects.of(tenant_id).filter(conversation=True)
    if days is None:
        kept.update(expires_at=None)
        talks.update(expires_at=None)
    else:
        kept.update(expires_at=F("created_at") + timedelta(days=days))
        talks.update(expires_at=F("used_at") + timedelta(days=days))
    Tenant.objects.filter(id=tenant_id).update(retention_applied=days)
