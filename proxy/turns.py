"""A call's turn in a conversation: what came before it, and where its answer is kept.

A turn is taken once the call is parsed and before it is admitted. What it continues is loaded then, and
`call` is the call with all that in it: from here on nothing else knows that anything came before. `open` is
called when an upstream has taken the call, `keep` when it has ended, before the client gets the last piece of
its answer: so the next call can go on from it at once. `end` comes after the call is settled.
"""

from __future__ import annotations

from accounts.keys import Caller
from proxy.admission import Ticket
from proxy.call import Call
from proxy.event_log import EventLog
from proxy.http import Header, Last, Reply, Request
from proxy.idempotency import Claim


class Turn:
    """One that continues nothing and is kept nowhere. `goes_on`: also when its client has left. `later`: its
    caller is answered at once, and the call is made later (proxy/background.py)."""

    goes_on = False
    later = False

    def __init__(self, call: Call) -> None:
        self.call = call

    def headers(self) -> tuple[Header, ...]:
        """What its answer bears in any case."""
        return ()

    async def open(self, ticket: Ticket, reply: Reply) -> None:
        """Before the first piece of a stream. Raises DatabaseUnavailable."""

    async def keep(self, last: Last, ticket: Ticket, reply: Reply) -> Last:
        """What the client gets last: `last`, or what came of it. What it raises ends the call as failed."""
        return last

    async def end(self, ticket: Ticket) -> None:
        """Once the call is settled."""

    async def queue(self, request: Request, claim: Claim | None) -> Last:
        """What the caller of a call that is made later gets now."""
        raise NotImplementedError


async def alone(call: Call, caller: Caller, request: Request, log: EventLog) -> Turn:
    """The turn of a call that is by itself, as most are."""
    return Turn(call)
