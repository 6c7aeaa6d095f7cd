"""`GET /limits`: why was this refused? How every limit and budget of this key stands, taking nothing.

`?model=` names the model whose limits are meant too, and whose price the budgets go by.
"""

from __future__ import annotations

from typing import Any

import msgspec

from accounts.limits import Bucket, HoldState, LeaseState, Level, State
from accounts.rules import BudgetRule
from proxy.call import Call
from proxy.demands import Asked
from proxy.errors import WrongMethod
from proxy.http import Reply, Request
from proxy.relay import Relay

_NANO = 10**9


async def answer(relay: Relay, request: Request, reply: Reply) -> None:
    """`{"object": "list", "data": [...]}`. Raises NoCredential, BudgetUnavailable, DatabaseUnavailable."""
    if request.method != "GET":
        raise WrongMethod(request.method, ("GET",))
    caller = await relay.caller(request)
    call = Call("chat.completions", "", request.query("model"), False, {}, 0)
    explained = await relay.limits.explain(call, caller, request.client_ip)
    data = [
        *map(_limit, explained.asked, explained.limits),
        *map(_budget, explained.rules, explained.budgets),
    ]
    await reply.whole(200, b"application/json", msgspec.json.encode({"object": "list", "data": data}))


def _limit(asked: Asked, state: State) -> dict[str, Any]:
    told: dict[str, Any] = {"object": "limit", "scope": asked.rule.scope, "counts": asked.counts}
    if isinstance(state, LeaseState):
        return {**told, "limit": state.limit, "remaining": max(0, state.limit - state.leases)}
    assert isinstance(state, Level)
    assert isinstance(asked.demand, Bucket)
    return {
        **told,
        "limit": state.limit,
        "period_seconds": asked.demand.period_seconds,
        "remaining": max(0, state.remaining),
        "full_in_seconds": state.full_seconds,
        "when_exceeded": "reject" if asked.rule.queue_seconds is None else "queue",
    }


def _budget(rule: BudgetRule, state: HoldState) -> dict[str, Any]:
    """Amounts are dollars as decimal strings, so that nobody rounds them."""
    spent = 0 if state.spent is None else state.spent
    return {
        "object": "budget",
        "scope": rule.scope,
        "period": rule.period,
        "amount_usd": _dollars(state.amount),
        "spent_usd": _dollars(spent),
        "held_usd": _dollars(state.held),
        "free_usd": _dollars(max(0, state.amount - spent - state.held)),
        "calls_under_way": state.calls,
    }


def _dollars(nano: int) -> str:
    return f"{nano // _NANO}.{nano % _NANO:09d}"
