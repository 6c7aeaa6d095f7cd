"""`upstreams`: somebody else's servers. Their secrets can be set and taken away, and are never shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.fields import Asked, TenantField, Written, named_alone
from accounts.api.resource import Altered, Made, Removed
from accounts.audit import change
from accounts.errors import ApiError
from accounts.permissions import Reach, reach
from accounts.tenancy import operator_scope
from proxy.addresses import (
    InvalidAddress,
    NotSendable,
    check_base_url,
    check_header,
    cookies_in,
    headers_in,
)
from proxy.adoption import NotAName, adopt, leading_to
from proxy.api.probes import AdoptedBody, Chosen, DiscoveryBody, HealthField, ProbeBody
from proxy.health import healths
from proxy.models import Upstream
from proxy.probing import probe
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
    health = HealthField()

    class Meta:
        model = Upstream
        fields = (
            *("id", "name", "tenant", "dialect", "base_url", "api_key", "headers", "cookies"),
            *("has_api_key", "has_headers", "has_cookies", "health"),
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
    rights = {"adopt": "discover"}
    unscoped = ("test", "discover")  # which wait for the upstream

    def rows(self) -> QuerySet[Any]:
        return Upstream.objects.select_related("tenant")

    def of(self, rows: QuerySet[Any], tenant_id: Any) -> QuerySet[Any]:
        return rows.filter(tenant=tenant_id)

    def context_of(self, rows: Sequence[Any]) -> dict[str, Any]:
        return {"healths": healths((row.pk for row in rows), timezone.now())}

    @extend_schema(request=None, responses={200: ProbeBody})
    @action(detail=True, methods=["post"])
    def test(self, request: Request, id: str) -> Response:
        """Asks it whether it answers, now. Nothing is kept of that."""
        with operator_scope():
            upstream = self.get_object()
        return Response(ProbeBody(probe(upstream)).data)

    @extend_schema(responses={200: DiscoveryBody})
    @action(detail=True, methods=["get"], url_path="models")
    def discover(self, request: Request, id: str) -> Response:
        """The models that it lists, and the names of ours that lead there."""
        named_alone(request)
        with operator_scope():
            upstream = self.get_object()
            names = leading_to(upstream)
        found = probe(upstream)
        listed = [{"name": name, "routed_from": names.get(name, [])} for name in found.names]
        return Response(DiscoveryBody({**asdict(found), "models": listed}).data)

    @extend_schema(request=Chosen, responses={201: AdoptedBody})
    @discover.mapping.post
    def adopt(self, request: Request, id: str) -> Response:
        """Makes models of these names, where there are none, each with a route there."""
        upstream = self.get_object()
        for resource in ("models", "routes"):
            if reach(self.actor.role, resource, "create") is Reach.NONE:
                raise ApiError(403, f"You may not make {resource}.")
        try:
            adopted = adopt(upstream, Chosen.of(request)["models"])
        except NotAName as error:
            raise ValidationError({"models": f"Each {error}."}) from None
        for resource, rows in (("models", adopted.models), ("routes", adopted.routes)):
            for row in rows:
                self.note_that(change("create", resource, row, None))
        told = {"models": [row.name for row in adopted.models], "routes": [row.pk for row in adopted.routes]}
        return Response(AdoptedBody(told).data, status=201)
