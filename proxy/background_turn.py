"""The turn of a Response that is made in the background: one call queues it, and another, later, makes it.

What is queued is what was asked, as it was asked; what that goes on from is looked up again when it is made.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import msgspec

from accounts import database
from accounts.keys import Caller
from accounts.tenancy import operator_scope
from proxy import call as calls
from proxy import idempotency, response_turn
from proxy.admission import Ticket
from proxy.before import Before, Local, look_back, with_history
from proxy.call import Call
from proxy.endpoints import responses as endpoint
from proxy.event_log import EventLog
from proxy.http import NOBODY, Last, Reply, Request
from proxy.idempotency import Claim
from proxy.models import OpenCall
from proxy.prompts import prompted
from proxy.response_turn import Ended, ResponseTurn
from proxy.turns import Turn
from threads import queue, responses
from threads.models import StoredResponse
from threads.responses import Begun, Status

_JSON = b"application/json"


class Asked(msgspec.Struct, frozen=True):
    """What the row of a queued Response has of its call."""

    client_ip: str
    fields: msgspec.Raw


class QueuedTurn(ResponseTurn):
    """Of the call that queues it."""

    later = True

    async def queue(self, request: Request, claim: Claim | None) -> Last:
        """What its caller gets at once: the Response, queued. Raises QueueFull, InProgress, NotFound,
        DatabaseUnavailable."""
        asked = Asked(request.client_ip, msgspec.Raw(msgspec.json.encode(self.call.asked)))
        begun = self._row(request.id, None)
        begun = replace(
            begun,
            status=Status.QUEUED,
            body=responses.body_with(begun.body.decode(), status=Status.QUEUED),
            background=True,
            request=msgspec.json.encode(asked),
        )
        last = Last(200, _JSON, begun.body)
        await database.run(_put, self._caller.tenant_id, begun, claim, last)
        return last


def _put(tenant_id: UUID, begun: Begun, claim: Claim | None, answer: Last) -> None:
    """A database job: the Response, and the idempotency key that its caller gave for it."""
    if claim is None:
        return queue.put(tenant_id, begun)
    row = {"id": begun.id.hex, "tenant_id": tenant_id.hex}
    with operator_scope():
        if idempotency.claim([{**row, "idempotency": claim.opened()}]):
            raise idempotency.InProgress
        queue.put(tenant_id, begun)
        idempotency.finish([{**row, "idempotency": claim.settled("completed", 200, answer, None)}])


class BackgroundTurn(ResponseTurn):
    """Of the call that makes it. Once it is to `wait_again` it is queued again, unless it was `produced`: an
    upstream had taken the call."""

    def __init__(
        self, call: Call, caller: Caller, before: Before, log: EventLog, response: StoredResponse
    ) -> None:
        super().__init__(call, caller, before, log=log, local=Local())
        self._response = response
        self.produced = False
        self._begun = True
        self._waits_again = False

    def wait_again(self) -> None:
        self._waits_again = True

    async def open(self, ticket: Ticket, reply: Reply) -> None:
        await database.run(responses.note_produced, self._caller.tenant_id, ticket.id)
        self.produced = True
        reply.log = partial(self._log.append, ticket.id)

    async def keep(self, last: Last, ticket: Ticket, reply: Reply) -> Last:
        if self._waits_again and not self.produced and await self._put_back(ticket):
            return NOBODY
        return await super().keep(last, ticket, reply)

    async def _ended(self, last: Last, ticket: Ticket) -> Ended | None:
        return await Ended.told(last, ticket)

    async def _put_back(self, ticket: Ticket) -> bool:
        """Whether it is queued again, its call withdrawn."""
        with suppress(database.DatabaseUnavailable):
            if await database.run(put_back, self._response, ticket.worker_id, None):
                ticket.withdraw()
                return True
        return False


async def take(call: Call, caller: Caller, request: Request, log: EventLog) -> Turn:
    """A Response's turn, whether it is made now or later. Raises as proxy/response_turn.py's."""
    if not calls.boolean(call.asked, "background"):
        return await response_turn.take(call, caller, request, log)
    before = await look_back(call, caller, Local())
    stateless = await with_history(call, before, caller.tenant_id)
    return QueuedTurn(stateless, caller, before, log=log, local=Local())


async def take_queued(
    response: StoredResponse, asked: Asked, caller: Caller, log: EventLog
) -> BackgroundTurn:
    """The turn of what was queued. Its events are wanted, whether its caller asked for a stream or not."""
    call, _ = endpoint.parse(bytes(asked.fields), "")
    streamed = {**call.fields, "stream": msgspec.Raw(b"true")}
    call = prompted(replace(call, fields=streamed, stream=True, kept=True), caller, datetime.now(UTC))
    before = await look_back(call, caller, Local())
    return BackgroundTurn(await with_history(call, before, caller.tenant_id), caller, before, log, response)


def put_back(response: StoredResponse, worker_id: UUID, not_before: datetime | None) -> bool:
    """Queues again what the worker was making, and withdraws its open call; whether it was the worker's. A
    database job."""
    with operator_scope():
        moment = not_before or datetime.now(UTC)
        if not responses.requeue(response.tenant_id, response.id, worker_id, moment):
            return False
        OpenCall.objects.filter(id=response.id).delete()
        return True
