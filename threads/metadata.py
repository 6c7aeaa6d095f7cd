"""The pairs that a caller may put on what is stored. Pure."""

from __future__ import annotations

# Source: OpenAI API reference, "metadata", 2026-11.
LARGEST = 16
LONGEST_KEY = 64
LONGEST_VALUE = 512


class InvalidMetadata(Exception):
    """What is wrong with it, in a sentence for the caller that does not repeat it."""


def check_metadata(given: object) -> dict[str, str]:
    """The pairs; null is none. Raises InvalidMetadata."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise InvalidMetadata("'metadata' must be an object of strings.")
    if len(given) > LARGEST:
        raise InvalidMetadata(f"'metadata' may have {LARGEST} pairs at most.")
    for key, value in given.items():
        _check_text(key, LONGEST_KEY, "A key")
        _check_text(value, LONGEST_VALUE, "A value")
    return dict(given)


def _check_text(text: object, longest: int, what: str) -> None:
    if not isinstance(text, str):
        raise InvalidMetadata(f"{what} of 'metadata' must be a string.")
    if len(text) > longest:
        raise InvalidMetadata(f"{what} of 'metadata' may have {longest} characters at most.")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidMetadata(f"{what} of 'metadata' has a character that is none: U+0000 or half a pair.")
