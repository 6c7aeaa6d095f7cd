"""Files that are made while they are given out, however large they become.

Invariant: a process makes one piece at a time, whoever asks for one, and rests for as long as a piece took:
what people carry away takes from what callers wait for a bounded part, and no more with more of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from django.http import StreamingHttpResponse

from accounts import database

LONGEST_REST_SECONDS = 0.25
_turn = asyncio.Semaphore(1)


def download(pieces: Iterator[bytes], content_type: str, name: str) -> StreamingHttpResponse:
    """An answer that browsers keep as a file of that name. Each piece is a database job of its own."""
    answer = StreamingHttpResponse(_given_out(pieces), content_type=content_type)
    answer["content-disposition"] = f'attachment; filename="{name}"'
    answer["cache-control"] = "no-store"
    return answer


async def _given_out(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while True:
        async with _turn:
            began = time.monotonic()
            piece = await database.run(next, pieces, None)
            await asyncio.sleep(min(time.monotonic() - began, LONGEST_REST_SECONDS))
        if piece is None:
            return
        if piece:
            yield piece
