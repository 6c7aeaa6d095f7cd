"""The built-in `demo` upstream: an exchange that needs no connection."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import msgspec

from proxy.call import Call, InvalidBody
from proxy.dialects import demo
from proxy.upstream import Exchange

_PACE_SECONDS = 0.02


class Canned(Exchange):
    """An answer that is known before it is asked for; with a pace it is given out as a model would, a word at
    a time."""

    def __init__(
        self, status: int, content_type: str, pieces: list[bytes], pace_seconds: float = 0.0
    ) -> None:
        self.status = status
        self.content_type = content_type.partition(";")[0]
        self.retry_after = None
        self.encoded = False
        self._pieces = deque(pieces)
        self._pace_seconds = pace_seconds

    async def read(self) -> bytes:
        if not self._pieces:
            return b""
        await asyncio.sleep(self._pace_seconds)
        return self._pieces.popleft()

    def finish(self) -> None:
        pass

    def close(self) -> None:
        self._pieces.clear()


def open_demo(call: Call, *, paced: bool) -> Exchange:
    """The demo model's answer to the call, at a pace for somebody who watches. Raises InvalidBody."""
    try:
        document: dict[str, Any] = {name: msgspec.json.decode(value) for name, value in call.fields.items()}
    except msgspec.DecodeError:  # which the members of a JSON object can only be for this
        raise InvalidBody("A number in the body is too large.") from None
    if call.form is not None:
        document = dict(call.form.fields)
    if call.stream:
        document["stream_options"] = {"include_usage": True}
    return Canned(*demo.answer(call.path, document), pace_seconds=_PACE_SECONDS if paced else 0.0)
