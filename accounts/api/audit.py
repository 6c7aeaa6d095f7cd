"""`audit`: who changed what, newest first."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers

from accounts.api.fields import Asked, Written
from accounts.api.parts import Newest
from accounts.api.resource import Resource
from accounts.models import AuditEntry


class EntryBody(Written[AuditEntry]):
    class Meta:
        model = AuditEntry
        fields = (
            *("id", "created_at", "tenant_id", "actor", "via", "api_key_id", "action", "resource"),
            *("object_id", "object_name", "fields", "reason", "request_id"),
        )
        read_only_fields = fields


class EntriesAsked(Asked):
    action = serializers.CharField(required=False)
    resource = serializers.CharField(required=False)
    object_id = serializers.CharField(required=False)
    actor = serializers.CharField(required=False)
    created_from = serializers.DateTimeField(required=False, source="created_at__gte")
    created_before = serializers.DateTimeField(required=False, source="created_at__lt")


class Audit(Resource):
    """What was changed, by whom, and which fields; never a value."""

    resource, noun = "audit", "audit entry"
    serializer_class = EntryBody
    asked = EntriesAsked
    pagination_class = Newest

    def rows(self) -> QuerySet[Any]:
        return AuditEntry.objects.all()
