"""The panel's lists of calls: those in flight, and those that ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.text import Truncator
from unfold.decorators import display

from accounts.actors import names_of
from accounts.models import ApiKey, SecurityKey, Tenant
from accounts.money import dollars
from accounts.panel import TenantFilter, WatchedAdmin
from accounts.reading import BY_ARRIVAL, Question
from accounts.site import actor_of
from proxy.call_filters import (
    BEFORE,
    SINCE,
    KeyFilter,
    ModelFilter,
    StatusFilter,
    TimeFilter,
    UpstreamFilter,
    UserFilter,
    chosen_tenant,
    filters_for,
    span,
)
from proxy.export import FORMS
from proxy.models import OpenCall, UsageRecord
from proxy.spans import BY_ADMISSION, between

LONGEST_NAME = 32
_PREFIXES = ("req_", "resp_", "chatcmpl-")
_EXPORTED = ("tenant", "model", "status", "user", "api_key", "upstream")


class CallAdmin(WatchedAdmin):
    """What both have in common."""

    list_per_page = 50
    list_filter: tuple[Any, ...] = (TenantFilter, ModelFilter, UserFilter, KeyFilter)

    def get_list_filter(self, request: HttpRequest) -> Sequence[Any]:
        return filters_for(request, tuple(super().get_list_filter(request)))

    def prepare(self, rows: Sequence[Any]) -> None:
        """With the names of what they only have the ids of."""
        rows = list(rows)
        users = names_of({row.user_id for row in rows if row.user_id is not None})
        tenants = _named(Tenant, {row.tenant_id for row in rows})
        keys = _named(ApiKey, {row.api_key_id for row in rows})
        shared = _named(SecurityKey, {row.security_key_id for row in rows})
        for row in rows:
            row.tenant_name = tenants.get(row.tenant_id, "")
            row.user_name = "" if row.user_id is None else users.get(row.user_id, "somebody who is gone")
            row.key_name = keys.get(row.api_key_id) or shared.get(row.security_key_id) or ""

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        row = super().get_object(request, object_id, from_field)
        self.prepare([] if row is None else [row])
        return row

    @admin.display(description="tenant")
    def tenant(self, call: Any) -> str:
        return str(call.tenant_name or call.tenant_id)

    @admin.display(description="user")
    def user(self, call: Any) -> str:
        return str(call.user_name) or "–"

    @admin.display(description="key")
    def key(self, call: Any) -> str:
        return str(call.key_name) or "–"

    @admin.display(description="began (UTC)")
    def began(self, call: Any) -> str:
        return moment(call.started_at)

    @admin.display(description="model")
    def asked_for(self, call: Any) -> str:
        """Cut, for callers write it."""
        return format_html('<bdi title="{}">{}</bdi>', call.model, Truncator(call.model).chars(LONGEST_NAME))


def moment(at: datetime) -> str:
    """To the second, on one line."""
    shown = f"{at:%Y-%m-%d %H:%M:%S}"
    return format_html('<time class="whitespace-nowrap" datetime="{}">{}</time>', at.isoformat(), shown)


def _named(table: Any, ids: set[UUID | None]) -> dict[UUID, str]:
    return {row.pk: str(row) for row in table.objects.filter(id__in=ids - {None})}


class OpenCallAdmin(CallAdmin):
    """Calls that are made right now."""

    resource = "open-calls"
    list_display = ("began", "tenant", "user", "endpoint", "asked_for", "stream", "lasting")
    fields = (
        *("id", "began", "lasting", "tenant", "user", "key", "endpoint", "model", "stream"),
        *("input_tokens_estimate", "worker_id"),
    )
    readonly_fields = ("began", "lasting", "tenant", "user", "key")

    @admin.display(description="for")
    def lasting(self, call: OpenCall) -> str:
        return f"{(timezone.now() - call.started_at).total_seconds():.0f} s"


_COLOURS = {
    "completed": "success",
    "failed": "danger",
    "truncated": "warning",
    "cancelled": "info",
    "lost": "warning",
}


class UsageAdmin(CallAdmin):
    """Calls that ended, each as the ledger has it."""

    resource = "usage"
    change_list_template = "admin/usage.html"
    list_display = (
        *("began", "tenant", "user", "asked_for", "upstream", "ended", "tokens", "cost", "duration"),
    )
    list_filter = (TenantFilter, TimeFilter, StatusFilter, ModelFilter, UpstreamFilter, UserFilter, KeyFilter)
    findable = TimeFilter.names
    search_fields = ("id",)
    search_help_text = "A request's id, or how a model's name or an error's code begins"
    fieldsets = (
        (None, {"fields": ("id", "endpoint", "model", "stream", "began", "over")}),
        ("Who called", {"fields": ("tenant", "user", "key")}),
        (
            "How it went",
            {"fields": ("ended", "status_code", "error_code", "tries", "first_byte", "duration")},
        ),
        (
            "What it used",
            {
                "fields": (
                    *("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens"),
                    *("audio_milliseconds", "estimated", "cost"),
                )
            },
        ),
    )
    readonly_fields = (
        "began",
        "over",
        "tenant",
        "user",
        "key",
        "ended",
        "tries",
        "first_byte",
        "duration",
        "cost",
    )

    def looked_at(self, request: HttpRequest) -> Question:
        rows, tenant_id, asked = (
            UsageRecord.objects.all(),
            chosen_tenant(request),
            id_in(request.GET.get("q", "")),
        )
        if tenant_id is not None:
            rows = rows.of(tenant_id)
        if asked is not None:
            return Question(rows.filter(id=asked), {}, BY_ARRIVAL)
        order = BY_ARRIVAL if tenant_id is None else BY_ADMISSION
        return Question(rows.filter(between(order, *span(request))), {}, order)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        asked = id_in(search_term)
        if asked is not None:
            return queryset.filter(id=asked), False
        begins = Q(model__istartswith=search_term) | Q(error_code__istartswith=search_term)
        return (queryset.filter(begins) if search_term else queryset), False

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        theirs = actor_of(request).tenant_id is not None
        return [
            (name, {"fields": [field for field in told["fields"] if not (theirs and field == "tenant")]})
            for name, told in self.fieldsets
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        files = [
            (f"Export {form.suffix.upper()}", self._export(request, name)) for name, form in FORMS.items()
        ]
        found: HttpResponse = super().changelist_view(request, {**(extra_context or {}), "files": files})
        return found

    def _export(self, request: HttpRequest, form: str) -> str:
        """Where the management API gives out what the list has."""
        asked = {name: request.GET[name] for name in _EXPORTED if request.GET.get(name)}
        tenant_id = actor_of(request).tenant_id
        if tenant_id is not None:
            asked["tenant"] = str(tenant_id)
        return f"/api/usage/export/?{urlencode({'format': form, **asked, **_times(request)})}"

    @display(description="ended", label=_COLOURS)
    def ended(self, record: UsageRecord) -> str:
        return record.status

    @admin.display(description="ended (UTC)")
    def over(self, record: UsageRecord) -> str:
        return moment(record.ended_at)

    @admin.display(description="tokens in → out")
    def tokens(self, record: UsageRecord) -> str:
        told = " → ".join("?" if n is None else f"{n:,}" for n in (record.input_tokens, record.output_tokens))
        return f"≈ {told}" if record.estimated else told

    @admin.display(description="cost")
    def cost(self, record: UsageRecord) -> str:
        return "unpriced" if record.cost_nano_usd is None else dollars(record.cost_nano_usd)

    @admin.display(description="took")
    def duration(self, record: UsageRecord) -> str:
        return seconds(record.duration_milliseconds)

    @admin.display(description="until the first byte")
    def first_byte(self, record: UsageRecord) -> str:
        return "–" if record.first_byte_milliseconds is None else seconds(record.first_byte_milliseconds)

    @admin.display(description="attempts")
    def tries(self, record: UsageRecord) -> str:
        if not record.attempts:
            return "no upstream was asked"
        told = ((each.get("upstream", "?"), each.get("outcome", "?")) for each in record.attempts)
        return format_html(
            '<ol class="list-decimal pl-4">{}</ol>', format_html_join("", "<li>{}: {}</li>", told)
        )


def _times(request: HttpRequest) -> dict[str, str]:
    """As the management API takes them; none of what cannot be meant, which the list refuses."""
    try:
        moments = zip((SINCE, BEFORE), span(request), strict=True)
    except IncorrectLookupParameters:
        return {}
    return {name: at.isoformat() for name, at in moments if at is not None}


def id_in(text: str) -> UUID | None:
    """A call's id as people find it: with a prefix, with dashes or without."""
    for prefix in _PREFIXES:
        text = text.strip().removeprefix(prefix)
    try:
        return UUID(text)
    except ValueError:
        return None


def seconds(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:,.1f} s"


admin.site.register(OpenCall, OpenCallAdmin)
admin.site.register(UsageRecord, UsageAdmin)
