"""The only module that opens a connection to an upstream.

One narrow door: send these bytes with these headers to that address; get the status, the headers and the
pieces of the body as they arrive; close. No redirects, no decompression, no cookies, no proxies from the
environment. Addresses come from operators' rows. Link-local ones are refused: written as such when the row
is read (proxy/routing.py), else after the name is resolved, and what was checked is what is connected to.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from proxy.http_connection import Broken, HttpConnection, Unanswered
from proxy.resolving import LookUp, Names, look_up
from proxy.routing import Timeouts

MAX_ANSWER_BYTES = 64 * 1024 * 1024
# Between one and two of these after its last use a connection is closed.
_IDLE_CONNECTION_SECONDS = 20.0
# What is missing when all has been said, such as an empty chunk, may take so long to come.
_END_SECONDS = 1.0
# One that was kept and closes so soon, with nothing said, was closed before it was asked.
_STALE_SECONDS = 1.0
# An address may be silent for so long until the next one of that name is tried beside it (RFC 8305). TLS
# takes more round trips.
_NEXT_ADDRESS_SECONDS, _NEXT_SECURE_ADDRESS_SECONDS = 0.25, 1.0
_HEADER_TEXT = re.compile(rb"[ -~]{1,100}")
_IN_TARGETS = "/%:@!$&'()*+,;=~?"


class Unreachable(Exception):
    """No connection, or it broke before the upstream's status came."""


class ConnectTimeout(Unreachable):
    """No connection within the time for it."""


class Silent(Exception):
    """The upstream took the request and did not begin its answer in time."""


class TooLong(Exception):
    """The answer passed MAX_ANSWER_BYTES."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request to an upstream. Headers bear its key, and are never printed."""

    method: str
    url: str
    body: bytes
    headers: Mapping[str, str] = field(repr=False)


class Exchange:
    """An upstream's answer, from its status on. Close it."""

    def __init__(self, connection: HttpConnection, let_go: Callable[[HttpConnection], None]) -> None:
        self._connection = connection
        self._let_go = let_go
        self._finished = False
        self._closed = False
        self._headers = connection.headers
        self.status = connection.status
        self.content_type = self._text(b"content-type").partition(";")[0].strip().lower()
        self.retry_after = self._text(b"retry-after") or None
        self.encoded = self._header(b"content-encoding").lower() not in (b"", b"identity")

    @property
    def set_cookies(self) -> list[str]:
        """The `set-cookie` headers: what the upstream would have a browser keep."""
        return [value.decode(errors="replace") for name, value in self._headers if name == b"set-cookie"]

    def _header(self, name: bytes) -> bytes:
        return next((value for given, value in self._headers if given == name), b"")

    def _text(self, name: bytes) -> str:
        """A header that goes on to the client; "" for one that is absent, or could not go into a header."""
        given = self._header(name)
        return given.decode("ascii") if _HEADER_TEXT.fullmatch(given) else ""

    async def read(self) -> bytes:
        """The next piece of the body as it arrives, b"" after the last. Raises Broken."""
        if self._closed:  # Its connection may be another call's by now.
            raise Broken
        return await self._connection.read()

    async def whole(self) -> bytes:
        """The rest of the body. Raises Broken, TooLong."""
        pieces, size = [], 0
        while piece := await self.read():
            size += len(piece)
            if size > MAX_ANSWER_BYTES:
                raise TooLong
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def finish(self) -> None:
        """All has been said, and what is still to come is only its end: the connection waits for that when it
        is freed."""
        self._finished = True

    def close(self) -> None:
        """Frees the connection: it is kept where the answer came to its end, else closed."""
        if self._closed:
            return
        self._closed = True
        if self._finished:
            self._connection.finish(self._let_go, _END_SECONDS)
        else:
            self._let_go(self._connection)


class Begun(Exchange):
    """An answer of which the first piece has been read, to see what it is."""

    def __init__(self, exchange: Exchange, first: bytes) -> None:
        self.status, self.content_type = exchange.status, exchange.content_type
        self.retry_after, self.encoded = exchange.retry_after, exchange.encoded
        self._exchange = exchange
        self._first = first

    @property
    def set_cookies(self) -> list[str]:
        return self._exchange.set_cookies

    async def read(self) -> bytes:
        first, self._first = self._first, b""
        return first or await self._exchange.read()

    def finish(self) -> None:
        self._exchange.finish()

    def close(self) -> None:
        self._exchange.close()


class Origin(NamedTuple):
    """A server: connections to it are kept for one another."""

    secure: bool
    host: str
    port: int


class Upstreams:
    """Connections to upstreams, kept and reused. Made on the loop that uses it; close it there."""

    def __init__(self, look_up: LookUp = look_up) -> None:
        self._loop = asyncio.get_running_loop()
        self._names = Names(look_up)
        self._idle: dict[Origin, list[tuple[float, HttpConnection]]] = {}  # since when, the newest last
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    async def open(self, outgoing: Outgoing, timeouts: Timeouts) -> Exchange:
        """Sends it and waits for the status. Raises Unreachable, ConnectTimeout, Silent."""
        origin, request = _origin(outgoing.url), _written(outgoing)
        connection = await self._asked(origin, request, timeouts, self._kept(origin))
        return Exchange(connection, partial(self._keep, origin))

    async def open_once(self, outgoing: Outgoing, timeouts: Timeouts) -> Exchange:
        """As `open`, on a connection that nobody else gets: a server may close it that stumbles over it."""
        connection = await self._asked(_origin(outgoing.url), _written(outgoing), timeouts, None)
        return Exchange(connection, HttpConnection.close)

    async def _asked(
        self, origin: Origin, request: bytes, timeouts: Timeouts, kept: HttpConnection | None
    ) -> HttpConnection:
        """A connection, the `kept` one if it is one still, that has the head of its answer."""
        try:
            if kept is not None and await self._answers(kept, request, timeouts.first_byte):
                return kept
            connection = await self._connect(origin, timeouts.connect)
            await connection.ask(request, timeouts.first_byte)
        except TimeoutError:
            raise Silent from None
        except (Broken, OSError, UnicodeError) as error:  # The last: a name that none can have.
            raise Unreachable from error
        return connection

    async def _answers(self, kept: HttpConnection, request: bytes, seconds: float) -> bool:
        """Whether it still is a connection; then it has the head of its answer."""
        asked_at = self._loop.time()
        try:
            await kept.ask(request, seconds)
        except Unanswered:
            if self._loop.time() - asked_at > _STALE_SECONDS:
                raise
            return False
        return True

    async def _connect(self, origin: Origin, seconds: float) -> HttpConnection:
        """Raises ConnectTimeout, OSError, UnicodeError."""
        try:
            async with asyncio.timeout(seconds):
                return await self._first(origin, await self._names.addresses(origin.host))
        except TimeoutError as error:
            raise ConnectTimeout from error

    async def _first(self, origin: Origin, addresses: list[str]) -> HttpConnection:
        """To the first of the addresses that takes it. The next one is tried when one has failed, or when all
        have been silent for a while. Raises OSError."""
        trying: set[asyncio.Task[HttpConnection]] = set()
        failure: BaseException = OSError()
        pause = _NEXT_SECURE_ADDRESS_SECONDS if origin.secure else _NEXT_ADDRESS_SECONDS
        left = addresses[::-1]
        try:
            while left or trying:
                if left:
                    trying.add(self._loop.create_task(self._opened(origin, left.pop())))
                done, _ = await asyncio.wait(
                    trying, timeout=pause if left else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    trying.remove(task)
                    failed = task.exception()
                    if failed is None:
                        return task.result()
                    failure = failed
            raise failure
        finally:
            del failure  # It knows this frame, which would know it.
            for task in trying:
                task.cancel()
                task.add_done_callback(_close_unwanted)

    async def _opened(self, origin: Origin, address: str) -> HttpConnection:
        name = origin.host.rstrip(".")  # which no certificate has
        _, connection = await self._loop.create_connection(
            HttpConnection,
            address,
            origin.port,
            ssl=_tls() if origin.secure else None,
            server_hostname=name if origin.secure else None,
        )
        return connection

    def _kept(self, origin: Origin) -> HttpConnection | None:
        """The connection that was used last: the others may be closed for want of use."""
        idle = self._idle.get(origin)
        while idle:
            _, connection = idle.pop()
            if connection.idle:
                return connection
        return None

    def _keep(self, origin: Origin, connection: HttpConnection) -> None:
        if self._closed or not connection.fit:
            connection.close()
            return
        self._idle.setdefault(origin, []).append((self._loop.time(), connection))
        if self._sweeping is None:
            self._sweep()

    def _sweep(self) -> None:
        """Closes what nobody has used for a while, and looks again after as long."""
        used_before = self._loop.time() - _IDLE_CONNECTION_SECONDS
        for origin, idle in list(self._idle.items()):
            while idle and idle[0][0] <= used_before:
                idle.pop(0)[1].close()
            if not idle:
                del self._idle[origin]
        self._sweeping = None
        if self._idle:
            self._sweeping = self._loop.call_later(_IDLE_CONNECTION_SECONDS, self._sweep)

    async def close(self) -> None:
        """Those that are in use close when their calls have ended."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for idle in self._idle.values():
            for _, connection in idle:
                connection.close()
        self._idle.clear()


def _close_unwanted(opened: asyncio.Task[HttpConnection]) -> None:
    """Another one was faster, or nobody waits for any."""
    if not opened.cancelled() and opened.exception() is None:
        opened.result().close()


@lru_cache(maxsize=1024)
def _origin(url: str) -> Origin:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    return Origin(secure, parts.hostname or "", parts.port or (443 if secure else 80))


@lru_cache(maxsize=1024)
def _request_line(method: str, url: str) -> str:
    """With the `host` header."""
    parts = urlsplit(url)
    target = quote(parts.path or "/", _IN_TARGETS)
    if parts.query:
        target += f"?{quote(parts.query, _IN_TARGETS)}"
    return f"{method} {target} HTTP/1.1\r\nhost: {parts.netloc}\r\n"


def _written(outgoing: Outgoing) -> bytes:
    """As it goes over the wire. Raises ValueError for a header that would be several."""
    head = [_request_line(outgoing.method, outgoing.url)]
    for name, value in outgoing.headers.items():
        line = f"{name}: {value}"
        if not line.isprintable():
            raise ValueError("A header for an upstream has control characters in it.")
        head.append(f"{line}\r\n")
    head.append(f"content-length: {len(outgoing.body)}\r\n\r\n")
    return "".join(head).encode() + outgoing.body


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
