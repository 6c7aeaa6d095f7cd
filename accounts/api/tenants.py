"""`tenants` and `members`: the teams, and who is what in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from django.core.validators import validate_email
from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.serializers import BaseSerializer

from accounts.actors import names_of
from accounts.api.fields import Asked, TenantField, UserNameField, Written, user_ids
from accounts.api.resource import Altered, Made, Removed
from accounts.errors import ApiError
from accounts.models import Membership, Tenant, User
from accounts.permissions import Role, outranks
from accounts.tenancy import operator_scope

# What only those who run the gateway decide: names are theirs to give out, an open door is theirs to open.
_OPERATORS_ALONE = frozenset({"slug", "public", "active"})


class TenantBody(Written[Tenant]):
    class Meta:
        model = Tenant
        fields = (
            *("id", "slug", "name", "timezone", "public", "system_prompt", "retention_days"),
            *("continue_dropped", "active", "created_at"),
        )
        read_only_fields = ("id", "created_at")
        extra_kwargs = {"slug": {"validators": []}, "name": {"required": False}}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if self.instance is None:
            attrs.setdefault("name", attrs.get("slug", ""))
        return super().validate(attrs)


class TenantsAsked(Asked):
    slug = serializers.CharField(required=False)
    active = serializers.BooleanField(required=False)
    public = serializers.BooleanField(required=False)


class Tenants(Made, Altered, Removed):
    """Teams. Deleting one deletes all that it has, but for its usage records and its audit entries."""

    resource, noun = "tenants", "tenant"
    serializer_class = TenantBody
    asked = TenantsAsked
    orderings = ("id", "created_at", "slug", "name")

    def rows(self) -> QuerySet[Any]:
        return Tenant.objects.all()

    def of(self, rows: QuerySet[Any], tenant_id: UUID) -> QuerySet[Any]:
        return rows.filter(id=tenant_id)

    def tenant_of(self, row: Any) -> UUID:
        return cast(UUID, row.id)

    def check_alteration(self, row: Any, values: dict[str, Any]) -> None:
        if self.actor.role is not Role.OPERATOR and (kept := sorted(_OPERATORS_ALONE & values.keys())):
            raise ApiError(403, f"Only operators change {', '.join(kept)}.", param=kept[0])


class EmailField(UserNameField):
    """A user by e-mail address; one without any is shown by user name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"read_only": False, **options})

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise ValidationError("Give an e-mail address.")
        validate_email(data)
        return data.lower()


class MemberBody(Written[Membership]):
    lasting = ("tenant", "email")
    tenant = TenantField(required=False)
    email = EmailField(source="user_id", help_text="A user who is new is made.")
    role = serializers.ChoiceField(Membership.Role.choices, required=False)

    class Meta:
        model = Membership
        fields = ("id", "tenant", "email", "role", "created_at")
        read_only_fields = ("id", "created_at")
        validators: list[Any] = []

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if self.instance is None:
            attrs["user_id"] = _user(attrs["user_id"]).pk
        return super().validate(attrs)


def _user(email: str) -> User:
    """Whoever has that address; one who is new gets no password, so that they cannot sign in with one."""
    with operator_scope():
        found = User.objects.named([email]).get(email)
        if found is None:
            found = User(username=email, email=email)
            found.set_unusable_password()
            found.save()
    return found


class MembersAsked(Asked):
    role = serializers.ChoiceField(Membership.Role.choices, required=False)


class Members(Made, Altered, Removed):
    """Who is what in a tenant. Nobody gives or takes a role above their own; one owner stays."""

    resource, noun = "members", "member"
    serializer_class = MemberBody
    asked = MembersAsked
    orderings = ("id", "created_at", "role")

    def rows(self) -> QuerySet[Any]:
        return Membership.objects.select_related("tenant")

    def context_of(self, rows: Sequence[Any]) -> dict[str, Any]:
        return {"names": names_of(user_ids(rows))}

    def name_of(self, row: Any) -> str:
        return f"{names_of({row.user_id}).get(row.user_id, '')} ({row.role})"

    def make(self, serializer: BaseSerializer[Any]) -> Any:
        self._check_rank(serializer.validated_data.get("role", Membership.Role.MEMBER))
        return super().make(serializer)

    def check_alteration(self, row: Any, values: dict[str, Any]) -> None:
        self._check_rank(row.role)
        self._check_rank(values.get("role", row.role))
        if values.get("role", Membership.Role.OWNER) != Membership.Role.OWNER:
            self._check_owner_stays(row)

    def check_removal(self, row: Any) -> None:
        self._check_rank(row.role)
        self._check_owner_stays(row)

    def _check_rank(self, role: str) -> None:
        if not outranks(self.actor.role, Role(role)):
            raise PermissionDenied(f"Only an owner gives or takes the role {role}.")

    def _check_owner_stays(self, row: Membership) -> None:
        if self.actor.role is Role.OPERATOR:
            return
        owners = Membership.objects.of(row.tenant_id).filter(role=Membership.Role.OWNER)
        if row.role == Membership.Role.OWNER and not owners.exclude(id=row.id).exists():
            raise ApiError(409, "The tenant's last owner stays one. Make another first.")
