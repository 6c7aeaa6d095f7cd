"""Reads the answer of an upstream that took the call, and passes it on: as it comes, or in one piece."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from proxy import usage
from proxy.admission import Status, Ticket
from proxy.attempts import Connection
from proxy.call import LARGE_BYTES
from proxy.chained import FoldedChat
from proxy.dialects import openai
from proxy.http import EVENTS_TYPE, Last, Watch
from proxy.passage import Garbled, Passage, ResponsePassage, decode, value
from proxy.reported import UpstreamReported, read_error
from proxy.tokens import TokenCounter

_JSON = b"application/json"

Give = Callable[[bytes], Awaitable[None]]


async def stream(ticket: Ticket, connection: Connection, watch: Watch, counter: TokenCounter) -> Last:
    """Passes the events on; returns the terminal one. Raises Truncated, Garbled, UpstreamReported, Broken."""
    passage = ticket.passage = await _passage(ticket, connection)
    await watch.reply.begin_events()
    if begun := passage.begin():
        await watch.reply.piece(begun)
    marker = await _read(ticket, connection, watch, counter, passage, watch.reply.piece)
    return Last(200, EVENTS_TYPE, marker)


async def whole(ticket: Ticket, connection: Connection, watch: Watch, counter: TokenCounter) -> Last:
    """The answer in one piece, put together here where the upstream sends events.

    Raises Truncated, Garbled, UpstreamReported, Broken, TooLong.
    """
    read = connection.wire.whole
    if read is None:
        passage = ticket.passage = await _passage(ticket, connection)
        assert isinstance(passage, ResponsePassage | FoldedChat)
        await _read(ticket, connection, watch, counter, passage, _nowhere)
        return Last(200, _JSON, passage.final())
    body, content_type = await connection.exchange.whole(), connection.exchange.content_type
    ticket.first_byte()
    answer = (
        read(content_type, body)
        if len(body) < LARGE_BYTES
        else await asyncio.to_thread(read, content_type, body)
    )
    ticket.ending.usage, ticket.ending.items = answer.usage, answer.items
    ticket.ending.output_tokens_estimate = answer.output_tokens_estimate
    ticket.ending.took_out(answer.control_tokens)
    ticket.ending.status, ticket.ending.status_code = Status.COMPLETED, 200
    return Last(200, answer.content_type, answer.body)


async def _nowhere(piece: bytes) -> None:
    """Where the events of an answer go that is given in one piece."""


async def _read(
    ticket: Ticket,
    connection: Connection,
    watch: Watch,
    counter: TokenCounter,
    passage: Passage,
    give: Give,
) -> bytes:
    """Gives on what the passage lets through; the terminal event is what it returns."""
    exchange, idle_seconds = connection.exchange, connection.target.timeouts.idle
    ticket.follow(lambda: passage.output_tokens_estimate)
    if passage.texts is not None:
        counter.prepare()
    try:
        while piece := await exchange.read():
            if ticket.first_byte():
                watch.expect_pieces(idle_seconds)
            watch.heard()
            if (frames := passage.splitter.feed(piece)) and (passed := passage.feed(frames)):
                await give(passed)
            if passage.finished:
                exchange.finish()
                break
        if (texts := passage.texts) and (counted := await counter.count(texts)):
            passage.count(*counted)
        if rest := passage.rest():
            await give(rest)
        marker = passage.end()
    except Garbled as error:
        if error.before:
            await give(error.before)
        raise
    finally:
        ticket.ending.usage = passage.usage
        ticket.ending.input_tokens_counted = passage.input_tokens_counted
        ticket.ending.output_tokens_estimate = passage.output_tokens_estimate
        if connection.wire.ended is not None:
            connection.wire.ended(ticket.ending, exchange)
    ticket.ending.status, ticket.ending.status_code = Status.COMPLETED, 200
    return marker


async def _passage(ticket: Ticket, connection: Connection) -> Passage:
    """What the answer goes through. Raises UpstreamReported, and Garbled for one that is no stream: a whole
    answer too, which costs what it says."""
    exchange = connection.exchange
    if exchange.content_type in connection.wire.streams:
        return connection.wire.passage(exchange.content_type)
    body = await exchange.whole()
    if error := read_error(body):
        raise UpstreamReported(error)
    ticket.first_byte()
    answer = decode(body)
    ticket.ending.usage = usage.read(value(answer["usage"])) if "usage" in answer else None
    ticket.ending.output_tokens_estimate = openai.estimate(answer)
    raise Garbled
