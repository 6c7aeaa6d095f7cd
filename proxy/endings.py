"""What the client gets last, once its call is settled; and what is noted of how a call ended."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

import msgspec

from accounts.errors import ApiError
from proxy import errors, sse
from proxy.admission import Status, Ticket
from proxy.http import ClientLeft, Header, Reply

# For a client that stopped reading, with more on its way than the machine keeps for it.
SEND_SECONDS = 30.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Last:
    """The last piece of a stream that has begun, else the whole answer."""

    status: int
    content_type: bytes
    body: bytes
    headers: tuple[Header, ...] = ()

    async def send(self, reply: Reply) -> None:
        """Gives up on a client that does not take it within SEND_SECONDS."""
        if self is NOBODY:
            return
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._send(reply)
        except TimeoutError:
            logger.warning("A client did not read the end of its answer.")

    async def _send(self, reply: Reply) -> None:
        if reply.status is None:
            await reply.whole(self.status, self.content_type, self.body, self.headers)
        else:
            await reply.end(self.body)


# For a client that left.
NOBODY = Last(0, b"", b"")


def fail(error: Exception, ticket: Ticket, reply: Reply) -> Last:
    """After an exception; one that nobody expected is a fault of ours, and told as such."""
    ticket.ending.status = errors.outcome(error)
    if isinstance(error, ClientLeft):
        ticket.ending.error_code = "client_left"
        return NOBODY
    try:
        refusal = errors.to_api_error(error)
    except Exception:
        logger.exception("A call failed in a way that nobody expected.")
        refusal = ApiError(500, "The gateway made a mistake. It has been logged.", code="internal_error")
    return _refuse(refusal, ticket, reply)


def shut_down(ticket: Ticket, reply: Reply) -> Last:
    """After this process was told to stop, and the time to finish calls has passed."""
    ticket.ending.status = Status.TRUNCATED
    return _refuse(ApiError(503, "The gateway is shutting down.", code="shutdown"), ticket, reply)


def _refuse(error: ApiError, ticket: Ticket, reply: Reply) -> Last:
    ticket.ending.status_code, ticket.ending.error_code = error.status, error.code or error.type
    if reply.status is None:
        return Last(error.status, b"application/json", error.body(), error.headers)
    if ticket.call.endpoint != "responses":
        return Last(200, b"", sse.encode(error.body()))
    told = {"type": "error", "message": error.message, "code": error.code, "param": error.param}
    body = msgspec.json.encode({**told, "error": msgspec.json.decode(error.body())["error"]})
    return Last(200, b"", sse.encode(body, b"error"))


def log(ticket: Ticket) -> None:
    """One line a call: who, what, how it ended, what it took. Never what was said."""
    ending, call = ticket.ending, ticket.call
    fields = {
        "request_id": str(ticket.id),
        "tenant": ticket.caller.tenant_slug,
        "endpoint": call.endpoint,
        "model": call.model,
        "stream": call.stream,
        "status": str(ending.status),
        "status_code": ending.status_code,
        "error_code": ending.error_code,
        "upstream": ending.upstream,
        "attempts": len(ending.attempts),
        "input_tokens": ticket.record["input_tokens"],
        "output_tokens": ticket.record["output_tokens"],
        "first_byte_milliseconds": ending.first_byte_milliseconds,
        "duration_milliseconds": ticket.record["duration_milliseconds"],
    }
    logger.info("call", extra={"fields": fields})
