"""The operators' admin: users, tenants and their members, keys, whose secrets it shows once, limits, budgets.

Django's admin classes are generic to the type checker alone, hence the ignored type arguments.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.functional import cached_property

from accounts import audit, keys
from accounts.actors import called
from accounts.models import (
    LARGEST_BUDGET_NANO_USD,
    ApiKey,
    AuditEntry,
    Budget,
    Limit,
    Membership,
    SecurityKey,
    Tenant,
    User,
)
from accounts.money import NANO, dollars

_LARGEST_COUNT = 10_000


class RecentPaginator(Paginator):  # type: ignore[type-arg]
    """Goes back to the newest 10,000 rows and no further: counting a whole ledger takes minutes."""

    @cached_property
    def count(self) -> int:
        rows = self.object_list
        assert isinstance(rows, QuerySet)
        return rows.values("pk")[:_LARGEST_COUNT].count()


class AuditedAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Writes what is changed here to the audit log too. `resource` is what the management API calls it."""

    resource: str

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> LogEntry:
        self.note(request, "create", obj, self._fields(request, obj, message))
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> LogEntry:
        self.note(request, "update", obj, self._fields(request, obj, message))
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        for row in queryset:
            self.note(request, "delete", row)
        return super().log_deletions(request, queryset)

    def note(self, request: HttpRequest, action: str, row: Model, fields: Iterable[str] = ()) -> None:
        """In the audit log."""
        user = request.user
        assert isinstance(user, User)
        tenant_id = row.pk if isinstance(row, Tenant) else getattr(row, "tenant_id", None)
        who = audit.Who(user.pk, called(user), "admin")
        audit.record(who, audit.change(action, self.resource, row, tenant_id, fields))

    def _fields(self, request: HttpRequest, row: Model, message: Any) -> set[str]:
        """The names of the fields that Django's message calls by their labels, or the kind of rows within."""
        form = self.get_form(request, row, change=True)
        names = {str(field.label or name): name for name, field in form.base_fields.items()}
        found: set[str] = set()
        for entry in message if isinstance(message, list) else ():
            for told in entry.values():
                labels = {str(label) for label in told.get("fields", ())}
                inner = str(told["name"]) if "name" in told else ""
                found |= {inner} if inner else {names.get(label, label) for label in labels}
        return found


@admin.register(User)
class UserAdmin(AuditedAdmin, DjangoUserAdmin):  # type: ignore[type-arg]
    resource = "users"
    add_fieldsets = ((None, {"fields": ("username", "email", "usable_password", "password1", "password2")}),)


class MembershipInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Membership
    autocomplete_fields = ("user",)
    extra = 0


@admin.register(Tenant)
class TenantAdmin(AuditedAdmin):
    resource = "tenants"
    list_display = ("slug", "name", "timezone", "public", "active", "created_at")
    list_filter = ("active", "public")
    search_fields = ("slug", "name")
    inlines = (MembershipInline,)


@admin.register(Membership)
class MembershipAdmin(AuditedAdmin):
    resource = "members"
    list_display = ("user", "tenant", "role", "created_at")
    list_filter = ("role",)
    list_select_related = ("user", "tenant")
    search_fields = ("user__username", "user__email", "tenant__slug")
    autocomplete_fields = ("user", "tenant")


class CredentialAdmin(AuditedAdmin):
    """What both kinds of key have in common. A key stays what it is called, and whose."""

    lasting: tuple[str, ...] = ("tenant", "name")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    readonly_fields = ("shown", "created_at", "revoked_at")
    actions = ("revoke",)

    @admin.display(description="key")
    def shown(self, key: ApiKey | SecurityKey) -> str:
        return f"{key.prefix}…" if key.prefix else "is made, and shown once, when this is saved"

    def get_readonly_fields(
        self, request: HttpRequest, obj: ApiKey | SecurityKey | None = None
    ) -> tuple[str, ...]:
        return ("shown",) if obj is None else (*self.lasting, *self.readonly_fields)

    def save_model(
        self,
        request: HttpRequest,
        obj: ApiKey | SecurityKey,
        form: ModelForm,  # type: ignore[type-arg]
        change: bool,
    ) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        secret = keys.set_secret(obj, None)
        super().save_model(request, obj, form, change)
        messages.warning(request, f"The key is {secret} — copy it now: nothing can show it again.")

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, chosen: QuerySet[ApiKey] | QuerySet[SecurityKey]) -> None:
        for key in chosen:
            key.revoke()
            self.note(request, "revoke", key)
        messages.success(request, f"Revoked: {', '.join(str(key) for key in chosen)}.")


@admin.register(SecurityKey)
class SecurityKeyAdmin(CredentialAdmin):
    resource = "security-keys"
    list_display = ("name", "tenant", "shown", "created_at", "revoked_at")
    list_select_related = ("tenant",)
    search_fields = ("name", "tenant__slug", "prefix")
    autocomplete_fields = ("tenant",)


@admin.register(ApiKey)
class ApiKeyAdmin(CredentialAdmin):
    resource = "api-keys"
    lasting = ("tenant", "user", "name")
    list_display = ("name", "tenant", "user", "shown", "expires_at", "created_at", "revoked_at")
    list_select_related = ("tenant", "user")
    search_fields = ("name", "tenant__slug", "user__username", "user__email", "prefix")
    autocomplete_fields = ("tenant", "user")


class DollarsField(forms.DecimalField):
    """Typed in dollars, kept in nano-dollars."""

    def __init__(self, *, min_value: Decimal = Decimal(0), **options: Any) -> None:
        super().__init__(min_value=min_value, max_digits=18, decimal_places=9, **options)

    def clean(self, value: Any) -> Any:
        amount = super().clean(value)
        return None if amount is None else int(amount * NANO)

    def prepare_value(self, value: Any) -> Any:
        return dollars(value).removeprefix("$") if isinstance(value, int) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(None if initial is None else Decimal(initial) / NANO, data)


class ScopedAdmin(AuditedAdmin):
    """What limits and budgets have in common. What one holds for stays; it may hold for more or less."""

    lasting: tuple[str, ...] = ("tenant", "scope", "name")
    list_select_related = ("tenant",)
    search_fields = ("name", "tenant__slug")
    autocomplete_fields = ("tenant",)

    def get_readonly_fields(self, request: HttpRequest, obj: Limit | Budget | None = None) -> tuple[str, ...]:
        return () if obj is None else self.lasting


@admin.register(Limit)
class LimitAdmin(ScopedAdmin):
    resource = "limits"
    list_filter = ("scope",)
    list_display = (
        *("__str__", "tenant", "requests_per_second", "requests_per_minute"),
        *("tokens_per_minute", "concurrent", "when_exceeded", "queue_seconds"),
    )
    fields = (
        *("tenant", "scope", "name", "requests_per_second", "requests_per_minute"),
        *("tokens_per_minute", "concurrent", "when_exceeded", "queue_seconds"),
    )


class BudgetForm(forms.ModelForm):  # type: ignore[type-arg]
    amount_nano_usd = DollarsField(
        label="$", min_value=Decimal(1) / NANO, max_value=LARGEST_BUDGET_NANO_USD // NANO
    )

    class Meta:
        model = Budget
        fields = ("tenant", "scope", "name", "period", "amount_nano_usd", "allow_unpriced")


@admin.register(Budget)
class BudgetAdmin(ScopedAdmin):
    resource = "budgets"
    form = BudgetForm
    lasting = (*ScopedAdmin.lasting, "period")
    list_display = ("__str__", "tenant", "amount", "period", "allow_unpriced")
    list_filter = ("scope", "period")

    @admin.display(description="amount", ordering="amount_nano_usd")
    def amount(self, budget: Budget) -> str:
        return dollars(budget.amount_nano_usd)


@admin.register(AuditEntry)
class AuditAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Looks, and changes nothing: nobody can."""

    list_display = ("created_at", "actor", "via", "action", "resource", "object_name", "fields")
    list_filter = ("action", "resource", "via")
    search_fields = ("actor", "object_name", "object_id")
    ordering = ("-id",)  # by time: the identifiers are UUIDv7
    paginator = RecentPaginator
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuditEntry | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuditEntry | None = None) -> bool:
        return False
