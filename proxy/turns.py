"""A call's turn in a conversation: what came before it, and where its answer is kept.

A turn is taken once the call is parsed and before it is admitted. What it continues is loaded then, and
`call` is the call with all that in it: from here on nothing else knows that anything came before. `open` is
called when an upstream has taken the call, `keep` when it has ended, before the client gets the last piece of
its answer: so the next call can go on from it at once.
"""

from __future__ import annotations

from accounts.keys import Caller
from proxy.admission import Ticket
from proxy.call import Call
from proxy.event_log import EventLog
from proxy.http import Header, Last, Reply, Request


class Turn:
    """One that continues nothing and is kept nowhere. `goes_on`: also when its client has left."""

    goes_on = False

    def __init__(self, call: Call) -> None:
        self.call = call

    def headers(self) -> tuple[Header, ...]:
        """What its answer bears in any case."""
        return ()

    async def open(self, ticket: Ticket, reply: Reply) -> None:
        """Before the first piece of a stream. Raises DatabaseUnavailable."""

    async def keep(self, last: Last, ticket: Ticket, reply: Reply) -> Last:
        """What the client gets last: `last`, unless its answer could not be kept. Never raises."""
        return last


async def alone(call: Call, caller: Caller, request: Request, log: EventLog) -> Turn:
    """The turn of a call that is by itself, as most are."""
    return Turn(call)
