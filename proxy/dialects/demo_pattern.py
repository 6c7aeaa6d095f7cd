"""A text that a regular expression matches, written without ever running the expression. Pure.

Expressions come from callers, and running one may take for ever. Of what JSON Schema recommends (ECMA-262's
classes, groups, alternatives and quantifiers; draft 2020-12) everything is read but assertions.
"""

from __future__ import annotations

MAX_LENGTH = 1000
_MAX_DEPTH = 24
_CLASSES = {"d": "0", "D": "a", "w": "a", "W": "-", "s": " ", "S": "a", "b": "", "B": ""}
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}
_TRIED = "a0A-_ .z9Z!"


class Unreadable(Exception):
    """The expression has something that is not read here."""


def matching(pattern: str) -> str:
    """The shortest of the texts that the first of all alternatives allow. Raises Unreadable."""
    reader = _Reader(pattern)
    text = reader.alternatives(0)
    if reader.place != len(pattern) or len(text) > MAX_LENGTH:
        raise Unreadable
    return text


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.place = 0

    def _next(self) -> str:
        return self._pattern[self.place : self.place + 1]

    def _take(self) -> str:
        taken = self._next()
        if not taken:
            raise Unreadable
        self.place += 1
        return taken

    def _takes(self, text: str) -> bool:
        found = self._pattern.startswith(text, self.place)
        self.place += len(text) if found else 0
        return found

    def alternatives(self, depth: int) -> str:
        if depth > _MAX_DEPTH:
            raise Unreadable
        first = self._sequence(depth)
        while self._takes("|"):
            self._sequence(depth)
        return first

    def _sequence(self, depth: int) -> str:
        text = ""
        while self._next() not in ("", "|", ")"):
            text += self._atom(depth) * self._least()
            if len(text) > MAX_LENGTH:
                raise Unreadable
        return text

    def _atom(self, depth: int) -> str:
        taken = self._take()
        if taken in "^$":
            return ""
        if taken == ".":
            return "a"
        if taken == "[":
            return self._one_of()
        if taken == "\\":
            return self._escaped(self._take())
        if taken == "(":
            return self._group(depth)
        if taken in "*+?":
            raise Unreadable
        return taken

    def _group(self, depth: int) -> str:
        if self._takes("?"):
            if self._takes("P<") or (self._takes("<") and self._next() not in "=!"):
                while self._take() != ">":
                    pass
            elif not self._takes(":"):
                raise Unreadable
        text = self.alternatives(depth + 1)
        if not self._takes(")"):
            raise Unreadable
        return text

    def _escaped(self, letter: str) -> str:
        if letter.isalnum() and letter not in _CLASSES and letter not in _CONTROLS:
            raise Unreadable
        return _CLASSES.get(letter, _CONTROLS.get(letter, letter))

    def _one_of(self) -> str:
        """A character of a class, which has begun; of one that excludes, one that it does not name."""
        excludes = self._takes("^")
        named: list[tuple[str, str]] = []
        while not self._takes("]"):
            low = self._member()
            ranges = self._next() == "-" and self._pattern[self.place + 1 : self.place + 2] not in ("]", "")
            named.append((low, self._member() if ranges and self._takes("-") else low))
        if named and not excludes:
            return named[0][0]
        for tried in _TRIED:
            if excludes and not any(low <= tried <= high for low, high in named):
                return tried
        raise Unreadable

    def _member(self) -> str:
        taken = self._take()
        return self._escaped(self._take()) if taken == "\\" else taken

    def _least(self) -> int:
        """How often the atom before must come at least."""
        least = 1
        if self._takes("*") or self._takes("?"):
            least = 0
        elif self._takes("{"):
            least = self._count()
        else:
            self._takes("+")
        self._takes("?")  # as few as may be, which this is
        return least

    def _count(self) -> int:
        digits = ""
        while self._next().isdecimal() and len(digits) < len(str(MAX_LENGTH)):
            digits += self._take()
        if self._takes(","):
            while self._next().isdecimal():
                self._take()
        if not digits or not self._takes("}") or int(digits) > MAX_LENGTH:
            raise Unreadable
        return int(digits)
