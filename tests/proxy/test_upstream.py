"""The door to upstreams, by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from proxy.routing import Timeouts
from proxy.upstream import ConnectTimeout, Outgoing, Upstreams


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
