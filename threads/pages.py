"""A part of a list, as OpenAI's lists are asked for and given. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from threads.errors import NotFound

Entry = TypeVar("Entry")
Order = Literal["asc", "desc"]

LARGEST_PAGE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Page:
    """Which part: so many entries at most, those that come after the one with this id. A page of large ones
    has fewer."""

    limit: int = 20
    after: str | None = None
    order: Order = "desc"


@dataclass(frozen=True, slots=True)
class Listed(Generic[Entry]):
    """That part, in the order that was asked for, and the ids at its ends; an empty one has none."""

    data: tuple[Entry, ...]
    first_id: str | None
    last_id: str | None
    has_more: bool


def listed(found: Sequence[Entry], limit: int, id_of: Callable[[Entry], str]) -> Listed[Entry]:
    """What was found when one more than `limit` were asked for, to see whether there are more."""
    data = tuple(found[:limit])
    first, last = (id_of(data[0]), id_of(data[-1])) if data else (None, None)
    return Listed(data, first, last, has_more=len(found) > limit)


def fitting(sizes: Sequence[int], limit: int) -> int:
    """How many of the first `limit` entries, of these sizes in bytes, are a page: one in any case, else no
    more than LARGEST_PAGE_BYTES."""
    total = 0
    for count, size in enumerate(sizes[:limit]):
        total += size
        if count and total > LARGEST_PAGE_BYTES:
            return count
    return limit


def cut(entries: Sequence[Entry], page: Page, id_of: Callable[[Entry], str]) -> Listed[Entry]:
    """The page of a whole list that is at hand, oldest first. Raises NotFound for an `after` not in it."""
    in_order = entries if page.order == "asc" else entries[::-1]
    first = 0
    if page.after is not None:
        ids = [id_of(entry) for entry in in_order]
        if page.after not in ids:
            raise NotFound("item")
        first = ids.index(page.after) + 1
    return listed(in_order[first : first + page.limit + 1], page.limit, id_of)
