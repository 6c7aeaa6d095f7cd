"""What Django gets of a request's body: all of it, within a bound and a deadline.

Django's own ASGI handler takes a body of any size, at any pace, to the disk before it looks at who asks.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler

from proxy import asgi as relay
from proxy.http import BodyTooLarge, BodyTooSlow, ClientLeft, Message, Receive, Reply, Request, Scope, Send
from proxy.intake import TooMuchAtOnce

# What Django itself takes of a form or a JSON document; no page takes files.
MAX_BYTES: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE

_django: Any = ASGIHandler()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Django, once the body is there. What is wrong with it is told as the relay tells it."""
    request = Request(scope, receive, settings.TRUSTED_PROXIES)
    try:
        with relay.PLANE.relay.held.hold(request, MAX_BYTES, authenticated=False) as holding:
            body = await request.body(MAX_BYTES, MAX_BYTES, holding.grow)
            await _django(scope, _given(body, receive), send)
    except ClientLeft:
        return
    except (BodyTooLarge, BodyTooSlow, TooMuchAtOnce) as error:
        await relay.refuse(error, request, Reply(request, send, relay.CORS))


def _given(body: bytes, receive: Receive) -> Receive:
    """What comes of the request: the body, and then the client's leaving."""
    message: Message | None = {"type": "http.request", "body": body, "more_body": False}

    async def given() -> Message:
        nonlocal message
        if message is None:
            return await receive()
        first, message = message, None
        return first

    return given
