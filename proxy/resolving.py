"""Names of upstreams, and the addresses behind them: link-local ones are refused, whatever the name."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from proxy.addresses import is_link_local

# As getaddrinfo gives it: family, type, protocol, canonical name, and where to connect to.
Address = tuple[int, int, int, str, Any]
LookUp = Callable[[str, int], Awaitable[list[Address]]]

_FRESH_SECONDS = 10.0


class LinkLocal(OSError):
    """The address is link-local: cloud metadata services live there."""


async def look_up(host: str, port: int) -> list[Address]:
    """Raises OSError, and UnicodeError for a name that none can have."""
    loop = asyncio.get_running_loop()
    return list(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))


class Names:
    """What names resolve to, asked once for all that want to know, and kept for _FRESH_SECONDS."""

    def __init__(self, look_up: LookUp) -> None:
        self._look_up = look_up
        self._asked: dict[tuple[str, int], asyncio.Task[list[Address]]] = {}

    async def addresses(self, host: str, port: int) -> list[Address]:
        """Raises OSError, LinkLocal, UnicodeError."""
        asked = self._asked.get((host, port))
        if asked is None:
            asked = self._asked[host, port] = asyncio.create_task(self._checked(host, port))
            asked.add_done_callback(partial(self._answered, (host, port)))
        # Who asked first may be cancelled; the others wait on.
        return await asyncio.shield(asked)

    def _answered(self, name: tuple[str, int], asked: asyncio.Task[list[Address]]) -> None:
        """A failure is told to those who wait for it, and kept for nobody."""
        if asked.cancelled() or asked.exception() is not None:
            del self._asked[name]
        else:
            asyncio.get_running_loop().call_later(_FRESH_SECONDS, self._asked.pop, name)

    async def _checked(self, host: str, port: int) -> list[Address]:
        found = await self._look_up(host, port)
        if any(is_link_local(str(where[0])) for *_, where in found):
            raise LinkLocal(f"{host} resolves to a link-local address")
        return found
