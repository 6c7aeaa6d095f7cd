"""The lists of the panel. Of a table that grows without end so many of its newest rows are looked through,
and then, if somebody wants to look further back, as many of those before."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.views import ChangeList

from accounts.reading import LOOKED_THROUGH, NoSuchRow, Place, moment_of

AFTER = "after"  # in the query: the id of the last row that was looked through


class RowList(ChangeList):
    """A list of the panel. The page's admin says by `prepare` what else is to be known of the rows on it."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list: Any = list(self.result_list)
        self.model_admin.prepare(self.result_list)


class RecentList(RowList):
    """The page's admin says by `looked_at` which rows an index finds."""

    edge: Place | None = None

    def get_filters_params(self, params: Any = None) -> dict[str, Any]:
        found: dict[str, Any] = super().get_filters_params(params)
        found.pop(AFTER, None)
        return found

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request, exclude_parameters)
        question = self.model_admin.looked_at(request)
        try:
            after = request.GET.get(AFTER)
            place = question.place(UUID(after)) if after else None
        except (ValueError, NoSuchRow) as error:
            raise IncorrectLookupParameters(error) from None
        self.edge = question.edge(place)
        return rows.filter(question.within(place, self.edge)).order_by(*question.newest_first)

    # For the words below the list

    @property
    def looked_through(self) -> int:
        return LOOKED_THROUGH

    @property
    def back_to(self) -> datetime | None:
        """None where no older row is left to look at."""
        return None if self.edge is None else moment_of(self.edge["id"])

    @property
    def older(self) -> str:
        assert self.edge is not None
        return str(self.get_query_string({AFTER: str(self.edge["id"])}, ["p"]))
