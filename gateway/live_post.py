"""Carries between processes who watches, and what they are told. Redis carries it where there are several.

What is said is of the moment: while Redis is away it is dropped, and nobody waits. Each process hears on two
channels: what everybody is asked, and what it alone is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import redis
import redis.asyncio

from accounts import database
from accounts.changes import (
    REDIS_CONNECT_SECONDS,
    REDIS_HEALTH_SECONDS,
    REDIS_LOOK_SECONDS,
    REDIS_PAUSE_SECONDS,
    Installation,
)
from proxy.live_reports import Report

CALL_SECONDS = 1.0
WAITING = 256

logger = logging.getLogger(__name__)


class Wanted(msgspec.Struct, frozen=True, array_like=True):
    """A process wants to be told of these sights, by name; of those in `anew` with what went before."""

    process: str
    sights: Sequence[str]
    anew: bool


class Told(msgspec.Struct, frozen=True, array_like=True):
    """What a process tells, by the sights' names."""

    process: str
    reports: Mapping[str, Report]


Hears = Callable[[Wanted], None] | Callable[[Told], None]


class Post:
    """For a process that is alone: there is nobody to write to."""

    away = False

    def ask(self, wanted: Wanted) -> None:
        """Tells every other process what is wanted here."""

    def tell(self, process: str, told: Told) -> None:
        """Tells one other process."""

    async def run(self, asked: Callable[[Wanted], None], hear: Callable[[Told], None]) -> None:
        """Delivers, for ever."""
        await asyncio.Event().wait()


class RedisPost(Post):
    """By Redis' channels. `process` is what this one is called."""

    def __init__(self, url: str, process: str) -> None:
        self.away = True
        self._process = process
        self._client = redis.asyncio.Redis.from_url(
            url,
            socket_connect_timeout=REDIS_CONNECT_SECONDS,
            socket_timeout=CALL_SECONDS,
            health_check_interval=REDIS_HEALTH_SECONDS,
            retry=None,
        )
        self._outgoing: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(WAITING)

    def ask(self, wanted: Wanted) -> None:
        self._put("asked", msgspec.msgpack.encode(wanted))

    def tell(self, process: str, told: Told) -> None:
        self._put(f"told:{process}", msgspec.msgpack.encode(told))

    async def run(self, asked: Callable[[Wanted], None], hear: Callable[[Told], None]) -> None:
        prefix = f"tollgate:{(await database.run(Installation.current)).id}:live:"
        readers: dict[str, tuple[Any, Callable[[Any], None]]] = {
            f"{prefix}asked": (msgspec.msgpack.Decoder(Wanted), asked),
            f"{prefix}told:{self._process}": (msgspec.msgpack.Decoder(Told), hear),
        }
        async with self._client, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send(prefix))
            while True:
                try:
                    await self._listen(readers)
                except (redis.RedisError, OSError) as error:
                    if not self.away:
                        logger.warning("Redis does not carry what is live (%s)", type(error).__name__)
                    self.away = True
                await asyncio.sleep(REDIS_PAUSE_SECONDS)

    def _put(self, channel: str, message: bytes) -> None:
        if not self.away:
            with suppress(asyncio.QueueFull):
                self._outgoing.put_nowait((channel, message))

    async def _send(self, prefix: str) -> None:
        while True:
            channel, message = await self._outgoing.get()
            try:
                await self._client.publish(f"{prefix}{channel}", message)
            except (redis.RedisError, OSError):  # whoever listens says so
                await asyncio.sleep(REDIS_PAUSE_SECONDS)

    async def _listen(self, readers: Mapping[str, tuple[Any, Callable[[Any], None]]]) -> None:
        """Until Redis goes away: then it raises."""
        async with self._client.pubsub(ignore_subscribe_messages=True) as messages:
            await messages.subscribe(*readers)
            self.away = False
            while True:
                message = await messages.get_message(timeout=REDIS_LOOK_SECONDS)
                if message is None:
                    continue
                decoder, deliver = readers[message["channel"].decode()]
                with suppress(msgspec.MsgspecError):  # of another version, while it is replaced
                    deliver(decoder.decode(message["data"]))
