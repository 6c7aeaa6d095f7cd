"""The calls behind a number, as a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.http import Http404

from gateway.dashboard import numbers
from gateway.dashboard.asked import Asked
from gateway.dashboard.page import around
from gateway.dashboard.viewer import Names
from proxy.models import UsageRecord
from proxy.usage_calls import NoSuchCall, newest_calls
from proxy.usage_query import Question, Value
from proxy.usage_report import one_moment

ON_A_PAGE = 50
_LATEST = 4_102_444_800  # the year 2100


def calls_of(asked: Asked, query: Mapping[str, str]) -> dict[str, Any]:
    """The context of the page; `start`, `end` and `after` of the query say which part of the period it is.

    Raises Http404, and ApiError where it takes too long.
    """
    question = _between(asked.question(), query)
    after = _after(query)
    with one_moment(asked.viewer.actor.scope()):
        try:
            found = newest_calls(question, ON_A_PAGE + 1, after)
        except NoSuchCall:
            raise Http404 from None
    shown = found[:ON_A_PAGE]
    values: dict[str, list[Value]] = {
        "user": [record.user_id for record in shown],
        "key": [record.api_key_id or record.security_key_id for record in shown],
        "tenant": [record.tenant_id for record in shown],
    }
    for name, value in asked.filters.items():
        values.setdefault(name, []).append(value)
    names = Names(values)
    more = {"after": str(shown[-1].id)} if len(found) > len(shown) else None
    return {
        **around(asked, names),
        "start": question.start,
        "end": question.end,
        "calls": [_call(record, names) for record in shown],
        "more": asked.calls_between(question.start, question.end, **more) if more else "",
    }


def _between(question: Question, query: Mapping[str, str]) -> Question:
    start, end = _moment(query, "start", question.start), _moment(query, "end", question.end)
    return replace(question, start=start, end=max(start, end))


def _moment(query: Mapping[str, str], name: str, default: datetime) -> datetime:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) < _LATEST):
        raise Http404
    return datetime.fromtimestamp(int(text), UTC)


def _after(query: Mapping[str, str]) -> UUID | None:
    try:
        return UUID(query["after"]) if "after" in query else None
    except ValueError:
        raise Http404 from None


def _call(record: UsageRecord, names: Names) -> dict[str, Any]:
    return {
        "record": record,
        "tenant": names.of("tenant", record.tenant_id),
        "user": names.of("user", record.user_id),
        "key": names.of("key", record.api_key_id or record.security_key_id),
        "cells": [
            *(numbers.UNKNOWN if count is None else numbers.whole(count) for count in _counts(record)),
            "unpriced" if record.cost_nano_usd is None else numbers.money(record.cost_nano_usd),
            numbers.lasting(record.first_byte_milliseconds),
            numbers.lasting(record.duration_milliseconds),
        ],
    }


def _counts(record: UsageRecord) -> tuple[int | None, ...]:
    return (
        record.input_tokens,
        record.cached_input_tokens,
        record.output_tokens,
        record.reasoning_tokens,
    )
