"""The operators' admin: users, tenants and their members, and keys, whose secrets it shows once.

Django's admin classes are generic to the type checker alone, hence the ignored type arguments.
"""

from __future__ import annotations

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest

from accounts import keys
from accounts.models import ApiKey, Membership, SecurityKey, Tenant, User


@admin.register(User)
class UserAdmin(DjangoUserAdmin):  # type: ignore[type-arg]
    add_fieldsets = ((None, {"fields": ("username", "email", "usable_password", "password1", "password2")}),)


class MembershipInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Membership
    autocomplete_fields = ("user",)
    extra = 0


@admin.register(Tenant)
class TenantAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("slug", "name", "timezone", "public", "active", "created_at")
    list_filter = ("active", "public")
    search_fields = ("slug", "name")
    inlines = (MembershipInline,)


@admin.register(Membership)
class MembershipAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("user", "tenant", "role", "created_at")
    list_filter = ("role",)
    list_select_related = ("user", "tenant")
    search_fields = ("user__username", "user__email", "tenant__slug")
    autocomplete_fields = ("user", "tenant")


class CredentialAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
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
        messages.success(request, f"Revoked: {', '.join(str(key) for key in chosen)}.")


@admin.register(SecurityKey)
class SecurityKeyAdmin(CredentialAdmin):
    list_display = ("name", "tenant", "shown", "created_at", "revoked_at")
    list_select_related = ("tenant",)
    search_fields = ("name", "tenant__slug", "prefix")
    autocomplete_fields = ("tenant",)


@admin.register(ApiKey)
class ApiKeyAdmin(CredentialAdmin):
    lasting = ("tenant", "user", "name")
    list_display = ("name", "tenant", "user", "shown", "expires_at", "created_at", "revoked_at")
    list_select_related = ("tenant", "user")
    search_fields = ("name", "tenant__slug", "user__username", "user__email", "prefix")
    autocomplete_fields = ("tenant", "user")
