"""The turn of a Response: what it goes on from is put before its input; what it says is stored.

Input and output are stored together, when the Response has ended; one that can be followed has its row before
that, and every event of it is in the log before its caller has it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import msgspec

from accounts import database
from accounts.ids import created_at
from accounts.keys import Caller
from proxy import call as calls
from proxy import elsewhere, endings, sse
from proxy.admission import Ticket
from proxy.before import (
    Before,
    Item,
    Local,
    end_user,
    look_back,
    new_item,
    off_the_loop,
    with_history,
    with_wishes,
)
from proxy.call import Call
from proxy.event_log import EventLog
from proxy.http import NOBODY, Last, Reply, Request
from proxy.passage import ResponsePassage
from proxy.responses import shape
from proxy.turns import Turn
from threads import history, responses
from threads.history import CONTINUABLE
from threads.item_ids import uuid_of
from threads.responses import Begun, Finished


async def take(call: Call, caller: Caller, request: Request, log: EventLog) -> Turn:
    """A Response's turn. Raises InvalidBody, PreviousResponseNotFound, NotFound, DatabaseUnavailable."""
    return await take_locally(with_wishes(call, request), caller, log, Local())


async def take_locally(call: Call, caller: Caller, log: EventLog, local: Local) -> Turn:
    """As `take`, on a connection that remembers its last Response."""
    before = await look_back(call, caller, local)
    stateless = await with_history(call, before, caller.tenant_id)
    stores = calls.boolean(call.asked, "store", default=True)
    return ResponseTurn(replace(stateless, kept=stores), caller, before, log=log, local=local)


async def take_count(call: Call, caller: Caller, request: Request, log: EventLog) -> Turn:
    """The turn of counting what a Response would be asked: it reads, and keeps nothing."""
    return Turn(await with_history(call, await look_back(call, caller, Local()), caller.tenant_id))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a Response ended: the object that its caller sees, what it said, with what the caller does not see
    of it, and the events that told its end; and about how many bytes of JSON it is."""

    body: Item
    output: tuple[Item, ...]
    events: bytes
    size: int

    @classmethod
    async def of(cls, last: Last, ticket: Ticket) -> Ended | None:
        """None where no Response came of the call."""
        passage = ticket.passage
        if not ticket.call.stream:
            if last.status != 200:
                return None
            items = passage.items if isinstance(passage, ResponsePassage) else ticket.ending.items
            size = len(last.body)
            return cls(await off_the_loop(size, msgspec.json.decode, last.body), tuple(items), b"", size)
        return await cls.told(last, ticket) if isinstance(passage, ResponsePassage) else None

    @classmethod
    async def told(cls, last: Last, ticket: Ticket) -> Ended:
        """As its stream, which has begun, tells it last."""
        said = ticket.passage.items if isinstance(ticket.passage, ResponsePassage) else ()
        events = endings.cancelled(ticket) if last is NOBODY else last.body
        body = await off_the_loop(len(events), _told_last, events)
        return cls(body, tuple(said), events, len(events))

    @property
    def continuable(self) -> bool:
        return self.body["status"] in CONTINUABLE


def _told_last(events: bytes) -> Item:
    """The Response, in the last of these events."""
    told = [msgspec.json.decode(sse.data(event)) for event in sse.split(events)]
    response: Item = told[-1]["response"]
    return response


class ResponseTurn(Turn):
    """One Response's."""

    def __init__(self, call: Call, caller: Caller, before: Before, *, log: EventLog, local: Local) -> None:
        super().__init__(call)
        self.stores = calls.boolean(call.asked, "store", default=True)
        self.goes_on = self.stores and call.stream and caller.continue_dropped
        self._caller = caller
        self._before = before
        self._log = log
        self._local = local
        self._begun = False
        self._ending: bytes | None = None

    async def open(self, ticket: Ticket, reply: Reply) -> None:
        """Its row, so that it can be followed; a caller hears of no event that is not in the log."""
        if not self.stores:
            return
        await database.run(responses.begin, self._caller.tenant_id, self._row(ticket.id, ticket.worker_id))
        self._begun = True
        reply.log = partial(self._log.append, ticket.id)

    async def keep(self, last: Last, ticket: Ticket, reply: Reply) -> Last:
        """Raises DatabaseUnavailable, NotFound."""
        await asyncio.shield(self._keep(last, ticket))
        return last

    async def end(self, ticket: Ticket) -> None:
        """Lets those hear of the end who follow it."""
        if self._begun and self._ending is not None:
            await self._log.end(ticket.id, self._ending)
        elif self._begun:
            await self._log.abandon(ticket.id)

    async def _ended(self, last: Last, ticket: Ticket) -> Ended | None:
        return await Ended.of(last, ticket)

    async def _keep(self, last: Last, ticket: Ticket) -> None:
        ended = await self._ended(last, ticket)
        if ended is None:
            return
        kept = await database.run(self._store, ended, ticket)
        if not self.stores and ended.continuable:
            before = self._before
            said = (*before.said, *before.given, *ended.output)
            await self._local.remember(ended.body["id"], said, before.size + ended.size)
        self._ending = ended.events if kept else None

    def _store(self, ended: Ended, ticket: Ticket) -> bool:
        """A database job; False: it was ended by others. A conversation gets what was said in it, whether the
        Response is stored or not."""
        tenant_id, past = self._caller.tenant_id, self._before.past
        output = tuple(new_item(item, uuid_of(item["id"])) for item in ended.output)
        there = elsewhere.kept(ticket.ending.elsewhere)
        finished = Finished(ended.body["status"], msgspec.json.encode(ended.body), output, there)
        if self._begun:
            return responses.finish(tenant_id, ticket.id, finished, ticket.worker_id)
        if self.stores:
            responses.record(tenant_id, self._row(ticket.id, ticket.worker_id), finished)
        elif past.thread_id is not None and past.conversation and ended.continuable:
            said = (*map(new_item, self._before.given), *output)
            kept_for = self._caller.retention_days
            history.append_to_conversation(
                tenant_id, past.thread_id, said, retention_days=kept_for, elsewhere=there
            )
        return True

    def _row(self, response_id: UUID, worker_id: UUID | None) -> Begun:
        """The row of the Response as it begins."""
        call, began = self.call, created_at(response_id)
        body = shape.skeleton(f"resp_{response_id.hex}", call.model, call.asked, began)
        return Begun(
            id=response_id,
            model=call.model,
            body=msgspec.json.encode(body),
            created_at=datetime.fromtimestamp(began, UTC),
            retention_days=self._caller.retention_days,
            past=self._before.past,
            input=tuple(map(new_item, self._before.unstored)),
            metadata=calls.metadata(call.asked),
            user=end_user(call),
            user_id=self._caller.user_id,
            api_key_id=self._caller.api_key_id,
            security_key_id=self._caller.security_key_id,
            worker_id=worker_id,
        )
