"""`threads`: what a tenant's callers said, for those who look after it.

What was said is content: titles, metadata, searching and exporting take a right of their own. Who searches or
exports is in the audit log, and an operator, who is no member, says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.authentication import no_such
from accounts.api.downloads import download
from accounts.api.fields import Asked, Body, TenantField, Written, named_alone
from accounts.api.parts import Newest
from accounts.api.resource import Removed
from accounts.audit import What
from accounts.errors import ApiError
from accounts.models import Tenant
from accounts.permissions import Reach, Role
from threads import export, management
from threads.errors import NotFound
from threads.history import unexpired
from threads.models import LONGEST_TITLE, LONGEST_USER, Thread
from threads.search import LONGEST_SEARCH, MOST_FOUND, search

LONGEST_REASON = 500

_REASON = OpenApiParameter("reason", str, description="Why it is read, for the audit log. Operators have to.")
_LINES = {(200, "application/x-ndjson"): OpenApiTypes.STR}


class ThreadBody(Written[Thread]):
    sometimes = ("title", "metadata")
    tenant = TenantField(read_only=True)
    conversation_id = serializers.SerializerMethodField(
        help_text="What clients call it; null: it has no name."
    )
    user = serializers.CharField(source="end_user", read_only=True)

    class Meta:
        model = Thread
        fields = (
            *("id", "tenant", "conversation", "conversation_id", "user", "title", "metadata"),
            *("created_at", "used_at", "expires_at"),
        )
        read_only_fields = fields

    def get_conversation_id(self, thread: Thread) -> str | None:
        return management.public_id(thread) if thread.conversation else None

    def to_representation(self, instance: Thread) -> dict[str, Any]:
        """Without `title` and `metadata` for who may not read what was said."""
        shown = super().to_representation(instance)
        if not self.context["view"].may("content"):
            del shown["title"], shown["metadata"]
        return shown


class ThreadsAsked(Asked):
    user = serializers.CharField(required=False, source="end_user", max_length=LONGEST_USER)
    conversation = serializers.BooleanField(required=False)
    mine = serializers.BooleanField(required=False, help_text="Those that a key of yours began.")
    created_from = serializers.DateTimeField(required=False, source="created_at__gte")
    created_before = serializers.DateTimeField(required=False, source="created_at__lt")
    search = serializers.CharField(
        required=False,
        max_length=LONGEST_SEARCH,
        help_text=f"Words that an item has, all of them; among the {MOST_FOUND} newest items that do.",
    )
    reason = serializers.CharField(required=False, max_length=LONGEST_REASON)


class Branch(Body):
    """Where a conversation of its own begins."""

    item = serializers.CharField(help_text="The id of the last item that it has too.")
    title = serializers.CharField(required=False, allow_blank=True, default="", max_length=LONGEST_TITLE)


class Erasure(Body):
    """Whose words go."""

    user = serializers.CharField(max_length=LONGEST_USER, help_text="The end user, as callers name them.")
    tenant = TenantField(required=False)


class Erased(serializers.Serializer[Any]):
    """How many of each are gone."""

    threads = serializers.IntegerField()
    items = serializers.IntegerField()
    responses = serializers.IntegerField()


class Threads(Removed):
    """Conversations, and what responses go on from."""

    resource, noun = "threads", "conversation"
    serializer_class = ThreadBody
    asked = ThreadsAsked
    pagination_class = Newest
    rights = {"export": "content", "export_all": "export"}  # looked at, never changed
    unscoped = ("export", "export_all", "erase")

    def rows(self) -> QuerySet[Any]:
        return Thread.objects.select_related("tenant").filter(unexpired())

    def name_of(self, row: Any) -> str:
        return management.public_id(row)

    def filtered(self, rows: QuerySet[Any], values: dict[str, Any]) -> QuerySet[Any]:
        words, reason = values.pop("search", None), values.pop("reason", "")
        mine: bool | None = values.pop("mine", None)
        if mine is not None:
            is_mine = Q(user_id=self.actor.user_id)
            rows = rows.filter(is_mine if mine else Q(user_id=None) | ~is_mine)
        if words is None:
            return super().filtered(rows, values)
        if not self.may("content"):
            raise ApiError(403, "You may not search what was said.", param="search")
        tenant = self.home()
        self._note_reading("search", tenant.id, str(tenant.id), tenant.slug, reason)
        whose = self.actor.user_id if mine or self.reach() is Reach.OWN else None
        found = search(tenant.id, words, limit=MOST_FOUND, user=values.get("end_user"), user_id=whose)
        return super().filtered(rows.of(tenant), {**values, "id__in": {each.thread_id for each in found}})  # type: ignore[attr-defined]

    def remove(self, row: Any) -> None:
        try:
            management.delete(row.tenant_id, row.id)
        except NotFound as error:  # by somebody else, meanwhile
            raise no_such(error.what) from None

    @extend_schema(request=Branch, responses={201: ThreadBody})
    @action(detail=True, methods=["post"])
    def branch(self, request: Request, id: str) -> Response:
        """A new conversation with copies of the items up to one of them."""
        thread = self.get_object()
        asked = Branch.of(request)
        try:
            new = management.branch(
                thread.tenant_id,
                thread.id,
                asked["item"],
                retention_days=thread.tenant.retention_days,
                title=asked["title"],
            )
        except NotFound as error:
            raise no_such(error.what) from None
        self.note("branch", new)
        return Response(self.shown(new), status=201)

    @extend_schema(parameters=[_REASON], responses=_LINES)
    @action(detail=True, methods=["get"])
    def export(self, request: Request, id: str) -> HttpResponseBase:
        """The thread, its items and its responses, as lines of JSON."""
        reason = named_alone(request, "reason").get("reason", "")
        with self.actor.scope():
            thread = self.get_object()
            self._note_reading("export", thread.tenant_id, str(thread.id), self.name_of(thread), reason)
        try:
            return _lines(export.export_thread(thread.tenant_id, thread.id))
        except NotFound as error:
            raise no_such(error.what) from None

    @extend_schema(parameters=[_REASON], responses=_LINES)
    @action(detail=False, methods=["get"], url_path="export")
    def export_all(self, request: Request) -> HttpResponseBase:
        """Every thread and response of the tenant, as lines of JSON."""
        reason = named_alone(request, "reason").get("reason", "")
        with self.actor.scope():
            tenant = self.home()
            self._note_reading("export", tenant.id, str(tenant.id), tenant.slug, reason)
        return _lines(export.export_tenant(tenant.id))

    @extend_schema(request=Erasure, responses={200: Erased})
    @action(detail=False, methods=["post"])
    def erase(self, request: Request) -> Response:
        """Takes away all that was said by and to an end user."""
        with self.actor.scope():
            asked = Erasure.of(request, view=self)
            tenant: Tenant = asked.get("tenant") or self.home()
            self.note_that(What("erase", self.resource, asked["user"][:64], asked["user"], tenant.id))
        try:
            erased = management.erase_user(tenant.id, asked["user"])
        except ValueError as error:
            raise ValidationError({"user": str(error)}) from None
        return Response(Erased(erased).data)

    def _note_reading(self, what: str, tenant_id: UUID, object_id: str, name: str, reason: str) -> None:
        """Raises ApiError for an operator who does not say why."""
        if self.actor.role is Role.OPERATOR and not reason.strip():
            raise ApiError(400, "reason: Say why you read what others said.", param="reason")
        if len(reason) > LONGEST_REASON or "\0" in reason:
            raise ApiError(400, f"reason: Say it in {LONGEST_REASON} characters.", param="reason")
        self.note_that(What(what, self.resource, object_id, name, tenant_id, reason=reason))


def _lines(pieces: Iterator[bytes]) -> HttpResponseBase:
    return download(pieces, "application/x-ndjson", "threads.jsonl")
