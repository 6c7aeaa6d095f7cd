"""What was said, for the panel's pages: a part of a thread, or a stored response, as text to read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

import msgspec

from threads.history import items_in, segments, sizes_of
from threads.models import Item, StoredResponse, Thread
from threads.pages import fitting

AT_ONCE = 50
LONGEST_SHOWN = 100_000


@dataclass(frozen=True, slots=True)
class Shown:
    """One thing that was said: by whom or as what, the words, and the JSON that is kept of it."""

    heading: str
    text: str
    json: str


def of_thread(tenant_id: UUID, thread: Thread, start: int) -> tuple[list[Shown], int | None]:
    """The items from that position on, some of them, and where to go on; None: that was all. In the scope of
    whoever reads."""
    there = items_in(tenant_id, segments(thread, thread.end)).filter(position__gte=start).order_by("position")
    limit = fitting(sizes_of(there[:AT_ONCE], "data"), AT_ONCE)
    found = list(there[: limit + 1])
    return [_item(item) for item in found[:limit]], found[limit].position if len(found) > limit else None


def _item(item: Item) -> Shown:
    heading = f"{item.role} ({item.type})" if item.role else item.type
    return Shown(heading, _cut(item.text), _json(item.data))


def of_response(response: StoredResponse) -> list[Shown]:
    """What its caller sees, and what it was asked where that is kept with it."""
    parts = (("What was asked", response.pending_input), ("The answer", response.body))
    return [Shown(heading, "", _json(text)) for heading, text in parts if text]


def about(row: Thread | StoredResponse) -> Iterable[tuple[str, str]]:
    """What its caller wrote on it."""
    if isinstance(row, Thread) and row.title:
        yield "Title", row.title
    yield from ((f"Metadata: {name}", str(value)) for name, value in row.metadata.items())


def _json(text: str) -> str:
    try:
        return _cut(msgspec.json.format(text, indent=2))
    except msgspec.DecodeError:
        return _cut(text)


def _cut(text: str) -> str:
    more = len(text) - LONGEST_SHOWN
    return text if more <= 0 else f"{text[:LONGEST_SHOWN]}… ({more:,} more characters)"
