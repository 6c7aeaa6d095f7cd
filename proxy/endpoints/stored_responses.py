"""Responses that are stored, or on their way: looked at, followed, cancelled, deleted.

Shapes: OpenAI API reference, "Responses", 2.3.0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any
from uuid import UUID

import msgspec

from accounts import database
from proxy.endpoints.visit import Visit, deleted, list_of
from proxy.event_log import MAX_NUMBER
from proxy.query import integer
from proxy.stored_items import ENCRYPTED, INCLUDABLE, shown
from threads import history, responses
from threads.item_ids import RESPONSE, uuid_of
from threads.pages import Page
from threads.responses import UNFINISHED

CANCEL_SECONDS = 5.0
_LOOK_SECONDS = 0.1
_LAST_EVENT_ID = "Last-Event-ID"

Document = dict[str, Any]


async def retrieve(visit: Visit) -> None:
    """The Response object, with what `include` asks for; `stream=true`: its events, from the one after
    `starting_after`."""
    key, query = _key(visit), visit.query
    include = query.several("include", INCLUDABLE)
    if query.boolean("stream"):
        return await visit.relay.following.stream(
            visit.tenant_id, key, _after(visit), visit.request, visit.reply
        )
    await visit.show(await database.run(_response, visit.tenant_id, key, include))


def _after(visit: Visit) -> int:
    """The number of the event that the caller has seen last; -1 for none. A browser that connects again does
    so to the same address, and says in a header how far it came since."""
    header = visit.request.header(_LAST_EVENT_ID.lower().encode())
    if header:
        return integer(_LAST_EVENT_ID, header, -1, MAX_NUMBER)
    after = visit.query.integer("starting_after", -1, MAX_NUMBER)
    return -1 if after is None else after


def _response(tenant_id: UUID, key: UUID, include: Collection[str]) -> bytes:
    body = responses.get(tenant_id, key).body.encode()
    return _with_encrypted(tenant_id, body) if ENCRYPTED in include else body


def _with_encrypted(tenant_id: UUID, body: bytes) -> bytes:
    """With the encrypted reasoning, which is kept with the items."""
    response: Document = msgspec.json.decode(body)
    reasoning = {id_: item for item in response["output"] if (id_ := uuid_of(item["id"]))}
    for id_, stored in history.items_by_id(tenant_id, reasoning).items():
        encrypted = msgspec.json.decode(stored.data).get("encrypted_content")
        if stored.type == "reasoning" and encrypted:
            reasoning[id_]["encrypted_content"] = encrypted
    return msgspec.json.encode(response)


async def delete(visit: Visit) -> None:
    key = _key(visit)
    await database.run(responses.delete, visit.tenant_id, key)
    await visit.relay.log.forget(key)
    await visit.show(deleted("response", visit.ids[0]))


async def cancel(visit: Visit) -> None:
    """Answers with the Response object once it has ended, which takes CANCEL_SECONDS at most; one that had
    ended before stays as it was."""
    key = _key(visit)
    response = await database.run(responses.request_cancel, visit.tenant_id, key)
    visit.relay.running.cancel(key)
    try:
        async with asyncio.timeout(CANCEL_SECONDS):
            while response.status in UNFINISHED:
                await asyncio.sleep(_LOOK_SECONDS)
                response = await database.run(responses.get, visit.tenant_id, key)
    except TimeoutError:
        pass  # whoever looks again sees how it ended
    await visit.show(response.body.encode())


async def list_input_items(visit: Visit) -> None:
    """All that it was made from. `limit`, `after`, `order` (the newest first) and `include`."""
    key, page, include = _key(visit), visit.query.page(), visit.query.several("include", INCLUDABLE)
    await visit.show(await database.run(_input_items, visit.tenant_id, key, page, include))


def _input_items(tenant_id: UUID, key: UUID, page: Page, include: Collection[str]) -> bytes:
    return list_of(responses.input_items(tenant_id, key, page), lambda item: shown(item, include))


def _key(visit: Visit) -> UUID:
    return visit.key(RESPONSE, "response")
