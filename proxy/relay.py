"""One call: authenticate → (replay) → admit → route → connect → stream → settle.

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
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from accounts.keys import Caller, InvalidCredential, KeyCache
from proxy import endings, sse
from proxy.admission import Status, Ticket, admit
from proxy.attempts import connect
from proxy.call import Call
from proxy.dialects import openai
from proxy.endpoints.endpoint import LARGE_BYTES, Endpoint
from proxy.http import NOBODY, Last, Reply, Request, Watch
from proxy.idempotency import Claim, claim_of
from proxy.intake import BODY_CREDENTIAL, Held, Holding, NoCredential, header_credential, one_credential
from proxy.ledger import Ledger
from proxy.limiting import Limits
from proxy.passage import Garbled, Passage, Truncated, decode
from proxy.prompts import render, with_system_prompt
from proxy.reported import UpstreamReported, read_error
from proxy.routing import Plan, Routing
from proxy.upstream import Exchange, Upstreams


@dataclass(frozen=True, slots=True)
class Relay:
    """What a call needs, made when the process starts."""

    keys: KeyCache
    routing: Routing
    upstreams: Upstreams
    limits: Limits
    ledger: Ledger
    held: Held
    worker_id: UUID

    async def answer(self, endpoint: Endpoint, request: Request, reply: Reply) -> None:
        """Answers one call and settles it. What is wrong before it is admitted is raised."""
        credential = header_credential(request)
        held = self.held.hold(request, endpoint.max_image_bytes, authenticated=credential is not None)
        with held as holding, ExitStack() as connections:
            caller, call, claim = await self._take_in(endpoint, request, credential, holding=holding)
            if claim is not None and await claim.replay(request, reply):
                return
            plan = await self.routing.plan(call.model, caller)
            ticket = await admit(
                call,
                caller,
                request,
                reply,
                worker_id=self.worker_id,
                price=plan.price,
                ledger=self.ledger,
                limits=self.limits,
                claim=claim,
            )
            last = NOBODY
            watch = Watch(request, reply, streams=call.stream, total_seconds=plan.targets[0].timeouts.total)
            try:
                last = await self._exchange(ticket, plan, watch, connections)
            except asyncio.CancelledError:
                last = endings.shut_down(ticket, reply)
            except Exception as error:
                last = endings.fail(error, ticket, reply)
            finally:
                await ticket.settle(last, reply.status)
        endings.log(ticket)
        await last.send(reply)

    async def _take_in(
        self, endpoint: Endpoint, request: Request, credential: str | None, *, holding: Holding
    ) -> tuple[Caller, Call, Claim | None]:
        """Who calls, what for, and under which idempotency key. A credential in the headers is checked before
        the body is read."""
        caller = await self.keys.authenticate(credential) if credential else None
        body = await endpoint.read(request, holding.grow)
        if caller is None and BODY_CREDENTIAL not in body:
            caller = await self.without_credential()
        call, inside = await endpoint.understand(body, request.header(b"content-type"))
        credential = one_credential(credential, inside)
        if caller is None:
            caller = await (self.keys.authenticate(credential) if credential else self.without_credential())
        claim = await claim_of(request, call, caller, body)
        if caller.system_prompt:
            now = datetime.now(ZoneInfo(caller.timezone))
            call = with_system_prompt(call, render(caller.system_prompt, now))
        return caller, call, claim

    async def without_credential(self) -> Caller:
        """The public tenant, where there is one. Raises NoCredential, DatabaseUnavailable."""
        try:
            return await self.keys.public()
        except InvalidCredential:
            raise NoCredential from None

    async def _exchange(self, ticket: Ticket, plan: Plan, watch: Watch, connections: ExitStack) -> Last:
        """Everything between admission and settlement; returns what is sent after it."""
        async with watch:
            target, exchange = await connect(
                ticket, plan, routing=self.routing, upstreams=self.upstreams, connections=connections
            )
            watch.expect_pieces(target.timeouts.first_byte)
            try:
                if ticket.call.stream:
                    return await _stream(ticket, exchange, watch, target.timeouts.idle)
                return await _whole(ticket, exchange)
            except UpstreamReported as reported:
                reported.tidy(target.model, ticket.call.model, target.private)
                raise


async def _stream(ticket: Ticket, exchange: Exchange, watch: Watch, idle_seconds: float) -> Last:
    """Passes the events on as they come; returns the terminal marker. Raises Truncated, Garbled, …"""
    if exchange.content_type != "text/event-stream":
        raise _not_a_stream(await exchange.whole())
    passage, splitter = openai.passage(ticket.call, ticket.id.hex), sse.Splitter()
    ticket.follow(lambda: passage.events)
    reply = watch.reply
    await reply.begin_events()
    try:
        while piece := await exchange.read():
            if ticket.first_byte():
                watch.expect_pieces(idle_seconds)
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
    data = sse.data(splitter.rest())
    if passage.finished or not data:
        return
    try:
        if data != b"[DONE]":
            decode(data)
        passed = passage.feed(splitter.rest() + b"\n\n")
    except Garbled:
        raise Truncated from None
    if passed:
        await reply.piece(passed)


def _not_a_stream(body: bytes) -> UpstreamReported | Garbled:
    error = read_error(body)
    return UpstreamReported(error) if error else Garbled()


async def _whole(ticket: Ticket, exchange: Exchange) -> Last:
    """Reads the answer in one piece. Raises Garbled, UpstreamReported, Broken."""
    body = await exchange.whole()
    ticket.first_byte()
    if len(body) < LARGE_BYTES:
        answer = openai.whole(ticket.call, ticket.id.hex, exchange.content_type, body)
    else:
        answer = await asyncio.to_thread(
            openai.whole, ticket.call, ticket.id.hex, exchange.content_type, body
        )
    ticket.ending.usage = answer.usage
    ticket.ending.status, ticket.ending.status_code = Status.COMPLETED, 200
    return Last(200, answer.content_type, answer.body)
