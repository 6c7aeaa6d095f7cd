"""One connection to an upstream: HTTP/1.1 as a client speaks it, one exchange after another.

httptools reads, and passes over what other clients do: a bare LF in the head, blanks behind the size of
a chunk, odd characters in a header. No redirects, no decompression, no cookies, no upgrades.

Invariant: a connection is fit for another exchange only when the last answer came to its end as HTTP says,
the whole request had been sent by then, and nothing came after it. How an answer ends:
  - its length has come, or its last chunk                it is whole
  - it has neither, and the upstream closes               it is whole
  - the connection is closed or lost before that          Broken
  - what comes is no HTTP, or its head has no end         Broken
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httptools

MAX_HEAD_BYTES = 64 * 1024
# Of a body, for who is slow to read it: more is left on its way.
_MAX_WAITING_BYTES = 256 * 1024
# Of a larger request, TLS may still have some to send when a refusal comes; its transport does not tell.
_SENT_AT_ONCE_BYTES = 64 * 1024
# The headers that somebody asks for.
_LENGTH, _CODING = b"content-length", b"transfer-encoding"
_KEPT = frozenset({b"content-type", b"content-encoding", b"retry-after", b"set-cookie", _LENGTH, _CODING})


class Broken(Exception):
    """The connection broke in the middle of the answer."""


class Unanswered(Broken):
    """It was closed or lost before anything of an answer came."""


class HttpConnection(asyncio.Protocol):
    """Made by the loop, as the protocol of a transport that is connected."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._waiter: asyncio.Future[None] | None = None
        self._failure: Exception | None = None  # why no more will come
        self._lost = False
        self._then: Callable[[HttpConnection], None] | None = None  # who gets it when the answer has ended
        self._begin(0)
        self._ended = True

    def _begin(self, sent: int) -> None:
        self._sent = sent
        self.status = 0  # until the head has come
        self.headers: list[tuple[bytes, bytes]] = []  # of _KEPT, with their names in small letters
        self._heard = False
        self._ended = False
        self._until_close = False
        self._keeps = False
        self._besides = 0  # bytes since the last that belonged to the body
        self._pieces: list[bytes] = []
        self._waiting = 0  # bytes in them
        self._paused = False

    # For who uses it

    @property
    def idle(self) -> bool:
        """Whether another request may be sent."""
        return self._ended and not self._lost and self._failure is None and not self._transport.is_closing()

    @property
    def fit(self) -> bool:
        """Whether the answer has ended so that another request may be sent."""
        return (
            self._keeps
            and self.idle
            and not self._paused
            and self._transport.get_write_buffer_size() == 0
            and not (self._secure and self.status >= 300 and self._sent > _SENT_AT_ONCE_BYTES)
        )

    async def ask(self, request: bytes, seconds: float) -> None:
        """Sends the request and waits for the head of the answer: `status` and `headers`. What ends that
        early closes the connection. Raises Unanswered, Broken, TimeoutError."""
        if not self.idle:  # It was closed since it was made, or kept.
            raise Unanswered from self._failure
        self._begin(len(request))
        self._transport.write(request)
        answered = False
        try:
            async with asyncio.timeout(seconds):
                while not self.status:
                    if self._failure is not None:
                        raise (Broken if self._heard else Unanswered) from self._failure
                    await self._something()
            answered = True
        finally:
            if not answered:
                self.close()

    async def read(self) -> bytes:
        """What has come of the body, or the next piece as it arrives; b"" after the last. Raises Broken."""
        while not self._pieces:
            if self._ended:
                return b""
            if self._failure is not None:
                raise Broken from self._failure
            await self._something()
        pieces = self._taken()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def finish(self, then: Callable[[HttpConnection], None], seconds: float) -> None:
        """Nobody reads the rest of the answer. `then` gets the connection when that has come; where it takes
        longer than so many seconds, the connection is closed."""
        if self._ended or self._lost:
            then(self)
            return
        self._taken()
        self._then = then
        self._patience = self._loop.call_later(seconds, self.close)

    def close(self) -> None:
        """At once: the upstream need not go on."""
        self._transport.abort()

    def _taken(self) -> list[bytes]:
        """What has come of the body; there is room for more."""
        pieces, self._pieces, self._waiting = self._pieces, [], 0
        if self._paused and not self._lost:
            self._paused = False
            self._transport.resume_reading()
        return pieces

    async def _something(self) -> None:
        """Waits until something has happened."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _tell(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._then is not None:
            self._taken()
            if self._ended or self._lost:
                self._patience.cancel()
                then, self._then = self._then, None
                then(self)

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not its subclasses
        self._secure = transport.get_extra_info("sslcontext") is not None
        if self._secure:
            # uvloop (0.23) forgets what is in this buffer when the upstream closes while reading is paused.
            cast(Any, transport).set_read_buffer_limits(high=1, low=0)

    def data_received(self, data: bytes) -> None:
        if self._ended:  # Nobody asked for it.
            self.close()
            return
        self._heard = True
        self._besides += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._break(error)
        if self._besides > MAX_HEAD_BYTES:
            self._break(ValueError("There is no end to its headers."))
        self._tell()

    def eof_received(self) -> None:
        if self.status and self._until_close:
            self._ended = True
            self._tell()

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        if error is None and self._failure is None:  # Over TLS this may be all that is heard of an end.
            self.eof_received()
        self._failure = self._failure or error or ConnectionError("The upstream closed it.")
        self._tell()

    def _break(self, error: Exception) -> None:
        self._failure = self._failure or error
        self.close()

    # What the parser finds

    def on_message_begin(self) -> None:
        if self._ended:
            raise ValueError("There is more than one answer.")

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.strip().lower()
        if name in _KEPT and not self.status:  # else a trailer
            self.headers.append((name, value.strip()))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self._besides = 0
        if status < 100:
            raise ValueError("There is no such status.")
        if status < 200:  # The answer is still to come (RFC 9110, section 15.2).
            self.headers.clear()
            return
        given = dict(self.headers)
        self._until_close = _LENGTH not in given and b"chunked" not in given.get(_CODING, b"").lower()
        self.status = status

    def on_body(self, body: bytes) -> None:
        self._besides = 0
        self._pieces.append(body)
        self._waiting += len(body)
        if self._waiting > _MAX_WAITING_BYTES and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self.status:
            self._ended = True
            self._keeps = self._parser.should_keep_alive()
