"""Streams a stored Response to whoever asks for it again: what was said, then what is said, to its end.

The events are the log's. Where it does not tell the end (its producer died, it expired, it is broken), the
stored Response does.

Invariant: a log knows no tenants, so nothing is read of one before the tenant was found to have the Response.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from uuid import UUID

import msgspec
from django.utils import timezone

from accounts import database
from proxy import errors, sse
from proxy.event_log import GRACE_SECONDS, EventLog, LogBroken, LogUnavailable, ProducerGone, numbers
from proxy.http import Reply, Request, TotalTimeout, Watch
from proxy.orphans import Producers
from proxy.responses import replay
from threads import responses
from threads.errors import NotFound
from threads.models import StoredResponse

FOLLOW_SECONDS = 3600.0
SETTLED_AFTER = timedelta(seconds=5)  # by then all is in the log that will be


class Following:
    """Of one process. `steady` as in proxy/orphans.py."""

    def __init__(self, log: EventLog, steady: Callable[[], bool]) -> None:
        self._log = log
        self._producers = Producers(steady)

    async def stream(
        self, tenant_id: UUID, response_id: UUID, after: int, request: Request, reply: Reply
    ) -> None:
        """Sends the events with a `sequence_number` over `after`, those to come too.

        Raises NotFound, LogUnavailable, LogBroken, DatabaseUnavailable, TotalTimeout before the first of them
        is sent, and ClientLeft.
        """
        watch = Watch(request, reply, streams=True, total_seconds=FOLLOW_SECONDS)
        try:
            async with watch, aclosing(self._events(tenant_id, response_id, after)) as pieces:
                async for piece in pieces:
                    await reply.begin_events()
                    await reply.piece(with_ids(piece))
        except (NotFound, LogUnavailable, LogBroken, database.DatabaseUnavailable, TotalTimeout) as error:
            if reply.status is None:
                raise
            await reply.end(_told(error))
        else:
            await reply.begin_events()
            await reply.end(b"")

    async def _events(self, tenant_id: UUID, response_id: UUID, after: int) -> AsyncGenerator[bytes]:
        response = await database.run(responses.get, tenant_id, response_id)
        seen, told = after, False
        grace_seconds = 0.0 if _ended_before(response, ago=SETTLED_AFTER) else GRACE_SECONDS
        alive = partial(self._producers.alive, response_id)
        while True:
            broken: LogBroken | None = None
            try:
                async with aclosing(self._log.follow(response_id, seen, alive, grace_seconds)) as pieces:
                    async for piece in pieces:
                        told = True
                        yield piece
                return
            except ProducerGone as gone:
                seen = gone.last
            except LogBroken as error:
                broken = error
                seen = max(seen, error.last)
            response = await database.run(responses.get, tenant_id, response_id)
            if response.status not in responses.UNFINISHED:
                document = msgspec.json.decode(response.body)
                yield replay.ending(document, seen + 1) if told else replay.events_of(document, seen)
                return
            if broken is not None:
                raise broken


def _ended_before(response: StoredResponse, ago: timedelta) -> bool:
    return response.ended_at is not None and response.ended_at < timezone.now() - ago


def with_ids(events: bytes) -> bytes:
    """Each event under its number: a browser that connects again says which it has seen last."""
    return b"".join(
        event if number is None else b"id: %d\n%b" % (number, event)
        for number, event in zip(numbers(events), sse.split(events), strict=True)
    )


def _told(error: Exception) -> bytes:
    """An event for a stream that ends before its Response does."""
    refusal = errors.to_api_error(error)
    told = {"type": "error", "code": refusal.code, "message": refusal.message, "param": refusal.param}
    return sse.encode(msgspec.json.encode({**told, **msgspec.json.decode(refusal.body())}), b"error")
