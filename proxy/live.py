"""What this process remembers of its calls for whoever watches them: who, what, how it ended; never what was
said. Pure.

Calls under way are in `Running` anyway. A call that ended, or was refused, is one small entry in a ring and a
count: nothing waits, and nobody is told. proxy/live_reports.py makes reports of it while somebody watches.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple
from uuid import UUID

import msgspec

from accounts.keys import Caller
from proxy import errors
from proxy.admission import Ticket
from proxy.call import Call
from proxy.demands import RateLimited
from proxy.http import ClientLeft, Request

KEPT = 500
MINUTE_SECONDS = 60
REFUSED = "refused"


class Sight(NamedTuple):
    """Whose calls somebody may see: a user's in a tenant, a tenant's, or all that there are."""

    tenant_id: UUID | None = None
    user_id: int | None = None

    def covers(self, tenant_id: UUID | None, user_id: int | None) -> bool:
        return self.tenant_id is None or (self.tenant_id == tenant_id and self.user_id in (None, user_id))

    @property
    def name(self) -> str:
        """As `called` reads it."""
        user = "" if self.user_id is None else str(self.user_id)
        return f"{self.tenant_id.hex}:{user}" if self.tenant_id else ""

    @classmethod
    def called(cls, name: str) -> Sight:
        """The one with this name. Raises ValueError."""
        if not name:
            return cls()
        tenant, _, user = name.partition(":")
        return cls(UUID(tenant), int(user) if user else None)


EVERYTHING = Sight()


class Ended(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A call that ended, or was refused before it began: then `status` is REFUSED. `at` is of the clock of
    whoever tells it. What is not known is None; of a refusal that may be whose it was."""

    id: UUID
    tenant_id: UUID | None
    tenant: str
    user_id: int | None
    key_id: UUID | None
    endpoint: str
    model: str
    stream: bool
    at: float
    status: str
    status_code: int | None
    error_code: str
    limit: str = ""
    duration_milliseconds: int | None = None
    first_byte_milliseconds: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_nano_usd: int | None = None


class Minute:
    """How many there were in the last minute, for every sight that they are in."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, dict[Sight, int]]] = deque()

    def add(self, now: float, tenant_id: UUID | None, user_id: int | None) -> None:
        second = int(now)
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append((second, {}))
            while self._seconds[0][0] <= second - MINUTE_SECONDS:
                self._seconds.popleft()
        counts = self._seconds[-1][1]
        counts[EVERYTHING] = counts.get(EVERYTHING, 0) + 1
        if tenant_id is not None:
            sight = Sight(tenant_id)
            counts[sight] = counts.get(sight, 0) + 1
        if user_id is not None:
            sight = Sight(tenant_id, user_id)
            counts[sight] = counts.get(sight, 0) + 1

    def count(self, now: float, sight: Sight) -> int:
        oldest = int(now) - MINUTE_SECONDS
        return sum(counts.get(sight, 0) for second, counts in self._seconds if second > oldest)


class Live:
    """Of one process and its one event loop. `now` is its clock, in seconds."""

    def __init__(self) -> None:
        self.now = time.monotonic
        self.count = 0
        self.ended_lately = Minute()
        self.refused_lately = Minute()
        self._ring: deque[Ended] = deque(maxlen=KEPT)

    def end(self, ticket: Ticket) -> None:
        """A call has ended, and is settled."""
        caller, call, ending, record = ticket.caller, ticket.call, ticket.ending, ticket.record
        now = self.now()
        self._note(
            Ended(
                ticket.id,
                caller.tenant_id,
                caller.tenant_slug,
                caller.user_id,
                key_of(caller),
                call.endpoint,
                call.model,
                call.stream,
                now,
                str(ending.status),
                ending.status_code,
                record["error_code"],
                "",
                record["duration_milliseconds"],
                ending.first_byte_milliseconds,
                record["input_tokens"],
                record["output_tokens"],
                record["cost_nano_usd"],
            )
        )
        self.ended_lately.add(now, caller.tenant_id, caller.user_id)

    def arrival(self, request: Request) -> Arrival:
        """What to be in while a call is taken in: a refusal that leaves it is remembered."""
        return Arrival(self, request)

    def refuse(self, request: Request, caller: Caller | None, call: Call | None, error: Exception) -> None:
        """A call was refused before it was admitted, to whomever it was, as far as that is known."""
        refusal = errors.known(error)
        tenant_id, user_id = (caller.tenant_id, caller.user_id) if caller else (None, None)
        now = self.now()
        self._note(
            Ended(
                request.id,
                tenant_id,
                caller.tenant_slug if caller else "",
                user_id,
                key_of(caller) if caller else None,
                call.endpoint if call else request.path,
                call.model if call else "",
                call.stream if call else False,
                now,
                REFUSED,
                refusal.status,
                refusal.code or refusal.type,
                str(error) if isinstance(error, RateLimited) else "",
            )
        )
        self.refused_lately.add(now, tenant_id, user_id)

    def since(self, count: int) -> Iterator[Ended]:
        """What came after so many had come, the newest first, as far back as the ring goes."""
        new = min(self.count - count, len(self._ring))
        return (self._ring[-1 - back] for back in range(new))

    def _note(self, ended: Ended) -> None:
        self._ring.append(ended)
        self.count += 1


def key_of(caller: Caller) -> UUID | None:
    """By which key somebody calls."""
    return caller.api_key_id or caller.security_key_id


class Arrival:
    """A call on its way to being admitted: whose it is and what it asks for, from when that is known."""

    __slots__ = ("_live", "_request", "call", "caller")

    def __init__(self, live: Live, request: Request) -> None:
        self._live = live
        self._request = request
        self.caller: Caller | None = None
        self.call: Call | None = None

    def __enter__(self) -> Arrival:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, ClientLeft):
            self._live.refuse(self._request, self.caller, self.call, error)
