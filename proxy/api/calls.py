"""`usage` and `open-calls`: the ledger, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from django.db.models import Q, QuerySet
from rest_framework import serializers
from rest_framework.views import APIView

from accounts.actors import names_of
from accounts.api.fields import Asked, DollarsField, UserNameField, Written, user_ids
from accounts.api.parts import Newest
from accounts.api.resource import Resource
from accounts.errors import ApiError
from accounts.models import User
from accounts.tenancy import operator_scope
from proxy.models import OpenCall, UsageRecord

_CALL = (
    *("id", "tenant_id", "user", "api_key_id", "security_key_id", "endpoint", "model"),
    *("stream", "started_at"),
)


class NewestAdmitted(Newest):
    """By when calls were admitted, for the tenant's index is in that order; of all tenants by id."""

    def paginate_queryset(self, queryset: Any, request: Any, view: APIView | None = None) -> Any:
        resource = cast(Resource, view)
        self._theirs = resource.get_queryset() if resource.one_tenant() else None
        return super().paginate_queryset(queryset, request, view)

    def in_order(self, rows: QuerySet[Any], after: UUID | None) -> QuerySet[Any]:
        if self._theirs is None:
            return super().in_order(rows, after)
        in_order = rows.order_by("-started_at", "-id")
        if after is None:
            return in_order
        last = self._theirs.filter(id=after).values_list("started_at", flat=True).first()
        if last is None:
            raise ApiError(400, "after: There is no such row.", param="after")
        return in_order.filter(Q(started_at__lt=last) | Q(started_at=last, id__lt=after))


class CallsAsked(Asked):
    endpoint = serializers.CharField(required=False)
    model = serializers.CharField(required=False)
    user = serializers.CharField(required=False, help_text="Their e-mail address.")
    api_key = serializers.UUIDField(required=False, source="api_key_id")
    security_key = serializers.UUIDField(required=False, source="security_key_id")
    stream = serializers.BooleanField(required=False)
    started_from = serializers.DateTimeField(required=False, source="started_at__gte")
    started_before = serializers.DateTimeField(required=False, source="started_at__lt")


class Calls(Resource):
    """What both have in common."""

    asked = CallsAsked
    pagination_class: Any = NewestAdmitted

    def filtered(self, rows: QuerySet[Any], values: dict[str, Any]) -> QuerySet[Any]:
        name = values.pop("user", None)
        if name is not None:
            with operator_scope():
                user = User.objects.named([name]).get(name)
            rows = rows.filter(user_id=user.pk) if user else rows.none()
        return super().filtered(rows, values)

    def context_of(self, rows: Sequence[Any]) -> dict[str, Any]:
        return {"names": names_of(user_ids(rows))}


class OpenCallBody(Written[OpenCall]):
    user = UserNameField(source="user_id", allow_null=True)

    class Meta:
        model = OpenCall
        fields = (*_CALL, "worker_id", "input_tokens_estimate")
        read_only_fields = fields


class OpenCalls(Calls):
    """Calls in flight."""

    resource, noun = "open-calls", "open call"
    serializer_class = OpenCallBody
    pagination_class = Newest

    def rows(self) -> QuerySet[Any]:
        return OpenCall.objects.all()


class UsageBody(Written[UsageRecord]):
    user = UserNameField(source="user_id", allow_null=True)
    cost_usd = DollarsField(
        source="cost_nano_usd", read_only=True, allow_null=True, help_text="null: no price is known."
    )

    class Meta:
        model = UsageRecord
        fields = (
            *_CALL,
            *("ended_at", "status", "status_code", "error_code", "upstream", "upstream_model", "attempts"),
            *("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens"),
            *("audio_milliseconds", "estimated", "cost_usd"),
            *("first_byte_milliseconds", "duration_milliseconds"),
        )
        read_only_fields = fields


class UsageAsked(CallsAsked):
    status = serializers.ChoiceField(UsageRecord.Status.choices, required=False)
    error_code = serializers.CharField(required=False)
    upstream = serializers.CharField(required=False)
    estimated = serializers.BooleanField(required=False)


class Usage(Calls):
    """Calls that ended: one record for each, however it ended."""

    resource, noun = "usage", "usage record"
    serializer_class = UsageBody
    asked = UsageAsked

    def rows(self) -> QuerySet[Any]:
        return UsageRecord.objects.all()
