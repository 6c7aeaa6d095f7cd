"""Tables that grow without end, read newest first and a part at a time, however much there is and however
little of it is wanted. Their keys are UUIDv7s.

Invariant: one part looks through LOOKED_THROUGH rows at most, along an index. What is rare takes many parts,
each of which is short: so no question that somebody may ask keeps the database from writing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

LOOKED_THROUGH = 10_000
BY_ARRIVAL = ("id",)

Place = Mapping[str, Any]


class NoSuchRow(Exception):
    """There is nothing to go on after."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows, and the id of the row to go on after; None: that was all."""

    rows: list[Any]
    after: UUID | None


@dataclass(frozen=True, slots=True)
class Question:
    """Which of the rows that are looked at: those that have what is `wanted`. `order` is an index's columns,
    read backwards: one at most, and the id."""

    looked_at: QuerySet[Any]
    wanted: Mapping[str, Any]
    order: tuple[str, ...] = BY_ARRIVAL

    @property
    def newest_first(self) -> tuple[str, ...]:
        return tuple(f"-{column}" for column in self.order)

    def part(self, after: UUID | None, limit: int) -> Part:
        """The newest `limit` of them; fewer, and yet not all, where they are rare. Raises NoSuchRow."""
        place = None if after is None else self.place(after)
        edge = self.edge(place) if self.wanted else None
        rows = self.looked_at.filter(self.within(place, edge), **self.wanted)
        found = list(rows.order_by(*self.newest_first)[: limit + 1])
        if len(found) > limit:
            return Part(found[:limit], found[limit - 1].id)
        return Part(found, None if edge is None else edge["id"])

    def place(self, id_: UUID) -> Place:
        """Where the row with that id stands. Raises NoSuchRow."""
        place: Place | None = self.looked_at.filter(id=id_).values(*self.order).first()
        if place is None:
            raise NoSuchRow
        return place

    def edge(self, place: Place | None) -> Place | None:
        """Where the rows end that are looked through for one part; None: where all do."""
        rest = self.looked_at.filter(self.within(place, None)).order_by(*self.newest_first)
        return rest.values(*self.order)[LOOKED_THROUGH - 1 : LOOKED_THROUGH].first()

    def within(self, place: Place | None, edge: Place | None) -> Q:
        """The rows after that place, up to the edge and with it."""
        beyond = Q() if place is None else self._bound(place, "lt", "lt")
        return beyond & (Q() if edge is None else self._bound(edge, "gt", "gte"))

    def _bound(self, place: Place, apart: str, same: str) -> Q:
        """The first column bounds it alone too, for that is what an index sees."""
        if self.order == BY_ARRIVAL:
            return Q(**{f"id__{same}": place["id"]})
        column, value = self.order[0], place[self.order[0]]
        there = Q(**{f"{column}__{apart}": value}) | Q(**{column: value, f"id__{same}": place["id"]})
        return Q(**{f"{column}__{apart}e": value}) & there


def first_id(moment: datetime) -> UUID:
    """Below every UUIDv7 of that moment and above those before: its milliseconds, then nothing."""
    milliseconds = min(max(round(moment.timestamp() * 1000), 0), 2**48 - 1)
    return UUID(int=milliseconds << 80)


def moment_of(id_: UUID) -> datetime:
    """When a UUIDv7 was made."""
    return datetime.fromtimestamp((id_.int >> 80) / 1000, UTC)
