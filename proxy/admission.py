"""Lets a call in, and settles it once.

Invariant: between `admit` and the end of `settle` the call is one open row; after it, one usage record,
whatever the ending. `settle` is called in one `finally` (proxy/relay.py) and goes on when the task that
called it is cancelled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from accounts.keys import Caller
from proxy.call import Call
from proxy.elsewhere import There
from proxy.http import Last, Reply, Request
from proxy.idempotency import Claim
from proxy.ledger import Ledger, Row, timestamp
from proxy.limiting import Limits, Reservation
from proxy.models import UsageRecord
from proxy.passage import Passage
from proxy.routing import Target
from proxy.usage import Price, Usage, cost_nano_usd

Status = UsageRecord.Status

# What an open call and its usage record have in common.
KEPT = (
    "id",
    "tenant_id",
    "user_id",
    "api_key_id",
    "security_key_id",
    "endpoint",
    "model",
    "stream",
    "started_at",
    "budgets",
)


@dataclass(slots=True)
class Ending:
    """What became of a call, as the relay learns it."""

    status: Status = Status.FAILED
    status_code: int | None = None
    error_code: str = ""
    upstream: str = ""
    upstream_model: str = ""
    attempts: list[dict[str, Any]] = field(default_factory=list)
    usage: Usage | None = None
    items: list[dict[str, Any]] = field(default_factory=list)
    input_tokens_counted: int | None = None  # where nobody reports them, and they are not told from the size
    output_tokens_estimate: int = 0
    first_byte_milliseconds: int | None = None
    elsewhere: tuple[UUID, There] | None = None  # the upstream that keeps its thread, and as what

    def attempt(self, target: Target, outcome: str) -> None:
        """Notes one try of one target; `outcome` is an HTTP status or a word for what happened instead."""
        self.upstream, self.upstream_model = target.upstream, target.model
        self.attempts.append({"upstream": target.upstream, "outcome": outcome})

    def took_out(self, control_tokens: int) -> None:
        """Notes how many control tokens of gpt-oss were taken out of the answer that was read."""
        if control_tokens:
            self.attempts[-1]["control_tokens"] = control_tokens

    @property
    def control_tokens(self) -> int:
        taken: int = self.attempts[-1].get("control_tokens", 0) if self.attempts else 0
        return taken


class Ticket:
    """An admission that must be settled."""

    def __init__(
        self,
        call: Call,
        caller: Caller,
        opened: Row,
        *,
        price: Price | None,
        ledger: Ledger,
        limits: Limits,
        reservation: Reservation | None,
        claim: Claim | None,
    ) -> None:
        self.call = call
        self.caller = caller
        self.id = UUID(opened["id"])
        self.worker_id = UUID(opened["worker_id"])
        self.ending = Ending()
        self.record: Row = {}  # once it is settled
        self.passage: Passage | None = None  # once a stream is read
        self._opened = opened
        self._price = price
        self._ledger = ledger
        self._limits = limits
        self._reservation = reservation
        self._claim = claim
        self._withdrawn = False
        self.started = time.monotonic()

    @property
    def tokens_so_far(self) -> int | None:
        """About how much output there is, None before a stream is read."""
        return None if self.passage is None else self.passage.output_tokens_estimate

    def follow(self, tokens_so_far: Callable[[], int]) -> None:
        """How the limits may ask for the output so far."""
        if self._reservation is not None:
            inputs = self.call.input_tokens_estimate
            self._reservation.tokens_so_far = lambda: inputs + tokens_so_far()

    def first_byte(self) -> bool:
        """A byte of the answer has come; whether it was the first."""
        if self.ending.first_byte_milliseconds is not None:
            return False
        self.ending.first_byte_milliseconds = self._elapsed_milliseconds()
        return True

    def withdraw(self) -> None:
        """It will leave no record: whoever withdraws it removed its open row, for the call is made again."""
        self._withdrawn = True

    async def settle(self, last: Last, began: int | None) -> None:
        """Returns once the usage record is in the database, or safe on disk; and with it the answer, where
        its caller may ask for it again: `last`, or the stream that `began` with that status and ends so.
        """
        self.record = self._made_record()
        kept = {}
        if self._claim is not None:
            ending = self.ending
            kept["idempotency"] = self._claim.settled(ending.status, ending.status_code, last, began)
        try:
            if not self._withdrawn:
                await asyncio.shield(self._ledger.settle(self.record | kept))
        finally:
            if self._reservation is not None:
                tokens = (self.record["input_tokens"] or 0) + (self.record["output_tokens"] or 0)
                spent = self.record["cost_nano_usd"] or 0
                await self._limits.settle(self._reservation, tokens, spent)

    def _made_record(self) -> Row:
        ending = self.ending
        usage, estimated = self._usage()
        return {
            **{name: self._opened[name] for name in KEPT},
            "status": ending.status,
            "status_code": ending.status_code,
            "error_code": _plain(ending.error_code),
            "upstream": ending.upstream,
            "upstream_model": ending.upstream_model,
            "attempts": ending.attempts,
            "input_tokens": usage.input_tokens,
            "cached_input_tokens": usage.cached_input_tokens,
            "output_tokens": usage.output_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_milliseconds": usage.audio_milliseconds,
            "estimated": estimated,
            "cost_nano_usd": cost_nano_usd(usage, self._price),
            "first_byte_milliseconds": ending.first_byte_milliseconds,
            "duration_milliseconds": self._elapsed_milliseconds(),
            "ended_at": timestamp(datetime.now(UTC)),
        }

    def _usage(self) -> tuple[Usage, bool]:
        """What the upstream reported, else an estimate; a call that no upstream answered used nothing."""
        ending = self.ending
        if ending.usage is not None:
            return self._with_output(ending.usage)
        if ending.status is Status.FAILED and ending.first_byte_milliseconds is None:
            return Usage(input_tokens=0, output_tokens=0), False
        if self.call.audio is not None:
            return Usage(audio_milliseconds=self.call.audio.milliseconds), not self.call.audio.exact
        inputs = ending.input_tokens_counted
        inputs = self.call.input_tokens_estimate if inputs is None else inputs
        return Usage(inputs, output_tokens=ending.output_tokens_estimate), True

    def _with_output(self, reported: Usage) -> tuple[Usage, bool]:
        """An upstream that counts what it was asked, and not what it said, is not to be had for half."""
        said = self.ending.output_tokens_estimate
        if reported.output_tokens is not None or reported.input_tokens is None or not said:
            return reported, False
        return replace(reported, output_tokens=said), True

    def _elapsed_milliseconds(self) -> int:
        return round((time.monotonic() - self.started) * 1000)


def _plain(code: str) -> str:
    """An error code as the ledger takes it: an upstream may have written it."""
    return "".join(character for character in code[:64] if character.isprintable())


async def admit(
    call: Call,
    caller: Caller,
    request: Request,
    reply: Reply,
    *,
    worker_id: UUID,
    price: Price | None,
    ledger: Ledger,
    limits: Limits,
    claim: Claim | None,
) -> Ticket:
    """Reserves what the limits demand, then opens the call in the ledger: before any upstream hears of it.

    Raises RateLimited, ClientLeft, InProgress, DatabaseUnavailable. Then, and where it is cancelled, the call
    is not open.
    """
    reservation = await limits.reserve(call, caller, price, request, reply)
    if reservation is not None:
        call = reservation.call
    opened = _opened(call, caller, request.id, worker_id, reservation)
    if claim is not None:
        opened["idempotency"] = claim.opened()
    try:
        await ledger.open(opened)
    except BaseException:
        if reservation is not None:
            await limits.settle(reservation, 0, 0)
        raise
    return Ticket(
        call,
        caller,
        opened,
        price=price,
        ledger=ledger,
        limits=limits,
        reservation=reservation,
        claim=claim,
    )


def _opened(
    call: Call, caller: Caller, request_id: UUID, worker_id: UUID, reservation: Reservation | None
) -> Row:
    """The row of an open call."""
    return {
        "id": request_id.hex,
        "tenant_id": caller.tenant_id.hex,
        "user_id": caller.user_id,
        "api_key_id": caller.api_key_id and caller.api_key_id.hex,
        "security_key_id": caller.security_key_id and caller.security_key_id.hex,
        "endpoint": call.endpoint,
        "model": call.model,
        "stream": call.stream,
        "started_at": timestamp(datetime.now(UTC)),
        "budgets": reservation.charges if reservation else (),
        "worker_id": worker_id.hex,
        "input_tokens_estimate": call.input_tokens_estimate,
    }
