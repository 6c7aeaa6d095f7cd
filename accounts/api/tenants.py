"""`tenants` and `members`: the teams, and who is what in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from django.core.validators import validate_email
from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.serializers import BaseSerializer

from accounts import rights
from accounts.actors import names_of
from accounts.api.fields import Asked, TenantField, UserNameField, Written, user_ids
from accounts.api.resource import Altered, Made, Removed
from accounts.models import Membership, Tenant


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
        rights.check_tenant_change(self.actor, values)


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
            attrs["user_id"] = rights.user_of_address(attrs["user_id"]).pk
        return super().validate(attrs)


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
        rights.check_role(self.actor, serializer.validated_data.get("role", Membership.Role.MEMBER))
        return super().make(serializer)

    def check_alteration(self, row: Any, values: dict[str, Any]) -> None:
        rights.check_role_change(self.actor, row, values.get("role", row.role))

    def check_removal(self, row: Any) -> None:
        rights.check_removal(self.actor, row)
