"""The panel's pages of threads and stored responses. What was said is content: reading it takes a right of
its own and a reason, and is in the audit log. Nothing of it is in a list.

Django's admin classes are generic to the type checker alone, hence the ignored type arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts import audit
from accounts.panel import AuditedAdmin, TenantFilter, WatchedAdmin
from accounts.reading import Question
from accounts.site import actor_of
from threads import content, management
from threads.history import unexpired
from threads.item_ids import uuid_of
from threads.models import LONGEST_USER, StoredResponse, Thread

LONGEST_REASON = 500


class Why(forms.Form):
    """Why somebody reads what others said."""

    reason = forms.CharField(
        max_length=LONGEST_REASON,
        widget=UnfoldAdminTextInputWidget,
        help_text="It is written down in the audit log, with your name.",
    )
    start = forms.IntegerField(required=False, min_value=0, max_value=2**31, widget=forms.HiddenInput)


class KeptAdmin(AuditedAdmin, WatchedAdmin):
    """What both have in common. What is not in `fields` is shown on the page of the content alone."""

    resource = "threads"
    list_select_related = ("tenant",)
    list_per_page = 50
    search_fields = ("id",)
    search_help_text = "An id, or an end user as callers name them"
    change_form_template = "admin/kept.html"
    concealed: tuple[str, ...]  # columns that are content, or large

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(unexpired()).defer(*self.concealed)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        asked = _id_in(search_term)
        if asked is not None:
            return queryset.filter(id=asked), False
        term = search_term.strip()[:LONGEST_USER].replace("\0", "")
        return (queryset.filter(end_user=term) if term else queryset), False

    def looked_at(self, request: HttpRequest) -> Question:
        found, asked = super().looked_at(request), _id_in(request.GET.get("q", ""))
        return found if asked is None else Question(found.looked_at.filter(id=asked), {})

    def get_urls(self) -> list[Any]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_content"
        own = path("<path:object_id>/content/", self.admin_site.admin_view(self.content), name=name)
        return [own, *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        readable = row is not None and self.may(request, "content", row)
        more = {**(extra_context or {}), "readable": readable}
        found: HttpResponse = super().change_view(request, object_id, form_url, more)
        return found

    def content(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks for a reason, and then shows what was said."""
        if not self.may(request, "content"):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None or not self.may(request, "content", row):
            raise Http404
        form = Why(request.POST if request.method == "POST" else None)
        context = {**self.admin_site.each_context(request), "opts": self.opts, "original": row, "form": form}
        context |= {"title": f"What was said in {row}", "told": "Say why you read what others said."}
        if form.is_valid():
            self._note_reading(request, row, form.cleaned_data["reason"])
            context |= {"about": list(content.about(row)), **self.said(row, form.cleaned_data["start"] or 0)}
        return TemplateResponse(request, "admin/content.html", context)

    def said(self, row: Any, start: int) -> dict[str, Any]:
        """`said`, and `rest`: where to go on, if anywhere."""
        raise NotImplementedError

    def _note_reading(self, request: HttpRequest, row: Any, reason: str) -> None:
        actor = actor_of(request)
        audit.record(
            audit.Who(actor.user_id, actor.name, "admin"),
            audit.What("read", self.resource, str(row.pk), str(row), row.tenant_id, reason=reason),
        )


def _id_in(text: str) -> UUID | None:
    """As clients have it, or as it is kept."""
    try:
        return uuid_of(text.strip()) or UUID(text.strip())
    except ValueError:
        return None


@admin.register(Thread)
class ThreadAdmin(KeptAdmin):
    concealed = ("title", "metadata")
    list_display = (
        "__str__",
        "tenant",
        "conversation",
        "end_user",
        "end",
        "created_at",
        "used_at",
        "expires_at",
    )
    list_filter = (TenantFilter, "conversation")
    fields = (
        *("id", "tenant", "conversation", "end_user", "parent", "start", "end"),
        *("created_at", "used_at", "expires_at"),
    )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may(request, "delete", obj)

    def delete_model(self, request: HttpRequest, obj: Thread) -> None:
        management.delete(obj.tenant_id, obj.id)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Thread]) -> None:
        for thread in queryset:
            management.delete(thread.tenant_id, thread.id)

    def said(self, row: Thread, start: int) -> dict[str, Any]:
        items, rest = content.of_thread(row.tenant_id, row, start)
        return {"said": items, "rest": rest}


class QueueFilter(admin.SimpleListFilter):
    """What is made in the background."""

    title, parameter_name = "background queue", "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("waiting", "Waiting"), ("making", "Being made")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "waiting":
                return queryset.filter(status=StoredResponse.Status.QUEUED)
            case "making":
                return queryset.filter(status=StoredResponse.Status.IN_PROGRESS, background=True)
        return queryset


@admin.register(StoredResponse)
class StoredResponseAdmin(KeptAdmin):
    """Also the background queue, which is the responses that are not made yet."""

    concealed = ("body", "request", "pending_input", "metadata")
    list_display = (
        "__str__",
        "tenant",
        "model",
        "status",
        "background",
        "end_user",
        "created_at",
        "expires_at",
    )
    list_filter = (TenantFilter, QueueFilter, "kind", "status", "background")
    list_before_template = "admin/queue.html"
    fields = (
        *("id", "tenant", "thread", "kind", "model", "status", "background", "attempts", "worker_id"),
        *("end_user", "not_before", "cancel_requested", "created_at", "ended_at", "expires_at"),
    )

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        more = {**(extra_context or {}), "queue": list(self._queue(request))}
        found: HttpResponse = super().changelist_view(request, more)
        return found

    def _queue(self, request: HttpRequest) -> Iterator[tuple[str, str, int]]:
        """What it is called, the filter's value, and how many; each is few, and has an index of its own."""
        rows, status = self.get_queryset(request), StoredResponse.Status
        yield "waiting", "waiting", rows.filter(status=status.QUEUED).count()
        yield "being made", "making", rows.filter(status=status.IN_PROGRESS, background=True).count()

    def said(self, row: StoredResponse, start: int) -> dict[str, Any]:
        return {"said": content.of_response(row), "rest": None}
