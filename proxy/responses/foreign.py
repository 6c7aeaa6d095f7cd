"""Ids of objects that live at an upstream: never taken from a caller, for tenants share its account. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from proxy.call import Fields, InvalidBody

# Where OpenAI's create schema names objects of the account (API reference, "Create a model response",
# 2026-11).
_MARKS = (b'"file_id', b'"vector_store_ids"', b'"container"')


def refuse(fields: Fields) -> None:
    """Raises InvalidBody naming the first member that holds such an id."""
    if bytes(fields.get("prompt", b"")).startswith(b"{"):
        raise _refusal("prompt")
    for name in ("input", "tools"):
        raw = fields.get(name)
        if raw is not None and any(mark in bytes(raw) for mark in _MARKS):
            _look(msgspec.json.decode(raw), name)


def _look(value: Any, place: str) -> None:
    if isinstance(value, list):
        for index, each in enumerate(value):
            _look(each, f"{place}[{index}]")
    elif isinstance(value, dict):
        for name, member in value.items():
            if _is_foreign(name, member):
                raise _refusal(f"{place}.{name}")
            _look(member, f"{place}.{name}")


def _is_foreign(name: str, member: Any) -> bool:
    """Of an empty one nothing is meant. A container that the upstream makes for the call is nobody's yet."""
    if name == "container":
        return isinstance(member, str)
    return name in ("file_id", "file_ids", "vector_store_ids") and bool(member)


def _refusal(place: str) -> InvalidBody:
    return InvalidBody(
        f"'{place}' names an object kept at the upstream, whose account is shared; send its content instead.",
        place,
    )
