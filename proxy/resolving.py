"""Names of upstreams, and the addresses behind them: link-local ones are refused, whatever the name."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count

from proxy.addresses import is_link_local

LookUp = Callable[[str], Awaitable[list[str]]]

_FRESH_SECONDS = 10.0


class LinkLocal(OSError):
    """The address is link-local: cloud metadata services live there."""


async def look_up(host: str) -> list[str]:
    """The addresses of a name, or of an address, in the order to try them (RFC 6724). Raises OSError, and
    UnicodeError for a name that none can have."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


class Names:
    """What names resolve to, asked once for all that want to know, and kept for _FRESH_SECONDS. Each address
    of the best kind has its turn at being the first, so that replicas share the connections."""

    def __init__(self, look_up: LookUp) -> None:
        self._look_up = look_up
        self._turns = count()
        self._asked: dict[str, asyncio.Task[list[str]]] = {}

    async def addresses(self, host: str) -> list[str]:
        """At least one. Raises OSError, LinkLocal, UnicodeError."""
        asked = self._asked.get(host)
        if asked is None:
            asked = self._asked[host] = asyncio.create_task(self._checked(host))
            asked.add_done_callback(partial(self._answered, host))
        found = await asyncio.shield(asked)  # Who asked first may be cancelled; the others wait on.
        best = [address for address in found if (":" in address) == (":" in found[0])]
        turn = next(self._turns) % len(best)
        return best[turn:] + best[:turn] + [address for address in found if address not in best]

    def _answered(self, host: str, asked: asyncio.Task[list[str]]) -> None:
        """A failure is told to those who wait for it, and kept for nobody."""
        if asked.cancelled() or asked.exception() is not None:
            del self._asked[host]
        else:
            asyncio.get_running_loop().call_later(_FRESH_SECONDS, self._asked.pop, host)

    async def _checked(self, host: str) -> list[str]:
        found = await self._look_up(host)
        if not found:
            raise OSError(f"{host} has no address")
        if any(map(is_link_local, found)):
            raise LinkLocal(f"{host} resolves to a link-local address")
        return found
