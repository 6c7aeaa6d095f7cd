"""The operators' admin: upstreams, models and their routes, prices; usage and open calls to look at.

Django's admin classes are generic to the type checker alone, hence the ignored type arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

from django import forms
from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from unfold.admin import TabularInline

from accounts.models import Tenant
from accounts.money import dollars
from accounts.panel import AuditedAdmin, DollarsField, RowForm, TenantFilter, WatchedAdmin
from accounts.permissions import Reach, reach
from accounts.site import actor_of
from proxy.addresses import (
    InvalidAddress,
    NotSendable,
    check_base_url,
    check_header,
    cookies_in,
    headers_in,
)
from proxy.models import Model, OpenCall, Price, Route, Upstream, UsageRecord
from proxy.sealing import seal, upstream_context

_SEALED = ("api_key", "headers", "cookies")


def _secret(name: str, widget: type[forms.Widget]) -> forms.CharField:
    return forms.CharField(
        required=False,
        strip=True,
        widget=widget(attrs={"autocomplete": "new-password", "rows": 3}),
        help_text=f"{name} Shown to nobody once saved. Empty: what there is stays.",
    )


def _removal(what: str) -> forms.BooleanField:
    return forms.BooleanField(required=False, help_text=f"Call this upstream without {what}.")


class UpstreamForm(RowForm):
    """Its secrets can be set and taken away, and are never shown again."""

    api_key = _secret("Sent as a bearer.", forms.PasswordInput)
    headers = _secret("More headers, 'X-Name: value' a line.", forms.Textarea)
    cookies = _secret("Cookies, 'name=value' a line.", forms.Textarea)
    remove_api_key = _removal("a key")
    remove_headers = _removal("more headers")
    remove_cookies = _removal("cookies")

    class Meta:
        model = Upstream
        fields = "__all__"  # the sealed key is not editable, so it is not among them

    def clean_base_url(self) -> str:
        text = str(self.cleaned_data["base_url"])
        try:
            return check_base_url(text) if text else ""
        except InvalidAddress as error:
            raise forms.ValidationError(f"This {error}.") from None

    def clean_api_key(self) -> str:
        return self._sendable("api_key")

    def clean_headers(self) -> str:
        return self._pairs("headers", headers_in)

    def clean_cookies(self) -> str:
        return self._pairs("cookies", cookies_in)

    def _pairs(self, name: str, check: Callable[[str], object]) -> str:
        text = str(self.cleaned_data[name])
        try:
            check(text)
        except NotSendable as error:
            raise forms.ValidationError(f"These {error}.") from None
        return text

    def clean_session_prefix(self) -> str:
        return self._sendable("session_prefix")

    def clean_organization(self) -> str:
        return self._sendable("organization")

    def clean_project(self) -> str:
        return self._sendable("project")

    def _sendable(self, name: str) -> str:
        text = str(self.cleaned_data[name])
        try:
            return check_header(text) if text else ""
        except NotSendable as error:
            raise forms.ValidationError(f"This {error}.") from None

    def clean(self) -> dict[str, Any]:
        values = dict(super().clean() or self.cleaned_data)
        if values.get("dialect") != Upstream.Dialect.DEMO and not values.get("base_url"):
            self.add_error("base_url", "This dialect needs an address.")
        moved = {"base_url", "tenant"} & set(self.changed_data)
        for name in _SEALED if moved else ():
            kept = getattr(self.instance, f"sealed_{name}") is not None
            if kept and not values.get(name) and not values.get(f"remove_{name}"):
                self.add_error(name, "Give this again: it goes only where it was given for.")
        return values


@admin.register(Upstream)
class UpstreamAdmin(AuditedAdmin):
    resource = "upstreams"
    common = True
    form = UpstreamForm
    list_display = ("name", "dialect", "base_url", "tenant", "has_key", "enabled")
    list_filter = ("dialect", "enabled")
    search_fields = ("name",)

    @admin.display(boolean=True, description="key")
    def has_key(self, upstream: Upstream) -> bool:
        return upstream.sealed_api_key is not None

    def save_model(self, request: HttpRequest, obj: Upstream, form: UpstreamForm, change: bool) -> None:
        for name in _SEALED:
            if form.cleaned_data[name]:
                setattr(obj, f"sealed_{name}", seal(form.cleaned_data[name], upstream_context(obj)))
            elif form.cleaned_data[f"remove_{name}"]:
                setattr(obj, f"sealed_{name}", None)
        super().save_model(request, obj, form, change)


class RouteInline(TabularInline):
    model = Route
    extra = 1


@admin.register(Model)
class ModelAdmin(AuditedAdmin):
    resource = "models"
    common = True
    inlines = (RouteInline,)
    list_display = ("name", "goes_to")
    search_fields = ("name",)

    def of(self, rows: QuerySet[Model], tenant_id: UUID) -> QuerySet[Model]:
        return cast(Any, rows).of(tenant_id)  # type: ignore[no-any-return]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A model is never altered, and the page has its routes."""
        return reach(actor_of(request).role, "routes", "update") is not Reach.NONE

    def get_inlines(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return super().get_inlines(request, obj) if self.has_change_permission(request) else ()

    def get_list_display(self, request: HttpRequest) -> Any:
        return super().get_list_display(request) if self.has_change_permission(request) else ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        return super().get_queryset(request).prefetch_related("routes__upstream")

    @admin.display(description="goes to")
    def goes_to(self, model: Model) -> str:
        return ", ".join(route.upstream.name for route in model.routes.all())


class PriceForm(RowForm):
    input_nano_usd_per_million = DollarsField(label="$ per million input tokens", required=False)
    cached_input_nano_usd_per_million = DollarsField(
        label="$ per million cached input tokens", required=False
    )
    output_nano_usd_per_million = DollarsField(label="$ per million output tokens", required=False)
    nano_usd_per_minute = DollarsField(label="$ per minute of audio", required=False)

    class Meta:
        model = Price
        fields = (
            "model_name",
            "input_nano_usd_per_million",
            "cached_input_nano_usd_per_million",
            "output_nano_usd_per_million",
            "nano_usd_per_minute",
        )


def _dollars(nano: int | None) -> str:
    """Of a price that may be unknown."""
    return "–" if nano is None else dollars(nano)


@admin.register(Price)
class PriceAdmin(AuditedAdmin):
    """A price is added, never altered: calls were counted by it."""

    resource = "prices"
    common = True
    form = PriceForm
    list_display = ("model_name", "source", "effective_at", "input", "cached_input", "output", "minute")
    list_filter = ("source",)
    search_fields = ("model_name",)
    ordering = ("model_name", "-effective_at")

    def has_change_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return False

    @admin.display(description="input / million")
    def input(self, price: Price) -> str:
        return _dollars(price.input_nano_usd_per_million)

    @admin.display(description="cached input / million")
    def cached_input(self, price: Price) -> str:
        return _dollars(price.cached_input_nano_usd_per_million)

    @admin.display(description="output / million")
    def output(self, price: Price) -> str:
        return _dollars(price.output_nano_usd_per_million)

    @admin.display(description="audio / minute")
    def minute(self, price: Price) -> str:
        return _dollars(price.nano_usd_per_minute)


class CallAdmin(WatchedAdmin):
    """Looks, and changes nothing."""

    list_filter: tuple[Any, ...] = (TenantFilter,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        slug = Tenant.objects.filter(id=OuterRef("tenant_id")).values("slug")[:1]
        named: QuerySet[Any] = super().get_queryset(request).annotate(tenant_slug=Subquery(slug))
        return named

    @admin.display(description="tenant")
    def tenant(self, call: Any) -> str:
        return str(call.tenant_slug or call.tenant_id)


@admin.register(OpenCall)
class OpenCallAdmin(CallAdmin):
    resource = "open-calls"
    list_display = ("id", "started_at", "tenant", "endpoint", "model", "stream")


@admin.register(UsageRecord)
class UsageRecordAdmin(CallAdmin):
    resource = "usage"
    list_display = (
        *("ended_at", "tenant", "endpoint", "model", "upstream", "status", "status_code"),
        *("input_tokens", "output_tokens", "cost", "estimated"),
    )
    list_filter = (TenantFilter, "status", "estimated", "stream")

    @admin.display(description="cost")
    def cost(self, record: UsageRecord) -> str:
        return "unpriced" if record.cost_nano_usd is None else _dollars(record.cost_nano_usd)
