"""What a Response goes on from: found, checked, and put before what its caller sends now.

A Response is continued by `previous_response_id`, by a `conversation`, or on a connection that remembers its
last one. What an upstream gets is everything that was said, and nothing to look up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar, TypeVarTuple
from uuid import UUID

import msgspec

from accounts import database
from accounts.ids import uuid7
from accounts.keys import Caller
from proxy import call as calls
from proxy import compaction
from proxy.call import LARGE_BYTES, Call, Fields, InvalidBody
from proxy.elsewhere import Elsewhere
from proxy.http import Request
from proxy.responses import items
from proxy.usage import estimate_input
from threads import history
from threads.errors import NotFound
from threads.history import NOTHING, NewItem, Past, StoredItem
from threads.item_ids import new_id, uuid_of

Item = dict[str, Any]
T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_EFFORT, _SHOW = b"x-reasoning-effort", b"x-show-reasoning"
# An upstream never hears of them; what else it does not get, its dialect leaves out.
_OURS = frozenset({"previous_response_id", "conversation", "background"})
# Items of these types bear an id wherever they are sent (OpenAI API reference, input items, 2026-11); a
# server that keeps nothing looks for any other's in vain. What is encrypted is bound to the id that the
# upstream had for it, and taken without any (github.com/BerriAI/litellm/pull/15782).
_BEAR_IDS = frozenset(
    {"reasoning", "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"}
    | {"computer_call", "local_shell_call", "mcp_call", "mcp_list_tools", "mcp_approval_request"}
)


class PreviousResponseNotFound(Exception):
    """There is no such Response to go on from: not here, not any more, or not this caller's."""


class Local:
    """What a connection remembers of its last Response that is stored nowhere: nothing, where it has but one
    (proxy/memory.py). `size` is how many bytes it remembers."""

    @property
    def size(self) -> int:
        return 0

    async def said(self, response_id: str) -> tuple[Item, ...] | None:
        """All that was said up to that Response; None when it is not the last one here."""
        return None

    async def remember(self, response_id: str, said: tuple[Item, ...], size: int) -> None:
        """That Response is the last one here; `size` is about how many bytes of JSON its items are."""


@dataclass(frozen=True, slots=True)
class Before:
    """What a Response goes on from: where that is stored, what was said, and what its caller sends now; and
    about how many bytes of JSON all that is."""

    past: Past
    said: tuple[Item, ...]
    given: tuple[Item, ...]
    size: int = 0

    @property
    def unstored(self) -> tuple[Item, ...]:
        """What is stored with the Response: that its caller sent, and what was said but stored nowhere."""
        return self.given if self.past.thread_id else (*self.said, *self.given)


async def look_back(call: Call, caller: Caller, local: Local) -> Before:
    """What the call goes on from.

    Raises InvalidBody, PreviousResponseNotFound, NotContinuable, NotFound, PastTooLarge, DatabaseUnavailable.
    """
    given, size = await _given(call, caller)
    previous = calls.string(call.fields, "previous_response_id")
    if previous and (said := await local.said(previous)) is not None:
        before = Before(NOTHING, said, given, size + local.size)
    else:
        past = await _past(previous, _conversation(call.fields), caller)
        size += _size(past.items)
        before = Before(past, await off_the_loop(size, _items, past.items), given, size)
    call_id = await off_the_loop(before.size, items.unanswered, [*before.said, *given])
    if call_id is not None:
        raise InvalidBody(f"No tool call found for function call output with call_id {call_id}.", "input")
    return before


async def off_the_loop(size: int, function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    """What the function returns: from a thread, where so many bytes would hold up every other call."""
    if size < LARGE_BYTES:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)


def encoded(said: Iterable[Item]) -> bytes:
    """A JSON array, made item by item: between two of them the loop has its turn."""
    return b"[%b]" % b",".join([msgspec.json.encode(item) for item in said])


async def with_history(call: Call, before: Before, tenant_id: UUID) -> Call:
    """The call with all that was said in its input, and nothing left to look up. Raises InvalidBody."""
    return await off_the_loop(before.size, _with_history, call, before, tenant_id)


def _with_history(call: Call, before: Before, tenant_id: UUID) -> Call:
    fields = {name: member for name, member in call.fields.items() if name not in _OURS}
    whole = (*before.said, *before.given)
    sent = encoded(_sent(item, tenant_id) for item in whole if _says_something(item))
    around = msgspec.json.encode({**fields, "input": msgspec.Raw(b"")})
    estimate = estimate_input(around, sent)
    fields["input"] = msgspec.Raw(sent)
    return replace(call, fields=fields, input_tokens_estimate=estimate, elsewhere=_elsewhere(before))


def _elsewhere(before: Before) -> Elsewhere | None:
    if not before.past.upstreams:
        return None
    fresh = len(items.messages_of([item for item in before.given if _says_something(item)]))
    return Elsewhere(before.past.upstreams, before.past.end, fresh)


async def _given(call: Call, caller: Caller) -> tuple[tuple[Item, ...], int]:
    """What the caller sends now, and how many bytes that is; in place of references what they refer to."""
    raw = call.fields.get("input")
    if raw is None or bytes(raw) == b"null":
        return (), 0
    given = await off_the_loop(len(raw), items.input_items, raw)
    wanted = [item["id"] for item in given if item["type"] == "item_reference"]
    if not wanted:
        return tuple(given), len(raw)
    keys = {known_id(id_, "item") for id_ in wanted}
    stored = (await database.run(history.items_by_id, caller.tenant_id, keys)).values()
    size = len(raw) + _size(stored)
    found = {item["id"]: item for item in await off_the_loop(size, _items, stored)}
    if not found.keys() >= set(wanted):
        raise NotFound("item")
    return tuple(found[item["id"]] if item["type"] == "item_reference" else item for item in given), size


def _size(stored: Iterable[StoredItem]) -> int:
    return sum(len(each.data) for each in stored)


def _items(stored: Iterable[StoredItem]) -> tuple[Item, ...]:
    return tuple(map(_item, stored))


def _item(stored: StoredItem) -> Item:
    document: Item = msgspec.json.decode(stored.data)
    return {**document, "id": stored.id}


async def _past(previous: str | None, conversation: str | None, caller: Caller) -> Past:
    if previous:
        try:
            return await database.run(
                history.past_of_response, caller.tenant_id, known_id(previous, "response")
            )
        except NotFound:
            raise PreviousResponseNotFound from None
    if conversation:
        thread_id = known_id(conversation, "conversation")
        return await database.run(history.past_of_conversation, caller.tenant_id, thread_id)
    return NOTHING


def known_id(public_id: str, what: str) -> UUID:
    """The key in an id. Raises NotFound for an id that is none of ours."""
    known = uuid_of(public_id)
    if known is None:
        raise NotFound(what)
    return known


def _conversation(fields: Fields) -> str | None:
    """The conversation's id: the member is that, or an object with it. Raises InvalidBody."""
    given = calls.member(fields, "conversation")
    if isinstance(given, dict):
        given = given.get("id")
    if given is not None and not isinstance(given, str):
        raise InvalidBody("'conversation' must be an id, or an object with one.", "conversation")
    return given


def _says_something(item: Item) -> bool:
    """Reasoning of which there is only the summary says nothing to a model."""
    return item["type"] != "reasoning" or bool(item.get("encrypted_content") or item.get("content"))


def _sent(item: Item, tenant_id: UUID) -> Item:
    """An item as upstreams get it: with an id where it needs one, and then one of ours.

    Raises InvalidBody for a compaction that is not from here.
    """
    if item["type"] == "compaction":
        return compaction.opened(item, tenant_id)
    sent = {name: member for name, member in item.items() if name != "id"}
    if item["type"] in _BEAR_IDS and not item.get("encrypted_content"):
        given = item.get("id")
        sent["id"] = given if isinstance(given, str) and uuid_of(given) else new_id(item["type"])
    return sent


def new_item(item: Item, id_: UUID | None = None) -> NewItem:
    """An item as it is stored: under an id of its own, whatever id its caller had for it."""
    data = msgspec.json.encode({name: member for name, member in item.items() if name != "id"})
    role = item["role"] if item["type"] == "message" else ""
    return NewItem(item["type"], data, role=role, text=items.search_text(item), id=id_ or uuid7())


def end_user(call: Call) -> str:
    """Whom the caller says that it calls for; "" when it does not."""
    asked = call.asked or call.fields
    return calls.string(asked, "safety_identifier") or calls.string(asked, "user") or ""


def with_wishes(call: Call, request: Request) -> Call:
    """The call, with what its headers say of reasoning."""
    headers = request.headers
    if _EFFORT not in headers and _SHOW not in headers:
        return call
    return replace(call, wishes=(request.header(_EFFORT), request.header(_SHOW)))
