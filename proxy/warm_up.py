"""A Response that only prepares the next one: `generate: false` (OpenAI's guide "WebSocket mode", 2026-11).

What its caller sends is remembered on the connection, and told from there on like what was said in any other.
No upstream hears of it, so it costs nothing. It is stored nowhere, whatever `store` says, and says so.
"""

from __future__ import annotations

from accounts.ids import created_at
from accounts.keys import Caller
from proxy.before import look_back, with_history
from proxy.call import Call
from proxy.http import Reply, Request
from proxy.memory import Memory
from proxy.relay import Relay
from proxy.responses import replay, shape


async def warm_up(
    relay: Relay, call: Call, caller: Caller, request: Request, reply: Reply, memory: Memory
) -> None:
    """Answers with a whole Response without output. Raises what would be wrong with a call for some."""
    await relay.routing.plan(call.model, caller)
    before = await look_back(call, caller, memory)
    await with_history(call, before, caller.tenant_id)
    answer_id, now = f"resp_{request.id.hex}", created_at(request.id)
    ended = {"status": "completed", "completed_at": now, "usage": shape.estimated_usage(0, 0), "store": False}
    response = shape.skeleton(answer_id, call.model, call.asked, now) | ended
    await memory.remember(answer_id, (*before.said, *before.given), before.size)
    await reply.begin_events()
    await reply.end(replay.events_of(response))
