"""The door to upstreams, by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from proxy.routing import Timeouts
from proxy.upstream import Broken, ConnectTimeout, Outgoing, Upstreams


class Hanging(AbstractResolver):
    async def resolve(self, *_: Any, **__: Any) -> list[ResolveResult]:
        await asyncio.Event().wait()
        raise AssertionError

    async def close(self) -> None:
        pass


def test_a_name_server_that_does_not_answer_takes_no_longer_than_a_connection_may() -> None:
    async def ask() -> None:
        upstreams = Upstreams(Hanging())
        outgoing = Outgoing("POST", "http://a.test/", b"", {})
        try:
            await upstreams.open(outgoing, Timeouts(connect=0.1, first_byte=5, idle=5, total=5))
        finally:
            await upstreams.close()

    with pytest.raises(ConnectTimeout):
        asyncio.run(ask())


async def test_a_chunk_that_makes_no_sense_ends_the_answer_at_once() -> None:
    heard = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await heard.wait()
        writer.write(b"zz\r\ngarbage\r\n")
        await reader.read()  # until the gateway closes
        writer.close()

    upstreams = Upstreams()
    async with asyncio.timeout(10), await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        outgoing = Outgoing("POST", f"http://127.0.0.1:{port}/", b"", {})
        exchange = await upstreams.open(outgoing, Timeouts(connect=5, first_byte=5, idle=5, total=5))
        assert await exchange.read() == b"hello"
        heard.set()
        with pytest.raises(Broken):
            await exchange.read()
        exchange.close()
        await upstreams.close()
