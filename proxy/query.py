"""What the query of a request asks for. Pure.

A list of values comes as `name=a&name=b`, `name[]=a` or `name[0]=a`, and a mapping as `name[key]=value`, as
the official SDKs write them (openai 3.52 for Python, 6 for Node; read 2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import parse_qsl

from threads.pages import Order, Page

MAX_LIMIT = 100
_KEYED = re.compile(r"([^\[\]]+)\[([^\]]*)\]")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
# More than any of it can mean.
_LONGEST_NUMBER = 16


class InvalidQuery(Exception):
    """A parameter says what it cannot mean; `param` is its name."""

    def __init__(self, param: str, words: str) -> None:
        super().__init__(f"'{param}' must be {words}.")
        self.param = param


class Query:
    """The parameters of a query string. One that is empty says nothing; of two of a name the first holds."""

    def __init__(self, raw: bytes) -> None:
        self._pairs = parse_qsl(raw.decode("latin-1"))

    def string(self, name: str) -> str | None:
        """None when it is absent."""
        return next((value for given, value in self._pairs if given == name), None)

    def choice(self, name: str, allowed: Collection[str], default: str) -> str:
        """One of these words. Raises InvalidQuery."""
        value = self.string(name)
        if value is None:
            return default
        if value not in allowed:
            raise InvalidQuery(name, f"one of {_words(allowed)}")
        return value

    def boolean(self, name: str) -> bool:
        """False when it is absent. Raises InvalidQuery."""
        value = self.string(name)
        if value is None:
            return False
        if value.lower() not in _BOOLEANS:
            raise InvalidQuery(name, "true or false")
        return _BOOLEANS[value.lower()]

    def integer(self, name: str, lowest: int, highest: int) -> int | None:
        """None when it is absent. Raises InvalidQuery."""
        value = self.string(name)
        return None if value is None else integer(name, value, lowest, highest)

    def several(self, name: str, allowed: Collection[str]) -> frozenset[str]:
        """Any of these words. Raises InvalidQuery."""
        values = [value for given, value in self._pairs if given == name or _key(given, name) is not None]
        if not frozenset(allowed).issuperset(values):
            raise InvalidQuery(name, f"some of {_words(allowed)}")
        return frozenset(values)

    def mapping(self, name: str) -> dict[str, str]:
        """What `name[key]=value` says. Raises InvalidQuery for a bare `name=value`."""
        if self.string(name) is not None:
            raise InvalidQuery(name, f"given as {name}[key]=value")
        keyed = ((_key(given, name), value) for given, value in reversed(self._pairs))
        return {key: value for key, value in keyed if key is not None}

    def page(self, default: Order = "desc") -> Page:
        """The part of a list that `limit`, `after` and `order` ask for. Raises InvalidQuery."""
        limit = self.integer("limit", 1, MAX_LIMIT) or Page().limit
        order: Order = "asc" if self.choice("order", ("asc", "desc"), default) == "asc" else "desc"
        return Page(limit, self.string("after"), order)


def integer(name: str, value: str, lowest: int, highest: int) -> int:
    """A decimal number within these bounds. Raises InvalidQuery."""
    digits = value.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) <= _LONGEST_NUMBER:
        number = int(value)
        if lowest <= number <= highest:
            return number
    raise InvalidQuery(name, f"an integer from {lowest} to {highest}")


def _key(given: str, name: str) -> str | None:
    """What stands in the brackets after the name; None: it is another parameter."""
    match = _KEYED.fullmatch(given)
    return match[2] if match and match[1] == name else None


def _words(allowed: Collection[str]) -> str:
    return ", ".join(f"'{word}'" for word in allowed)
