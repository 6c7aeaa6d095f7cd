"""What the endpoints of stored objects share: who asks, for which ids, and how they are answered.

A visit is no call: it is not admitted, costs nothing, and leaves no usage record.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from accounts.keys import Caller
from proxy.call import LARGE_BYTES, Fields, parse_fields
from proxy.endpoints.endpoint import MAX_IMAGE_JSON_BYTES, MAX_JSON_BYTES
from proxy.http import Reply, Request
from proxy.intake import Holding, header_credential
from proxy.query import Query
from proxy.relay import Relay
from threads.errors import NotFound
from threads.item_ids import uuid_of
from threads.pages import Listed


@dataclass(frozen=True, slots=True)
class Visit:
    """A caller at the path of a stored object; `ids` are those in the path, in its order."""

    relay: Relay
    caller: Caller
    request: Request
    reply: Reply
    ids: tuple[str, ...]
    holding: Holding

    @property
    def tenant_id(self) -> UUID:
        return self.caller.tenant_id

    @property
    def query(self) -> Query:
        return Query(self.request.query_string)

    def key(self, prefix: str, what: str) -> UUID:
        """Of the object that the first id in the path names. Raises NotFound for what is no such id."""
        key = uuid_of(self.ids[0])
        if key is None or not self.ids[0].startswith(prefix):
            raise NotFound(what)
        return key

    async def fields(self) -> Fields:
        """The members of the body's JSON object; none where there is no body. Raises InvalidBody, …"""
        body = await self.request.body(MAX_JSON_BYTES, MAX_IMAGE_JSON_BYTES, self.holding.grow)
        if not body:
            return {}
        return parse_fields(body) if len(body) < LARGE_BYTES else await asyncio.to_thread(parse_fields, body)

    async def show(self, body: bytes) -> None:
        """Answers with this JSON."""
        await self.reply.whole(200, b"application/json", body)


Answer = Callable[[Visit], Awaitable[None]]
Methods = Mapping[str, Answer]
NO_METHODS: Methods = {}


class Paths:
    """What answers at which path, by method; each `{…}` in a pattern stands for one id."""

    def __init__(self, table: Mapping[str, Methods]) -> None:
        self.table = table
        self._patterns = [(_pattern(path), methods) for path, methods in table.items()]

    def find(self, path: str) -> tuple[Methods, tuple[str, ...]]:
        """What answers there, and the ids in the path; nothing where no pattern is like it."""
        for pattern, methods in self._patterns:
            if match := pattern.fullmatch(path):
                return methods, match.groups()
        return NO_METHODS, ()


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{\w+\\}", "([^/]+)", re.escape(path)), re.DOTALL)


async def visit(relay: Relay, answer: Answer, ids: tuple[str, ...], request: Request, reply: Reply) -> None:
    """Lets a caller in and answers. Raises NoCredential, InvalidCredential, what `answer` raises, …"""
    caller = await relay.caller(request)
    known = header_credential(request) is not None
    with relay.held.hold(request, MAX_IMAGE_JSON_BYTES, authenticated=known) as holding:
        await answer(Visit(relay, caller, request, reply, ids, holding))


def list_of(listed: Listed[Any], show: Callable[[Any], object]) -> bytes:
    """A page as OpenAI's lists are."""
    return msgspec.json.encode(
        {
            "object": "list",
            "data": [show(entry) for entry in listed.data],
            "first_id": listed.first_id,
            "last_id": listed.last_id,
            "has_more": listed.has_more,
        }
    )


def deleted(object_: str, id: str) -> bytes:
    """What is said of an object that is no more."""
    return msgspec.json.encode({"id": id, "object": object_, "deleted": True})
