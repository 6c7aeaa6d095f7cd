"""A stream of Chat Completions chunks becomes the one answer that it would have been unstreamed. Pure.

For clients that asked for one JSON where the upstream always streams. Nothing is dropped: members that are
not known here are gathered as the known ones are, texts joined and lists extended, by `index` where their
elements bear one. Shapes: OpenAI API reference, "Chat completion chunk object" and "Chat completion object",
2026-11.
"""

from __future__ import annotations

from typing import Any

import msgspec

from proxy import sse
from proxy.passage import Garbled

MAX_FOLDED_BYTES = 64 * 1024 * 1024

# Texts that name something: servers repeat them, or send them empty, in later chunks.
_NAMES = frozenset({"role", "id", "type", "name", "format"})


class TooMuchToFold(Exception):
    """The stream passed MAX_FOLDED_BYTES."""


class Fold:
    """One answer. Feed it whole events; take the `answer` once the stream has ended as it should."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self._size = 0

    def feed(self, events: bytes) -> None:
        """Takes in whole events. Raises Garbled, TooMuchToFold."""
        self._size += len(events)
        if self._size > MAX_FOLDED_BYTES:
            raise TooMuchToFold
        try:
            for event in sse.split(events):
                data = sse.data(event)
                if data and data != b"[DONE]":
                    self._take(_chunk(data))
        except RecursionError:
            raise Garbled from None

    def answer(self) -> bytes:
        """The `chat.completion` as JSON. Raises Garbled where no chunk bore a choice."""
        if not self._choices:
            raise Garbled
        document = {**self._head, "object": "chat.completion"}
        document["choices"] = [choice.folded(index) for index, choice in sorted(self._choices.items())]
        try:
            return msgspec.json.encode(document, enc_hook=_whole)
        except RecursionError:
            raise Garbled from None

    def _take(self, chunk: dict[str, Any]) -> None:
        choices = chunk.pop("choices", None) or ()
        self._head.update((name, member) for name, member in chunk.items() if member is not None)
        for choice in choices:
            if not isinstance(choice, dict):
                raise Garbled
            index = choice.pop("index", 0)
            if not isinstance(index, int):
                raise Garbled
            self._choices.setdefault(index, _Choice()).take(choice)


class _Choice:
    def __init__(self) -> None:
        self._message: dict[str, Any] = {"role": None, "content": None, "refusal": None}
        self._logprobs: dict[str, Any] | None = None
        self._rest: dict[str, Any] = {"finish_reason": None}

    def take(self, choice: dict[str, Any]) -> None:
        delta, logprobs = choice.pop("delta", None), choice.pop("logprobs", None)
        if isinstance(delta, dict):
            _gather(self._message, delta)
        if isinstance(logprobs, dict):
            self._logprobs = self._logprobs or {}
            _gather(self._logprobs, logprobs)
        self._rest.update((name, member) for name, member in choice.items() if member is not None)

    def folded(self, index: int) -> dict[str, Any]:
        message = {**self._message, "role": self._message["role"] or "assistant"}
        calls = message.get("tool_calls")
        if isinstance(calls, _Indexed):  # Only the chunks number them.
            message["tool_calls"] = [
                {name: member for name, member in call.items() if name != "index"} for call in calls.members()
            ]
        return {"index": index, "message": message, "logprobs": self._logprobs, **self._rest}


class _Text:
    """A text in the pieces that came."""

    def __init__(self, first: str) -> None:
        self.pieces = [first]


class _Indexed:
    """A list whose elements say which one they are."""

    def __init__(self) -> None:
        self._by_index: dict[int, dict[str, Any]] = {}

    def take(self, element: object) -> None:
        if not isinstance(element, dict):
            raise Garbled
        index = element.get("index")
        if not isinstance(index, int):
            index = max(self._by_index, default=-1) + 1
        _gather(self._by_index.setdefault(index, {}), element)

    def members(self) -> list[dict[str, Any]]:
        return [element for _, element in sorted(self._by_index.items())]


def _chunk(data: bytes) -> dict[str, Any]:
    try:
        chunk: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Garbled from None
    if not isinstance(chunk.get("choices"), list | None):
        raise Garbled
    return chunk


def _gather(into: dict[str, Any], more: dict[str, Any]) -> None:
    """Adds to `into` what one more chunk brought. Raises Garbled."""
    for name, member in more.items():
        into[name] = _joined(name, into.get(name), member)


def _joined(name: str, known: Any, member: Any) -> Any:
    """What a member holds, once `member` has come after what is `known` of it."""
    if isinstance(member, list) and any(isinstance(one, dict) and "index" in one for one in member):
        return _extended(known, member)
    if member is None or known is None:
        return known if member is None else member
    if isinstance(member, str) and name not in _NAMES:
        return _lengthened(known, member)
    if isinstance(member, str):
        return known or member
    if isinstance(known, dict) and isinstance(member, dict):
        _gather(known, member)
        return known
    if isinstance(member, list):
        return _extended(known, member)
    return member


def _lengthened(known: Any, piece: str) -> Any:
    if isinstance(known, str):
        known = _Text(known)
    if not isinstance(known, _Text):
        return piece
    known.pieces.append(piece)
    return known


def _extended(known: Any, elements: list[Any]) -> Any:
    if isinstance(known, list) and not any(isinstance(one, dict) and "index" in one for one in elements):
        known.extend(elements)
        return known
    indexed = known if isinstance(known, _Indexed) else _Indexed()
    for element in (*(known if isinstance(known, list) else ()), *elements):
        indexed.take(element)
    return indexed


def _whole(gathered: object) -> object:
    if isinstance(gathered, _Text):
        return "".join(gathered.pieces)
    assert isinstance(gathered, _Indexed)
    return gathered.members()
