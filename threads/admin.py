"""The operators' admin: which threads and stored responses there are, and nothing of what they say.

Django's admin classes are generic to the type checker alone, hence the ignored type arguments.
"""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.panel import TenantFilter, WatchedAdmin
from threads.models import StoredResponse, Thread


class KeptAdmin(WatchedAdmin):
    """Looks, and changes nothing. What is not in `fields` is shown nowhere."""

    resource = "threads"
    list_select_related = ("tenant",)


@admin.register(Thread)
class ThreadAdmin(KeptAdmin):
    list_display = ("id", "tenant", "conversation", "end", "created_at", "used_at", "expires_at")
    list_filter = (TenantFilter, "conversation")
    fields = ("id", "tenant", "conversation", "parent", "start", "end", "created_at", "used_at", "expires_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Thread]:
        return super().get_queryset(request).defer("title", "metadata")


@admin.register(StoredResponse)
class StoredResponseAdmin(KeptAdmin):
    list_display = ("id", "tenant", "kind", "model", "status", "background", "created_at", "expires_at")
    list_filter = (TenantFilter, "kind", "status", "background")
    fields = (
        *("id", "tenant", "thread", "kind", "model", "status", "background", "attempts", "worker_id"),
        *("not_before", "cancel_requested", "created_at", "ended_at", "expires_at"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[StoredResponse]:
        content = ("body", "request", "pending_input", "metadata")
        return super().get_queryset(request).defer(*content)
