"""`usage` and `open-calls`: the ledger, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

from django.db.models import Q, QuerySet
from rest_framework import serializers
from rest_framework.views import APIView

from accounts.actors import names_of
from accounts.api.fields import Asked, DollarsField, UserNameField, Written, user_ids
from accounts.api.parts import DEFAULT_LIMIT, LARGEST_LIMIT, Newest, whole
from accounts.api.resource import Resource
from accounts.errors import ApiError
from accounts.models import User
from accounts.permissions import Reach
from accounts.tenancy import operator_scope
from accounts.windows import EVER
from proxy.models import OpenCall, UsageRecord
from proxy.usage_calls import AN_INSTANT, narrowed
from proxy.usage_query import Question, Scope, Value

_CALL = (
    *("id", "tenant_id", "user", "api_key_id", "security_key_id", "endpoint", "model"),
    *("stream", "started_at"),
)


class NewestAdmitted(Newest):
    """By when calls were admitted, which is what the ledger has indexes for."""

    def paginate_queryset(self, queryset: Any, request: Any, view: APIView | None = None) -> Any:
        self._resource = cast(Usage, view)
        self._most = whole(request, "limit", DEFAULT_LIMIT, 1, LARGEST_LIMIT) + 1
        return super().paginate_queryset(queryset, request, view)

    def in_order(self, rows: QuerySet[Any], after: UUID | None) -> QuerySet[Any]:
        end = datetime.now(UTC) + timedelta(days=1)
        if after is not None:
            theirs = self._resource.get_queryset()
            last = theirs.filter(id=after).values_list("started_at", flat=True).first()
            if last is None:
                raise ApiError(400, "after: There is no such row.", param="after")
            rows = rows.filter(Q(started_at__lt=last) | Q(started_at=last, id__lt=after))
            end = last + AN_INSTANT
        question = self._resource.question
        if question is not None:
            rows = narrowed(rows, question, min(end, question.end), self._most)
        return rows.order_by("-started_at", "-id")


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
    pagination_class: Any = Newest

    def filtered(self, rows: QuerySet[Any], values: dict[str, Any]) -> QuerySet[Any]:
        name = values.pop("user", None)
        if name is not None:
            rows = rows.filter(user_id__in=[user.pk for user in _called(name)])
        return super().filtered(rows, values)

    def context_of(self, rows: Sequence[Any]) -> dict[str, Any]:
        return {"names": names_of(user_ids(rows))}


class OpenCallBody(Written[OpenCall]):
    user = UserNameField(source="user_id")

    class Meta:
        model = OpenCall
        fields = (*_CALL, "worker_id", "input_tokens_estimate")
        read_only_fields = fields


class OpenCalls(Calls):
    """Calls in flight."""

    resource, noun = "open-calls", "open call"
    serializer_class = OpenCallBody

    def rows(self) -> QuerySet[Any]:
        return OpenCall.objects.all()


class UsageBody(Written[UsageRecord]):
    user = UserNameField(source="user_id")
    cost_usd = DollarsField(source="cost_nano_usd", read_only=True, help_text="null: no price is known.")

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
    pagination_class = NewestAdmitted
    question: Question | None = None  # what is asked for, where the rollups know where to look for it

    def rows(self) -> QuerySet[Any]:
        return UsageRecord.objects.all()

    def filtered(self, rows: QuerySet[Any], values: dict[str, Any]) -> QuerySet[Any]:
        if values and values.keys() <= {name for _, name in _GROUPS} | _IN_TIME:
            self.question = self._question(values)
        return super().filtered(rows, values)

    def _question(self, values: dict[str, Any]) -> Question:
        named = self.request.query_params.get("tenant")
        tenant_id = self.actor.tenant_id if named is None else self.tenant_called(named).id
        own = self.actor.user_id if self.reach() is Reach.OWN else None
        filters: dict[str, tuple[Value, ...]] = {
            group: (values[name],) for group, name in _GROUPS if name in values
        }
        if "user" in filters:
            filters["user"] = tuple(found.pk for found in _called(values["user"]))
        return Question(
            Scope(tenant_id, own),
            values.get("started_at__gte", EVER),
            values.get("started_at__lt", datetime.now(UTC) + timedelta(days=1)),
            filters=filters,
        )


# What the rollups tell calls apart by, and what it is called here.
_SAME = ("endpoint", "model", "user", "status", "upstream")
_GROUPS = (
    *zip(_SAME, _SAME, strict=True),
    *(("error", "error_code"), ("key", "api_key_id"), ("key", "security_key_id")),
)
_IN_TIME = {"started_at__gte", "started_at__lt"}


def _called(name: str) -> list[User]:
    with operator_scope():
        return list(User.objects.named([name]).values())
