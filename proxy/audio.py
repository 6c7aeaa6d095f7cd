"""Forms with a sound file in them, and how long the sound is. Pure.

A form is taken apart by python-multipart and put together again part by part, so that the file's bytes and
every member the gateway does not know go upstream as they came (RFC 7578).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from email.message import Message

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser
from tinytag import TinyTag, TinyTagException

MAX_PARTS = 64
MAX_FIELD_BYTES = 64 * 1024
# What an encoded hour of speech comes to where its own length cannot be read: 128 kbit/s.
BYTES_PER_SECOND = 16_000
# A file may claim any length; one that no accepted file could have is not believed.
MAX_SECONDS = 24 * 60 * 60


class FormError(Exception):
    """The body is not a form that can be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its headers as they came, and what they say."""

    headers: bytes
    name: str
    file_name: str | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart form. Of two fields of a name the first counts; all of them go upstream."""

    boundary: bytes
    parts: tuple[Part, ...]

    @property
    def fields(self) -> dict[str, str]:
        """The fields that are not files."""
        plain = [part for part in self.parts if part.file_name is None]
        return {part.name: part.body.decode(errors="replace") for part in reversed(plain)}

    @property
    def file(self) -> Part | None:
        """The part called `file`."""
        return next((part for part in self.parts if part.name == "file" and part.file_name is not None), None)


def parse_form(body: bytes, content_type: str) -> Form:
    """Raises FormError."""
    boundary = _boundary(content_type)
    collected = _Collected()
    try:
        parser = MultipartParser(boundary, collected.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise FormError(f"The form cannot be read: {error}") from None
    if not collected.ended:
        raise FormError("The form ends before its last boundary.")
    return Form(boundary, tuple(collected.parts))


def rewrite_form(form: Form, changes: dict[str, str | None]) -> tuple[bytes, str]:
    """Body and content type of the form with these parts changed, or taken out where None, files or not.

    A field that the form does not have is added.
    """
    out = []
    for part in form.parts:
        value = changes.get(part.name)
        if part.name not in changes:
            out.append((part.headers, part.body))
        elif value is not None:
            out.append((part.headers, value.encode()))
    present = {part.name for part in form.parts}
    added = {name: value for name, value in changes.items() if value is not None and name not in present}
    for name, value in added.items():
        out.append((f'Content-Disposition: form-data; name="{name}"\r\n'.encode(), value.encode()))
    pieces = [b"--%b\r\n%b\r\n%b\r\n" % (form.boundary, headers, body) for headers, body in out]
    closed = b"".join([*pieces, b"--%b--\r\n" % form.boundary])
    return closed, f'multipart/form-data; boundary="{form.boundary.decode("latin-1")}"'


def duration_milliseconds(sound: bytes, name: str) -> tuple[int, bool]:
    """How long the sound is; False with it where that had to be told from its size."""
    try:
        seconds = TinyTag.get(filename=name or None, file_obj=io.BytesIO(sound), tags=False).duration
    except (TinyTagException, OSError, ValueError, ArithmeticError, LookupError):
        seconds = None
    if seconds and 0 < seconds <= MAX_SECONDS:
        return round(seconds * 1000), True
    return -(-len(sound) * 1000 // BYTES_PER_SECOND), False


def _boundary(content_type: str) -> bytes:
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/form-data" or not isinstance(boundary, str) or not boundary:
        raise FormError("The body must be multipart/form-data with a boundary.")
    return boundary.encode("latin-1", "replace")


class _Collected:
    """What the parser has called back with so far."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._headers: list[tuple[bytes, bytes]] = []
        self._field = b""
        self._value = b""
        self._data: list[bytes] = []

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._part_data,
            "on_part_end": self._end,
            "on_end": self._all_ended,
        }

    def _begin(self) -> None:
        if len(self.parts) >= MAX_PARTS:
            raise FormError(f"The form has more than {MAX_PARTS} parts.")
        self._headers, self._data = [], []

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers.append((self._field, self._value))
        self._field = self._value = b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def _end(self) -> None:
        disposition = Message()
        for field, value in self._headers:
            if field.lower() == b"content-disposition":
                disposition["content-disposition"] = value.decode(errors="replace")
        name = disposition.get_param("name", header="content-disposition")
        body = b"".join(self._data)
        file_name = disposition.get_filename()
        if not isinstance(name, str):
            raise FormError("A part of the form has no name.")
        if file_name is None and len(body) > MAX_FIELD_BYTES:
            raise FormError(f"The field '{name[:50]}' is larger than {MAX_FIELD_BYTES} bytes.")
        headers = b"".join(b"%b: %b\r\n" % header for header in self._headers)
        self.parts.append(Part(headers, name, file_name, body))

    def _all_ended(self) -> None:
        self.ended = True
