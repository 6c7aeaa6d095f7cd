"""The shape that the relay's endpoints share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from accounts.keys import Caller
from proxy.call import LARGE_BYTES, Call
from proxy.event_log import EventLog
from proxy.http import Request
from proxy.turns import Turn, alone

MAX_JSON_BYTES = 8 * 1024 * 1024
MAX_IMAGE_JSON_BYTES = 32 * 1024 * 1024
MAX_AUDIO_BYTES = 25 * 1024 * 1024
_FORM_BYTES = 64 * 1024

Take = Callable[[Call, Caller, Request, EventLog], Awaitable[Turn]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path: how its body is read. `parse` takes the body and its content type, and returns the call and
    the credential that the body carries, if any. `take` finds what the call continues (proxy/turns.py).

    A body may be `max_bytes` long, or `max_image_bytes` when it carries images.
    """

    parse: Callable[[bytes, str], tuple[Call, str | None]]
    max_bytes: int = MAX_JSON_BYTES
    max_image_bytes: int = MAX_IMAGE_JSON_BYTES
    take: Take = alone

    async def read(self, request: Request, grow: Callable[[int], None]) -> bytes:
        """The request's body. Raises BodyTooLarge, BodyTooSlow, ClientLeft, and what `grow` raises."""
        return await request.body(self.max_bytes, self.max_image_bytes, grow)

    async def understand(self, body: bytes, content_type: str) -> tuple[Call, str | None]:
        """The call, and the credential in the body. Raises what `parse` raises."""
        if len(body) < LARGE_BYTES:
            return self.parse(body, content_type)
        return await asyncio.to_thread(self.parse, body, content_type)


def audio_endpoint(parse: Callable[[bytes, str], tuple[Call, str | None]]) -> Endpoint:
    """An endpoint that takes a sound file in a form."""
    return Endpoint(parse, MAX_AUDIO_BYTES + _FORM_BYTES, MAX_AUDIO_BYTES + _FORM_BYTES)
