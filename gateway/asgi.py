"""Joins the three planes of one process: the relay, Django, and WebSockets.

uvicorn tells it by "lifespan" when to start and stop; under Daphne, which has no lifespan, the first
call starts it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import warnings
from importlib import import_module
from typing import Any

import django

# WhiteNoise reads the few static files of the admin synchronously, which is as well for their size.
warnings.filterwarnings("ignore", "StreamingHttpResponse must consume synchronous iterators", Warning)
logging.captureWarnings(True)

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
django.setup(set_prefix=False)  # before the models are imported

from channels.routing import URLRouter  # noqa: E402
from django.conf import settings  # noqa: E402
from django.urls import re_path  # noqa: E402

from accounts import changes, database  # noqa: E402
from gateway import bodies, celery, health, housekeeping, live_socket  # noqa: E402
from gateway.connections import HttpProtocol as HttpProtocol  # noqa: E402  # where uvicorn finds it
from gateway.jobs import keep_running  # noqa: E402
from gateway.live import LIVE  # noqa: E402
from gateway.live_socket import LiveSocket  # noqa: E402
from gateway.sockets import SocketProtocol as SocketProtocol  # noqa: E402  # where uvicorn finds it
from proxy import asgi as relay  # noqa: E402
from proxy.responses_socket import ResponsesSocket, no_such_socket  # noqa: E402

# How long a page may hold the interpreter while calls wait. With Python's own 5 ms the latest calls are
# 2.0 times as late beside somebody who opens pages, with 1 ms 1.5 times; what a call costs is the same.
_SWITCH_SECONDS = 0.001

logger = logging.getLogger(__name__)

sockets = URLRouter(
    [
        re_path(r"^(?:v1/)?responses/?$", ResponsesSocket.as_asgi()),
        re_path(r"^ws/live/?$", LiveSocket.as_asgi()),
        re_path(r"", no_such_socket),  # type: ignore[arg-type]  # no view of Django's, for Channels
    ]
)


class Application:
    """The whole process as one ASGI application."""

    def __init__(self) -> None:
        self._started = False
        self._starting = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._drained: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if not self._started:
            await self.start()
        if scope["type"] == "websocket":
            await sockets(scope, receive, send)
        elif relay.claims(scope["path"]):
            await relay.application(scope, receive, send)
        elif scope["path"] in health.PATHS:
            await health.application(scope, receive, send)
        elif scope["path"] == live_socket.POLL:
            await live_socket.poll(scope, receive, send)
        else:
            await bodies.application(scope, receive, send)

    async def start(self) -> None:
        """Starts what runs beside the calls; once, however many calls come first."""
        async with self._starting:
            if self._started:
                return
            await relay.start()
            if settings.REDIS_URL:
                relay.PLANE.runner.tell = celery.tell_of_responses
            of_relay = (relay.PLANE.runner.run, relay.PLANE.relay.limits.keep)
            for job in (changes.watch, housekeeping.run_for_ever, *of_relay, LIVE.run):
                self._tasks.append(asyncio.create_task(keep_running(job), name=job.__qualname__))
            _settle_down()
            sys.setswitchinterval(_SWITCH_SECONDS)
            self._started = True

    def drain(self) -> None:
        """Called when this process is told to stop: it makes no more responses in the background, and those
        that it makes have as long as the calls."""
        if self._drained is None and self._started:
            self._drained = asyncio.create_task(relay.PLANE.runner.stop(settings.DRAIN_SECONDS))

    async def stop(self) -> None:
        """Called when the last call has ended, or was told to."""
        self.drain()
        if self._drained is not None:
            await self._drained
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await relay.stop()
        await asyncio.to_thread(database.shutdown)  # it waits, and closes what the loop must not touch

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()  # lifespan.startup
        await self.start()
        health.readiness.fail_first(settings.SHUTDOWN_DELAY_SECONDS, self.drain)
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})


def _settle_down() -> None:
    """Imports what pages need, and has nothing that is there by now looked at when garbage is collected:
    140,000 objects, for which a JSON call would pay: 0.51 to 0.55 ms of the processor, instead of 0.44."""
    import_module(settings.ROOT_URLCONF)
    gc.collect()
    gc.freeze()


application = Application()
