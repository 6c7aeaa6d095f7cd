"""The ledger, read newest first and a part at a time, however much there is and however little is wanted.

Invariant: one part looks through LOOKED_THROUGH rows at most, along an index. What is rare takes many parts,
each of which is short: so no question that somebody may ask keeps the database from writing calls down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

LOOKED_THROUGH = 20_000
# By when calls were admitted: the tenant's index. And by when they came in: of all tenants, the primary key.
BY_ADMISSION = ("started_at", "id")
BY_ARRIVAL = ("id",)
# A call is admitted after it came in; one in the background waited for its turn before.
LONGEST_WAIT = timedelta(days=7)


class NoSuchRow(Exception):
    """There is nothing to go on after."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows, and the id of the row to go on after; None: that was all."""

    rows: list[Any]
    after: UUID | None


@dataclass(frozen=True, slots=True)
class Question:
    """Which of the rows that are looked at, in which `order`: those that have what is `wanted`."""

    looked_at: QuerySet[Any]
    wanted: Mapping[str, Any]
    order: tuple[str, ...]

    def part(self, after: UUID | None, limit: int) -> Part:
        """The newest `limit` of them; fewer, and yet not all, where they are rare. Raises NoSuchRow."""
        newest = [f"-{column}" for column in self.order]
        rest = self.looked_at if after is None else self.looked_at.filter(self._beyond(self._place(after)))
        rest = rest.order_by(*newest)
        edge = None
        if self.wanted:
            edge = rest.values(*self.order)[LOOKED_THROUGH - 1 : LOOKED_THROUGH].first()
            rest = rest.filter(Q() if edge is None else self._up_to(edge), **self.wanted)
        found = list(rest[: limit + 1])
        if len(found) > limit:
            return Part(found[:limit], found[limit - 1].id)
        return Part(found, None if edge is None else edge["id"])

    def _place(self, id_: UUID) -> dict[str, Any]:
        place: dict[str, Any] | None = self.looked_at.filter(id=id_).values(*self.order).first()
        if place is None:
            raise NoSuchRow
        return place

    def _beyond(self, place: Mapping[str, Any]) -> Q:
        """What comes after that place. The first column bounds it alone too: that is what an index sees."""
        if self.order == BY_ARRIVAL:
            return Q(id__lt=place["id"])
        at, id_ = place["started_at"], place["id"]
        return Q(started_at__lte=at) & (Q(started_at__lt=at) | Q(started_at=at, id__lt=id_))

    def _up_to(self, place: Mapping[str, Any]) -> Q:
        """What comes before that place, and what is there."""
        if self.order == BY_ARRIVAL:
            return Q(id__gte=place["id"])
        at, id_ = place["started_at"], place["id"]
        return Q(started_at__gte=at) & (Q(started_at__gt=at) | Q(started_at=at, id__gte=id_))


def between(order: tuple[str, ...], since: datetime | None, before: datetime | None) -> Q:
    """The rows that were admitted then, so that the index by which they are read finds them."""
    condition = Q()
    if since is not None:
        condition &= Q(started_at__gte=since)
    if before is not None:
        condition &= Q(started_at__lt=before)
    if order == BY_ARRIVAL:
        condition &= Q() if since is None else Q(id__gte=first_id(since - LONGEST_WAIT))
        condition &= Q() if before is None else Q(id__lt=first_id(before))
    return condition


def first_id(moment: datetime) -> UUID:
    """Below every UUIDv7 of that moment and above those before: its milliseconds, then nothing."""
    milliseconds = min(max(round(moment.timestamp() * 1000), 0), 2**48 - 1)
    return UUID(int=milliseconds << 80)
