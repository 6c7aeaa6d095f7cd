"""Tells every process that a row which the data plane caches has changed.

A change raises `Installation.generation` in the transaction that makes it. On commit it clears the
caches of its own process at once, and through Redis, where there is one, those of every other. Each
process also asks for the generation twice a second (`watch`), and so hears within a second of what
a Redis that is away, or was, did not tell it.

Invariant: whoever hears of a generation can read every change up to it. The row's lock makes
transactions with changes commit one after the other, in the order of their generations.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, ClassVar, TypeVar

import redis
import redis.asyncio
from django.conf import settings
from django.db import models, transaction
from django.db.models.functions import Now

from accounts import database
from accounts.ids import uuid7

POLL_SECONDS = 0.5
REDIS_CONNECT_SECONDS = 0.1
REDIS_CALL_SECONDS = 0.25
REDIS_PAUSE_SECONDS = 2.0
REDIS_HEALTH_SECONDS = 10
# What comes in one piece with the answer to SUBSCRIBE is only read at the next look (redis-py 8.1).
REDIS_LOOK_SECONDS = 0.5

Row = TypeVar("Row", bound=models.Model)
Listener = Callable[[], None]

logger = logging.getLogger(__name__)


class Installation(models.Model):
    """One row: what this installation is called in Redis, and how often its cached rows changed."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    generation = models.BigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return f"{self.id}:{self.generation}"

    @property
    def channel(self) -> str:
        """Where Redis carries its changes."""
        return f"tollgate:{self.id}:changes"

    @classmethod
    def current(cls) -> Installation:
        """The row. The migration makes it; a database that was flushed gets a new one."""
        return cls.objects.order_by("id").first() or cls.objects.create()


class AnnouncedQuerySet(models.QuerySet[Row]):
    """Announces what changes many rows at once; `bulk_update` does it by `update`."""

    def update(self, **values: Any) -> int:
        with announced():
            return super().update(**values)

    def delete(self) -> tuple[int, dict[str, int]]:
        with announced():
            return super().delete()

    delete.queryset_only = True  # type: ignore[attr-defined]  # never `Row.objects.delete()`

    def bulk_create(self, objs: Iterable[Row], *args: Any, **options: Any) -> list[Row]:
        with announced():
            return super().bulk_create(objs, *args, **options)


class AnnouncedModel(models.Model):
    """A row that the data plane caches: whatever changes it is announced."""

    objects: ClassVar[models.Manager[Any]] = AnnouncedQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **options: Any) -> None:
        with announced():
            super().save(*args, **options)

    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        with announced():
            return super().delete(*args, **options)


@contextmanager
def announced() -> Iterator[None]:
    """A transaction whose commit every process hears of.

    The generation goes up first, so that two of them wait for each other here, not in a deadlock later.
    """
    with transaction.atomic():
        row = Installation.objects.select_for_update().order_by("id").first() or Installation.current()
        row.generation += 1
        row.save(update_fields=["generation"])
        transaction.on_commit(partial(_tell, row))
        yield


def announce() -> None:
    """Has every process read anew what it caches, and have budgets asked for anew."""
    with announced():
        pass


def _tell(installation: Installation) -> None:
    _ears.hear(str(installation))
    if settings.REDIS_URL:
        _pusher(settings.REDIS_URL).push(installation)


class _Ears:
    """The caches of this process, and the last state that they were told of."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._state = ""

    def add(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.append(listener)

    def remove(self, listener: Listener) -> None:
        with self._lock:
            self._listeners.remove(listener)

    def hear(self, state: str) -> None:
        """Returns when every listener has been told of this state, by whichever thread."""
        with self._lock:
            if state != self._state:
                self._state = state
                for listener in self._listeners:
                    listener()


class _Pusher:
    """Tells the other processes. While Redis is away it does not try each time: they poll."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            url,
            socket_connect_timeout=REDIS_CONNECT_SECONDS,
            socket_timeout=REDIS_CALL_SECONDS,
            retry=None,
        )
        self._resumes_at = 0.0

    def push(self, installation: Installation) -> None:
        if time.monotonic() < self._resumes_at:
            return
        try:
            self._redis.publish(installation.channel, str(installation))
        except redis.RedisError as error:
            self._resumes_at = time.monotonic() + REDIS_PAUSE_SECONDS
            logger.warning(
                "Redis did not take a change (%s); other processes poll for it", type(error).__name__
            )


_ears = _Ears()
_pusher = lru_cache(maxsize=1)(_Pusher)


def subscribe(listener: Listener) -> None:
    """Calls `listener` after every change, on the thread that notices: quick, safe there, never raising."""
    _ears.add(listener)


def unsubscribe(listener: Listener) -> None:
    """Undoes `subscribe`."""
    _ears.remove(listener)


async def watch() -> None:
    """The task of every serving process: hears, for ever, of the changes that other processes make."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_poll())
        if settings.REDIS_URL:
            tasks.create_task(_listen(settings.REDIS_URL))


async def _poll() -> None:
    answered = True
    while True:
        try:
            _ears.hear(str(await database.run(Installation.current)))
            answered = True
        except database.DatabaseUnavailable:
            if answered:
                logger.warning("the database does not answer; changes are heard of when it does")
            answered = False
        await asyncio.sleep(POLL_SECONDS)


async def _listen(url: str) -> None:
    listening = asyncio.Event()
    listening.set()
    while True:
        try:
            await _follow(url, listening)
        except (redis.RedisError, OSError, database.DatabaseUnavailable) as error:
            if listening.is_set():
                logger.warning(
                    "Redis does not tell of changes (%s); they are polled for", type(error).__name__
                )
            listening.clear()
        await asyncio.sleep(REDIS_PAUSE_SECONDS)


async def _follow(url: str, listening: asyncio.Event) -> None:
    """Hears what Redis tells, until it goes away: then it raises. Sets `listening` when it can hear."""
    installation = await database.run(Installation.current)
    client = redis.asyncio.Redis.from_url(
        url,
        socket_connect_timeout=REDIS_CONNECT_SECONDS,
        socket_timeout=REDIS_CALL_SECONDS,
        health_check_interval=REDIS_HEALTH_SECONDS,
        retry=None,
    )
    async with client, client.pubsub(ignore_subscribe_messages=True) as messages:
        await messages.subscribe(installation.channel)
        listening.set()
        while True:
            message = await messages.get_message(timeout=REDIS_LOOK_SECONDS)
            if message is not None:
                _ears.hear(message["data"].decode(errors="replace"))
