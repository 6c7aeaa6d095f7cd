"""What the client gets last, once its call is settled; and what is noted of how a call ended."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import msgspec

from accounts.errors import ApiError
from accounts.ids import created_at
from proxy import counts, errors, sse
from proxy.admission import Status, Ticket
from proxy.content import Said
from proxy.http import EVENTS_TYPE, NOBODY, ClientLeft, Last, Reply
from proxy.passage import ResponsePassage
from proxy.recent import RECENT, Entry
from proxy.responses.native import ResponsesPassage

logger = logging.getLogger(__name__)


def fail(error: Exception, ticket: Ticket, reply: Reply) -> Last:
    """After an exception; one that nobody expected is a fault of ours, and told as such."""
    ticket.ending.status = errors.outcome(error)
    if isinstance(error, ClientLeft):
        ticket.ending.error_code = "client_left"
        return NOBODY
    return _refuse(errors.refusal(error), ticket, reply)


def shut_down(ticket: Ticket, reply: Reply) -> Last:
    """After this process was told to stop, and the time to finish calls has passed."""
    ticket.ending.status = Status.TRUNCATED
    return _refuse(
        ApiError(503, "The gateway is shutting down.", code="shutdown", headers=((b"retry-after", b"2"),)),
        ticket,
        reply,
    )


def _refuse(error: ApiError, ticket: Ticket, reply: Reply) -> Last:
    ticket.ending.status_code, ticket.ending.error_code = error.status, error.code or error.type
    if reply.status is None:
        return Last(error.status, b"application/json", error.body(), error.headers)
    if ticket.call.endpoint != "responses":
        return Last(200, EVENTS_TYPE, sse.encode(error.body()))
    if ticket.ending.status is Status.CANCELLED:
        return Last(200, EVENTS_TYPE, cancelled(ticket))
    return Last(200, EVENTS_TYPE, response_failed(ticket, error))


def response_failed(ticket: Ticket, error: ApiError) -> bytes:
    """The events that end a Response's stream when it fails, with what there is of it."""
    call = ticket.call
    passage = ticket.passage
    if not isinstance(passage, ResponsePassage):
        passage = ResponsesPassage(f"resp_{ticket.id.hex}", call.model, call.asked, created_at(ticket.id))
    return passage.failed(msgspec.json.decode(error.body())["error"])


def cancelled(ticket: Ticket) -> bytes:
    """The event that ends a Response's stream whose client left, or that was told to stop."""
    told = response_failed(ticket, ApiError(409, "The response was cancelled.", code="cancelled"))
    *before, event = (msgspec.json.decode(sse.data(each)) for each in sse.split(told))
    if before and before[-1]["type"] == "error":  # which is left out, and its number is free
        event["sequence_number"] = before[-1]["sequence_number"]
    event["response"] |= {"status": "cancelled", "error": None}
    return sse.encode(msgspec.json.encode(event), b"response.failed")


def log(ticket: Ticket, said: Said | None) -> None:
    """One line a call: who, what, how it ended, what it took. What was `said` only the page `/log` shows."""
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
        "cached_input_tokens": ticket.record["cached_input_tokens"],
        "output_tokens": ticket.record["output_tokens"],
        "first_byte_milliseconds": ending.first_byte_milliseconds,
        "duration_milliseconds": ticket.record["duration_milliseconds"],
        "control_tokens": ending.control_tokens or None,
    }
    counts.HARMONY_TOKENS.add(ending.upstream, ending.control_tokens)
    logger.info("call", extra={"fields": fields})
    entry = Entry(datetime.now(UTC), fields, said)
    RECENT.note(entry, whole=ending.status is Status.COMPLETED)
