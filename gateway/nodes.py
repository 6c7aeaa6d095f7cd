"""Reads a YAML file that people write by hand, and tells them every mistake by line and name.

It walks the parser's nodes rather than loaded values, since only nodes know their line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from django.core.exceptions import ValidationError
from django.db import models

_TAG = "tag:yaml.org,2002:"
_FLAGS = yaml.SafeLoader.bool_values


@dataclass(frozen=True, slots=True)
class Spot:
    """A node, and the way to it, such as `tenants[0].members`."""

    node: yaml.Node
    path: str

    @property
    def tag(self) -> str:
        """str, int, float, bool, null, timestamp, seq or map."""
        return str(self.node.tag).removeprefix(_TAG)


class Wrong(ValueError):
    """A value that cannot be meant. The sentence never repeats a value that may be a secret."""

    def __init__(self, spot: Spot, sentence: str) -> None:
        super().__init__(sentence)
        self.spot = spot


Read = Callable[[Spot], Any]


class Reader:
    """Reads one file; `mistakes` grows while it does, so that all are told together."""

    def __init__(self, file: str, environ: Mapping[str, str]) -> None:
        self.file = file
        self.environ = environ
        self.mistakes: list[str] = []

    def place(self, spot: Spot) -> str:
        line = f"{self.file}:{spot.node.start_mark.line + 1}"
        return f"{line}: {spot.path}" if spot.path else line

    def note(self, wrong: Wrong) -> None:
        self.mistakes.append(f"{self.place(wrong.spot)}: {wrong}")

    def root(self, path: Path) -> Spot | None:
        """None for an empty file, and for one that is not YAML, which is noted."""
        try:
            node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            self.mistakes.append(f"{self.file}:{line}: not YAML: {error.problem}")
        except (UnicodeDecodeError, yaml.YAMLError):
            self.mistakes.append(f"{self.file}: not YAML: it must be text in UTF-8")
        except OSError as error:
            self.mistakes.append(f"{path}: {error.strerror}")
        else:
            return None if node is None else Spot(node, "")
        return None

    def fields(self, spot: Spot, known: Mapping[str, Read], required: tuple[str, ...] = ()) -> dict[str, Any]:
        """The values of a mapping's keys; what is wrong with any of them is noted."""
        if not isinstance(spot.node, yaml.MappingNode):
            self.note(Wrong(spot, "must be a mapping of keys to values"))
            return {}
        values: dict[str, Any] = {}
        seen: set[str] = set()
        for key, node in spot.node.value:
            path = f"{spot.path}.{key.value}" if spot.path else str(key.value)
            try:
                values[key.value] = self._field(Spot(key, path), Spot(node, path), known, seen)
            except Wrong as wrong:
                self.note(wrong)
            seen.add(str(key.value))
        for name in required:
            if name not in seen:
                self.note(Wrong(spot, f"{name} is missing"))
        return values

    def _field(self, key: Spot, value: Spot, known: Mapping[str, Read], seen: set[str]) -> Any:
        name = str(key.node.value)
        if name not in known:
            raise Wrong(key, "unknown key")
        if name in seen:
            raise Wrong(key, "named twice")
        return known[name](value)

    def items(self, spot: Spot) -> list[Spot]:
        if not isinstance(spot.node, yaml.SequenceNode):
            raise Wrong(spot, "must be a list")
        return [Spot(node, f"{spot.path}[{number}]") for number, node in enumerate(spot.node.value)]

    def mapping(self, spot: Spot) -> list[tuple[str, str]]:
        """The names of a mapping, whatever they are, and their texts, each of one line."""
        if not isinstance(spot.node, yaml.MappingNode):
            raise Wrong(spot, "must be a mapping of names to texts")
        return [
            (str(key.value), self._line(Spot(node, f"{spot.path}.{key.value}")))
            for key, node in spot.node.value
        ]

    def _line(self, spot: Spot) -> str:
        text = self.text(spot)
        if "\n" in text or "\r" in text:
            raise Wrong(spot, "must be one line")
        return text

    def texts(self, spot: Spot) -> list[str]:
        return [self.text(item) for item in self.items(spot)]

    def text(self, spot: Spot) -> str:
        """A string; one of the form env:NAME is what the environment says."""
        if spot.tag != "str":
            raise Wrong(spot, "must be a text (put quotes around it)")
        return self._resolved(spot)

    def scalar(self, spot: Spot) -> str:
        """A string or a number, as it was written."""
        if spot.tag not in ("str", "int", "float"):
            raise Wrong(spot, "must be a number")
        return self._resolved(spot)

    def flag(self, spot: Spot) -> bool:
        if spot.tag != "bool":
            raise Wrong(spot, "must be true or false")
        return bool(_FLAGS[str(spot.node.value).lower()])

    def column(self, model: type[models.Model], name: str) -> Read:
        """Reads what that column of the model takes, by the rules that the model has for it."""
        field = model._meta.get_field(name)
        assert isinstance(field, models.Field)
        numeric = isinstance(field, models.IntegerField | models.FloatField)
        read: Read = self.scalar if numeric else self.text
        if isinstance(field, models.BooleanField):
            read = self.flag

        def value_of(spot: Spot) -> object:
            try:
                return field.clean(read(spot), None)
            except ValidationError as error:
                raise Wrong(spot, " ".join(error.messages)) from None

        return value_of

    def _resolved(self, spot: Spot) -> str:
        value = str(spot.node.value)
        match = re.fullmatch(r"env:([A-Za-z_][A-Za-z0-9_]*)", value)
        if match is None:
            return value
        found = self.environ.get(match[1], "").strip()
        if not found:
            raise Wrong(spot, f"the environment has no {match[1]}")
        return found


def or_null(read: Read) -> Read:
    """Reads what `read` does, and null as None."""
    return lambda spot: None if spot.tag == "null" else read(spot)
