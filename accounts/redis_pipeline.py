"""One script of ours in Redis, whose concurrent calls share one connection.

Invariant: a reply reaches the call it answers, or nobody. One task owns the connection; callers wait for
futures, which they may abandon. A connection on which anything went wrong is closed, never used again.
Endings of a call:
  - answered                        the caller has it; one that has left has its step undone
  - no answer in `call_seconds`     `unavailable` is raised, as for all that wait behind it. Whether the step
                                    was taken is unknown: what undoes it is owed to Redis, or the step itself
                                    where it may be repeated, and sent before anything else once it is back
  - Redis is away                   `unavailable` at once; it is tried again every PAUSE_SECONDS
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import hiredis
import redis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from accounts.limits import LimiterUnavailable

CONNECT_SECONDS = 0.1
CALL_SECONDS = 0.25
PAUSE_SECONDS = 0.5
IDLE_SECONDS = 1.0  # a connection unused for longer is looked at before it is used
COMPLAIN_SECONDS = 60.0
LONGEST_BATCH = 256
MOST_OWED = 10_000  # more than that, and the oldest are left to expire

Arguments: TypeAlias = tuple[str | bytes | int, ...]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Call:
    packed: bytes
    future: asyncio.Future[Any]
    deadline: float
    undo: Callable[[], Arguments] | None


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
            url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=None, retry=Retry(NoBackoff(), 0)
        )
        self._call_seconds = call_seconds
        self._whose = whose
        self._unavailable = unavailable
        self._script = script
        self._digest = hashlib.sha1(script, usedforsecurity=False).hexdigest()
        self._loop = asyncio.get_running_loop()
        self._connection: AbstractConnection | None = None
        self._used_at = 0.0
        self._complains_at = 0.0
        self._away = False
        self._waiting: list[_Call] = []
        self._owed: deque[bytes] = deque(maxlen=MOST_OWED)
        self._task: asyncio.Task[None] | None = None
        self._recovery: asyncio.Task[None] | None = None

    @property
    def away(self) -> bool:
        """Whether calls are refused without being tried."""
        return self._away

    async def call(
        self, keys: Sequence[str], *arguments: str | bytes, undo: Callable[[], Arguments] | None = None
    ) -> Any:
        """What the script answers: bytes, or a list of them. Raises `unavailable`. `undo` says what to run
        (see `arguments`) should it have been taken for a caller that did not hear of it."""
        if self._away:
            raise self._unavailable
        return await self._enqueue(self._pack(self.arguments(keys, *arguments)), undo)

    async def deliver(self, keys: Sequence[str], *arguments: str | bytes) -> None:
        """Runs the script, later if not now; repeating it must do no harm."""
        command = self.arguments(keys, *arguments)
        if self._away:
            self._owed.append(self._pack(command))
            return
        future = self._enqueue(self._pack(command), lambda: command)
        try:
            await asyncio.shield(future)  # who leaves does not leave it undone
        except self._unavailable:
            pass  # and it is owed

    def arguments(self, keys: Sequence[str], *arguments: str | bytes) -> Arguments:
        return ("EVALSHA", self._digest, len(keys), *keys, *arguments)

    async def close(self) -> None:
        """Sends what is waiting, then disconnects."""
        if self._task is not None:
            await self._task
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)
        self._away = True
        await self._disconnect()

    def _pack(self, command: Arguments) -> bytes:
        packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub knows tuples of one
        return packed

    def _enqueue(self, packed: bytes, undo: Callable[[], Arguments] | None) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(_Call(packed, future, self._loop.time() + self._call_seconds, undo))
        if self._task is None:
            self._task = self._loop.create_task(self._run())
        return future

    async def _run(self) -> None:
        """Sends what has come so far, all at once; what comes meanwhile is the next batch."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:LONGEST_BATCH], self._waiting[LONGEST_BATCH:]
                try:
                    async with asyncio.timeout_at(batch[0].deadline):
                        await self._exchange(batch)
                except (redis.RedisError, OSError, TimeoutError) as error:
                    self._break(error, batch)
        finally:
            self._task = None

    async def _exchange(self, batch: list[_Call]) -> None:
        connection = await self._connected()
        await connection.send_packed_command([call.packed for call in batch], check_health=False)
        unknown = []
        for call in batch:
            try:
                reply = await connection.read_response(disable_decoding=True)
            except redis.exceptions.NoScriptError:
                unknown.append(call)
            except redis.ResponseError as error:
                self._refuse(call, error)
            else:
                self._answer(call, reply)
        self._used_at = self._loop.time()
        if unknown:
            await self._load(connection)
            await self._exchange(unknown)

    def _answer(self, call: _Call, reply: Any) -> None:
        if not call.future.done():
            call.future.set_result(reply)
        elif call.undo is not None:
            self._enqueue(self._pack(call.undo()), None).add_done_callback(_ignore)

    def _refuse(self, call: _Call, error: redis.ResponseError) -> None:
        """Redis answered, but will not have it: it is out of memory, a replica, or the script is wrong."""
        self._complain(error)
        if not call.future.done():
            call.future.set_exception(self._unavailable(str(error)))

    def _complain(self, error: redis.ResponseError) -> None:
        if self._loop.time() > self._complains_at:
            self._complains_at = self._loop.time() + COMPLAIN_SECONDS
            logger.error("Redis refuses the %s's script: %s", self._whose, error)

    def _break(self, error: Exception, batch: list[_Call]) -> None:
        """Lets everybody know who waits, and goes on trying apart."""
        logger.warning("Redis does not answer the %s (%s)", self._whose, type(error).__name__)
        self._away = True
        failed, self._waiting = [*batch, *self._waiting], []
        for call in failed:
            if call.future.done() and not call.future.cancelled():
                continue
            if call.undo is not None:
                self._owed.append(self._pack(call.undo()))
            if not call.future.done():
                call.future.set_exception(self._unavailable(type(error).__name__))
        self._recovery = self._loop.create_task(self._recover())

    async def _recover(self) -> None:
        while self._away:
            await self._disconnect()
            await asyncio.sleep(PAUSE_SECONDS)
            try:
                async with asyncio.timeout(self._call_seconds):
                    await self._connected()
                while self._owed:
                    async with asyncio.timeout(self._call_seconds):
                        await self._pay()
            except (redis.RedisError, OSError, TimeoutError):
                continue
            self._away = False
        logger.warning("Redis answers the %s again", self._whose)

    async def _pay(self) -> None:
        """Sends some of what is owed. It may have been taken before: everything owed may be repeated."""
        connection = await self._connected()
        owed = [self._owed[index] for index in range(min(LONGEST_BATCH, len(self._owed)))]
        await connection.send_packed_command(owed, check_health=False)
        for _ in owed:
            try:
                await connection.read_response(disable_decoding=True)
            except redis.ResponseError as error:
                self._complain(error)
        for _ in owed:
            self._owed.popleft()

    async def _connected(self) -> AbstractConnection:
        idle = self._loop.time() - self._used_at > IDLE_SECONDS
        if idle and self._connection is not None and await self._is_stale(self._connection):
            await self._disconnect()
        if self._connection is None:
            connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
            self._connection = connection  # whatever becomes of it, it is closed
            await connection.connect()
            await self._load(connection)
            self._used_at = self._loop.time()
        return self._connection

    async def _is_stale(self, connection: AbstractConnection) -> bool:
        """Whether the server has closed it, or said something unasked."""
        try:
            return await connection.can_read()
        except (redis.RedisError, OSError):
            return True

    async def _load(self, connection: AbstractConnection) -> None:
        await connection.send_packed_command(self._pack(("SCRIPT", "LOAD", self._script)), check_health=False)
        await connection.read_response(disable_decoding=True)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


def _ignore(future: asyncio.Future[Any]) -> None:
    """Nobody waits for it: an error is not to be reported as never retrieved."""
    if not future.cancelled():
        future.exception()
