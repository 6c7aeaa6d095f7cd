"""What is read from callers and shown to them: bodies and queries, whose unknown names are refused."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar, cast

from django.core.exceptions import ValidationError as DjangoInvalid
from django.db import models
from django.db.models import Model
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from accounts.models import Tenant
from accounts.money import dollars, nano_dollars
from accounts.tenancy import operator_scope

Row = TypeVar("Row", bound=Model)

_PAGES = frozenset({"limit", "offset", "after", "ordering"})
_UNKNOWN = "There is no such field."


class Asked(serializers.Serializer[Any]):
    """The query of a list: each field's source is the condition that it makes."""

    tenant = serializers.CharField(required=False, help_text="Its slug or id. An operator sees all without.")

    @classmethod
    def read(cls, request: Request, orderings: tuple[str, ...]) -> dict[str, Any]:
        """The conditions. Raises ValidationError."""
        query = cls(data=request.query_params.dict())
        unknown = set(request.query_params) - set(query.fields) - _PAGES
        if unknown:
            raise ValidationError(dict.fromkeys(sorted(unknown), _UNKNOWN))
        ordering = request.query_params.get("ordering")
        if ordering is not None and ordering.removeprefix("-") not in orderings:
            raise ValidationError({"ordering": f"Give one of {', '.join(orderings) or 'none'}."})
        query.is_valid(raise_exception=True)
        values = dict(query.validated_data)
        values.pop("tenant", None)
        return values


def named_alone(request: Request, *names: str) -> dict[str, str]:
    """The query of what takes these words and a tenant. Raises ValidationError for any other."""
    unknown = set(request.query_params) - {"tenant", *names}
    if unknown:
        raise ValidationError(dict.fromkeys(sorted(unknown), _UNKNOWN))
    return dict(request.query_params.dict())


class Body(serializers.Serializer[Any]):
    """The body of an action, whose unknown fields are refused by name."""

    @classmethod
    def of(cls, request: Request, **context: Any) -> dict[str, Any]:
        """Its values. Raises ValidationError."""
        body = cls(data=request.data, context=context)
        body.is_valid(raise_exception=True)
        return dict(body.validated_data)

    def to_internal_value(self, data: Any) -> Any:
        unknown = sorted(set(data) - set(self.fields)) if isinstance(data, dict) else []
        if unknown:
            raise ValidationError(dict.fromkeys(unknown, _UNKNOWN))
        return super().to_internal_value(data)


class FiniteField(serializers.FloatField):
    """A number that is one: neither infinite, nor none."""

    def to_internal_value(self, data: Any) -> float:
        number = super().to_internal_value(data)
        if not math.isfinite(number):
            raise ValidationError("Give a number.")
        return number


# What PostgreSQL's columns hold; SQLite's would take more, and fail at 64 bits.
_LARGEST: dict[type[models.Field[Any, Any]], int] = {
    models.PositiveSmallIntegerField: 2**15 - 1,
    models.PositiveIntegerField: 2**31 - 1,
}


class Written(serializers.ModelSerializer[Row]):
    """A row as it is shown and written, held to every rule that its model has.

    What `lasting` names can be given to a new row only, and what `sometimes` names is not always shown.
    """

    lasting: ClassVar[tuple[str, ...]] = ()
    sometimes: ClassVar[tuple[str, ...]] = ()
    serializer_field_mapping = {  # REST framework's type
        **serializers.ModelSerializer.serializer_field_mapping,
        models.FloatField: FiniteField,
    }

    def build_standard_field(self, field_name: str, model_field: Any) -> Any:
        made, options = super().build_standard_field(field_name, model_field)
        largest = _LARGEST.get(type(model_field))
        if largest is not None:
            options["max_value"] = min(largest, options.get("max_value", largest))
        return made, options

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            refused = {name: sentence for name in data if (sentence := self._refusal(str(name)))}
            if refused:
                raise ValidationError(refused)
        return super().to_internal_value(data)

    def _refusal(self, name: str) -> str | None:
        field = self.fields.get(name)
        if field is None:
            return _UNKNOWN
        if field.read_only:
            return "This cannot be set."
        if self.instance is not None and name in self.lasting:
            return "This cannot be changed; make another."
        return None

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        tenant = self.fields.get("tenant")
        wanted = tenant is not None and not tenant.allow_null and "tenant" not in attrs
        if self.instance is None and wanted:
            attrs["tenant"] = self.context["view"].home()
        self.check_row(attrs)
        return attrs

    def check_row(self, attrs: dict[str, Any]) -> None:
        """By the model's own rules. It steps up, since they ask for more than a tenant may read."""
        model: Any = self.Meta.model
        row = model() if self.instance is None else copy.copy(self.instance)
        for name, value in attrs.items():
            setattr(row, name, value)
        try:
            with operator_scope():
                row.full_clean(exclude=self.unchecked())
        except DjangoInvalid as error:
            raise ValidationError(self._by_our_names(error)) from None
        attrs |= {name: getattr(row, name) for name in attrs}  # as the model writes them

    def changed(self) -> list[str]:
        """The fields that an update will change."""
        values, row = self.validated_data, self.instance
        return [
            name
            for name, field in self.fields.items()
            if (source := field.source or name) in values and getattr(row, source, None) != values[source]
        ]

    def unchecked(self) -> set[str]:
        """Columns that are not filled yet."""
        return set()

    def _by_our_names(self, error: DjangoInvalid) -> dict[str, list[str]]:
        names = {field.source: name for name, field in self.fields.items()}
        if not hasattr(error, "error_dict"):
            return {"non_field_errors": error.messages}
        return {
            names.get(name, "non_field_errors"): sentences for name, sentences in error.message_dict.items()
        }


@extend_schema_field(OpenApiTypes.STR)
class TenantField(serializers.Field[Tenant, str, str, Any]):
    """A tenant by its slug; its id will do."""

    def to_internal_value(self, data: Any) -> Tenant:
        if not isinstance(data, str):
            raise ValidationError("Give a tenant's slug.")
        return cast(Tenant, self.context["view"].tenant_called(data))

    def to_representation(self, value: Tenant) -> str:
        return value.slug


@extend_schema_field(OpenApiTypes.STR)
class DollarsField(serializers.Field[int, str, str, Any]):
    """Dollars as a decimal string, such as "0.15"; kept in nano-dollars."""

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, str | int | float):
            raise ValidationError('Give an amount of dollars, such as "0.15".')
        try:
            return nano_dollars(str(data))
        except ValueError as error:
            raise ValidationError(f"This {error}.") from None

    def to_representation(self, value: int) -> str:
        return dollars(value).removeprefix("$")


@extend_schema_field(OpenApiTypes.STR)
class UserNameField(serializers.Field[Any, Any, str, Any]):
    """What a user is called, by their id; the resource has asked for the names (`context_of`)."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"read_only": True, **options})

    def to_representation(self, value: int) -> str:
        return cast(str, self.context["names"].get(value, ""))


def user_ids(rows: Iterable[Any]) -> set[int]:
    """Whose names it takes to show these."""
    return {row.user_id for row in rows if row.user_id is not None}
