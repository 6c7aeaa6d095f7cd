"""Reads what the installation is told through its environment, and refuses what it cannot mean.

Every setting is read through `Environment`, which remembers the names it was asked for: the tests
hold the documentation to that list. An empty value counts as one that was left out, so that a
variable can be named in a compose file or in `.env` without being set.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Default = TypeVar("Default", float, None)
Flag = TypeVar("Flag", bool, None)

_LINE = re.compile(r"(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?P<value>.*)")
_QUOTED = re.compile(r"""(?P<quote>["'])(?P<text>.*)(?P=quote)\s*(?:#.*)?""")
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class EnvironmentMistake(ImproperlyConfigured):
    """A value that cannot be meant; the sentence names the variable and never repeats a secret."""


def gather(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """What `.env`, then `.env.local`, then the real environment say; the later ones win."""
    values: dict[str, str] = {}
    for name in (".env", ".env.local"):
        values.update(read_file(folder / name))
    return values | dict(environ)


def read_file(path: Path) -> dict[str, str]:
    """The NAME=value lines of a file, with shell-like quotes and comments; {} when there is no file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    values = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.fullmatch(stripped)
        if match is None:
            raise EnvironmentMistake(f"{path.name}, line {number}: expected NAME=value.")
        values[match["name"]] = _unquote(match["value"])
    return values


def _unquote(value: str) -> str:
    quoted = _QUOTED.fullmatch(value)
    if quoted is not None:
        return quoted["text"]
    return re.split(r"(?:^|\s)#", value, maxsplit=1)[0].strip()


class Environment:
    """The variables, each read as the one type that its setting has."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values
        self.names: set[str] = set()

    def __repr__(self) -> str:
        return "Environment(…)"  # the values hold secrets

    def optional(self, name: str) -> str | None:
        self.names.add(name)
        return self.values.get(name, "").strip() or None

    def text(self, name: str, default: str) -> str:
        return self.optional(name) or default

    def words(self, name: str, default: str = "") -> list[str]:
        """A list parted by commas."""
        return [word.strip() for word in self.text(name, default).split(",") if word.strip()]

    def flag(self, name: str, default: Flag) -> bool | Flag:
        value = self.optional(name)
        if value is None:
            return default
        if value.lower() not in _YES + _NO:
            raise EnvironmentMistake(f"{name} must be true or false.")
        return value.lower() in _YES

    def whole(self, name: str, default: int, *, low: int, high: int) -> int:
        value = self.optional(name)
        if value is None:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
            raise EnvironmentMistake(f"{name} must be a whole number from {low} to {high}.")
        return int(value)

    def seconds(self, name: str, default: Default, *, low: float = 0) -> float | Default:
        value = self.optional(name)
        if value is None:
            return default
        if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value) or float(value) < low:
            least = f" and at least {low}" if low else ""
            raise EnvironmentMistake(f"{name} must be a number of seconds, such as 30 or 0.5{least}.")
        return float(value)

    def one_of(self, name: str, default: str, *choices: str) -> str:
        value = self.text(name, default)
        if value not in choices:
            raise EnvironmentMistake(f"{name} must be one of {', '.join(choices)}.")
        return value

    def url(self, name: str, *schemes: str) -> str | None:
        """An address with one of the schemes; its userinfo is a secret and is not repeated."""
        value = self.optional(name)
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            parts.port  # noqa: B018  # raises when it is not a number up to 65535
        except ValueError:
            raise EnvironmentMistake(f"{name} is not a URL.") from None
        if parts.scheme not in schemes:
            known = " or ".join(f"{scheme}://" for scheme in schemes)
            raise EnvironmentMistake(f"{name} must begin with {known}.")
        return value

    def networks(self, name: str) -> list[Network]:
        try:
            return [ipaddress.ip_network(word) for word in self.words(name)]
        except ValueError:
            raise EnvironmentMistake(
                f"{name} must be addresses or networks parted by commas, such as 10.0.0.0/8,::1."
            ) from None
