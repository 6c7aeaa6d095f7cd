"""The operators' admin: which threads and stored responses there are, and nothing of what they say.

Django's admin classes are generic to the type checker alone, hence the ignored type arguments.
"""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from accounts.admin import RecentPaginator
from threads.models import StoredResponse, Thread


class KeptAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Looks, and changes nothing. What is not in `fields` is shown nowhere."""

    ordering = ("-id",)  # by time: the identifiers are UUIDv7
    paginator = RecentPaginator
    show_full_result_count = False
    list_select_related = ("tenant",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(Thread)
class ThreadAdmin(KeptAdmin):
    list_display = ("id", "tenant", "conversation", "end", "created_at", "used_at", "expires_at")
    list_filter = ("conversation",)
    fields = ("id", "tenant", "conversation", "parent", "start", "end", "created_at", "used_at", "expires_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Thread]:
        return super().get_queryset(request).defer("title", "metadata")


@admin.register(StoredResponse)
class StoredResponseAdmin(KeptAdmin):
    list_display = ("id", "tenant", "kind", "model", "status", "background", "created_at", "expires_at")
    list_filter = ("kind", "status", "background")
    fields = (
        *("id", "tenant", "thread", "kind", "model", "status", "background", "attempts", "worker_id"),
        *("not_before", "cancel_requested", "created_at", "ended_at", "expires_at"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[StoredResponse]:
        content = ("body", "request", "pending_input", "metadata")
        return super().get_queryset(request).defer(*content)
