"""Chat completions that were made with `store: true`.

Shapes: OpenAI API reference, "Chat completions", 2.3.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from accounts import database
from proxy.call import InvalidBody, metadata
from proxy.endpoints.visit import Visit, deleted, list_of
from threads import completions
from threads.history import StoredItem
from threads.item_ids import CHAT_COMPLETION
from threads.models import StoredResponse
from threads.pages import Page

Message = dict[str, Any]


async def list_completions(visit: Visit) -> None:
    """`model`, `metadata[key]=value`, `limit`, `after` and `order` (the oldest first)."""
    query = visit.query
    wanted = query.page("asc"), query.string("model"), query.mapping("metadata")
    await visit.show(await database.run(_list, visit.tenant_id, *wanted))


def _list(tenant_id: UUID, page: Page, model: str | None, metadata: Mapping[str, str]) -> bytes:
    return list_of(completions.completions(tenant_id, page, model=model, metadata=metadata), _completion)


async def retrieve(visit: Visit) -> None:
    found = await database.run(completions.get, visit.tenant_id, _key(visit))
    await visit.show(msgspec.json.encode(_completion(found)))


async def update(visit: Visit) -> None:
    """`{"metadata": {…}}`, which takes the place of all that it had."""
    key, fields = _key(visit), await visit.fields()
    if "metadata" not in fields:
        raise InvalidBody("You must provide 'metadata'.", "metadata")
    changed = await database.run(completions.update, visit.tenant_id, key, metadata(fields))
    await visit.show(msgspec.json.encode(_completion(changed)))


async def delete(visit: Visit) -> None:
    await database.run(completions.delete, visit.tenant_id, _key(visit))
    await visit.show(deleted("chat.completion.deleted", visit.ids[0]))


async def list_messages(visit: Visit) -> None:
    """What it was asked with. `limit`, `after` and `order` (the oldest first)."""
    key, page = _key(visit), visit.query.page("asc")
    await visit.show(await database.run(_messages, visit.tenant_id, key, page))


def _messages(tenant_id: UUID, key: UUID, page: Page) -> bytes:
    return list_of(completions.messages(tenant_id, key, page), _message)


def _key(visit: Visit) -> UUID:
    return visit.key(CHAT_COMPLETION, "chat completion")


def _completion(stored: StoredResponse) -> dict[str, object]:
    """What its caller got, and its metadata, which a chat completion bears only where it is stored."""
    told = msgspec.json.decode(stored.body, type=dict[str, msgspec.Raw])
    return {**told, "metadata": stored.metadata}


def _message(stored: StoredItem) -> Message:
    """Content that came in parts stays in parts, under another name."""
    message: Message = msgspec.json.decode(stored.data)
    content = message.get("content")
    parts = content if isinstance(content, list) else None
    return {**message, "id": stored.id, "content": None if parts else content, "content_parts": parts}
