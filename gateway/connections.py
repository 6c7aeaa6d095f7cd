"""How uvicorn speaks HTTP here: its own protocol, with a bound on headers and a deadline for them.

Clients that speak HTTP/1.0 do not know chunks: what has no length ends for them with the connection.

uvicorn puts both on nothing that comes before a request is the application's. Here a request line with its
headers, or trailers, may have 16 KiB in all, counted as they come, and has HEAD_SECONDS. Bodies are the
application's to bound.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from itertools import chain
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from accounts.errors import ApiError
from accounts.ids import uuid7
from proxy import errors
from proxy.asgi import CORS
from proxy.http import MAX_HEADER_BYTES, Header

# From connecting, or else from their first byte, until the headers are whole.
HEAD_SECONDS = 15.0
# What still comes from who was refused is thrown away for so long: closing at once would reset the
# connection, and the refusal could be lost on its way (RFC 9112, section 9.6).
_LINGER_SECONDS, _LINGER_BYTES = 2.0, 4 * 1024 * 1024

logger = logging.getLogger(__name__)


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    head_seconds = HEAD_SECONDS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._arrived = 0  # bytes since the last that belonged to a body
        self._begun = False  # a request, whose end has not come
        self._over = False  # it was refused, or is a WebSocket by now
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unset_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._arrived += len(data)
        if self._over:
            if self._arrived > _LINGER_BYTES:
                self.transport.close()
            return
        super().data_received(data)
        self._look()

    def _look(self) -> None:
        """After each piece of what comes."""
        if self._over:
            return
        if self._begun and self._arrived > MAX_HEADER_BYTES:
            self._refuse(errors.HeadersTooLarge())
        elif self.cycle is None or self.cycle.response_complete:
            self._wait()

    def _wait(self) -> None:
        """Nobody is being answered. uvicorn's timer for a connection at rest ended with what came."""
        if self._begun:
            if self._timer is None:
                self._set_timer()
            return
        self._arrived = 0
        if self.cycle is not None and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    # What the parser finds

    def on_message_begin(self) -> None:
        self._begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Raises HeadersTooLarge, which the parser takes for a request that it cannot read."""
        self._unset_timer()
        # Those that came in one piece with others were not counted.
        size = len(self.url) + sum(map(len, chain.from_iterable(self.headers))) + 4 * len(self.headers)
        if size > MAX_HEADER_BYTES:
            self._refuse(errors.HeadersTooLarge())
            raise errors.HeadersTooLarge
        self._arrived = 0
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0" and self.cycle is not None and self.cycle.scope is self.scope:
            self.cycle.send = _until_close(self.cycle)  # type: ignore[assignment, method-assign]

    def on_body(self, body: bytes) -> None:
        self._arrived = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._begun = False
        self._arrived = 0
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._over = True
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP."""
        self._refuse(ApiError(400, msg))

    # How a connection ends

    def _set_timer(self) -> None:
        self._timer = self.loop.call_later(self.head_seconds, self._on_timer)

    def _unset_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        if self._begun:
            self._refuse(errors.HeadersTooSlow())
        else:
            self.transport.close()

    def _refuse(self, error: Exception) -> None:
        """Nothing more is read. An answer to this connection that is under way, or was given already to what
        is still coming, is not mixed with another."""
        if self._over or self.transport.is_closing():
            return
        self._over = True
        self._unset_timer()
        self._unset_keepalive_if_required()
        if self.cycle is not None and (not self.cycle.response_complete or self.cycle.scope is self.scope):
            self.transport.close()
            return
        self.transport.write(_answer(errors.to_api_error(error)))
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._timer = self.loop.call_later(_LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()


def _until_close(cycle: RequestResponseCycle) -> Callable[[Any], Coroutine[Any, Any, None]]:
    """How that answer is sent to a client that knows no chunks. Each piece without a length for the whole is
    let through as if it were all that is missing; the connection is closed in any case."""
    send_on, lengthless = cycle.send, False

    async def send(message: Any) -> None:
        nonlocal lengthless
        if message["type"] == "http.response.start":
            lengthless = not any(name.lower() == b"content-length" for name, _ in message["headers"])
            cycle.chunked_encoding = False if lengthless else None
        elif lengthless:
            cycle.expected_content_length = len(message.get("body", b""))
        await send_on(message)

    return send


def _answer(refusal: ApiError) -> bytes:
    """The refusal as it goes over the wire."""
    request_id = str(uuid7())
    fields = {"request_id": request_id, "status_code": refusal.status, "error_code": refusal.code}
    logger.info("refused", extra={"fields": fields})
    body = refusal.body()
    headers: list[Header] = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
        *CORS,
    ]
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return STATUS_LINE[refusal.status] + lines + b"\r\n" + body
