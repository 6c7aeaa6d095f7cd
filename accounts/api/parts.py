"""A part of a list: by number where the rows are few, after a row's id where there may be millions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import Model, Q, QuerySet
from rest_framework.pagination import BasePagination, LimitOffsetPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from accounts.errors import ApiError

DEFAULT_LIMIT = 50
LARGEST_LIMIT = 200
LARGEST_OFFSET = 100_000


class Numbered(LimitOffsetPagination):
    """`{"count", "next", "previous", "results"}`, by `limit` and `offset`."""

    default_limit = DEFAULT_LIMIT
    max_limit = LARGEST_LIMIT

    def get_limit(self, request: Request) -> int:
        return whole(request, "limit", DEFAULT_LIMIT, 1, LARGEST_LIMIT)

    def get_offset(self, request: Request) -> int:
        return whole(request, "offset", 0, 0, LARGEST_OFFSET)


class Newest(BasePagination):
    """`{"next", "results"}`, newest first: `after` is the id of the last row that the caller has.

    Rows have UUIDv7s, so that their ids are in the order in which they were made. Nothing is counted.
    """

    def paginate_queryset(self, queryset: Any, request: Request, view: APIView | None = None) -> Any:
        self._request = request
        limit = whole(request, "limit", DEFAULT_LIMIT, 1, LARGEST_LIMIT)
        found = list(self.in_order(queryset, given_after(request))[: limit + 1])
        self._has_more = len(found) > limit
        return found[:limit]

    def in_order(self, rows: QuerySet[Any], after: UUID | None) -> QuerySet[Any]:
        """Newest first, from the one after that on."""
        return rows.filter(Q() if after is None else Q(id__lt=after)).order_by("-id")

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"next": self._next(data), "results": data})

    def _next(self, data: Sequence[dict[str, Any]]) -> str | None:
        if not self._has_more:
            return None
        return replace_query_param(self._request.build_absolute_uri(), "after", data[-1]["id"])

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["next", "results"],
            "properties": {
                "next": {"type": ["string", "null"], "format": "uri"},
                "results": schema,
            },
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        limit = {"type": "integer", "minimum": 1, "maximum": LARGEST_LIMIT, "default": DEFAULT_LIMIT}
        return [
            {"name": "limit", "in": "query", "required": False, "schema": limit},
            {
                "name": "after",
                "in": "query",
                "required": False,
                "description": "The id of the last row that you have.",
                "schema": {"type": "string", "format": "uuid"},
            },
        ]


def whole(request: Request, name: str, default: int, low: int, high: int) -> int:
    """A number in the query. Raises ApiError."""
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise ApiError(400, f"{name}: Give a whole number from {low} to {high}.", param=name)
    return int(text)


def given_after(request: Request) -> UUID | None:
    """The id in the query. Raises ApiError."""
    text = request.query_params.get("after")
    try:
        return None if text is None else UUID(text)
    except ValueError:
        raise ApiError(400, "after: Give the id of the last row that you have.", param="after") from None


def by_id(rows: QuerySet[Any], text: str) -> Model | None:
    """The row with that id among these, whatever the id looks like."""
    try:
        return rows.filter(id=UUID(text)).first()
    except ValueError:
        return None
