"""What a call used, read from any answer, and what that costs. Pure.

Counts are None where nothing is known, which is not 0. Shapes: OpenAI API reference, 2026-11: chat and
completions report `prompt_tokens`, `completion_tokens` with details; responses and transcriptions
`input_tokens`, `output_tokens` with details; a transcription billed by time
`{"type": "duration", "seconds"}`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

# More than any call can use, and little enough that its cost fits the column whatever the price.
_MAX_COUNT = 10**9
_BYTES_PER_TOKEN = 4
_IMAGE_TOKENS = 1000
# The members of choices and of a Response's items that hold what a model said.
_SAYS = frozenset(
    {"content", "reasoning_content", "reasoning", "refusal", "text", "arguments", "input", "code"}
)
_INLINE_DATA = re.compile(rb'data:[^"\\:,]{0,200};base64,[^"\\]*')


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of one call; audio in milliseconds. Cached and reasoning are parts of input and output."""

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_milliseconds: int | None = None

    @property
    def known(self) -> bool:
        return self.input_tokens is not None or self.audio_milliseconds is not None


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars per million tokens, and per minute of audio; None where it has no such price."""

    input: int | None
    cached_input: int | None
    output: int | None
    minute: int | None


def read(reported: object) -> Usage | None:
    """The `usage` object of an answer as counts; None when there is none that makes sense."""
    if not isinstance(reported, dict):
        return None
    inputs = _count(reported, "prompt_tokens", "input_tokens")
    usage = Usage(
        input_tokens=inputs,
        cached_input_tokens=_cached(reported),
        output_tokens=_output(reported, inputs),
        reasoning_tokens=_detail(
            reported, ("completion_tokens_details", "output_tokens_details"), "reasoning_tokens"
        ),
        audio_milliseconds=_milliseconds(reported.get("seconds"))
        if reported.get("type") == "duration"
        else None,
    )
    return usage if usage.known else None


def _output(reported: dict[str, Any], inputs: int | None) -> int | None:
    """Embeddings report no output: 0 is known there, from a total that equals the input."""
    output = _count(reported, "completion_tokens", "output_tokens")
    if output is None and inputs is not None and reported.get("total_tokens") == inputs:
        return 0
    return output


def _cached(reported: dict[str, Any]) -> int | None:
    cached = _detail(reported, ("prompt_tokens_details", "input_tokens_details"), "cached_tokens")
    return _count(reported, "prompt_cache_hit_tokens") if cached is None else cached


def _detail(reported: dict[str, Any], groups: tuple[str, ...], name: str) -> int | None:
    for group in groups:
        details = reported.get(group)
        if isinstance(details, dict) and (count := _count(details, name)) is not None:
            return count
    return None


def _count(reported: dict[str, Any], *names: str) -> int | None:
    for name in names:
        value = reported.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT:
            return int(value)
    return None


def _milliseconds(seconds: object) -> int | None:
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < _MAX_COUNT:
        return round(seconds * 1000)
    return None


def estimate_input(*body: bytes) -> int:
    """Tokens of a request that nobody counted, of which these are the parts: a token in four bytes, inline
    images at a flat rate."""
    size = images = 0
    for part in body:
        text, found = _INLINE_DATA.subn(b"", part) if b";base64," in part else (part, 0)
        size, images = size + len(text), images + found
    return -(-size // _BYTES_PER_TOKEN) + images * _IMAGE_TOKENS


def estimate_output(answered: object) -> int:
    """Tokens of an answer in one piece that nobody counted: a token in four bytes of all that it says."""
    size, left = 0, [answered]
    while left:
        match left.pop():
            case dict() as document:
                said = [value for name, value in document.items() if name in _SAYS and isinstance(value, str)]
                size += sum(len(text.encode(errors="replace")) for text in said)
                left += document.values()
            case list() as members:
                left += members
    return -(-size // _BYTES_PER_TOKEN)


def cost_nano_usd(usage: Usage, price: Price | None) -> int | None:
    """Nano-dollars, rounded once, halves up; None when a part that was used has no price."""
    if price is None or not usage.known:
        return None
    if usage.input_tokens is None:
        return _audio_cost(usage.audio_milliseconds, price.minute)
    if price.input is None:
        return _audio_cost(usage.audio_milliseconds, price.minute)
    output = usage.output_tokens or 0
    if output and price.output is None:
        return None
    cached = min(usage.cached_input_tokens or 0, usage.input_tokens)
    cached_price = price.input if price.cached_input is None else price.cached_input
    total = (usage.input_tokens - cached) * price.input + cached * cached_price + output * (price.output or 0)
    return (total + 500_000) // 1_000_000


def _audio_cost(milliseconds: int | None, minute: int | None) -> int | None:
    if milliseconds is None or minute is None:
        return None
    return (milliseconds * minute + 30_000) // 60_000
