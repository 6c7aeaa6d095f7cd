"""From a plan to an upstream that takes the call: attempts, backoff, failover; all before the first byte."""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack
from dataclasses import dataclass

from proxy.admission import Ticket
from proxy.call import Call, NotOffered
from proxy.dialects import openai
from proxy.findings import Findings, Tried, Wire
from proxy.http_connection import Broken
from proxy.passage import Garbled
from proxy.reported import UpstreamReported, read_error
from proxy.routing import Plan, Routing, Target, with_account
from proxy.upstream import Begun, Exchange, Outgoing, Silent, TooLong, Unreachable, Upstreams
from proxy.wires import speak

Failure = Unreachable | UpstreamReported | NotOffered

ATTEMPTS = 3
FIRST_BACKOFF_SECONDS = 0.5
MAX_RETRY_AFTER_SECONDS = 10.0
# What a refusal says comes with its status; waiting longer for it would keep the next target waiting.
REFUSAL_SECONDS = 5.0
# By then an answer has begun to say something.
BEGINNING_BYTES = 64 * 1024
# What another try, or another target, may mend; the credentials there are the operator's.
_TRY_ELSEWHERE = frozenset({401, 403, 407, 408, 429, 500, 502, 503, 504, 529})
_TRY_AGAIN = _TRY_ELSEWHERE - {401, 403, 407}


@dataclass(frozen=True, slots=True)
class Connection:
    """A target that took the call: its answer from the status on, and how to read it."""

    target: Target
    wire: Wire
    exchange: Exchange


async def connect(
    ticket: Ticket,
    plan: Plan,
    *,
    routing: Routing,
    findings: Findings,
    upstreams: Upstreams,
    connections: ExitStack,
) -> Connection:
    """The first target that takes the call; `connections` closes what was opened. What is given up is closed
    at once.

    Raises the last target's failure when none does: Unreachable, Silent, UpstreamReported, NotOffered.
    """
    failure: Failure | None = None
    for number, target in enumerate(_tries(plan.targets)):
        if failure is not None and not await _worth_another(failure, number, plan):
            break
        try:
            taken = await _ask(ticket, target, findings, upstreams, connections)
        except (Unreachable, Silent) as error:
            ticket.ending.attempt(target, type(error).__name__)
            routing.failed(target, type(error).__name__)
            if isinstance(error, Silent):  # It may be at work on the call: nobody else is given it.
                raise
            failure = error
        except NotOffered as error:
            failure = error
        else:
            if isinstance(taken, Connection):
                routing.succeeded(target)
                return taken
            failure = taken
            if ticket.call.account is not None:  # What its own account is refused says nothing of the target.
                continue
            if failure.status in _TRY_ELSEWHERE:
                routing.failed(target, str(failure.status), _seconds(failure.retry_after))
    assert failure is not None  # A plan has at least one target.
    raise failure


async def _ask(
    ticket: Ticket, target: Target, findings: Findings, upstreams: Upstreams, connections: ExitStack
) -> Connection | UpstreamReported:
    """One target's answer, or its refusal. It is asked again, in another way, where it says what it lacks.

    Raises Unreachable, Silent, NotOffered, InvalidBody, Garbled.
    """
    tried = Tried()
    if ticket.call.account is not None:
        target = with_account(target, ticket.call.account)
    while True:
        wire = speak(ticket.call, target, ticket.id.hex, findings, tried)
        exchange = wire.here() if wire.here else await _open(wire, target, upstreams, findings)
        connections.callback(exchange.close)
        ticket.ending.attempt(target, str(exchange.status))
        if 200 <= exchange.status < 300:
            if exchange.encoded:  # though it was asked not to; it answered, and nobody is asked once more
                ticket.first_byte()
                raise Garbled
            begun, begins = await _begun(exchange, wire, target)
            if begins:
                findings.taken(wire, target, tried)
            if begins or not wire.supposes:
                return Connection(target, wire, begun)
            tried.ways.add(wire.supposes)
            exchange.close()
            continue
        refusal = await _refusal(exchange, target, ticket.call)
        exchange.close()  # Others may take long over the call, and one that is full has room again.
        refusal.of_caller = ticket.call.account is not None and refusal.status in (401, 403)
        if not findings.learn(wire, target, refusal, tried):
            findings.take_back(target, tried)
            return tried.first if tried.first and refusal.status in wire.misunderstood else refusal


async def _begun(exchange: Exchange, wire: Wire, target: Target) -> tuple[Exchange, bool]:
    """The answer, and whether it is one: a target that is not as the call supposes breaks it off, or tells of
    an error at once. Raises Silent."""
    if wire.begins is None:
        return exchange, True
    first, begins = b"", None
    try:
        async with asyncio.timeout(target.timeouts.first_byte):
            while begins is None and len(first) < BEGINNING_BYTES and (piece := await exchange.read()):
                first += piece
                begins = wire.begins(first)
    except TimeoutError:
        raise Silent from None
    except Broken:
        begins = False
    return Begun(exchange, first), bool(first) if begins is None else begins


def _tries(targets: tuple[Target, ...]) -> list[Target]:
    """Each target once, and in the same order again until there are ATTEMPTS."""
    return [targets[number % len(targets)] for number in range(max(ATTEMPTS, len(targets)))]


async def _open(wire: Wire, target: Target, upstreams: Upstreams, findings: Findings) -> Exchange:
    if wire.outbound is not None:
        outbound = wire.outbound
        url, content_type, body = outbound.url(target.base_url), outbound.content_type, outbound.body
        own = dict(outbound.headers)
    else:
        url, own = target.base_url + wire.call.path, {}
        content_type, body = openai.request(wire.call, target.model)
    headers = {"content-type": content_type, "accept-encoding": "identity", **dict(target.headers), **own}
    outgoing = Outgoing("POST", url, body, headers)
    if wire.way and not findings.understands(target, wire.way):
        return await upstreams.open_once(outgoing, target.timeouts)
    return await upstreams.open(outgoing, target.timeouts)


async def _worth_another(failure: Failure, number: int, plan: Plan) -> bool:
    """Whether to go on after `failure`, having waited as long as is due: a target not tried yet waits for
    nothing, and may mend what the same one again would not."""
    fresh = number < len(plan.targets)
    asked = 0.0
    if isinstance(failure, UpstreamReported):
        asked = _seconds(failure.retry_after) or 0.0
        if failure.of_caller:
            return False
        if failure.status not in (_TRY_ELSEWHERE if fresh else _TRY_AGAIN):
            return False
    if fresh:
        return True
    if isinstance(failure, NotOffered):
        return False
    if asked > MAX_RETRY_AFTER_SECONDS:
        return False
    backoff = FIRST_BACKOFF_SECONDS * 2 ** (number - len(plan.targets))
    await asyncio.sleep(max(backoff * random.uniform(0.5, 1), asked))
    return True


async def _refusal(exchange: Exchange, target: Target, call: Call) -> UpstreamReported:
    """What the upstream said in place of an answer; what is encoded, or does not come, says nothing."""
    try:
        async with asyncio.timeout(REFUSAL_SECONDS):
            body = await exchange.whole()
    except (TimeoutError, Broken, TooLong):
        body = b""
    refusal = UpstreamReported(read_error(body), exchange.status, exchange.retry_after)
    refusal.tidy(target.model, call.model, target.private)
    return refusal


def _seconds(retry_after: str | None) -> float | None:
    """Seconds of a `retry-after` header; its other form, a date, is not asked for by any upstream seen."""
    return float(retry_after) if retry_after and retry_after.isdigit() else None
