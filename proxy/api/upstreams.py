"""`upstreams`: somebody else's servers. Their secrets can be set and taken away, and are never shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from accounts.api.fields import Asked, TenantField, Written
from accounts.api.resource import Altered, Made, Removed
from proxy.addresses import (
    InvalidAddress,
    NotSendable,
    check_base_url,
    check_header,
    cookies_in,
    headers_in,
)
from proxy.models import Upstream
from proxy.sealing import seal, upstream_context

_SEALED = ("api_key", "headers", "cookies")
_KEPT = "Give this again: it goes only where it was given for."


@extend_schema_field(OpenApiTypes.STR)
class SecretField(serializers.Field[str, Any, Any, Any]):
    """A secret, null to take it away; never shown."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, allow_null=True, write_only=True, **options)

    def to_internal_value(self, data: Any) -> str:
        return checked(data, check_header)


@extend_schema_field({"type": "object", "additionalProperties": {"type": "string"}})
class PairsField(SecretField):
    """Names and texts, as lines that are sent with each call."""

    def __init__(self, between: str, check: Callable[[str], object]) -> None:
        super().__init__()
        self._between, self._check = between, check

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, dict) or not all(isinstance(text, str) for text in data.values()):
            raise ValidationError("Give an object of names and texts.")
        lines = [f"{name}{self._between}{text}" for name, text in data.items()]
        if any(len(line.splitlines()) != 1 for line in lines):
            raise ValidationError("These must not have lines of their own.")
        return checked("\n".join(lines), self._check)


def checked(text: Any, check: Callable[[str], object]) -> str:
    """Raises ValidationError, which never repeats what may be a secret."""
    if not isinstance(text, str):
        raise ValidationError("Give a text.")
    try:
        check(text)
    except (NotSendable, InvalidAddress) as error:
        raise ValidationError(f"This {error}.") from None
    return text


class Sealed(serializers.BooleanField):
    """Whether there is such a secret."""

    def __init__(self) -> None:
        super().__init__(read_only=True)

    def get_attribute(self, instance: Any) -> bool:
        secret = str(self.field_name).removeprefix("has_")
        return getattr(instance, f"sealed_{secret}") is not None


class UpstreamBody(Written[Upstream]):
    tenant = TenantField(required=False, allow_null=True, help_text="Only for this tenant; null: for all.")
    api_key = SecretField(help_text="Sent as a bearer; null takes it away.")
    headers = PairsField(": ", headers_in)
    cookies = PairsField("=", cookies_in)
    has_api_key = Sealed()
    has_headers = Sealed()
    has_cookies = Sealed()

    class Meta:
        model = Upstream
        fields = (
            *("id", "name", "tenant", "dialect", "base_url", "api_key", "headers", "cookies"),
            *("has_api_key", "has_headers", "has_cookies"),
            *("organization", "project", "responses", "takes_caller_keys", "repeats_reasoning"),
            *("session_prefix", "connect_timeout_seconds", "first_byte_timeout_seconds"),
            *("idle_timeout_seconds", "total_timeout_seconds", "enabled", "created_at"),
        )
        read_only_fields = ("id", "created_at")
        extra_kwargs: dict[str, dict[str, Any]] = {"name": {"validators": []}}

    def validate_base_url(self, text: str) -> str:
        checked(text, lambda each: each and check_base_url(each))
        return text.rstrip("/")

    def validate_organization(self, text: str) -> str:
        return checked(text, lambda each: each and check_header(each))

    validate_project = validate_session_prefix = validate_organization

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        given = {name: attrs.pop(name) for name in _SEALED if name in attrs}
        attrs = super().validate(attrs)
        row = self.instance or Upstream()
        address = attrs.get("base_url", row.base_url)
        if attrs.get("dialect", row.dialect) != Upstream.Dialect.DEMO and not address:
            raise ValidationError({"base_url": "This dialect needs an address."})
        there = Upstream(tenant=attrs.get("tenant", row.tenant), base_url=address)
        moved = upstream_context(there) != upstream_context(row)
        for name in _SEALED:
            if name in given:
                secret = given[name]
                attrs[f"sealed_{name}"] = seal(secret, upstream_context(there)) if secret else None
            elif moved and getattr(row, f"sealed_{name}") is not None:
                raise ValidationError({name: _KEPT})
        return attrs

    def changed(self) -> list[str]:
        sealed = [name for name in _SEALED if f"sealed_{name}" in self.validated_data]
        return [*super().changed(), *sealed]


class UpstreamsAsked(Asked):
    name = serializers.CharField(required=False)
    dialect = serializers.ChoiceField(Upstream.Dialect.choices, required=False)
    enabled = serializers.BooleanField(required=False)


class Upstreams(Made, Altered, Removed):
    """Somebody else's servers, and how to call them."""

    resource, noun = "upstreams", "upstream"
    serializer_class = UpstreamBody
    asked = UpstreamsAsked
    orderings = ("id", "created_at", "name")
    common = True

    def rows(self) -> QuerySet[Any]:
        return Upstream.objects.select_related("tenant")

    def of(self, rows: QuerySet[Any], tenant_id: Any) -> QuerySet[Any]:
        return rows.filter(tenant=tenant_id)
