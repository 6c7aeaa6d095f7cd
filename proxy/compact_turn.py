"""The turn of `/responses/compact`: the model is asked for a summary of all that was said, and its caller
gets that as a sealed item, after what people said. Nothing is stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from accounts.keys import Caller
from proxy import call as calls
from proxy import compaction
from proxy.admission import Ticket
from proxy.before import Before, Local, look_back, with_history
from proxy.call import Call
from proxy.event_log import EventLog
from proxy.http import Last, Reply, Request
from proxy.responses import shape
from proxy.turns import Turn

# A summary needs no tools, and is not to be cut to the shape of an answer.
_PASSED_ON = frozenset({"model", "input", "instructions", "reasoning", "prompt_cache_key", "service_tier"})


async def take(call: Call, caller: Caller, request: Request, log: EventLog) -> Turn:
    """Raises InvalidBody, PreviousResponseNotFound, DatabaseUnavailable."""
    for name in call.fields:
        if name not in _PASSED_ON:  # No upstream will say that it has no sense, and the answer repeats some.
            calls.member(call.fields, name)
    before = await look_back(call, caller, Local())
    asking = replace(before, given=tuple(compaction.asking(list(before.given))))
    stateless = await with_history(call, asking, caller.tenant_id)
    fields = {name: member for name, member in stateless.fields.items() if name in _PASSED_ON}
    return CompactTurn(replace(stateless, fields=fields), caller, before)


class CompactTurn(Turn):
    """One compaction's."""

    def __init__(self, call: Call, caller: Caller, before: Before) -> None:
        super().__init__(call)
        self._tenant_id = caller.tenant_id
        self._said = [*before.said, *before.given]

    async def keep(self, last: Last, ticket: Ticket, reply: Reply) -> Last:
        """The summary's Response as the window that its caller goes on with."""
        if last.status != 200:
            return last
        response: dict[str, Any] = msgspec.json.decode(last.body)
        window = compaction.window(self._said, _text(response), self._tenant_id)
        body = {
            "id": response["id"],
            "object": "response.compaction",
            "created_at": response["created_at"],
            "output": [shape.complete_item(item) for item in window],
            "usage": response["usage"],
        }
        return replace(last, body=msgspec.json.encode(body))


def _text(response: dict[str, Any]) -> str:
    """What the model said."""
    parts = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in parts if part["type"] == "output_text")
