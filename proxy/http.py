"""The few ASGI primitives: a request, its bounded body, the reply, and the watch over both ends.

A `Watch` is the one place where a call is interrupted: by the client leaving, or by a deadline. It cancels
the task it was made in and raises its own reason there in place of the cancellation.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import chain
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import parse_qs
from uuid import UUID

from accounts.errors import ApiError
from accounts.ids import uuid7
from proxy import sse

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]
Network = IPv4Network | IPv6Network

MAX_HEADER_BYTES = 16 * 1024
BODY_SECONDS = 60.0
KEEP_ALIVE_SECONDS = 15.0
# For a client that stopped reading, with more on its way than the machine keeps for it.
SEND_SECONDS = 30.0
EVENTS_TYPE = b"text/event-stream; charset=utf-8"
_INLINE_IMAGE = b"data:image/"


class ClientLeft(Exception):
    """The client closed its connection."""


class BodyTooLarge(Exception):
    """The body passes `limit` bytes, which is as many as such a body may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} bytes")
        self.limit = limit


class BodyTooSlow(Exception):
    """The body did not come within BODY_SECONDS."""


class IdleTimeout(Exception):
    """The upstream said nothing for too long in the middle of its answer."""


class TotalTimeout(Exception):
    """The call took too long in all."""


def client_ip(peer: str, forwarded: str, trusted: Sequence[Network]) -> str:
    """The right-most address, of those in `forwarded` (x-forwarded-for) and then the peer's, that is not in a
    trusted network: what stands left of it, anybody may have written. Where something that is no address
    comes first, the one to its right.
    """
    believed = peer
    for text in (peer, *reversed(forwarded.split(","))):
        address = _address(text.strip())
        if address is None:
            break
        believed = str(address)
        if not any(address in network for network in trusted):
            break
    return believed


@lru_cache(maxsize=4096)
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An IPv4 address that a dual socket wraps into IPv6 comes out as what it is."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class Request:
    """One HTTP request. `id` is minted here; an id that the client sends is never a key of ours.

    What proxies in the `trusted` networks say of the client's address is believed.
    """

    def __init__(self, scope: Scope, receive: Receive, trusted: Sequence[Network] = ()) -> None:
        self.id: UUID = uuid7()
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.header_list: list[Header] = scope["headers"]
        self.headers: dict[bytes, bytes] = dict(self.header_list)
        self.started = time.monotonic()
        self.receive = receive
        self.query_string: bytes = scope.get("query_string", b"")
        self._peer: str = (scope.get("client") or ("", 0))[0]
        self._trusted = trusted

    def header(self, name: bytes) -> str:
        """The header's value, "" when it is absent. Bytes that are not Latin-1 text do not exist in HTTP."""
        return self.headers.get(name, b"").decode("latin-1")

    @property
    def client_ip(self) -> str:
        """The client's address, "" where it is not known. Worked out when it is asked for."""
        lines = [value for name, value in self.header_list if name == b"x-forwarded-for"]
        return client_ip(self._peer, b",".join(lines).decode("latin-1"), self._trusted)

    @property
    def header_bytes(self) -> int:
        return sum(map(len, chain.from_iterable(self.header_list)))

    def query(self, name: str) -> str:
        """The first value of a query parameter, "" when it is absent."""
        values = self.query_values(name)
        return values[0] if values else ""

    def query_values(self, name: str) -> list[str]:
        """Every value of a query parameter that is not empty."""
        if not self.query_string:
            return []
        return parse_qs(self.query_string.decode("latin-1")).get(name, [])

    async def body(self, limit: int, image_limit: int, grow: Callable[[int], None]) -> bytes:
        """The whole body, of at most `limit` bytes, or `image_limit` when it carries images inline; `grow`
        hears how many there are so far.

        Raises BodyTooLarge before it is all read, BodyTooSlow, ClientLeft.
        """
        declared = self.headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > image_limit:
            raise BodyTooLarge(image_limit)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._read(limit, image_limit, grow)
        except TimeoutError:
            raise BodyTooSlow from None

    async def _read(self, limit: int, image_limit: int, grow: Callable[[int], None]) -> bytes:
        pieces, size, allowed = [], 0, limit
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            piece = message.get("body", b"")
            size += len(piece)
            pieces.append(piece)
            if size > allowed == limit and any(_INLINE_IMAGE in piece for piece in pieces):
                allowed = image_limit
            if size > allowed:
                raise BodyTooLarge(allowed)
            grow(size)
            if not message.get("more_body", False):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Hearer(Protocol):
    """What hears a stream along with its client."""

    def add(self, piece: bytes) -> None: ...


class Copy:
    """What a stream gave its client, of which no more than `limit` bytes are held."""

    content_type = EVENTS_TYPE

    def __init__(self, limit: int) -> None:
        self.overflowed = False
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        self.overflowed = self._size > self._limit
        if self.overflowed:
            self._pieces.clear()
        else:
            self._pieces.append(piece)

    def body(self) -> bytes:
        """All of it, once it is known not to have overflowed."""
        return b"".join(self._pieces)


class Reply:
    """The answer on its way to the client. Its head goes out once, whoever sends it.

    A stream's pieces go to `copies` too, and to `log`, where somebody set one, before the client gets them.
    """

    def __init__(self, request: Request, send: Send, always: Iterable[Header] = ()) -> None:
        self.status: int | None = None
        self.sent_at = 0.0
        self.copies: tuple[Hearer, ...] = ()
        self.log: Callable[[bytes], Awaitable[None]] | None = None
        self._request = request
        self._send = send
        self._ended = False
        self._always = list(always)

    def add(self, headers: Iterable[Header]) -> None:
        """Headers that go out with the head, whatever the answer will be."""
        self._always += headers

    async def whole(
        self, status: int, content_type: bytes, body: bytes, headers: Iterable[Header] = ()
    ) -> None:
        """An answer in one piece."""
        await self._head(status, content_type, [(b"content-length", b"%d" % len(body)), *headers])
        await self._send({"type": "http.response.body", "body": body})

    async def refuse(self, refusal: ApiError) -> None:
        """What was wrong before the call was admitted."""
        await self.whole(refusal.status, b"application/json", refusal.body(), refusal.headers)

    async def begin_events(self) -> None:
        """The head of an event stream, once."""
        if self.status is None:
            await self._head(200, EVENTS_TYPE, _EVENT_HEADERS)

    async def piece(self, body: bytes) -> None:
        """A piece of an event stream that has begun; nothing once it has ended."""
        if self.log is not None:
            await self.log(body)
        for copy in self.copies:
            copy.add(body)
        await self._pass(body)

    async def keep_alive(self) -> None:
        """A comment, so that nobody between us and the client takes silence for death."""
        await self.begin_events()
        await self._pass(sse.KEEP_ALIVE)

    async def _pass(self, body: bytes) -> None:
        if self._ended:
            return
        self.sent_at = time.monotonic()
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self, body: bytes) -> None:
        """The last piece of an event stream."""
        self._ended = True
        await self._send({"type": "http.response.body", "body": body})

    async def _head(self, status: int, content_type: bytes, headers: Iterable[Header]) -> None:
        self.status = status
        self.sent_at = time.monotonic()
        milliseconds = round((self.sent_at - self._request.started) * 1000)
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", content_type),
                    (b"x-request-id", str(self._request.id).encode()),
                    (b"openai-processing-ms", b"%d" % milliseconds),
                    *self._always,
                    *headers,
                ],
            }
        )


_EVENT_HEADERS: tuple[Header, ...] = (
    (b"cache-control", b"no-cache, no-transform"),
    # nginx holds responses back in a buffer unless told otherwise (nginx docs, "X-Accel-Buffering").
    (b"x-accel-buffering", b"no"),
)


@dataclass(frozen=True, slots=True)
class Last:
    """The last piece of a stream that has begun, else the whole answer."""

    status: int
    content_type: bytes
    body: bytes
    headers: tuple[Header, ...] = ()

    async def send(self, reply: Reply) -> None:
        """Gives up on a client that does not take it within SEND_SECONDS."""
        if self is NOBODY:
            return
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._send(reply)
        except TimeoutError:
            logger.warning("A client did not read the end of its answer.")

    async def _send(self, reply: Reply) -> None:
        if reply.status is None:
            await reply.whole(self.status, self.content_type, self.body, self.headers)
        else:
            await reply.end(self.body)


# For a client that left.
NOBODY = Last(0, b"", b"")


class Watch:
    """Over one call, from admission to the last byte: `async with Watch(...)`.

    Raises ClientLeft, IdleTimeout or TotalTimeout in place of the cancellation that it caused. A call that
    streams gets a keep-alive after each KEEP_ALIVE_SECONDS of silence, its head with the first. A call that
    `stays` goes on when its client has left.
    """

    def __init__(
        self, request: Request, reply: Reply, *, streams: bool, total_seconds: float, stays: bool = False
    ) -> None:
        self.reply = reply
        self._request = request
        self._streams = streams
        self._stays = stays
        self._deadline = request.started + total_seconds
        self._idle_seconds: float | None = None
        self._heard_at = request.started
        self._reason: Exception | None = None
        self._over = False
        self._loop = asyncio.get_running_loop()

    def heard(self) -> None:
        """The upstream gave a piece."""
        self._heard_at = time.monotonic()

    def expect_pieces(self, idle_seconds: float) -> None:
        """From now on the upstream may be silent for so long and no longer."""
        self._idle_seconds = idle_seconds
        self.heard()
        self._timer.cancel()
        self._look_soon()

    async def __aenter__(self) -> Watch:
        task = asyncio.current_task()
        assert task is not None  # Every coroutine runs in a task.
        self._task = task
        self._listener = self._loop.create_task(self._listen())
        self._look_soon()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._listener.cancel()
        self._over = True
        if self._reason is not None and kind is asyncio.CancelledError and self._task.uncancel() == 0:
            raise self._reason from None

    async def _listen(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        if not self._stays:
            self.interrupt(ClientLeft())

    def interrupt(self, reason: Exception) -> None:
        """Ends the call with `reason`, unless it has ended, or is ending for another one."""
        if self._reason is None and not self._over:
            self._reason = reason
            self._task.cancel()

    def _look_soon(self) -> None:
        """Not at once: a task that cancels itself hears of it at its next wait, which may be outside."""
        self._timer: asyncio.Handle = self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Runs when the earliest thing that could be due is due; then waits for the next."""
        now = time.monotonic()
        due = [self._deadline]
        if self._idle_seconds is not None:
            due.append(self._heard_at + self._idle_seconds)
        if due[0] <= now:
            return self.interrupt(TotalTimeout())
        if due[-1] <= now:
            return self.interrupt(IdleTimeout())
        if self._streams:
            due.append(self._keep_alive_due(now))
        self._timer = self._loop.call_later(min(due) - now, self._look)
        return None

    def _keep_alive_due(self, now: float) -> float:
        silent_since = self.reply.sent_at or self._request.started
        if now - silent_since < KEEP_ALIVE_SECONDS:
            return silent_since + KEEP_ALIVE_SECONDS
        self._keeping = self._loop.create_task(self._keep_alive())
        return now + KEEP_ALIVE_SECONDS

    async def _keep_alive(self) -> None:
        """Nothing, where the call ended before this began: the head of an error may be next."""
        if not self._over:
            await self.reply.keep_alive()
