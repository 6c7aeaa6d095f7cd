"""Makes the responses that wait: claims one after the other, and has each answered as any other call is.

Invariant: a response is made by whoever claimed its row, and made again only when nobody has seen any of it.
What ends the making of one:
  - it is answered, or fails           its turn keeps it, and settles the call (proxy/background_turn.py)
  - it is refused before admission     it waits on where another time may be better, else it has failed
  - it is cancelled, or deleted        its call ends as cancelled within SWEEP_SECONDS
  - this process stops                 what nobody has seen waits again; the rest may end, or has failed
  - this process dies                  its orphans are noticed by others (proxy/orphans.py)
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, TypeVarTuple
from uuid import UUID

import msgspec
from django.db.models.functions import Now

from accounts import database, keys
from accounts.keys import Caller, InvalidCredential
from proxy import background_turn, errors, orphans
from proxy.background_turn import Asked, BackgroundTurn, put_back
from proxy.demands import RateLimited
from proxy.event_log import hears
from proxy.http import Message, Reply, Request
from proxy.intake import TooMuchAtOnce
from proxy.limiting import BudgetBusy, BudgetUnavailable
from proxy.models import Worker
from proxy.orphans import DEAD_AFTER
from proxy.relay import Relay
from proxy.responses import replay
from threads import queue, responses
from threads.models import StoredResponse
from threads.responses import Finished, Status

AT_ONCE = 64
AT_ONCE_FOR_A_TENANT = AT_ONCE // 2
SWEEP_SECONDS = 1.0
FORGOTTEN_SECONDS = 10.0
PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 60.0
GIVE_UP_AFTER = timedelta(hours=24)
STOP_SECONDS = 5.0

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
Tell = Callable[[], Coroutine[None, None, None]]

_ASKED = msgspec.json.Decoder(Asked)


@dataclass(slots=True, eq=False)
class Job:
    """One response that this process makes: `task` has it answered, `end` sees to how that ended."""

    response: StoredResponse
    task: asyncio.Task[None] = field(init=False)
    end: asyncio.Task[None] = field(init=False)
    turn: BackgroundTurn | None = None
    cancelled: bool = False

    def put_back(self) -> None:
        """It waits again, unless somebody may have seen some of it: that goes on."""
        if self.turn is None or not self.turn.produced:
            if self.turn is not None:
                self.turn.wait_again()
            self.task.cancel()


class Runner:
    """Of one process. `gives_way`: it leaves the work to processes that do nothing else, where there are any,
    and tells them of it by `tell`, if somebody set that."""

    def __init__(self, relay: Relay, *, gives_way: bool) -> None:
        self.tell: Tell | None = None
        self._relay = relay
        self._gives_way = gives_way
        self._telling: asyncio.Task[None] | None = None
        self._jobs: dict[UUID, Job] = {}
        self._sweeping = asyncio.Lock()
        self._stopping = False
        self._looked_for_forgotten_at = time.monotonic()

    async def run(self) -> None:
        """The task of a process that makes responses. Once it is told to `stop` it makes no more of them."""
        while not self._stopping:
            told = await hears(self._relay.queued, SWEEP_SECONDS)
            self._relay.queued.clear()
            with suppress(database.DatabaseUnavailable):  # which the heartbeat says
                async with self._sweeping:
                    await self._sweep(told)

    async def stop(self, seconds: float) -> None:
        """Puts back what can be made elsewhere, and gives the rest so much time."""
        self._stopping = True
        async with self._sweeping:  # so that nothing is claimed and not begun
            for job in self._jobs.values():
                job.put_back()
        for patience in (seconds, STOP_SECONDS):
            if not self._jobs:
                return
            await asyncio.wait([job.end for job in self._jobs.values()], timeout=patience)
            for job in self._jobs.values():
                job.task.cancel()

    async def _sweep(self, told: bool) -> None:
        looked = await database.run(_look, list(self._jobs), self._gives_way)
        for response_id in looked.unwanted:
            self.cancel(response_id)
        if time.monotonic() - self._looked_for_forgotten_at > FORGOTTEN_SECONDS:
            await self._let_down_forgotten()
        if looked.others:
            if told and self.tell is not None and (self._telling is None or self._telling.done()):
                self._telling = asyncio.create_task(self.tell())
            return
        while len(self._jobs) < AT_ONCE and not self._stopping:
            claimed = await database.run(responses.claim, self._relay.worker_id, self._sated())
            if claimed is None:
                return
            self._start(claimed)

    def _sated(self) -> set[UUID]:
        """Tenants that have as many places here as one may have."""
        places = Counter(job.response.tenant_id for job in self._jobs.values())
        return {tenant for tenant, count in places.items() if count >= AT_ONCE_FOR_A_TENANT}

    async def _let_down_forgotten(self) -> None:
        """Responses that this process is said to make and does not: the database was away as they ended."""
        self._looked_for_forgotten_at = time.monotonic()
        held = await database.run(queue.held_by, self._relay.worker_id)
        forgotten = held - set(self._relay.running.ids()) - self._jobs.keys()
        if forgotten:
            await database.run(orphans.let_down, self._relay.worker_id, forgotten)

    def cancel(self, response_id: UUID) -> None:
        """Stops one that is made here."""
        job = self._jobs.get(response_id)
        if job is not None and not job.cancelled:
            job.cancelled = True
            if not self._relay.running.cancel(response_id):
                job.task.cancel()

    def _start(self, response: StoredResponse) -> None:
        job = self._jobs[response.id] = Job(response)
        job.task = asyncio.create_task(self._make(job), name=f"response {response.id}")
        job.end = asyncio.create_task(self._see_to(job))

    async def _make(self, job: Job) -> None:
        """Raises what is wrong with the call before it is admitted."""
        response, relay = job.response, self._relay
        asked = _ASKED.decode(response.request)
        request = _request(response.id, asked.client_ip)
        reply = Reply(request, _nowhere)
        with relay.held.hold(request, 0, authenticated=True) as holding:
            holding.grow(len(response.request))
            if response.attempts > 1:
                await relay.log.forget(response.id)
            caller = await database.run(_caller_of, response)
            job.turn = await background_turn.take_queued(response, asked, caller, relay.log)
            await reply.begin_events()
            await relay.perform(job.turn, caller, request, reply)

    async def _see_to(self, job: Job) -> None:
        """Until the response is made, has failed or was cancelled, or waits again."""
        try:
            await asyncio.wait([job.task])
            if not job.task.cancelled():
                await self._refuse(job.response, job.task.exception())
            elif job.cancelled:
                await self._end(job.response, status=Status.CANCELLED)
            else:
                await self._surely(put_back, job.response, self._relay.worker_id, None)
        finally:
            del self._jobs[job.response.id]
            self._relay.queued.set()  # there is a place for another

    async def _refuse(self, response: StoredResponse, error: BaseException | None) -> None:
        """After what kept the call from being admitted, if anything did."""
        if not isinstance(error, Exception):
            return None
        pause, now = _pause(error), datetime.now(UTC)
        if pause is None or now - response.created_at > GIVE_UP_AFTER:
            refusal = errors.refusal(error)
            told = {"code": refusal.code or refusal.type, "message": refusal.message}
            return await self._end(response, status=Status.FAILED, error=told)
        not_before = now + timedelta(seconds=pause)
        await self._surely(put_back, response, self._relay.worker_id, not_before)
        if isinstance(error, RateLimited):
            await self._surely(queue.postpone, response, not_before)
        return None

    async def _end(self, response: StoredResponse, **members: Any) -> None:
        body = responses.body_with(response.body, **members)
        ended = Finished(members["status"], body)
        worker_id = self._relay.worker_id
        if await self._surely(responses.finish, response.tenant_id, response.id, ended, worker_id):
            await self._relay.log.end(response.id, replay.events_of(msgspec.json.decode(body)))

    async def _surely(self, job: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """What the job returns, as soon as the database is there."""
        while True:
            try:
                return await database.run(job, *arguments)
            except database.DatabaseUnavailable:
                await asyncio.sleep(SWEEP_SECONDS)


def _caller_of(response: StoredResponse) -> Caller:
    """Who asked for it. Raises InvalidCredential when they would not be let in today. A database job."""
    caller = keys.find_again(response.tenant_id, response.api_key_id, response.security_key_id)
    if caller is None:
        raise InvalidCredential
    return caller


def _pause(error: Exception) -> float | None:
    """Seconds until another attempt may do better; None: none will."""
    if isinstance(error, RateLimited):
        return min(max(error.retry_after_seconds, SWEEP_SECONDS), LONGEST_PAUSE_SECONDS)
    if isinstance(error, BudgetBusy | BudgetUnavailable | TooMuchAtOnce | database.DatabaseUnavailable):
        return PAUSE_SECONDS
    return None


def _request(response_id: UUID, client_ip: str) -> Request:
    """The request that a queued call is made from, of a client that never leaves."""
    scope = {"method": "POST", "path": "/v1/responses", "headers": [], "client": (client_ip, 0)}
    request = Request(scope, _never)
    request.id = response_id
    return request


async def _never() -> Message:
    never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    return await never


async def _nowhere(message: Message) -> None:
    """What a response says goes to its log."""


@dataclass(frozen=True, slots=True)
class Looked:
    """Of the responses made here those that are to stop; and whether there are processes for nothing else."""

    unwanted: set[UUID]
    others: bool


def _look(making: Collection[UUID], gives_way: bool) -> Looked:
    """A database job."""
    unwanted = set(making) - responses.still_wanted(making) if making else set()
    living = Worker.objects.filter(kind=Worker.BACKGROUND, seen_at__gt=Now() - DEAD_AFTER)
    return Looked(unwanted, gives_way and living.exists())
