"""`models`, `routes` and `prices`: the names that callers ask for, where they go, what they cost."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from accounts.api.fields import Asked, DollarsField, Written
from accounts.api.resource import Altered, Made, Removed
from accounts.permissions import Role
from proxy.models import Model, Price, Route, Upstream


class RouteBody(Written[Route]):
    lasting = ("model", "upstream")
    model = serializers.SlugRelatedField("name", queryset=Model.objects.all())
    upstream = serializers.SlugRelatedField("name", queryset=Upstream.objects.all())

    class Meta:
        model = Route
        fields = ("id", "model", "upstream", "upstream_model", "priority", "weight")
        read_only_fields = ("id",)
        validators: list[Any] = []


class RoutesAsked(Asked):
    model = serializers.CharField(required=False, source="model__name")
    upstream = serializers.CharField(required=False, source="upstream__name")


class NoTenantsOwn(Made):
    """Rows that are the operators', for every tenant."""

    common = True

    def tenant_of(self, row: Any) -> UUID | None:
        return None


class Routes(NoTenantsOwn, Altered, Removed):
    """Where calls for a model may go. Lower `priority` first; `weight` shares among equals."""

    resource, noun = "routes", "route"
    serializer_class = RouteBody
    asked = RoutesAsked
    orderings = ("id", "priority")

    def rows(self) -> QuerySet[Any]:
        return Route.objects.select_related("model", "upstream")

    def of(self, rows: QuerySet[Any], tenant_id: UUID) -> QuerySet[Any]:
        return rows.filter(upstream__tenant=tenant_id)


class ModelBody(Written[Model]):
    sometimes = ("routes",)
    routes = RouteBody(many=True, read_only=True)

    class Meta:
        model = Model
        fields = ("id", "name", "reasoning_effort", "routes", "created_at")
        read_only_fields = ("id", "created_at")
        extra_kwargs: dict[str, dict[str, Any]] = {"name": {"validators": []}}

    def to_representation(self, instance: Model) -> dict[str, Any]:
        """Without its routes for who may not know of upstreams."""
        shown = super().to_representation(instance)
        if self.context["view"].actor.role is not Role.OPERATOR:
            del shown["routes"]
        return shown


class ModelsAsked(Asked):
    name = serializers.CharField(required=False)


class Models(NoTenantsOwn, Altered, Removed):
    """The names that callers ask for. A tenant sees those that lead somewhere for it."""

    resource, noun = "models", "model"
    serializer_class = ModelBody
    asked = ModelsAsked
    orderings = ("name", "id", "created_at")

    def rows(self) -> QuerySet[Any]:
        return Model.objects.prefetch_related("routes__upstream", "routes__model")


class PriceBody(Written[Price]):
    model = serializers.CharField(source="model_name", max_length=200, help_text="The public name, exactly.")
    input_per_million = DollarsField(source="input_nano_usd_per_million", required=False, allow_null=True)
    cached_input_per_million = DollarsField(
        source="cached_input_nano_usd_per_million", required=False, allow_null=True
    )
    output_per_million = DollarsField(source="output_nano_usd_per_million", required=False, allow_null=True)
    per_minute = DollarsField(source="nano_usd_per_minute", required=False, allow_null=True)

    class Meta:
        model = Price
        fields = (
            *("id", "model", "source", "input_per_million", "cached_input_per_million"),
            *("output_per_million", "per_minute", "effective_at"),
        )
        read_only_fields = ("id", "source", "effective_at")
        validators: list[Any] = []

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "*" in attrs["model_name"]:
            raise ValidationError({"model": "Prices need a model's exact name."})
        if all(value is None for name, value in attrs.items() if name != "model_name"):
            raise ValidationError("Give at least one price.")
        return super().validate(attrs)


class PricesAsked(Asked):
    model = serializers.CharField(required=False, source="model_name")
    source = serializers.ChoiceField(Price.Source.choices, required=False)  # type: ignore[assignment]


class Prices(NoTenantsOwn):
    """What models cost. A price is added, never altered: calls were counted by it."""

    resource, noun = "prices", "price"
    serializer_class = PriceBody
    asked = PricesAsked
    orderings = ("id", "model_name", "effective_at")

    def rows(self) -> QuerySet[Any]:
        return Price.objects.all()

    def of(self, rows: QuerySet[Any], tenant_id: UUID) -> QuerySet[Any]:
        return rows
