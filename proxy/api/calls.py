"""`usage` and `open-calls`: the ledger, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from accounts.actors import names_of
from accounts.api.downloads import download
from accounts.api.fields import Asked, DollarsField, UserNameField, Written, named_alone, user_ids
from accounts.api.parts import DEFAULT_LIMIT, LARGEST_LIMIT, Newest, given_after, whole
from accounts.api.resource import Resource
from accounts.audit import What
from accounts.errors import ApiError
from accounts.models import User
from accounts.permissions import Reach
from accounts.reading import BY_ARRIVAL, NoSuchRow, Question
from accounts.tenancy import operator_scope
from proxy import export
from proxy.export import FORMS
from proxy.models import OpenCall, UsageRecord
from proxy.spans import BY_ADMISSION, between

NOBODY = 0  # whom no row has for its user
_FILES = {(200, form.content_type): OpenApiTypes.STR for form in FORMS.values()}
_CALL = (
    *("id", "tenant_id", "user", "api_key_id", "security_key_id", "endpoint", "model"),
    *("stream", "started_at"),
)


class Parts(Newest):
    """As the ledger is read: a page may have fewer rows than were asked for, and there may yet be more."""

    def paginate_queryset(self, queryset: Any, request: Any, view: APIView | None = None) -> Any:
        self._request = request
        limit = whole(request, "limit", DEFAULT_LIMIT, 1, LARGEST_LIMIT)
        question: Question = queryset
        try:
            part = question.part(given_after(request), limit)
        except NoSuchRow:
            raise ApiError(400, "after: There is no such row.", param="after") from None
        self._after = part.after
        return part.rows

    def _next(self, data: Sequence[dict[str, Any]]) -> str | None:
        if self._after is None:
            return None
        return replace_query_param(self._request.build_absolute_uri(), "after", str(self._after))


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
        return super().filtered(rows, by_user_id(values))

    def context_of(self, rows: Sequence[Any]) -> dict[str, Any]:
        return {"names": names_of(user_ids(rows))}


def by_user_id(values: dict[str, Any]) -> dict[str, Any]:
    """The conditions with a user's id in place of their name."""
    name = values.pop("user", None)
    if name is None:
        return values
    with operator_scope():
        user = User.objects.named([name]).get(name)
    return {**values, "user_id": user.pk if user else NOBODY}


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

    def rows(self) -> QuerySet[Any]:
        return OpenCall.objects.all()


class UsageBody(Written[UsageRecord]):
    user = UserNameField(source="user_id", allow_null=True)
    cost_usd = DollarsField(
        source="cost_nano_usd", read_only=True, allow_null=True, help_text="null: no price is known."
    )

    class Meta:
        model = UsageRecord
        fields = export.COLUMNS
        read_only_fields = fields


class UsageAsked(CallsAsked):
    status = serializers.ChoiceField(UsageRecord.Status.choices, required=False)
    error_code = serializers.CharField(required=False)
    upstream = serializers.CharField(required=False)
    estimated = serializers.BooleanField(required=False)


class ExportAsked(UsageAsked):
    """As for the list, and in which form."""

    format = serializers.ChoiceField(
        list(FORMS), default="csv", help_text="jsonl: a JSON object on each line."
    )


class Usage(Calls):
    """Calls that ended: one record for each, however it ended."""

    resource, noun = "usage", "usage record"
    serializer_class = UsageBody
    asked = UsageAsked
    pagination_class = Parts
    rights = {"export": "read"}
    unscoped = ("export",)

    def rows(self) -> QuerySet[Any]:
        return UsageRecord.objects.all()

    def listed(self, request: Request, values: dict[str, Any]) -> Question:
        order = BY_ADMISSION if self.one_tenant() else BY_ARRIVAL
        times = between(order, values.pop("started_at__gte", None), values.pop("started_at__lt", None))
        wanted = by_user_id(values)
        if self.reach() is Reach.OWN:
            own = self.actor.user_id
            wanted = {**wanted, "user_id": own if wanted.get("user_id", own) == own else NOBODY}
        return Question(self.reached().filter(times), wanted, order)

    @extend_schema(parameters=[ExportAsked], responses=_FILES)
    @action(detail=False, methods=["get"])
    def export(self, request: Request) -> HttpResponseBase:
        """All that the list would have, newest first, as a file. Who took it is in the audit log."""
        named_alone(request, *ExportAsked().fields)
        with self.actor.scope():
            values = ExportAsked.read(request, ())
            form = FORMS[values.pop("format")]
            question = self.listed(request, values)
            tenant = self.home() if self.one_tenant() else None
            name = tenant.slug if tenant else "all"
            self.note_that(What("export", self.resource, "", name, tenant.pk if tenant else None))
        pieces = export.pieces(question, form, self.actor.scope)
        return download(pieces, form.content_type, f"usage-{name}.{form.suffix}")
