"""`/conversations`: threads that their callers know by name, and the items in them.

Shapes: OpenAI API reference, "Conversations", 2.3.0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from uuid import UUID

import msgspec

from accounts import database
from accounts.keys import Caller
from proxy.before import new_item
from proxy.call import LARGE_BYTES, Fields, InvalidBody, metadata
from proxy.endpoints.visit import Visit, deleted, list_of
from proxy.responses.items import decoded, input_items
from proxy.stored_items import INCLUDABLE, Item, shown
from threads import conversations
from threads.history import NewItem
from threads.item_ids import CONVERSATION
from threads.models import Thread
from threads.pages import Page, listed


async def create(visit: Visit) -> None:
    """`{"metadata": {…}, "items": […]}`, both optional."""
    fields = await visit.fields()
    given = await _items(fields) if _has(fields, "items") else []
    await visit.show(await database.run(_create, visit.caller, given, metadata(fields)))


def _create(caller: Caller, given: list[NewItem], metadata: dict[str, str]) -> bytes:
    return _conversation(
        conversations.create(
            caller.tenant_id,
            given,
            metadata,
            retention_days=caller.retention_days,
            user_id=caller.user_id,
        )
    )


async def retrieve(visit: Visit) -> None:
    await visit.show(_conversation(await database.run(conversations.get, visit.tenant_id, _key(visit))))


async def update(visit: Visit) -> None:
    """`{"metadata": {…}}`, which takes the place of all that it had."""
    key, fields = _key(visit), await visit.fields()
    if "metadata" not in fields:
        raise InvalidBody("You must provide 'metadata'.", "metadata")
    changed = await database.run(conversations.update, visit.tenant_id, key, metadata(fields))
    await visit.show(_conversation(changed))


async def delete(visit: Visit) -> None:
    await database.run(conversations.delete, visit.tenant_id, _key(visit))
    await visit.show(deleted("conversation.deleted", visit.ids[0]))


async def list_items(visit: Visit) -> None:
    """`limit`, `after`, `order` (the newest first) and `include`."""
    key, page, include = _key(visit), visit.query.page(), visit.query.several("include", INCLUDABLE)
    await visit.show(await database.run(_list_items, visit.tenant_id, key, page, include))


def _list_items(tenant_id: UUID, key: UUID, page: Page, include: Collection[str]) -> bytes:
    return list_of(conversations.items(tenant_id, key, page), lambda item: shown(item, include))


async def add_items(visit: Visit) -> None:
    """`{"items": […]}`; answers with the items as they are now."""
    key, include = _key(visit), visit.query.several("include", INCLUDABLE)
    given = await _items(await visit.fields())
    kept_for = visit.caller.retention_days
    await visit.show(await database.run(_add_items, visit.tenant_id, key, given, include, kept_for))


def _add_items(
    tenant_id: UUID,
    key: UUID,
    given: list[NewItem],
    include: Collection[str],
    retention_days: int | None,
) -> bytes:
    added = conversations.add_items(tenant_id, key, given, retention_days=retention_days)
    return list_of(listed(added, len(added), lambda item: item.id), lambda item: shown(item, include))


async def retrieve_item(visit: Visit) -> None:
    """`include` says what more of it to show."""
    key, include = _key(visit), visit.query.several("include", INCLUDABLE)
    await visit.show(await database.run(_item, visit.tenant_id, key, visit.ids[1], include))


def _item(tenant_id: UUID, key: UUID, item_id: str, include: Collection[str]) -> bytes:
    return msgspec.json.encode(shown(conversations.item(tenant_id, key, item_id), include))


async def delete_item(visit: Visit) -> None:
    """Answers with the conversation."""
    left = await database.run(conversations.delete_item, visit.tenant_id, _key(visit), visit.ids[1])
    await visit.show(_conversation(left))


def _key(visit: Visit) -> UUID:
    return visit.key(CONVERSATION, "conversation")


def _conversation(thread: Thread) -> bytes:
    return msgspec.json.encode(
        {
            "id": CONVERSATION + thread.id.hex,
            "object": "conversation",
            "created_at": int(thread.created_at.timestamp()),
            "metadata": thread.metadata,
        }
    )


def _has(fields: Fields, name: str) -> bool:
    return bytes(fields.get(name, b"null")) != b"null"


async def _items(fields: Fields) -> list[NewItem]:
    """Raises InvalidBody naming the place."""
    raw = fields.get("items", msgspec.Raw(b"null"))
    return _read(raw) if len(raw) < LARGE_BYTES else await asyncio.to_thread(_read, raw)


def _read(raw: msgspec.Raw) -> list[NewItem]:
    if not isinstance(decoded(raw, "items"), list):
        raise InvalidBody("'items' must be an array of items.", "items")
    return [new_item(_own(item)) for item in input_items(raw, "items")]


def _own(item: Item) -> Item:
    """What is kept is the item itself."""
    if item["type"] == "item_reference":
        raise InvalidBody("'items' must be items, not references to some.", "items")
    return item
