"""The least that satisfies a JSON Schema, for the demo model to say. Pure.

Keywords: what OpenAI's structured outputs take (guide "Structured model outputs", 2026-11), and some more.
Conditions (`if`, `not`, `dependent…`) are not looked at.
"""

from __future__ import annotations

import itertools
import math
import operator
from typing import Any
from urllib.parse import unquote

import msgspec

from proxy.dialects.demo_pattern import Unreadable, matching

Schema = dict[str, Any]

MAX_PARTS = 5000
MAX_TEXT = 10_000
_PART_BYTES = 64  # of a text that count as a part more
_MAX_DEPTH = 24
_MAX_ITEMS = 100
_OPTIONAL_DEPTH = 3
_MAX_NUMBER = 10**15
_LEAST_STEP = 10**-9
_TEXT = "demo"
_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T12:00:00Z",
    "duration": "PT1H",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "12:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def instance(schema: object) -> Any:
    """A JSON value that the schema allows, always the same one."""
    return _Maker(schema).make(schema, 0, 0)


class _Maker:
    def __init__(self, root: object) -> None:
        self._root = root
        self._left = MAX_PARTS

    def make(self, given: object, depth: int, nth: int) -> Any:
        """The `nth` value that the schema allows, or the first where there is no telling them apart."""
        schema = self._resolved(given)
        if not schema:
            return _TEXT if given is not False else None
        if "const" in schema:
            return self._paid(schema["const"])
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return self._paid(schema["enum"][nth % len(schema["enum"])])
        for choices in (schema.get("anyOf"), schema.get("oneOf")):
            if isinstance(choices, list) and choices:
                return self._one_of(schema, choices, depth, nth)
        if nth == 0 and schema.get("default") is not None:
            return self._paid(schema["default"])
        return self._typed(schema, _type(schema), depth, nth)

    def _paid(self, value: Any) -> Any:
        """`value`, if there is still room for it: a schema may repeat what is large."""
        self._left -= len(msgspec.json.encode(value)) // _PART_BYTES
        return value if self._left >= 0 else _TEXT

    def _resolved(self, given: object, hops: int = 0) -> Schema:
        """The schema with what it refers to, and all of `allOf`, put into it."""
        self._left -= 1
        if not isinstance(given, dict) or hops > _MAX_DEPTH or self._left < 0:
            return {}
        schema: Schema = {name: member for name, member in given.items() if name not in ("$ref", "allOf")}
        self._left -= (
            sum(len(each) for each in schema.values() if isinstance(each, list | dict)) // _PART_BYTES
        )
        others = [self._target(given["$ref"])] if isinstance(given.get("$ref"), str) else []
        others += given["allOf"] if isinstance(given.get("allOf"), list) else []
        for other in others:
            schema = _both(self._resolved(other, hops + 1), schema)
        return schema

    def _target(self, reference: str) -> object:
        place: Any = self._root
        for step in unquote(reference.removeprefix("#")).split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            place = place.get(name) if isinstance(place, dict) else None
        return place

    def _one_of(self, schema: Schema, choices: list[Any], depth: int, nth: int) -> Any:
        """The first choice; deep inside one that leads no deeper, if there is one."""
        rest = {name: member for name, member in schema.items() if name not in ("anyOf", "oneOf")}
        if depth > _OPTIONAL_DEPTH:
            choices = sorted(choices[:_MAX_ITEMS], key=self._leads_deeper)
        return self.make(_both(self._resolved(choices[0]), rest), depth + 1, nth)

    def _leads_deeper(self, schema: object) -> bool:
        return _type(self._resolved(schema)) in ("object", "array")

    def _typed(self, schema: Schema, type_: object, depth: int, nth: int) -> Any:
        if type_ == "object":
            return self._object(schema, depth)
        if type_ == "array":
            return self._array(schema, depth)
        if type_ in ("integer", "number"):
            return _number(schema, nth, whole=type_ == "integer")
        if type_ == "boolean":
            return nth % 2 == 0
        return None if type_ == "null" else self._paid(_text(schema, nth))

    def _object(self, schema: Schema, depth: int) -> Schema:
        """What is required; near the top all there is, where the schema does not say what is."""
        properties = schema["properties"] if isinstance(schema.get("properties"), dict) else {}
        required = schema.get("required")
        if not isinstance(required, list):
            required = list(properties) if depth < _OPTIONAL_DEPTH else []
        names = dict.fromkeys(name for name in required if isinstance(name, str))
        more = (name for name in properties if name not in names)
        least = min(_bound(schema, "minProperties", 0), MAX_PARTS)
        for name in itertools.islice(more, max(0, least - len(names))):
            names[name] = None
        if depth > _MAX_DEPTH:
            return {}
        made: Schema = {}
        for name in names:
            if self._left >= 0:
                made[self._paid(name)] = self.make(properties.get(name, {}), depth + 1, 0)
        return made

    def _array(self, schema: Schema, depth: int) -> list[Any]:
        """One item, or as many as there must be; deep inside, none if there may be none."""
        first = schema["prefixItems"] if isinstance(schema.get("prefixItems"), list) else []
        least = _bound(schema, "minItems", 0)
        wanted = max(least, len(first) or (1 if depth <= _OPTIONAL_DEPTH and schema.get("items") else 0))
        count = min(wanted, _bound(schema, "maxItems", _MAX_ITEMS), _MAX_ITEMS)
        if depth > _MAX_DEPTH:
            return []
        made = []
        for n in range(count):
            if self._left >= 0:
                made.append(self.make(first[n] if n < len(first) else schema.get("items", {}), depth + 1, n))
        return made


def _both(one: Schema, other: Schema) -> Schema:
    """What satisfies both, as far as the two can be laid side by side."""
    made = {**one, **other}
    if isinstance(one.get("properties"), dict) and isinstance(other.get("properties"), dict):
        made["properties"] = {**one["properties"], **other["properties"]}
    if isinstance(one.get("required"), list) and isinstance(other.get("required"), list):
        made["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    return made


def _type(schema: Schema) -> object:
    """The type that a schema names, or is about."""
    type_ = schema.get("type")
    if isinstance(type_, list):
        return next((each for each in type_ if each != "null"), "null")
    if type_ is not None:
        return type_
    if "properties" in schema or "required" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    if "minimum" in schema or "maximum" in schema or "multipleOf" in schema:
        return "number"
    return "string"


def _bound(schema: Schema, name: str, default: int) -> int:
    bound = schema.get(name)
    return bound if isinstance(bound, int) and bound >= 0 else default


def _number(schema: Schema, nth: int, *, whole: bool) -> int | float:
    """A number within bounds and, where it must be, a multiple; the `nth` where there are so many."""
    multiple: Any = schema.get("multipleOf")
    step: float = multiple if _is_number(multiple) and multiple >= _LEAST_STEP else 1
    low, high = _limit(schema, "inimum"), _limit(schema, "aximum")
    tried = [nth * step]
    if low is not None:
        tried += [math.ceil(low / step) * step + n * step for n in (nth, nth + 1, 0, 1)]
    if high is not None:
        tried += [math.floor(high / step) * step - n * step for n in (nth, nth + 1, 0, 1)]
    if low is not None and high is not None and not whole:
        tried.append((low + high) / 2)
    fitting = (each for each in tried if _fits(each, schema))
    found = next(fitting, tried[0])
    return int(found) if whole else found


_BOUNDS = {
    "minimum": operator.ge,
    "maximum": operator.le,
    "exclusiveMinimum": operator.gt,
    "exclusiveMaximum": operator.lt,
}


def _fits(value: float, schema: Schema) -> bool:
    return all(holds(value, schema[name]) for name, holds in _BOUNDS.items() if _is_number(schema.get(name)))


def _limit(schema: Schema, name: str) -> float | None:
    """The inclusive or exclusive bound of that name, whichever there is."""
    for prefix in ("m", "exclusiveM"):
        if _is_number(schema.get(prefix + name)):
            limit: float = schema[prefix + name]
            return limit
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MAX_NUMBER


def _text(schema: Schema, nth: int) -> str:
    if isinstance(schema.get("pattern"), str):
        try:
            return matching(schema["pattern"])
        except Unreadable:
            return _TEXT
    if str(schema.get("format")) in _FORMATS:
        return _FORMATS[schema["format"]]
    text = f"{_TEXT}{nth + 1}" if nth else _TEXT
    return text.ljust(min(_bound(schema, "minLength", 0), MAX_TEXT), ".")[
        : _bound(schema, "maxLength", MAX_TEXT)
    ]
