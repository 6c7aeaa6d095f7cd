"""One call: authenticate → admit → route → connect → stream → settle.

Invariant: an admitted call is settled once, in the one `finally` of `answer`, before the client gets the
last piece of its answer (`[DONE]`, `response.completed`, the JSON body, the error). The endings:
  - the upstream's answer was whole                      completed
  - it refused, or could not be reached                  failed, told in OpenAI's shape
  - it stopped, broke off or ran out of time             truncated: an error event, never `[DONE]`
  - the client left                                      cancelled: the upstream is let go at once
  - this process is told to stop                         truncated, told to the client
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from accounts.errors import ApiError
from accounts.keys import Caller, InvalidCredential, KeyCache
from proxy import canned, errors, sse
from proxy.admission import Status, Ticket, admit
from proxy.call import Call, NotOffered
from proxy.dialects import openai
from proxy.endpoints.endpoint import LARGE_BYTES, Endpoint
from proxy.http import ClientLeft, Reply, Request, Watch
from proxy.intake import BODY_CREDENTIAL, Held, NoCredential, header_credential, one_credential
from proxy.ledger import Ledger
from proxy.passage import Garbled, Passage, Truncated
from proxy.prompts import render, with_system_prompt
from proxy.reported import UpstreamReported, read_error
from proxy.routing import Plan, Routing, Target
from proxy.upstream import Exchange, Outgoing, Unreachable, Upstreams

ATTEMPTS = 3
FIRST_BACKOFF_SECONDS = 0.5
MAX_RETRY_AFTER_SECONDS = 10.0
# What another try, or another target, may mend; the credentials there are the operator's.
_TRY_ELSEWHERE = frozenset({401, 403, 407, 408, 429, 500, 502, 503, 504, 529})
_TRY_AGAIN = _TRY_ELSEWHERE - {401, 403, 407}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Last:
    """What the client gets once the call is settled."""

    status: int
    content_type: bytes
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()

    async def send(self, reply: Reply) -> None:
        if reply.status is None:
            await reply.whole(self.status, self.content_type, self.body, self.headers)
        else:
            await reply.end(self.body)


@dataclass(frozen=True, slots=True)
class Relay:
    """What a call needs, made when the process starts."""

    keys: KeyCache
    routing: Routing
    upstreams: Upstreams
    ledger: Ledger
    held: Held
    worker_id: UUID

    async def answer(self, endpoint: Endpoint, request: Request, reply: Reply) -> None:
        """Answers one call and settles it. What is wrong before it is admitted is raised."""
        credential = header_credential(request)
        with self.held.hold(request, endpoint.max_image_bytes, authenticated=credential is not None):
            caller, call = await self._take_in(endpoint, request, credential)
            plan = await self.routing.plan(call.model, caller)
            ticket = await admit(
                call,
                caller,
                request_id=request.id,
                worker_id=self.worker_id,
                price=plan.price,
                ledger=self.ledger,
            )
            with ExitStack() as connections:
                try:
                    last = await self._exchange(call, plan, ticket, request, reply, connections)
                except asyncio.CancelledError:
                    ticket.ending.status = Status.TRUNCATED
                    last = _refuse(
                        ApiError(503, "The gateway is shutting down.", code="shutdown"), call, ticket, reply
                    )
                except Exception as error:
                    last = _fail(error, call, ticket, reply)
                finally:
                    await ticket.settle()
                _log(request, call, caller, ticket)
                if ticket.ending.status is not Status.CANCELLED:
                    await last.send(reply)

    async def _take_in(
        self, endpoint: Endpoint, request: Request, credential: str | None
    ) -> tuple[Caller, Call]:
        """Who calls, and what for. A credential in the headers is checked before the body is read."""
        caller = await self.keys.authenticate(credential) if credential else None
        body = await endpoint.read(request)
        if caller is None and BODY_CREDENTIAL not in body:
            caller = await self.without_credential()
        call, inside = await endpoint.understand(body, request.header(b"content-type"))
        credential = one_credential(credential, inside)
        if caller is None:
            caller = await (self.keys.authenticate(credential) if credential else self.without_credential())
        if caller.system_prompt:
            now = datetime.now(ZoneInfo(caller.timezone))
            call = with_system_prompt(call, render(caller.system_prompt, now))
        return caller, call

    async def without_credential(self) -> Caller:
        """The public tenant, where there is one. Raises NoCredential, DatabaseUnavailable."""
        try:
            return await self.keys.public()
        except InvalidCredential:
            raise NoCredential from None

    async def _exchange(
        self, call: Call, plan: Plan, ticket: Ticket, request: Request, reply: Reply, connections: ExitStack
    ) -> Last:
        """Everything between admission and settlement; returns what is sent after it."""
        total = plan.targets[0].timeouts.total
        async with Watch(request, reply, streams=call.stream, total_seconds=total) as watch:
            target, exchange = await self._connect(call, plan, ticket, connections)
            watch.expect_pieces(target.timeouts.first_byte)
            try:
                if call.stream:
                    return await _stream(call, target, exchange, ticket, request, reply, watch)
                return await _whole(call, target, exchange, ticket, request, watch)
            except UpstreamReported as reported:
                reported.tidy(target.model, call.model, target.private)
                raise

    async def _connect(
        self, call: Call, plan: Plan, ticket: Ticket, connections: ExitStack
    ) -> tuple[Target, Exchange]:
        """The first target that takes the call. Raises the last one's refusal when none does."""
        tries = plan.targets if len(plan.targets) > ATTEMPTS else _cycled(plan.targets)
        failure: Unreachable | UpstreamReported | None = None
        for number, target in enumerate(tries):
            if failure is not None and not await _worth_another(failure, number, target, plan):
                break
            try:
                exchange = await self._open(call, target)
            except Unreachable as error:
                failure = error
                ticket.ending.attempt(target, type(error).__name__)
                self.routing.failed(target)
                continue
            connections.callback(exchange.close)
            ticket.ending.attempt(target, str(exchange.status))
            if 200 <= exchange.status < 300 and not exchange.encoded:
                self.routing.succeeded(target)
                return target, exchange
            failure = await _refusal(exchange, target, call)
            if failure.status in _TRY_ELSEWHERE:
                self.routing.failed(target, _seconds(failure.retry_after))
        assert failure is not None  # A plan has at least one target.
        raise failure

    async def _open(self, call: Call, target: Target) -> Exchange:
        if target.dialect == "demo":
            return canned.open_demo(call)
        if call.endpoint == "responses" and target.responses == "chat":
            raise NotOffered(f"The model '{call.model}' does not answer /responses here; use chat.", "model")
        content_type, body = openai.request(call, target.model)
        headers = {"content-type": content_type, "accept-encoding": "identity", **dict(target.headers)}
        outgoing = Outgoing("POST", target.base_url + call.path, body, headers)
        return await self.upstreams.open(outgoing, target.timeouts)


async def _stream(
    call: Call,
    target: Target,
    exchange: Exchange,
    ticket: Ticket,
    request: Request,
    reply: Reply,
    watch: Watch,
) -> Last:
    """Passes the events on as they come; returns the terminal marker. Raises Truncated, Garbled, …"""
    if exchange.content_type != "text/event-stream":
        raise _not_a_stream(await exchange.whole())
    passage = openai.passage(call, request.id.hex)
    splitter = sse.Splitter()
    await reply.begin_events()
    try:
        while piece := await exchange.read():
            if ticket.ending.first_byte_milliseconds is None:
                ticket.first_byte()
                watch.expect_pieces(target.timeouts.idle)
            watch.heard()
            if (events := splitter.feed(piece)) and (passed := passage.feed(events)):
                await reply.piece(passed)
            if passage.finished:
                break
        await _pass_rest(splitter, passage, reply)
        marker = passage.end()
    finally:
        ticket.ending.usage = passage.usage
        ticket.ending.output_tokens_estimate = passage.events
    ticket.ending.status, ticket.ending.status_code = Status.COMPLETED, 200
    return Last(200, b"text/event-stream", marker)


async def _pass_rest(splitter: sse.Splitter, passage: Passage, reply: Reply) -> None:
    """A last event may come without its blank line; half an event is none. Raises Truncated."""
    if passage.finished or not splitter.rest():
        return
    try:
        passed = passage.feed(splitter.rest() + b"\n\n")
    except Garbled:
        raise Truncated from None
    if passed:
        await reply.piece(passed)


def _not_a_stream(body: bytes) -> UpstreamReported | Garbled:
    error = read_error(body)
    return UpstreamReported(error) if error else Garbled()


async def _whole(
    call: Call, target: Target, exchange: Exchange, ticket: Ticket, request: Request, watch: Watch
) -> Last:
    """Reads the answer in one piece. Raises Garbled, UpstreamReported, Broken."""
    body = await exchange.whole()
    ticket.first_byte()
    if len(body) < LARGE_BYTES:
        answer = openai.whole(call, request.id.hex, exchange.content_type, body)
    else:
        answer = await asyncio.to_thread(openai.whole, call, request.id.hex, exchange.content_type, body)
    ticket.ending.usage = answer.usage
    ticket.ending.status, ticket.ending.status_code = Status.COMPLETED, 200
    return Last(200, answer.content_type, answer.body)


def _cycled(targets: tuple[Target, ...]) -> list[Target]:
    return [targets[number % len(targets)] for number in range(ATTEMPTS)]


async def _worth_another(
    failure: Unreachable | UpstreamReported, number: int, target: Target, plan: Plan
) -> bool:
    """Whether to try `target` after `failure`, having waited as long as is due."""
    fresh = number < len(plan.targets)
    if isinstance(failure, UpstreamReported):
        if failure.status not in (_TRY_ELSEWHERE if fresh else _TRY_AGAIN):
            return False
        if not fresh and (_seconds(failure.retry_after) or 0) > MAX_RETRY_AFTER_SECONDS:
            return False
    if not fresh:
        backoff = FIRST_BACKOFF_SECONDS * 2 ** (number - len(plan.targets)) * random.uniform(0.5, 1)
        asked = _seconds(failure.retry_after) if isinstance(failure, UpstreamReported) else None
        await asyncio.sleep(max(backoff, asked or 0))
    return True


async def _refusal(exchange: Exchange, target: Target, call: Call) -> UpstreamReported:
    status = exchange.status if exchange.status >= 300 else 502
    refusal = UpstreamReported(read_error(await exchange.whole()), status, exchange.retry_after)
    refusal.tidy(target.model, call.model, target.private)
    return refusal


def _seconds(retry_after: str | None) -> float | None:
    """Seconds of a `retry-after` header; its other form, a date, is not asked for by any upstream seen."""
    return float(retry_after) if retry_after and retry_after.isdigit() else None


def _fail(error: Exception, call: Call, ticket: Ticket, reply: Reply) -> Last:
    """The last piece after an exception; one that nobody expected is a fault of ours, told as such."""
    ticket.ending.status = errors.outcome(error)
    if isinstance(error, ClientLeft):
        ticket.ending.error_code = "client_left"
        return Last(0, b"", b"")  # Nobody is there to get it.
    try:
        api_error = errors.to_api_error(error)
    except Exception:
        logger.exception("A call failed in a way that nobody expected.")
        api_error = ApiError(500, "The gateway made a mistake. It has been logged.", code="internal_error")
    return _refuse(api_error, call, ticket, reply)


def _refuse(error: ApiError, call: Call, ticket: Ticket, reply: Reply) -> Last:
    ticket.ending.status_code, ticket.ending.error_code = error.status, error.code or error.type
    if reply.status is None:
        return Last(error.status, b"application/json", error.body(), error.headers)
    if call.endpoint != "responses":
        return Last(200, b"", sse.encode(error.body()))
    told = {"type": "error", "message": error.message, "code": error.code, "param": error.param}
    body = msgspec.json.encode({**told, "error": msgspec.json.decode(error.body())["error"]})
    return Last(200, b"", sse.encode(body, b"error"))


def _log(request: Request, call: Call, caller: Caller, ticket: Ticket) -> None:
    ending = ticket.ending
    fields = {
        "request_id": str(request.id),
        "tenant": caller.tenant_slug,
        "endpoint": call.endpoint,
        "model": call.model,
        "stream": call.stream,
        "status": str(ending.status),
        "status_code": ending.status_code,
        "error_code": ending.error_code,
        "upstream": ending.upstream,
        "attempts": len(ending.attempts),
    }
    logger.info("call", extra={"fields": fields})
