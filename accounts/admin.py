"""The admin panel of accounts: tenants, members, users, the audit log. Keys are in key_pages.py, limits and
budgets in limit_pages.py; gateway/admin.py puts those up. The shape of all of them is panel.py.

Django's admin classes are generic to the type checker alone, hence the ignored type arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import TabularInline
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminEmailInputWidget

from accounts import rights
from accounts.actors import Actor
from accounts.models import AuditEntry, Membership, Tenant, User
from accounts.panel import AuditedAdmin, OperatorsAlone, RowForm, TenantFilter, WatchedAdmin
from accounts.permissions import PERMISSIONS, Role, outranks
from accounts.site import actor_of
from accounts.tenancy import operator_scope

# To whoever adds somebody new.
_CANNOT_SIGN_IN = (
    "{} cannot sign in with a password: they come through single sign-on, or an operator gives them one. "
    "Their API keys work without."
)


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
        return () if actor_of(request).role is Role.OPERATOR else sorted(rights.OPERATORS_ALONE)


class MemberForm(RowForm):
    """A member by e-mail address, as in the management API; whose membership it is stays."""

    email = forms.EmailField(
        required=False,
        max_length=150,
        widget=UnfoldAdminEmailInputWidget,
        help_text="A user who is new is made.",
    )

    class Meta:
        model = Membership
        fields = ("tenant", "role")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if "role" in self.fields:
            given = [(role, label) for role, label in Membership.Role.choices if self._may_give(role)]
            self.fields["role"].choices = given  # type: ignore[attr-defined]
        if not self.instance._state.adding:
            del self.fields["email"]

    def _may_give(self, role: str) -> bool:
        return outranks(self.actor.role, Role(role))

    def clean_email(self) -> str:
        email = str(self.cleaned_data["email"]).lower()
        with operator_scope():
            found = User.objects.named([email]).get(email)
        if found is not None:
            self.instance.user = found
        return email

    def clean(self) -> dict[str, Any]:
        values = dict(super().clean() or self.cleaned_data)
        if "role" in values and self.instance._state.adding:
            self.held_to(rights.check_role, values["role"])
        elif "role" in values:
            self.held_to(rights.check_role_change, self.instance, values["role"])
        return values

    def _get_validation_exclusions(self) -> set[str]:
        return super()._get_validation_exclusions() - ({"user"} if self.instance.user_id else set())


@admin.register(Membership)
class MembershipAdmin(AuditedAdmin):
    """Who is what in a tenant. Nobody gives or takes a role above their own; one owner stays."""

    resource = "members"
    form = MemberForm
    list_display = ("whose", "email", "tenant", "role", "created_at")
    list_filter = (TenantFilter, "role")
    search_fields = ("user__username", "user__email", "tenant__slug")
    autocomplete_fields = ("tenant",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        return super().get_queryset(request).select_related("user", "tenant").defer("user__password")

    def get_fieldsets(self, request: HttpRequest, obj: Membership | None = None) -> Any:
        fields = ("tenant", "email", "role") if obj is None else ("tenant", "whose", "role", "created_at")
        return [(None, {"fields": self.shown_to(request, fields)})]

    def get_readonly_fields(self, request: HttpRequest, obj: Membership | None = None) -> Sequence[str]:
        return () if obj is None else ("tenant", "whose", "created_at")

    def check_row(self, actor: Actor, action: str, row: Membership) -> None:
        if action == "update":
            rights.check_role(actor, row.role)
        if action == "delete":
            rights.check_removal(actor, row)

    def save_model(self, request: HttpRequest, obj: Membership, form: Any, change: bool) -> None:
        if not change:
            obj.user = rights.user_of_address(form.cleaned_data["email"])
            if not obj.user.has_usable_password():
                messages.info(request, _CANNOT_SIGN_IN.format(obj.user.email))
        super().save_model(request, obj, form, change)

    @admin.display(description="user", ordering="user__username")
    def whose(self, membership: Membership) -> str:
        return membership.user.username

    @admin.display(description="e-mail address", ordering="user__email")
    def email(self, membership: Membership) -> str:
        return membership.user.email


class OneOf(admin.SimpleListFilter):
    """By a column of the log, without reading the log for what there is in it."""

    known: ClassVar[tuple[str, ...]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, value) for value in self.known]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        column, value = str(self.parameter_name), self.value()
        return queryset if value is None else queryset.filter(**{column: value})


class OfResource(OneOf):
    title = parameter_name = "resource"
    known = tuple(dict.fromkeys([*(resource for resource, _ in PERMISSIONS), "users"]))


class ByAction(OneOf):
    title = parameter_name = "action"
    known = tuple(sorted({action for _, action in PERMISSIONS} - {"read"} | {"sign-in"}))


class Via(OneOf):
    title = parameter_name = "via"
    known = ("admin", "session", "key", "sso")


@admin.register(AuditEntry)
class AuditAdmin(WatchedAdmin):
    """Looks, and changes nothing: nobody can."""

    resource = "audit"
    list_display = ("at", "tenant", "actor", "via", "action", "resource", "object_name", "changed")
    list_filter = (TenantFilter, ByAction, OfResource, Via)
    findable = ("object_id",)
    search_fields = ("actor", "object_name", "object_id")

    def prepare(self, entries: Sequence[Any]) -> None:
        """With what the tenants are called."""
        ids = {entry.tenant_id for entry in entries}
        slugs = dict(Tenant.objects.filter(id__in=ids - {None}).values_list("id", "slug"))
        for entry in entries:
            entry.slug = slugs.get(entry.tenant_id, "")

    @admin.display(description="tenant")
    def tenant(self, entry: Any) -> str:
        return str(entry.slug) or "–"

    @admin.display(description="at (UTC)", ordering="created_at")
    def at(self, entry: AuditEntry) -> str:
        return f"{entry.created_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="fields")
    def changed(self, entry: AuditEntry) -> str:
        return ", ".join(entry.fields)
