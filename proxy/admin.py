"""The panel's pages of upstreams, models and their routes, and prices; those of calls are in call_pages.py.

Django's admin classes are generic to the type checker alone, hence the ignored type arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms.widgets import Script
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from unfold.admin import TabularInline
from unfold.decorators import display
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextareaWidget, UnfoldBooleanWidget

from accounts.money import dollars
from accounts.panel import AuditedAdmin, DollarsField, RowForm
from accounts.permissions import Reach, reach
from accounts.site import actor_of
from proxy import call_pages
from proxy.addresses import (
    InvalidAddress,
    NotSendable,
    check_base_url,
    check_header,
    cookies_in,
    headers_in,
)
from proxy.health import Health, healths
from proxy.models import Model, Price, Route, Upstream
from proxy.sealing import seal, upstream_context

__all__ = ["call_pages"]  # which registers its own

_SEALED = ("api_key", "headers", "cookies")


def _secret(name: str, widget: type[forms.Widget]) -> forms.CharField:
    return forms.CharField(
        required=False,
        strip=True,
        widget=widget(attrs={"autocomplete": "new-password", "rows": 3}),
        help_text=f"{name} Shown to nobody once saved. Empty: what there is stays.",
    )


def _removal(what: str) -> forms.BooleanField:
    told = f"Call this upstream without {what}."
    return forms.BooleanField(required=False, help_text=told, widget=UnfoldBooleanWidget)


class UpstreamForm(RowForm):
    """Its secrets can be set and taken away, and are never shown again."""

    api_key = _secret("Sent as a bearer.", UnfoldAdminPasswordWidget)
    headers = _secret("More headers, 'X-Name: value' a line.", UnfoldAdminTextareaWidget)
    cookies = _secret("Cookies, 'name=value' a line.", UnfoldAdminTextareaWidget)
    remove_api_key = _removal("a key")
    remove_headers = _removal("more headers")
    remove_cookies = _removal("cookies")

    class Meta:
        model = Upstream
        fields = "__all__"  # the sealed key is not editable, so it is not among them
        labels: ClassVar = {"base_url": "Base URL"}

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
        missing = not values.get("base_url") and "base_url" not in self.errors
        if missing and values.get("dialect") != Upstream.Dialect.DEMO:
            self.add_error("base_url", "This dialect needs an address.")
        moved = {"base_url", "tenant"} & set(self.changed_data)
        for name in _SEALED if moved else ():
            kept = getattr(self.instance, f"sealed_{name}") is not None
            if kept and not values.get(name) and not values.get(f"remove_{name}"):
                self.add_error(name, "Give this again: it goes only where it was given for.")
        return values


_COLOURS = {"cooling": "warning", "failing": "danger", "well": "success", "idle": "info"}


@admin.register(Upstream)
class UpstreamAdmin(AuditedAdmin):
    """Somebody else's servers. What asks one of them goes through the management API, outside of the page's
    transaction: gateway/static/gateway/upstream.js."""

    resource = "upstreams"
    common = True
    form = UpstreamForm
    list_display = ("name", "dialect", "base_url", "tenant", "has_key", "enabled", "state", "lately")
    list_filter = ("dialect", "enabled")
    list_select_related = ("tenant",)
    search_fields = ("name",)
    readonly_fields = ("kept", "state", "lately", "cooling")
    change_form_outer_before_template = "admin/upstream_tools.html"

    class Media:
        js = (Script("gateway/upstream.js", type="module"),)
        css: ClassVar = {"all": ("gateway/upstream.css",)}

    def get_fieldsets(self, request: HttpRequest, obj: Upstream | None = None) -> Any:
        doing = ("How it has been doing", {"fields": ("state", "lately", "cooling")})
        removals = ("kept", *(f"remove_{name}" for name in _SEALED)) if obj else ()
        return [
            (None, {"fields": ("name", "dialect", "base_url", "tenant", "enabled")}),
            *([doing] if obj else []),
            (
                "Secrets, kept encrypted",
                {"fields": (*removals[:1], *_SEALED, *removals[1:])},
            ),
            ("Whose account it is", {"fields": ("organization", "project", "takes_caller_keys")}),
            ("Its habits", {"fields": ("responses", "repeats_reasoning", "session_prefix")}),
            (
                "How long calls wait for it",
                {
                    "fields": (
                        *("connect_timeout_seconds", "first_byte_timeout_seconds"),
                        *("idle_timeout_seconds", "total_timeout_seconds"),
                    )
                },
            ),
        ]

    def prepare(self, upstreams: Sequence[Any]) -> None:
        """With how they have been doing."""
        found = healths((upstream.pk for upstream in upstreams), timezone.now())
        for upstream in upstreams:
            upstream.health = found[upstream.pk]

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        row = super().get_object(request, object_id, from_field)
        self.prepare([] if row is None else [row])
        return row

    def response_add(self, request: HttpRequest, obj: Upstream, post_url_continue: str | None = None) -> Any:
        """On its page, since the next thing is to see whether it answers."""
        if {"_addanother", "_popup"} & set(request.POST):
            return super().response_add(request, obj, post_url_continue)
        messages.success(request, f"{obj} is there. Test the connection, and choose among its models.")
        return HttpResponseRedirect(reverse("admin:proxy_upstream_change", args=[obj.pk]))

    @admin.display(boolean=True, description="key")
    def has_key(self, upstream: Upstream) -> bool:
        return upstream.sealed_api_key is not None

    @admin.display(description="there are")
    def kept(self, upstream: Upstream) -> str:
        there = [
            name.replace("_", " ") for name in _SEALED if getattr(upstream, f"sealed_{name}") is not None
        ]
        return ", ".join(there) or "none"

    @display(description="state", label=_COLOURS)
    def state(self, upstream: Any) -> str:
        return str(upstream.health.state.value)

    @admin.display(description="in five minutes")
    def lately(self, upstream: Any) -> str:
        health: Health = upstream.health
        told = f"{health.answered:,} answered, {health.failed:,} failed"
        if health.control_tokens:
            told += f", {health.control_tokens:,} control tokens taken out"
        if health.last_failure_at is None:
            return told
        return f"{told} (the last: {health.last_failure}, at {health.last_failure_at:%H:%M:%S} UTC)"

    @admin.display(description="tried last")
    def cooling(self, upstream: Any) -> str:
        cooling: Health = upstream.health
        names = (f"{name or 'any model'} until {at:%H:%M:%S} UTC" for name, at in cooling.cooling.items())
        return ", ".join(names) or "none of its models"

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
    list_display = ("name", "goes_to", "costs")
    search_fields = ("name",)
    ordering = ("name",)
    list_per_page = 50

    def of(self, rows: QuerySet[Model], tenant_id: UUID) -> QuerySet[Model]:
        return cast(Any, rows).of(tenant_id)  # type: ignore[no-any-return]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Model]:
        return super().get_queryset(request).prefetch_related("routes__upstream")

    def get_list_display(self, request: HttpRequest) -> Sequence[Any]:
        shown = super().get_list_display(request)
        return shown if _sees_routes(request) else [name for name in shown if name != "goes_to"]

    def get_inlines(self, request: HttpRequest, obj: Model | None = None) -> Sequence[Any]:
        return super().get_inlines(request, obj) if _sees_routes(request) else ()

    def prepare(self, models: Sequence[Any]) -> None:
        """With what they cost now."""
        found = prices_of({model.name for model in models})
        for model in models:
            model.price = found.get(model.name)

    @admin.display(description="goes to")
    def goes_to(self, model: Model) -> str:
        return ", ".join(route.upstream.name for route in model.routes.all())

    @admin.display(description="$ per million in / out")
    def costs(self, model: Any) -> str:
        price: Price | None = model.price
        if price is None:
            return "–" if "*" in model.name else "unpriced"
        if price.nano_usd_per_minute is not None:
            return f"{_dollars(price.nano_usd_per_minute)} a minute"
        return f"{_dollars(price.input_nano_usd_per_million)} / {_dollars(price.output_nano_usd_per_million)}"


def _sees_routes(request: HttpRequest) -> bool:
    return reach(actor_of(request).role, "routes", "read") is not Reach.NONE


def prices_of(names: set[str]) -> dict[str, Price]:
    """What models cost now. An operator's price wins over the list's; of either the newest."""
    found: dict[str, Price] = {}
    known = Price.objects.filter(model_name__in=names, effective_at__lte=timezone.now())
    for price in sorted(known, key=lambda each: (each.source == Price.Source.OPERATOR, each.effective_at)):
        found[price.model_name] = price
    return found


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
    list_per_page = 50

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
