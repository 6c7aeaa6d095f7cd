"""The admin panel of accounts: tenants and their members, keys, whose secrets it shows once, limits, budgets,
users, and the audit log. The shape of all of it is accounts/panel.py.

Django's admin classes are generic to the type checker alone, hence the ignored type arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from unfold.admin import TabularInline
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts import keys
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
from accounts.panel import AuditedAdmin, OperatorsAlone, RowForm, TenantFilter, WatchedAdmin
from accounts.permissions import Role
from accounts.rights import OPERATORS_ALONE
from accounts.site import actor_of

admin.site.unregister(Group)  # the permission table decides what anybody may


@admin.register(User)
class UserAdmin(OperatorsAlone, AuditedAdmin, DjangoUserAdmin):  # type: ignore[misc,type-arg]
    resource = "users"
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    add_fieldsets = ((None, {"fields": ("username", "email", "usable_password", "password1", "password2")}),)
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Who it is", {"fields": ("email", "first_name", "last_name")}),
        ("What they may do", {"fields": ("is_active", "is_superuser")}),
        ("When", {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")
    list_display = ("username", "email", "is_superuser", "is_active", "last_login")
    list_filter = ("is_superuser", "is_active")
    filter_horizontal = ()


class MembershipInline(TabularInline):
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

    def of(self, rows: QuerySet[Tenant], tenant_id: UUID) -> QuerySet[Tenant]:
        return rows.filter(id=tenant_id)

    def get_inlines(self, request: HttpRequest, obj: Tenant | None = None) -> Sequence[Any]:
        """An operator adds a tenant with its first members. They have a page of their own, too."""
        return super().get_inlines(request, obj) if obj is None else ()

    def get_readonly_fields(self, request: HttpRequest, obj: Tenant | None = None) -> Sequence[str]:
        return () if actor_of(request).role is Role.OPERATOR else sorted(OPERATORS_ALONE)


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

    def has_revoke_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return self.may(request, "revoke")

    @admin.action(description="Revoke the selected keys", permissions=["revoke"])
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


class BudgetForm(RowForm):
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
class AuditAdmin(WatchedAdmin):
    """Looks, and changes nothing: nobody can."""

    resource = "audit"
    list_display = ("created_at", "actor", "via", "action", "resource", "object_name", "fields")
    list_filter = (TenantFilter, "action", "resource", "via")
    findable = ("object_id",)
    search_fields = ("actor", "object_name", "object_id")
