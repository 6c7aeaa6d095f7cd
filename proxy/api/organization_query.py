"""What OpenAI's usage API is asked: the query string, read and checked; and where the next page goes on."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from django.http import QueryDict

from accounts.errors import ApiError

SECONDS = {"1m": 60, "1h": 3600, "1d": 86_400}
_LATEST = 4_102_444_800  # the year 2100
_PAGE = "page_"


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a path takes: groups, filters, and for each width how many buckets a page has, and may have."""

    groups: Collection[str]
    filters: Collection[str]
    buckets: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One page of buckets. `bounds` are where they begin, and where the last one ends, in Unix seconds."""

    bounds: Sequence[int]
    groups: tuple[str, ...]
    filters: Mapping[str, tuple[str, ...]]
    next_page: str | None

    @classmethod
    def of(cls, query: QueryDict, allowed: Allowed, now: int) -> Self:
        """Raises ApiError."""
        known = ("start_time", "end_time", "bucket_width", "group_by", "limit", "page", *allowed.filters)
        unknown = sorted({name.removesuffix("[]") for name in query} - set(known))
        if unknown:
            raise _refusal(unknown[0], "There is no such parameter here.")
        width = _one_of(query, "bucket_width", "1d", allowed.buckets)
        default, most = allowed.buckets[width]
        limit = _whole(query, "limit", default, 1, most)
        start = _whole(query, "start_time", None, 0, _LATEST)
        end = _whole(query, "end_time", max(now, start), 0, _LATEST)
        if end < start:
            raise _refusal("end_time", "It is before start_time.")
        start, end = _page(query, start, end)
        bounds = _bounds(start, end, SECONDS[width], limit)
        return cls(
            bounds=bounds,
            groups=_groups(query, allowed.groups),
            filters={name: found for name in allowed.filters if (found := _values(query, name)) is not None},
            next_page=None if bounds[-1] >= end else _next_page(bounds[-1], end),
        )


def _bounds(start: int, end: int, width: int, limit: int) -> list[int]:
    """From the start on: the borders of buckets, `limit` at most, and the end."""
    bounds = [start]
    while len(bounds) <= limit and bounds[-1] < end:
        bounds.append(min((bounds[-1] // width + 1) * width, end))
    return bounds


def _groups(query: QueryDict, allowed: Collection[str]) -> tuple[str, ...]:
    groups = tuple(dict.fromkeys(_values(query, "group_by") or ()))
    for group in groups:
        if group not in allowed:
            raise _refusal("group_by", f"Give one or more of {', '.join(allowed)}.")
    return groups


def _values(query: QueryDict, name: str) -> tuple[str, ...] | None:
    """`name=a&name=b`, `name[]=a&name[]=b` and `name=a,b` are the same; None where it is not given."""
    given = [*query.getlist(name), *query.getlist(f"{name}[]")]
    if not given:
        return None
    return tuple(value for text in given for value in text.split(",") if value)


def _one_of(query: QueryDict, name: str, default: str, allowed: Collection[str]) -> str:
    value = query.get(name, default)
    if value not in allowed:
        raise _refusal(name, f"Give one of {', '.join(allowed)}.")
    return str(value)


def _whole(query: QueryDict, name: str, default: int | None, low: int, high: int) -> int:
    text = query.get(name)
    if text is None:
        if default is None:
            raise _refusal(name, "It is required.")
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high):
        raise _refusal(name, f"Give a whole number from {low} to {high}.")
    return int(text)


def _next_page(start: int, end: int) -> str:
    """Where the next page begins and the last one ends, so that what is asked for up to now has an end."""
    return _PAGE + base64.urlsafe_b64encode(b"%d-%d" % (start, end)).decode()


def _page(query: QueryDict, start: int, end: int) -> tuple[int, int]:
    text = query.get("page")
    if text is None:
        return start, end
    try:
        if not text.startswith(_PAGE):
            raise ValueError
        told = base64.b64decode(text.removeprefix(_PAGE), altchars=b"-_", validate=True).decode("ascii")
        first, last = (int(part) for part in told.split("-"))
        if not start <= first < last <= _LATEST:
            raise ValueError
    except (ValueError, binascii.Error, UnicodeError):
        raise _refusal("page", "Give the next_page of the page before.") from None
    return first, last


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _refusal(name: str, sentence: str) -> ApiError:
    return ApiError(400, f"{name}: {sentence}", param=name)
