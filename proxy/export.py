"""Usage records as files: lines of CSV, which people open in spreadsheets, or of JSON.

Invariant: no cell of text is a formula to any spreadsheet, whatever a caller wrote. Numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from accounts.actors import names_of
from accounts.money import dollars
from accounts.reading import NoSuchRow, Question
from proxy.models import UsageRecord

AT_ONCE = 500
COLUMNS = (
    *("id", "tenant_id", "user", "api_key_id", "security_key_id", "endpoint", "model"),
    *("stream", "started_at", "ended_at", "status", "status_code", "error_code"),
    *("upstream", "upstream_model", "attempts"),
    *("input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens"),
    *("audio_milliseconds", "estimated", "cost_usd"),
    *("first_byte_milliseconds", "duration_milliseconds"),
)
# What a spreadsheet computes begins with one of these. Some take ; or a tab for the end of a cell, although
# the file says otherwise. Source: OWASP, "CSV Injection", 2026-11.
_FORMULA = re.compile(r"(?:\A|(?<=[;,|\t\r\n\"]))(?=[=+\-@\t\r\n])")
# Lines to some readers, though not to JSON's.
_LINE_ENDS = {"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_LINE_END = re.compile("[\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Form:
    """How records are written: `heading` comes first, then what `lines` makes of some of them."""

    suffix: str
    content_type: str
    heading: bytes
    lines: Callable[[Sequence[Mapping[str, Any]]], bytes]


def pieces(
    question: Question, form: Form, scope: Callable[[], AbstractContextManager[None]]
) -> Iterator[bytes]:
    """The file, piece by piece; a piece may be empty. Between two no transaction is open, so that each may be
    asked for on another thread, and calls that end meanwhile may be in it or not."""
    yield form.heading
    after = None
    while True:
        with scope():
            try:
                part = question.part(after, AT_ONCE)
            except NoSuchRow:  # it expired meanwhile, and all that are older with it
                return
            names = names_of({row.user_id for row in part.rows if row.user_id is not None})
        yield form.lines([_told(row, names) for row in part.rows])
        if part.after is None:
            return
        after = part.after


def _told(record: UsageRecord, names: Mapping[int, str]) -> dict[str, Any]:
    """As the management API shows it."""
    own = {"user", "cost_usd"}
    told = {name: None if name in own else getattr(record, name) for name in COLUMNS}
    if record.user_id is not None:
        told["user"] = names.get(record.user_id, "")
    if record.cost_nano_usd is not None:
        told["cost_usd"] = dollars(record.cost_nano_usd).removeprefix("$")
    return told


def _json_lines(records: Sequence[Mapping[str, Any]]) -> bytes:
    text = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
    if text.isascii():
        return text
    return _LINE_END.sub(lambda found: _LINE_ENDS[found[0]], text.decode()).encode()


def _csv_lines(records: Sequence[Mapping[str, Any]]) -> bytes:
    return _csv([cell(name, value) for name, value in record.items()] for record in records)


def _csv(rows: Any) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue().encode()


def cell(name: str, value: Any) -> Any:
    """A value of that column as a spreadsheet may have it."""
    if name == "cost_usd" or value is None:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _FORMULA.sub("'", value)
    if isinstance(value, datetime):
        return value.isoformat().removesuffix("+00:00") + "Z"
    return msgspec.json.encode(value).decode() if isinstance(value, list) else value


FORMS = {
    "csv": Form("csv", "text/csv; charset=utf-8", _csv([COLUMNS]), _csv_lines),
    "jsonl": Form("jsonl", "application/x-ndjson", b"", _json_lines),
}
