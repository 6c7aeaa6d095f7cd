"""What a caller wants of a model's reasoning: how much of it, and whether to see it. Pure.

Effort is taken from the first of: `reasoning_effort` and `reasoning.effort` of the body, the header
`X-Reasoning-Effort`, `metadata.reasoning_effort`, the model's default. Whether it is shown, from: the header
`X-Show-Reasoning`, `metadata.show_reasoning`, `include_reasoning`, `reasoning.exclude`. Headers and metadata
are how older proxies were told, and were never strict: what they do not know there is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from proxy.call import Fields, InvalidBody, member, string

# OpenAI's, Ollama's and vLLM's words for it (their references, 2026-11).
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra")
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True)
class Asked:
    """One of EFFORTS, None where neither the caller nor the operator named one; and whether it is shown.
    With the effort `none` it is not."""

    effort: str | None
    shown: bool


def asked(fields: Fields, *, effort_header: str, show_header: str, default_effort: str | None) -> Asked:
    """What this body and these headers ("" where absent) ask for. Raises InvalidBody."""
    reasoning, metadata = _object(fields, "reasoning"), _object(fields, "metadata")
    effort = (
        _required("reasoning_effort", string(fields, "reasoning_effort"))
        or _required("reasoning.effort", reasoning.get("effort"))
        or _known(effort_header)
        or _known(metadata.get("reasoning_effort"))
        or _known(default_effort)
    )
    wishes = (
        _word(show_header),
        _word(metadata.get("show_reasoning")),
        _word(member(fields, "include_reasoning")),
        False if reasoning.get("exclude") is True else None,
    )
    shown = next((wish for wish in wishes if wish is not None), True)
    return Asked(effort, shown and effort != "none")


def _required(name: str, given: object) -> str | None:
    """An effort that a body names where OpenAI's API has it: it must be one."""
    if given is None:
        return None
    if (effort := _known(given)) is None:
        raise InvalidBody(f"'{name}' must be one of {', '.join(EFFORTS)}.", name.partition(".")[0])
    return effort


def _known(given: object) -> str | None:
    word = given.strip().lower() if isinstance(given, str) else None
    return word if word in EFFORTS else None


def _word(given: object) -> bool | None:
    if isinstance(given, bool):
        return given
    return _WORDS.get(given.strip().lower()) if isinstance(given, str) else None


def _object(fields: Fields, name: str) -> dict[str, Any]:
    """The object member `name`, {} for anything else: the upstream says what is wrong with it."""
    found = member(fields, name)
    return found if isinstance(found, dict) else {}
