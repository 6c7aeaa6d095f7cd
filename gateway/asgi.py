"""Joins the three planes of one process: the relay, Django, and WebSockets.

uvicorn tells it by "lifespan" when to start and stop; under Daphne, which has no lifespan, the first
call starts it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

from django.core.asgi import get_asgi_application

# WhiteNoise reads the few static files of the admin synchronously, which is as well for their size.
warnings.filterwarnings("ignore", "StreamingHttpResponse must consume synchronous iterators", Warning)
logging.captureWarnings(True)

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
django_application = get_asgi_application()  # before the models are imported

from channels.routing import URLRouter  # noqa: E402
from django.conf import settings  # noqa: E402
from django.urls import re_path  # noqa: E402

from accounts import changes, database  # noqa: E402
from gateway import health, housekeeping  # noqa: E402
from proxy import asgi as relay  # noqa: E402
from proxy.responses_socket import ResponsesSocket, no_such_socket  # noqa: E402

_RESTART_SECONDS = 1

logger = logging.getLogger(__name__)

sockets = URLRouter(
    [
        re_path(r"^(?:v1/)?responses/?$", ResponsesSocket.as_asgi()),
        re_path(r"", no_such_socket),  # type: ignore[arg-type]  # no view of Django's, for Channels
    ]
)


class Application:
    """The whole process as one ASGI application."""

    def __init__(self) -> None:
        self._started = False
        self._starting = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

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
        else:
            await django_application(scope, receive, send)

    async def start(self) -> None:
        """Starts what runs beside the calls; once, however many calls come first."""
        async with self._starting:
            if self._started:
                return
            await relay.start()
            for job in (changes.watch, housekeeping.run_for_ever):
                self._tasks.append(asyncio.create_task(_keep_running(job), name=job.__qualname__))
            self._started = True

    async def stop(self) -> None:
        """Called when the last call has ended, or was told to."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await relay.stop()
        await asyncio.to_thread(database.shutdown)  # it waits, and closes what the loop must not touch

    async def _lifespan(self, receive: Any, send: Any) -> None:
        await receive()  # lifespan.startup
        await self.start()
        health.readiness.fail_first(settings.SHUTDOWN_DELAY_SECONDS)
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})


async def _keep_running(job: Callable[[], Awaitable[None]]) -> None:
    """An outer edge: a job that fails is logged and begun again, never missed in silence."""
    while True:
        try:
            await job()
        except Exception:
            logger.exception("%s failed; it is begun again", job.__qualname__)
        await asyncio.sleep(_RESTART_SECONDS)


application = Application()
