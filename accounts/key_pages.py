"""API keys and security keys in the admin panel: made, shown once, revoked, and made anew with an overlap.

When a key was last used, and what it spent, stands beside it in gateway/admin.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from unfold.decorators import action
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from accounts import keys, rights
from accounts.actors import Actor, called
from accounts.errors import ApiError
from accounts.models import ApiKey, Credential, Membership, check_patterns
from accounts.panel import AuditedAdmin, RowForm, TenantFilter
from accounts.permissions import Role, outranks
from accounts.site import actor_of

_OVERLAPS = (
    (0, "not at all"),
    (3600, "for an hour"),
    (24 * 3600, "for a day"),
    (7 * 24 * 3600, "for a week"),
    (30 * 24 * 3600, "for 30 days"),
)


class Rotation(forms.Form):
    """How a key is made anew."""

    overlap_seconds = forms.TypedChoiceField(
        label="The secret that it has now still works",
        choices=_OVERLAPS,
        coerce=int,
        initial=24 * 3600,
        widget=UnfoldAdminSelectWidget,
    )


class PatternsField(forms.CharField):
    """Models' names or patterns, one a line, kept as a list."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"required": False, "widget": UnfoldAdminTextareaWidget({"rows": 4}), **options})

    def clean(self, value: Any) -> list[str]:
        patterns = [line.strip() for line in str(super().clean(value)).splitlines() if line.strip()]
        check_patterns(patterns)
        return patterns

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool((initial or []) != self.clean(data))


class ApiKeyForm(RowForm):
    allowed_models = PatternsField(
        label="Models", help_text="One name or pattern a line, such as gpt-*; empty: every model."
    )

    class Meta:
        model = ApiKey
        fields = ("tenant", "user", "name", "allowed_models", "expires_at")

    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if expires_at is not None and "expires_at" in self.changed_data and expires_at <= timezone.now():
            raise forms.ValidationError("Give a time that is to come.")
        return expires_at

    def clean(self) -> dict[str, Any]:
        values = dict(super().clean() or self.cleaned_data)
        tenant = self.actor.tenant_id or getattr(values.get("tenant"), "pk", None)
        if self.instance._state.adding and tenant and values.get("user"):
            self.held_to(rights.key_owner, tenant, values["user"].pk)
        return values


class CredentialAdmin(AuditedAdmin):
    """What both kinds of key have in common. A key stays what it is called, and whose."""

    lasting: tuple[str, ...] = ("tenant", "name")
    list_filter: tuple[Any, ...] = (TenantFilter, ("revoked_at", admin.EmptyFieldListFilter))
    readonly_fields: tuple[str, ...] = ("shown", "created_at", "revoked_at")
    list_select_related = ("tenant",)
    autocomplete_fields: tuple[str, ...] = ("tenant",)
    actions = ("revoke",)
    actions_detail: tuple[str, ...] = ("revoke_one",)

    @admin.display(description="key")
    def shown(self, key: Credential) -> str:
        return f"{key.prefix}…" if key.prefix else "is made, and shown once, when this is saved"

    def get_readonly_fields(self, request: HttpRequest, obj: Credential | None = None) -> Sequence[str]:
        return ("shown",) if obj is None else (*self.lasting, *self.readonly_fields)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        secret = keys.set_secret(obj, None)
        super().save_model(request, obj, form, change)
        tell_secret(request, secret)

    # Revoking

    def check_row(self, actor: Actor, action: str, row: Any) -> None:
        if action == "revoke" and row.revoked_at is not None:
            raise ApiError(409, "The key is revoked already.")

    def has_revoke_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return self.may(request, "revoke", self._row(request, obj))

    def _row(self, request: HttpRequest, obj: object) -> Model | None:
        """The theme gives an id, Django a row."""
        return self.get_object(request, obj) if isinstance(obj, str) else obj  # type: ignore[return-value]

    @admin.action(description="Revoke the selected keys", permissions=["revoke"])
    def revoke(self, request: HttpRequest, chosen: QuerySet[Any]) -> None:
        revoked = [key for key in chosen if key.revoked_at is None]
        for key in revoked:
            self._revoke(request, key)
        messages.success(
            request, f"Revoked: {', '.join(str(key) for key in revoked) or 'none that was not'}."
        )

    @action(description="Revoke", url_path="revoke", permissions=["revoke"], icon="block")
    def revoke_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks, and then does it."""
        key = self.found(request, object_id, "revoke")
        if request.method != "POST":
            told = "Calls with it are refused within a second, everywhere. It cannot be taken back."
            return self.asked(request, key, forms.Form(), "Revoke", told)
        self._revoke(request, key)
        messages.success(request, f"Revoked: {key}.")
        return self.back_to(key)

    def _revoke(self, request: HttpRequest, key: Any) -> None:
        key.revoke()
        self.note(request, "revoke", key)

    # A page that asks before something is done

    def found(self, request: HttpRequest, object_id: str, action: str) -> Any:
        """The key that something is to be done to. Raises Http404, PermissionDenied."""
        key = self.get_object(request, unquote(object_id))
        if key is None and self.may(request, action):
            raise Http404
        if not self.may(request, action, key):
            raise PermissionDenied
        return key

    def asked(
        self, request: HttpRequest, key: Any, form: forms.Form, doing: str, told: str
    ) -> TemplateResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"{doing} {key.name}",
            "subtitle": str(key),
            "opts": self.opts,
            "original": key,
            "form": form,
            "doing": doing,
            "told": told,
            "back": self.back_to(key).url,
        }
        return TemplateResponse(request, "admin/ask.html", context)

    def back_to(self, key: Any) -> HttpResponseRedirect:
        page = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        return HttpResponseRedirect(reverse(page, args=[key.pk]))


class SecurityKeyAdmin(CredentialAdmin):
    """A tenant's shared secrets."""

    resource = "security-keys"
    fields = ("tenant", "name", "shown", "created_at", "revoked_at")
    list_display = ("name", "tenant", "shown", "created_at", "revoked_at")
    search_fields = ("name", "tenant__slug", "prefix")

    def get_fields(self, request: HttpRequest, obj: Credential | None = None) -> Sequence[str]:
        return self.shown_to(request, ("tenant", "name", "shown") if obj is None else self.fields)


class ApiKeyAdmin(CredentialAdmin):
    """Users' keys. A key acts with its user's rights: nobody makes one for somebody who may do more."""

    resource = "api-keys"
    form = ApiKeyForm
    lasting = ("tenant", "whose", "name")
    readonly_fields = (*CredentialAdmin.readonly_fields, "overlap")
    list_display = ("name", "tenant", "whose", "shown", "models", "expires_at", "created_at", "revoked_at")
    search_fields = ("name", "tenant__slug", "user__username", "user__email", "prefix")
    autocomplete_fields = ("tenant", "user")
    actions_detail = ("rotate", "revoke_one")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        return super().get_queryset(request).select_related("user", "tenant").defer("user__password")

    def get_fields(self, request: HttpRequest, obj: Credential | None = None) -> Sequence[str]:
        if obj is None:
            return self.shown_to(request, ("tenant", "user", "name", "allowed_models", "expires_at", "shown"))
        models = "allowed_models" if self.has_change_permission(request, obj) else "models"
        return self.shown_to(request, (*self.lasting, models, "expires_at", *self.readonly_fields))

    def get_readonly_fields(self, request: HttpRequest, obj: Credential | None = None) -> Sequence[str]:
        return (*super().get_readonly_fields(request, obj), "models")

    @admin.display(description="user", ordering="user__username")
    def whose(self, key: ApiKey) -> str:
        return called(key.user)

    @admin.display(description="models")
    def models(self, key: ApiKey) -> str:
        return ", ".join(key.allowed_models) or "every model"

    @admin.display(description="its old secret works until")
    def overlap(self, key: ApiKey) -> str:
        until = key.old_until
        return date_format(until, "DATETIME_FORMAT") if until and until > timezone.now() else "–"

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        given: dict[str, Any] = super().get_changeform_initial_data(request)
        return {"user": actor_of(request).user_id, **given}

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        """Those for whom somebody may make a key."""
        actor = actor_of(request)
        if db_field.name == "user" and actor.tenant_id is not None:
            roles = [role for role in Membership.Role.values if outranks(actor.role, Role(role))]
            theirs = Membership.objects.of(actor.tenant_id).filter(role__in=roles)
            options["queryset"] = self.choices(request, db_field.remote_field.model).filter(
                pk__in=theirs.values("user")
            )
        return super().formfield_for_foreignkey(db_field, request, **options)

    def check_row(self, actor: Actor, action: str, row: ApiKey) -> None:
        super().check_row(actor, action, row)
        if action == "rotate":
            if row.revoked_at is not None:
                raise ApiError(409, "The key is revoked. Make another.")
            rights.key_owner(actor, row.tenant_id, row.user_id)

    def has_rotate_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return self.may(request, "rotate", self._row(request, obj))

    @action(description="Rotate", url_path="rotate", permissions=["rotate"], icon="autorenew")
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asks how long the old secret is to work, and gives the key a new one."""
        key = self.found(request, object_id, "rotate")
        form = Rotation(request.POST or None)
        if request.method != "POST" or not form.is_valid():
            told = "The key gets a new secret, which is shown once. Its name, its rights and its limits stay."
            return self.asked(request, key, form, "Rotate", told)
        secret = keys.rotate(key, timedelta(seconds=form.cleaned_data["overlap_seconds"]))
        self.note(request, "rotate", key, ("secret",))
        tell_secret(request, secret)
        return self.back_to(key)


def tell_secret(request: HttpRequest, secret: str) -> None:
    """Shows it on the next page, and never again."""
    words = (
        'The key is <code id="new-secret" class="break-all">{}</code> '
        '<button type="button" class="copy" data-copies="new-secret">Copy</button> '
        "Copy it now: nothing can show it again."
    )
    messages.warning(request, format_html(words, secret))
