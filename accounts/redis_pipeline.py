"""One script of ours in Redis, whose concurrent calls share one connection.

What comes in one turn of the event loop is sent in one piece. Nobody waits for replies to those before.

Invariant: a reply reaches the call it answers, or nobody. Replies come in the order of what was asked; a
connection on which anything went wrong is closed, never used again. Endings of a call:
  - answered                     the caller has it; one that has left has its step undone
  - no answer in `call_seconds`  `unavailable` is raised, as for all that wait. Whether the step was taken is
                                 unknown: what undoes it is owed to Redis, or the step itself where it may be
                                 repeated, and sent before anything else once it is back
  - Redis is away                `unavailable` at once; it is tried again every PAUSE_SECONDS
  - it cannot be encoded         its caller alone gets what was raised: nothing of it is sent. What was to be
                                 delivered is logged, and dropped

How long Redis is silent is counted in turns of the loop, each TICK_SECONDS or longer, in each of which an
answer would have been heard: a process that is too busy to listen does not take Redis for dead.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import hiredis
import redis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from accounts.limits import LimiterUnavailable

CALL_SECONDS = 0.225
TICK_SECONDS = 0.025
DELIVERY_TICKS = 2  # with CALL_SECONDS this stays below 300 ms
CONNECT_SECONDS = 1.0  # of trying to; calls do not wait for it longer than for an answer
PAUSE_SECONDS = 0.5
COMPLAIN_SECONDS = 60.0
OWED_AT_ONCE = 256
RUN_ID_CHARACTERS = 12  # of 40: enough to tell two runs apart
MOST_OWED = 10_000  # more than that, and the oldest are left to expire
# Redis answers, but with something that will not change by asking it again on this connection.
_UNFIT = ("READONLY", "LOADING", "MASTERDOWN")
# What encoding raises for what has no form, such as a number of more than 64 bits.
_NOT_ENCODABLE = (OverflowError, TypeError, ValueError)
_RUN_ID = re.compile(rb"^run_id:(\S+)", re.MULTILINE)

Command: TypeAlias = Callable[[str], bytes]  # for the run id of the server that is to run it: what is sent

logger = logging.getLogger(__name__)


def bulk(data: bytes) -> bytes:
    """An argument, as Redis' protocol has it. Source: redis.io, "Redis serialization protocol", RESP2."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _said(*arguments: str | bytes) -> Command:
    """A command of Redis' own."""
    packed: bytes = hiredis.pack_command(arguments)  # type: ignore[arg-type]  # its stub knows tuples of one
    return lambda _: packed


@dataclass(slots=True, eq=False)
class _Call:
    command: Command
    future: asyncio.Future[Any]
    asked_at: int  # in ticks
    undo: Command | None = None
    delivers: bool = False  # it has to be run, whether or not its caller hears of it
    hurries: int = sys.maxsize  # the ticks that its caller waits, where those are fewer than for others


class _Wire(asyncio.Protocol):
    """A connection that is logged in: hands replies to the calls that were sent, in their order."""

    def __init__(
        self,
        connection: AbstractConnection,
        answer: Callable[[_Call, Any], None],
        lose: Callable[[_Wire], None],
    ) -> None:
        self.run_id = ""
        self.lost = False
        self.sent: deque[_Call] = deque()
        self._answer = answer
        self._lose = lose
        self._replies = hiredis.Reader()
        # redis-py knows how to connect and log in; its streams would cost more than all the rest.
        self._streams = connection._reader, connection._writer
        connection._reader = connection._writer = None
        self._transport = self._streams[1].transport  # type: ignore[union-attr]
        self._transport.set_protocol(self)

    def send(self, calls: Sequence[_Call]) -> None:
        """A call that cannot be encoded is answered with what was raised."""
        pieces = []
        for call in calls:
            try:
                pieces.append(call.command(self.run_id))
            except _NOT_ENCODABLE as error:
                self._answer(call, error)
            else:
                self.sent.append(call)
        self._transport.write(b"".join(pieces))

    def drop(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._replies.feed(data)
        try:
            while (reply := self._replies.gets()) is not False:
                self._answer(self.sent.popleft(), reply)
        except (hiredis.ProtocolError, IndexError):
            self.drop()  # what it says is no answer to what was asked

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._lose(self)


class Pipeline:
    """Made on the loop that uses it. `unavailable` is what its calls raise; `whose` it is, is for the log."""

    def __init__(
        self,
        url: str,
        script: bytes,
        call_seconds: float = CALL_SECONDS,
        *,
        whose: str = "limiter",
        unavailable: type[Exception] = LimiterUnavailable,
    ) -> None:
        self._pool = ConnectionPool.from_url(
            url, protocol=2, socket_connect_timeout=CONNECT_SECONDS, retry=Retry(NoBackoff(), 0)
        )
        self._whose = whose
        self._unavailable = unavailable
        self._script = script
        self._digest = hashlib.sha1(script, usedforsecurity=False).hexdigest()
        self._patience = round(call_seconds / TICK_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._wire: _Wire | None = None
        self._away = False
        self._complains_at = 0.0
        self._ticks = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._unsent: list[_Call] = []
        self._owed: deque[Command] = deque(maxlen=MOST_OWED)
        self._reaching: asyncio.Task[None] | None = None

    @property
    def away(self) -> bool:
        """Whether calls are refused without being tried."""
        return self._away

    def invocation(self, keys: Sequence[bytes], more_keys: int, arguments: int) -> bytes:
        """How a command begins that runs the script: up to those keys. More keys follow, then arguments, each
        as a `bulk`."""
        parts = [b"EVALSHA", self._digest.encode(), b"%d" % (len(keys) + more_keys), *keys]
        return b"*%d\r\n%b" % (len(parts) + more_keys + arguments, b"".join(map(bulk, parts)))

    def command(self, keys: Sequence[str], *arguments: str | bytes) -> Command:
        """Run the script, whichever server it is."""
        return _said("EVALSHA", self._digest, str(len(keys)), *keys, *arguments)

    async def call(self, command: Command, undo: Command | None = None, ticks: int | None = None) -> Any:
        """What the script answers: bytes, or a list of them. Raises `unavailable`. `undo` is what to run
        should the script have been run for a caller that did not hear of it. One that waits for so many
        `ticks` only, instead of `call_seconds`, does not say of Redis that it is away."""
        if self._away:
            raise self._unavailable
        call = _Call(command, self._loop.create_future(), self._ticks, undo)
        if ticks is not None:
            call.hurries = ticks
        return await self._enqueue(call)

    async def call_all(self, commands: Sequence[Command]) -> None:
        """Runs them in this order. Raises `unavailable`."""
        if self._away:
            raise self._unavailable
        calls = [_Call(command, self._loop.create_future(), self._ticks) for command in commands]
        await asyncio.gather(*[self._enqueue(call) for call in calls])  # all are asked before any answers

    async def deliver(self, command: Command) -> None:
        """Runs the script, later if not now; repeating it must do no harm. Who leaves does not leave it
        undone, and nobody waits for it as long as for an answer."""
        if self._away:
            self._owed.append(command)
        else:
            await self._enqueue(self._delivery(command))

    async def close(self) -> None:
        """Waits for answers that are on their way, then disconnects."""
        await self._idle.wait()
        self._away = True
        if self._reaching is not None:
            self._reaching.cancel()
            await asyncio.gather(self._reaching, return_exceptions=True)
        if self._wire is not None:
            wire, self._wire = self._wire, None
            wire.drop()

    # Asking

    def _delivery(self, command: Command) -> _Call:
        return _Call(command, self._loop.create_future(), self._ticks, delivers=True, hurries=DELIVERY_TICKS)

    def _enqueue(self, call: _Call) -> asyncio.Future[Any]:
        self._unsent.append(call)
        if self._wire is None:
            self._reach_out()
        elif len(self._unsent) == 1:
            self._loop.call_soon(self._flush)
        if self._idle.is_set():
            self._idle.clear()
            self._loop.call_later(TICK_SECONDS, self._tick)
        return call.future

    def _flush(self) -> None:
        """Sends what has come in one turn of the loop, in one piece."""
        if self._wire is not None and self._unsent:
            calls, self._unsent = self._unsent, []
            self._wire.send(calls)

    def _waiting(self) -> list[_Call]:
        """The calls that were not answered, the oldest first."""
        return [*(self._wire.sent if self._wire else ()), *self._unsent]

    def _tick(self) -> None:
        """Lets those go who have waited long enough, and all when that is too long."""
        self._ticks += 1
        waiting = self._waiting()
        for call in waiting:
            if self._ticks - call.asked_at >= call.hurries:
                self._let_go(call, "no answer in time")
        if any(self._ticks - call.asked_at >= self._patience for call in waiting):
            self._break("no answer")
        if self._waiting():
            self._loop.call_later(TICK_SECONDS, self._tick)
        else:
            self._idle.set()

    # Answers

    def _answer(self, call: _Call, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            self._refuse(call, str(reply))
        elif isinstance(reply, Exception):
            self._give_up(call, reply)
        elif not call.future.done():
            call.future.set_result(reply)
        elif call.undo is not None:
            self._enqueue(self._delivery(call.undo))

    def _refuse(self, call: _Call, message: str) -> None:
        """Redis answered, but will not have it: it is out of memory, a replica, or the script is wrong."""
        if message.startswith("NOSCRIPT"):
            self._enqueue(self._delivery(self._load()))
            self._enqueue(call)
            return
        if self._loop.time() > self._complains_at:
            self._complains_at = self._loop.time() + COMPLAIN_SECONDS
            logger.error("Redis refuses the %s's script: %s", self._whose, message)
        self._fail(call, message)
        if message.startswith(_UNFIT) and self._wire is not None:
            self._wire.drop()

    def _give_up(self, call: _Call, error: Exception) -> None:
        """It cannot be encoded, now or later."""
        if call.delivers:
            logger.error("A command of the %s cannot be encoded, and is dropped: %s", self._whose, error)
            self._let_go(call, "not encodable")
        elif not call.future.done():
            call.future.set_exception(error)

    def _fail(self, call: _Call, reason: str) -> None:
        """Whether the script was run is not known."""
        owed = call.command if call.delivers else call.undo
        if owed is not None:
            self._owed.append(owed)
        self._let_go(call, reason)

    def _let_go(self, call: _Call, reason: str) -> None:
        """Has its caller go on without an answer."""
        if call.future.done():
            return
        if call.delivers:
            call.future.set_result(b"")
        else:
            call.future.set_exception(self._unavailable(reason))

    def _lose(self, wire: _Wire) -> None:
        if wire is not self._wire:
            for call in wire.sent:
                if not call.future.done():
                    call.future.set_exception(ConnectionError("the connection was lost"))
        elif wire.sent or self._unsent:
            self._break("the connection was lost")
        else:
            self._wire = None  # idle: whoever comes next connects anew

    def _break(self, reason: str) -> None:
        """Lets everybody know who waits, and goes on trying apart."""
        if not self._away:
            logger.warning("Redis does not answer the %s (%s)", self._whose, reason)
        self._away = True
        failed, wire = self._waiting(), self._wire
        self._wire, self._unsent = None, []
        for call in failed:
            self._fail(call, reason)
        if wire is not None:
            wire.sent.clear()
            wire.drop()
        self._reach_out()

    # Connecting

    def _reach_out(self) -> None:
        if self._reaching is None:
            self._reaching = self._loop.create_task(self._reach())

    async def _reach(self) -> None:
        """Connects, however often that takes, pays what is owed, and lets calls go."""
        try:
            reached = await self._reached()
            while not reached:
                await asyncio.sleep(PAUSE_SECONDS)
                reached = await self._reached()
        finally:
            self._reaching = None
        if self._away:
            logger.warning("Redis answers the %s again", self._whose)
        self._away = False
        self._flush()

    async def _reached(self) -> bool:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                wire = await self._connect()
            await self._pay(wire)
        except (redis.RedisError, OSError, TimeoutError, self._unavailable) as error:
            self._break(type(error).__name__)
            return False
        self._wire = wire
        return True

    async def _connect(self) -> _Wire:
        async with AsyncExitStack() as unless_done:
            connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
            unless_done.push_async_callback(connection.disconnect, nowait=True)
            await connection.connect()
            wire = _Wire(connection, self._answer, self._lose)
            unless_done.callback(wire.drop)
            about, loaded = await self._ask(wire, [_said("INFO", "server"), self._load()])
            if isinstance(loaded, Exception):
                raise loaded
            found = _RUN_ID.search(about) if isinstance(about, bytes) else None
            wire.run_id = found[1].decode()[:RUN_ID_CHARACTERS] if found else ""
            unless_done.pop_all()
            return wire

    async def _pay(self, wire: _Wire) -> None:
        """Sends what is owed. It may have been taken before: everything owed may be repeated."""
        try:
            while self._owed:
                batch = [self._owed[index] for index in range(min(OWED_AT_ONCE, len(self._owed)))]
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._ask(wire, batch)
                for _ in batch:
                    self._owed.popleft()
        finally:
            if self._owed:
                wire.drop()
        if wire.lost:
            raise ConnectionError("the connection was lost")

    async def _ask(self, wire: _Wire, commands: Sequence[Command]) -> list[bytes | BaseException]:
        """The answers, or what came in their place. Raises ConnectionError when the connection is lost."""
        calls = [_Call(command, self._loop.create_future(), self._ticks) for command in commands]
        wire.send(calls)
        answers = await asyncio.gather(*[call.future for call in calls], return_exceptions=True)
        for answer in answers:
            if isinstance(answer, ConnectionError):
                raise answer
        return answers

    def _load(self) -> Command:
        return _said("SCRIPT", "LOAD", self._script)
