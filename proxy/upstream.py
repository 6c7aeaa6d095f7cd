"""The only module that opens a connection to an upstream.

One narrow door: send these bytes with these headers to that address; get the status, the headers and the
pieces of the body as they arrive; close. No redirects, no decompression, no cookies, no proxies from the
environment. Addresses come from operators' rows. Link-local ones are refused: written as such when the row
is read (proxy/routing.py), else after the name is resolved, and what was checked is what is connected to.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from proxy.addresses import is_link_local
from proxy.routing import Timeouts

MAX_ANSWER_BYTES = 64 * 1024 * 1024
_IDLE_CONNECTION_SECONDS = 20.0
_HEADER_TEXT = re.compile(r"[ -~]{1,100}")


class Unreachable(Exception):
    """No connection, or it broke before the upstream's status came."""


class ConnectTimeout(Unreachable):
    """No connection within the time for it."""


class Silent(Exception):
    """The upstream took the request and did not begin its answer in time."""


class Broken(Exception):
    """The connection broke in the middle of the answer."""


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

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.content_type = self._text("content-type").partition(";")[0].strip().lower()
        self.retry_after = self._text("retry-after") or None
        self.encoded = response.headers.get("content-encoding", "identity").lower() != "identity"
        self._connection_closed = _closed(response)
        if self._connection_closed is not None:
            self._connection_closed.add_done_callback(self._hear_of_it)

    def _hear_of_it(self, closed: asyncio.Future[None]) -> None:
        """The connection is closed. Where aiohttp did that, over a chunk that makes no sense, it does not
        tell whoever waits for the next piece (3.14.5)."""
        content = self._response.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError())

    @property
    def set_cookies(self) -> list[str]:
        """The `set-cookie` headers: what the upstream would have a browser keep."""
        return self._response.headers.getall("set-cookie", [])

    def _text(self, name: str) -> str:
        """A header that goes on to the client; "" for one that is absent, or could not go into a header."""
        given = self._response.headers.get(name, "")
        return given if _HEADER_TEXT.fullmatch(given) else ""

    async def read(self) -> bytes:
        """The next piece of the body as it arrives, b"" after the last. Raises Broken."""
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, ConnectionError) as error:
            raise Broken from error

    async def whole(self) -> bytes:
        """The rest of the body. Raises Broken, TooLong."""
        pieces, size = [], 0
        while piece := await self.read():
            size += len(piece)
            if size > MAX_ANSWER_BYTES:
                raise TooLong
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Frees the connection: back to the pool when the answer was read to its end, else closed."""
        if self._connection_closed is not None:
            self._connection_closed.remove_done_callback(self._hear_of_it)
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


def _closed(response: aiohttp.ClientResponse) -> asyncio.Future[None] | None:
    """Is done when the response's connection is closed; None where that has been done with already."""
    connection = response.connection
    protocol = None if connection is None else connection.protocol
    closed = None if protocol is None else protocol.closed
    if closed is not None:
        # One of these stays as long as the connection: a reset that comes between two calls is nobody's.
        closed.remove_done_callback(_ignore)
        closed.add_done_callback(_ignore)
    return closed


def _ignore(closed: asyncio.Future[None]) -> None:
    """Without it, asyncio complains of an error that nobody asked for."""
    if not closed.cancelled():
        closed.exception()


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

    def close(self) -> None:
        self._exchange.close()


class LinkLocal(OSError):
    """The address is link-local: cloud metadata services live there."""


class _Resolver(aiohttp.ThreadedResolver):
    """Resolves names, and refuses those that lead to a link-local address."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        if any(is_link_local(entry["host"]) for entry in found):
            raise LinkLocal(f"{host} resolves to a link-local address")
        return found


class Upstreams:
    """Connections to upstreams, kept and reused. Made on the loop that uses it; close it there."""

    def __init__(self, resolver: AbstractResolver | None = None) -> None:
        self._resolver = resolver
        self._session = self._made(keepalive_timeout=_IDLE_CONNECTION_SECONDS)
        self._once: aiohttp.ClientSession | None = None
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}

    def _made(self, **connections: Any) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, resolver=self._resolver or _Resolver(), **connections),
            timeout=aiohttp.ClientTimeout(),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("accept-encoding", "user-agent"),
            max_field_size=32 * 1024,
        )

    async def open(self, outgoing: Outgoing, timeouts: Timeouts) -> Exchange:
        """Sends it and waits for the status. Raises Unreachable, ConnectTimeout, Silent."""
        return await self._open(self._session, outgoing, timeouts)

    async def open_once(self, outgoing: Outgoing, timeouts: Timeouts) -> Exchange:
        """As `open`, on a connection that nobody else gets: a server may close it that stumbles over it."""
        if self._once is None:
            self._once = self._made(force_close=True)
        return await self._open(self._once, outgoing, timeouts)

    async def _open(self, session: aiohttp.ClientSession, outgoing: Outgoing, timeouts: Timeouts) -> Exchange:
        url = URL(outgoing.url)
        try:
            async with asyncio.timeout(timeouts.first_byte):
                response = await session.request(
                    outgoing.method,
                    url,
                    data=outgoing.body,
                    headers=outgoing.headers,
                    allow_redirects=False,
                    timeout=self._timeout(timeouts.connect),
                )
        except aiohttp.ConnectionTimeoutError as error:
            raise ConnectTimeout from error
        except TimeoutError as error:
            raise Silent from error
        except (aiohttp.ClientError, OSError, UnicodeError) as error:  # The last: a name that none can have.
            raise Unreachable from error
        return Exchange(response)

    def _timeout(self, connect: float) -> aiohttp.ClientTimeout:
        """Only connecting, the name's resolution in it, is aiohttp's to time: the rest is the relay's."""
        if connect not in self._timeouts:
            self._timeouts[connect] = aiohttp.ClientTimeout(total=None, connect=connect)
        return self._timeouts[connect]

    async def close(self) -> None:
        await self._session.close()
        if self._once is not None:
            await self._once.close()
