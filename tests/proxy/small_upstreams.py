"""Servers of a few lines, to be asked through the door to upstreams."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from proxy.routing import Timeouts
from proxy.upstream import Outgoing, Upstreams

PATIENT = Timeouts(connect=5, first_byte=5, idle=5, total=5)
HELLO = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[int]:
    """The port where it is served."""
    tasks = set()

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with suppress(asyncio.CancelledError):
            await serve(reader, writer)
        writer.transport.abort()

    async with asyncio.timeout(20), await asyncio.start_server(begin, "127.0.0.1", port, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]
        for task in filter(None, tasks):
            task.cancel()
        await asyncio.gather(*filter(None, tasks), return_exceptions=True)


def to(port: int, host: str = "127.0.0.1", scheme: str = "http", body: bytes = b"hi") -> Outgoing:
    return Outgoing("POST", f"{scheme}://{host}:{port}/v1/x", body, {"x-key": "secret"})


async def said(upstreams: Upstreams, outgoing: Outgoing) -> bytes:
    exchange = await upstreams.open(outgoing, PATIENT)
    try:
        return await exchange.whole()
    finally:
        exchange.close()


class Server:
    """Says HELLO to every request, and remembers what came over which connection."""

    def __init__(self) -> None:
        self.connections: list[list[bytes]] = []
        self.closed = asyncio.Event()
        self.answers = [HELLO]  # the last of them for ever

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests: list[bytes] = []
        self.connections.append(requests)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                requests.append(head + await reader.readexactly(length_of(head)))
                writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            self.closed.set()


def length_of(head: bytes) -> int:
    return int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])


def at(*addresses: str) -> Callable[[str], Awaitable[list[str]]]:
    """Every name has these addresses."""

    async def look_up(host: str) -> list[str]:
        return list(addresses)

    return look_up


@contextmanager
def taking(take: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server, in a thread, that does this with what connects to it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def take_all() -> None:
            with suppress(OSError):  # which shutting it down raises
                while True:
                    connection, _ = listening.accept()
                    with connection, suppress(OSError):
                        take(connection)

        thread = threading.Thread(target=take_all, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def close(connection: socket.socket) -> None:
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def greet(connection: socket.socket) -> None:
    connection.sendall(b"220 at your service\r\n")
