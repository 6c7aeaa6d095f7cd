"""Live calls over WebSocket, and, where that does not get through, by asking for them now and then.

A connection ends when its viewer leaves, may see no more (gateway/live_rights.py), takes nothing for
SEND_SECONDS, or when the server stops. What a viewer sends is not read.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from urllib.parse import urlsplit

import msgspec
from channels.consumer import get_handler_name
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.http import parse_cookie

from accounts import database
from accounts.errors import ApiError
from gateway.live import LIVE
from gateway.live_rights import Pass, sight_of
from gateway.live_view import Viewer
from proxy import errors
from proxy.asgi import told
from proxy.http import MAX_HEADER_BYTES, Header, Message, Receive, Reply, Request, Scope, Send
from proxy.responses_socket import GOING_AWAY, INTERNAL_ERROR, SERVICE_RESTART, denial

POLL = "/dashboard/live/events"
SHOW_SECONDS = 0.2
SEND_SECONDS = 10.0
# A client takes a connection that says nothing for long for dead.
STILL_SECONDS = 10.0

_PRIVATE: tuple[Header, ...] = ((b"cache-control", b"no-store"),)


class LiveSocket(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels has no types
    """One connection, from its handshake on."""

    def __init__(self) -> None:
        super().__init__()
        self._showing: asyncio.Task[None] | None = None

    async def dispatch(self, message: Message) -> None:
        """Without a visit to a thread before each message: nothing here uses a database connection."""
        await getattr(self, get_handler_name(message))(message)

    async def connect(self) -> None:
        """Accepts whom their session lets in; anybody else gets an HTTP answer."""
        request = Request({**self.scope, "method": "GET"}, _never, settings.TRUSTED_PROXIES)
        reply = Reply(request, denial(self.scope, self.base_send), _PRIVATE)
        await told(self._open(request), request, reply)

    async def _open(self, request: Request) -> None:
        check_origin(request)
        held = pass_of(request)
        viewer = LIVE.watching.join(await database.run(sight_of, held))
        LIVE.guard.watch(viewer, held)
        self._showing = asyncio.create_task(self._show(viewer), name="live")

    async def disconnect(self, code: int) -> None:
        """The viewer left, or the server stops."""
        if self._showing is not None:
            self._showing.cancel()
            await asyncio.wait([self._showing])

    async def _show(self, viewer: Viewer) -> None:
        """Until the viewer may see no more, or is gone."""
        code = INTERNAL_ERROR
        try:
            await self.accept()
            while viewer.goodbye is None:
                await self._show_once(viewer)
            code = viewer.goodbye
        except (TimeoutError, asyncio.CancelledError) as ending:
            code = GOING_AWAY if isinstance(ending, TimeoutError) else SERVICE_RESTART
        finally:
            LIVE.guard.forget(viewer)
            LIVE.watching.leave(viewer)
            with suppress(OSError):  # uvicorn's word for a connection that is gone
                await self.close(code)

    async def _show_once(self, viewer: Viewer) -> None:
        """One batch; before the next is time for news to gather. Raises TimeoutError."""
        viewer.news.clear()
        batch = msgspec.json.encode(await LIVE.watching.batch(viewer)).decode()
        if viewer.goodbye is not None:
            return
        began = time.monotonic()
        async with asyncio.timeout(SEND_SECONDS):
            with suppress(OSError):  # who has gone is told so by `disconnect`
                await self.send(text_data=batch)
        viewer.missed += int((time.monotonic() - began) / SHOW_SECONDS)
        await asyncio.sleep(SHOW_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(STILL_SECONDS):
                await viewer.news.wait()


async def poll(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers at POLL: how things stand, to whom their session lets see it."""
    request = Request(scope, receive, settings.TRUSTED_PROXIES)
    reply = Reply(request, send, _PRIVATE)
    await told(_poll(request, reply), request, reply)


async def _poll(request: Request, reply: Reply) -> None:
    if request.method != "GET":
        raise errors.WrongMethod(request.method, ("GET",))
    batch = await LIVE.watching.look(await database.run(sight_of, pass_of(request)))
    await reply.whole(200, b"application/json", msgspec.json.encode(batch))


def pass_of(request: Request) -> Pass:
    """By what somebody asks to watch. Raises HeadersTooLarge."""
    if request.header_bytes > MAX_HEADER_BYTES:
        raise errors.HeadersTooLarge
    session_key = parse_cookie(request.header(b"cookie")).get(settings.SESSION_COOKIE_NAME, "")
    return Pass(session_key, request.query("tenant"))


def check_origin(request: Request) -> None:
    """The cookie comes with a request of any page's; a browser says of which. Raises ApiError."""
    origin = urlsplit(request.header(b"origin"))
    secure = origin.scheme == "https" or not settings.BEHIND_TLS
    if not secure or not origin.netloc or origin.netloc.lower() != request.header(b"host").lower():
        raise ApiError(403, "Pages of this origin may not connect.", code="origin_not_allowed")


async def _never() -> Message:
    """In place of a body that there is not."""
    never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    return await never
