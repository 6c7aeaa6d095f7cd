"""One call: authenticate → (replay) → remember → admit → route → connect → stream → keep → settle.

Invariant: an admitted call is settled once, in the one `finally` of `answer`, before the client gets the
last piece of its answer (`[DONE]`, `response.completed`, the JSON body, the error). The endings:
  - the upstream's answer was whole                      completed
  - it refused, or could not be reached                  failed, told in OpenAI's shape
  - it stopped, broke off or ran out of time             truncated: an error event, never `[DONE]`
  - the client left                                      cancelled: the upstream is let go at once
  - it was told to stop (`Running`)                      cancelled
  - this process is told to stop                         truncated, told to the client
  - what was said cannot be kept                         failed, whatever the upstream's answer was
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from accounts.keys import Caller, InvalidCredential, KeyCache, UnknownCredential
from proxy import answers, content, endings
from proxy.admission import Ticket, admit
from proxy.attempts import connect
from proxy.call import Call, NotOffered
from proxy.endpoints.endpoint import Endpoint
from proxy.event_log import EventLog
from proxy.findings import Findings
from proxy.following import Following
from proxy.http import NOBODY, Last, Reply, Request, Watch
from proxy.idempotency import Claim, claim_of
from proxy.intake import (
    BODY_CREDENTIAL,
    Held,
    Holding,
    NoCredential,
    header_credential,
    is_bearer,
    one_credential,
)
from proxy.ledger import Ledger
from proxy.limiting import Limits
from proxy.live import Arrival, Live
from proxy.prompts import prompted
from proxy.reported import UpstreamReported
from proxy.routing import Plan, Routing
from proxy.running import Running
from proxy.tokens import TokenCounter
from proxy.turns import Turn
from proxy.upstream import Upstreams


@dataclass(frozen=True, slots=True)
class Relay:
    """What a call needs, made when the process starts."""

    keys: KeyCache
    routing: Routing
    upstreams: Upstreams
    limits: Limits
    ledger: Ledger
    held: Held
    log: EventLog
    following: Following
    worker_id: UUID
    findings: Findings = field(default_factory=Findings)
    running: Running = field(default_factory=Running)
    live: Live = field(default_factory=Live)
    counter: TokenCounter = field(default_factory=TokenCounter)
    queued: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, endpoint: Endpoint, request: Request, reply: Reply) -> None:
        """Answers one call and settles it. What is wrong before it is admitted is raised."""
        credential = header_credential(request)
        held = self.held.hold(request, endpoint.max_image_bytes, authenticated=credential is not None)
        with held as holding, self.live.arrival(request) as arrival:
            caller, call, claim = await self._take_in(
                endpoint, request, credential, holding=holding, arrival=arrival
            )
            if claim is not None and await claim.replay(request, reply):
                return
            turn = await endpoint.take(call, caller, request, self.log)
            if turn.later:
                await self._leave(turn, caller, request, reply, claim=claim)
            else:
                await self.perform(turn, caller, request, reply, claim=claim)

    async def perform(
        self, turn: Turn, caller: Caller, request: Request, reply: Reply, *, claim: Claim | None = None
    ) -> None:
        """Admits the call, has it answered and settles it. What is wrong before it is admitted is raised."""
        plan = await self.routing.plan(turn.call.model, caller)
        ticket = await admit(
            turn.call,
            caller,
            request,
            reply,
            worker_id=self.worker_id,
            price=plan.price,
            ledger=self.ledger,
            limits=self.limits,
            claim=claim,
        )
        reply.add(turn.headers())
        heard = content.heard(caller, reply)
        last = NOBODY
        watch = Watch(
            request,
            reply,
            streams=ticket.call.stream,
            stays=turn.goes_on,
            total_seconds=plan.targets[0].timeouts.total,
        )
        with self.running.kept(ticket, watch):
            try:
                try:
                    last = await _last_of(self._exchange(turn, ticket, plan, watch), ticket, reply)
                except asyncio.CancelledError:
                    last = endings.shut_down(ticket, reply)
                last = await _last_of(turn.keep(last, ticket, reply), ticket, reply)
            finally:
                await ticket.settle(last, reply.status)
        await turn.end(ticket)
        endings.log(ticket, heard.said(ticket.call, last) if heard else None)
        self.live.end(ticket)
        await last.send(reply)

    async def _leave(
        self, turn: Turn, caller: Caller, request: Request, reply: Reply, *, claim: Claim | None
    ) -> None:
        """Queues the call, and answers its caller. What is wrong with it by now is raised."""
        if claim is not None and turn.call.stream:
            raise NotOffered("A stream from the background takes no 'Idempotency-Key'.", "Idempotency-Key")
        await self.routing.plan(turn.call.model, caller)
        queued = await turn.queue(request, claim)
        self.queued.set()
        if turn.call.stream:
            await self.following.stream(caller.tenant_id, request.id, -1, request, reply)
        else:
            await queued.send(reply)

    async def _take_in(
        self,
        endpoint: Endpoint,
        request: Request,
        credential: str | None,
        *,
        holding: Holding,
        arrival: Arrival,
    ) -> tuple[Caller, Call, Claim | None]:
        """Who calls, what for, and under which idempotency key. A credential in the headers is checked before
        the body is read."""
        caller = arrival.caller = await self.whose(credential, request) if credential else None
        body = await endpoint.read(request, holding.grow)
        if caller is None and BODY_CREDENTIAL not in body:
            caller = arrival.caller = await self.without_credential()
        call, inside = await endpoint.understand(body, request.header(b"content-type"))
        arrival.call = call
        credential = one_credential(credential, inside)
        if caller is None:
            caller = arrival.caller = await self.whose(credential, request)
        claim = await claim_of(request, call, caller, body)
        return caller, prompted(call, caller, datetime.now(UTC)), claim

    async def caller(self, request: Request) -> Caller:
        """Who asks, where the body says nothing of it. Raises InvalidCredential, NoCredential, …"""
        return await self.whose(header_credential(request), request)

    async def whose(self, credential: str | None, request: Request) -> Caller:
        """Whose credential it is. A bearer that was never a key of ours counts as none where a tenant is
        public: programs that need no key often send some word. Raises InvalidCredential, NoCredential, …"""
        if credential is None:
            return await self.without_credential()
        try:
            return await self.keys.authenticate(credential)
        except UnknownCredential:
            if not is_bearer(request, credential):
                raise
        return await self.keys.public()

    async def without_credential(self) -> Caller:
        """The public tenant, where there is one. Raises NoCredential, DatabaseUnavailable."""
        try:
            return await self.keys.public()
        except InvalidCredential:
            raise NoCredential from None

    async def _exchange(self, turn: Turn, ticket: Ticket, plan: Plan, watch: Watch) -> Last:
        """Everything between admission and settlement; returns what is sent after it. The upstream is let go
        with it: what comes after waits for the database."""
        with ExitStack() as connections:
            async with watch:
                connection = await connect(
                    ticket,
                    plan,
                    routing=self.routing,
                    findings=self.findings,
                    upstreams=self.upstreams,
                    connections=connections,
                )
                target = connection.target
                watch.expect_pieces(target.timeouts.first_byte)
                try:
                    if ticket.call.stream:
                        await turn.open(ticket, watch.reply)
                        return await answers.stream(ticket, connection, watch, self.counter)
                    return await answers.whole(ticket, connection, watch, self.counter)
                except UpstreamReported as reported:
                    reported.tidy(target.model, ticket.call.model, target.private)
                    raise
                finally:
                    self.routing.leaked(target, ticket.ending.control_tokens)


async def _last_of(step: Coroutine[None, None, Last], ticket: Ticket, reply: Reply) -> Last:
    """What the client gets last after a step of its call: what that returns, or what is told of what it
    raises."""
    try:
        return await step
    except Exception as error:
        return endings.fail(error, ticket, reply)
