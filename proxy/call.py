"""One parsed request, and the JSON rules every request body must keep. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from proxy.audio import Form
from proxy.elsewhere import Elsewhere
from threads.metadata import InvalidMetadata, check_metadata

MAX_DEPTH = 64
MAX_MODEL_LENGTH = 200
# From here on reading a body on the loop would hold up every other call.
LARGE_BYTES = 256 * 1024

Fields = dict[str, msgspec.Raw]
T = TypeVar("T", str, bool)

_FIELDS = msgspec.json.Decoder(Fields)
# Possessive, and content without its closing quote: a body full of quotes takes no longer than another.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
# The first half of a surrogate pair, its backslash not escaped itself, without the second half behind it.
_HALF_A_PAIR = re.compile(rb"(?<!\\)(?:\\\\)*(\\u[dD][89abAB][0-9a-fA-F]{2})(?!\\u[dD][c-fC-F])")
_BRACKETS = re.compile(rb"[\[\]{}]")


class InvalidBody(Exception):
    """The body cannot be read as this endpoint's request; `param` names the field, if it is one."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class NotOffered(Exception):
    """The request asks for something that cannot be done here; the message says what, `param` where."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Audio:
    """How long the sent sound is; not `exact` when it was told from its size."""

    milliseconds: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Account:
    """A caller's own key at the upstream, and the names that go with it; "" for what the operator's says."""

    api_key: str = field(default="", repr=False)
    project: str = ""
    organization: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """What a caller asked for.

    `fields` are the top-level members of a JSON body, each as the bytes that came; empty for a form.
    `path` is the upstream's, below its base URL. `asked` are the members as the caller sent them, where an
    answer repeats them; `kept` says that the answer is stored. `wishes` are the headers about reasoning: how
    much, and whether it is shown. `elsewhere` is what upstreams keep of the thread that it goes on with;
    `account` is what a caller brings in place of the upstream's key.
    """

    endpoint: str
    path: str
    model: str
    stream: bool
    fields: Fields
    input_tokens_estimate: int
    form: Form | None = None
    audio: Audio | None = None
    shows_usage: bool = False
    asked: Fields = field(default_factory=dict)
    kept: bool = False
    wishes: tuple[str, str] = ("", "")
    elsewhere: Elsewhere | None = None
    account: Account | None = None


def parse_fields(body: bytes) -> Fields:
    """The members of a JSON object. Raises InvalidBody naming the place of what is wrong."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidBody(f"The body is not valid UTF-8 (byte {error.start}).") from None
    if (place := _too_deep(body)) is not None:
        raise InvalidBody(f"The body is nested deeper than {MAX_DEPTH} levels (byte {place}).")
    try:
        return _FIELDS.decode(body)
    except msgspec.ValidationError:
        raise InvalidBody("The body must be a JSON object.") from None
    except msgspec.DecodeError as error:
        raise InvalidBody(f"The body is not valid JSON: {_malformed(body, error)}.") from None


def _malformed(body: bytes, error: msgspec.DecodeError) -> str:
    """What is wrong, in words; of half a surrogate pair msgspec says that something was cut off."""
    if (half := _HALF_A_PAIR.search(body)) is not None:
        return f"half of a surrogate pair (byte {half.start(1)})"
    return str(error).removeprefix("JSON is malformed: ")


def _too_deep(body: bytes) -> int | None:
    """Where nesting passes MAX_DEPTH. Most bodies have too few brackets to need the walk."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return None
    blanked = _STRINGS.sub(lambda match: b" " * len(match[0]), body)
    depth = 0
    for bracket in _BRACKETS.finditer(blanked):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > MAX_DEPTH:
            return bracket.start()
    return None


def member(fields: Fields, name: str) -> Any:
    """The member `name`, of any type; None when absent or null. Raises InvalidBody for a number in it that no
    program can hold, such as 1e999 or one of thousands of digits."""
    if name not in fields:
        return None
    try:
        return msgspec.json.decode(fields[name])
    except msgspec.DecodeError:  # which, of JSON that was read before, is for such numbers alone
        raise InvalidBody(f"'{name}' has a number in it that is too large.", name) from None


def members(fields: Fields, name: str) -> Fields:
    """The members of the object `name`; {} when absent or null. Raises InvalidBody for another type."""
    try:
        return msgspec.json.decode(fields.get(name, b"null"), type=Fields | None) or {}
    except msgspec.DecodeError:
        raise InvalidBody(f"'{name}' must be an object.", name) from None


def string(fields: Fields, name: str, default: str | None = None) -> str | None:
    """The string member `name`; `default` when absent or null. Raises InvalidBody for another type."""
    return _typed(fields, name, str, "a string", default)


def boolean(fields: Fields, name: str, default: bool = False) -> bool:
    """The boolean member `name`; `default` when absent or null. Raises InvalidBody for another type."""
    return bool(_typed(fields, name, bool, "a boolean", default))


def metadata(fields: Fields) -> dict[str, str]:
    """The member `metadata`, {} when absent or null. Raises InvalidBody."""
    try:
        return check_metadata(member(fields, "metadata"))
    except InvalidMetadata as error:
        raise InvalidBody(str(error), "metadata") from None


def _typed(fields: Fields, name: str, type_: type[T], words: str, default: T | None) -> T | None:
    raw = fields.get(name)
    if raw is None:
        return default
    try:
        value: T | None = msgspec.json.decode(raw, type=type_ | None)
    except msgspec.DecodeError:
        raise InvalidBody(f"'{name}' must be {words}.", name) from None
    return default if value is None else value


def model_name(given: str | None, default: str | None = None) -> str:
    """The model a call names. Raises InvalidBody when there is none, or it could not be a name."""
    name = given or default
    if not name:
        raise InvalidBody("You must provide a 'model'.", "model")
    if len(name) > MAX_MODEL_LENGTH or not name.isprintable():
        raise InvalidBody(f"'model' must be at most {MAX_MODEL_LENGTH} printable characters.", "model")
    return name
