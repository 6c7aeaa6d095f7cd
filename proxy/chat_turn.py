"""The turn of a chat that belongs to a thread, or that its caller asks to have stored.

A thread is named by `X-GPTOSS-Thread-Id`, or `metadata.gptoss_thread_id`; "new" begins one, and so does an
end user's id alone (`X-GPTOSS-User-Id`, `metadata.gptoss_user_id`). What was said in it goes before what the
caller sends now; both ids come back as headers. `store: true` keeps the completion to be looked at again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from accounts import database
from accounts.ids import created_at, uuid7
from accounts.keys import Caller
from proxy import call as calls
from proxy import elsewhere
from proxy.admission import Status, Ticket
from proxy.before import end_user, known_id, new_item, with_wishes
from proxy.call import Call, Fields, InvalidBody
from proxy.elsewhere import Elsewhere, There
from proxy.event_log import EventLog
from proxy.fold import Fold
from proxy.http import Header, Last, Reply, Request
from proxy.responses.items import items_of, messages_of
from proxy.turns import Turn
from proxy.usage import estimate_input
from threads import completions, conversations, history
from threads.completions import Completed
from threads.history import Past
from threads.item_ids import CONVERSATION

Message = dict[str, Any]

THREAD, USER = b"x-gptoss-thread-id", b"x-gptoss-user-id"
NEW = "new"
MAX_USER_LENGTH = 200
_INSTRUCTS = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Named:
    """The thread that a chat belongs to, and what was said in it; a new one has its id already."""

    thread_id: UUID
    user: str
    past: Past | None


async def take(call: Call, caller: Caller, request: Request, log: EventLog) -> Turn:
    """A chat's turn. Raises InvalidBody, NotFound, DatabaseUnavailable."""
    call = with_wishes(call, request)
    stores = calls.boolean(call.fields, "store")
    metadata = calls.metadata(call.fields) if stores else _loose_metadata(call.fields)
    thread = request.header(THREAD) or metadata.get("gptoss_thread_id", "")
    user = request.header(USER) or metadata.get("gptoss_user_id", "")
    if not (thread or user or stores):
        return Turn(call)
    if len(user) > MAX_USER_LENGTH or not (user.isascii() and user.isprintable()):
        message = f"The user id must be at most {MAX_USER_LENGTH} printable ASCII characters."
        raise InvalidBody(message, "metadata.gptoss_user_id")
    messages = _messages(call.asked)
    named = await _named(thread, user, caller) if thread or user else None
    if named is not None and named.past is not None:
        call = _continued(call, named.past, _new(messages))
    return ChatTurn(call, caller, messages, named, metadata if stores else None)


def _loose_metadata(fields: Fields) -> dict[str, str]:
    """What is text of the metadata: of a chat that is not stored, the rest is nothing to us."""
    try:
        given = calls.member(fields, "metadata")
    except InvalidBody:
        return {}
    pairs = given.items() if isinstance(given, dict) else ()
    return {name: text for name, text in pairs if isinstance(text, str)}


def _messages(fields: Fields) -> list[Message]:
    try:
        return msgspec.json.decode(fields["messages"], type=list[Message])
    except msgspec.DecodeError:
        raise InvalidBody("'messages' must be an array of objects.", "messages") from None


async def _named(thread: str, user: str, caller: Caller) -> Named:
    if not thread or thread == NEW:
        return Named(uuid7(), user, None)
    known = known_id(thread, "conversation")
    past = await database.run(history.past_of_conversation, caller.tenant_id, known, user)
    return Named(known, user, past)


def _new(messages: list[Message]) -> list[Message]:
    """What is new of the messages that a caller sends to a thread: those after the last answer, for callers
    may send all that was said once more."""
    answers = [place for place, message in enumerate(messages) if message.get("role") == "assistant"]
    return _spoken(messages[answers[-1] + 1 :] if answers else messages)


def _spoken(messages: list[Message]) -> list[Message]:
    """Instructions are each call's own, and never part of a thread."""
    return [message for message in messages if message.get("role") not in _INSTRUCTS]


def _continued(call: Call, past: Past, new: list[Message]) -> Call:
    said = [msgspec.json.decode(stored.data) for stored in past.items]
    instructions = [message for message in _messages(call.fields) if message.get("role") in _INSTRUCTS]
    whole = msgspec.json.encode([*instructions, *messages_of(said), *new])
    fields = {**call.fields, "messages": msgspec.Raw(whole)}
    estimate = estimate_input(msgspec.json.encode(fields))
    there = Elsewhere(past.upstreams, past.end, len(new))
    return replace(call, fields=fields, input_tokens_estimate=estimate, elsewhere=there)


class ChatTurn(Turn):
    """One chat's. `metadata` is None for one whose completion is not stored."""

    def __init__(
        self,
        call: Call,
        caller: Caller,
        messages: list[Message],
        named: Named | None,
        metadata: dict[str, str] | None,
    ) -> None:
        super().__init__(call)
        self._caller = caller
        self._messages = messages
        self._named = named
        self._metadata = metadata
        self._fold = Fold()

    def headers(self) -> tuple[Header, ...]:
        """Which thread this is, and whose: a stream's caller cannot learn it from what is said."""
        if self._named is None:
            return ()
        thread = (THREAD, (CONVERSATION + self._named.thread_id.hex).encode())
        return (thread, (USER, self._named.user.encode())) if self._named.user else (thread,)

    async def open(self, ticket: Ticket, reply: Reply) -> None:
        """From here on it hears what its caller hears."""
        reply.log = self._hear

    async def _hear(self, events: bytes) -> None:
        self._fold.feed(events)

    async def keep(self, last: Last, ticket: Ticket, reply: Reply) -> Last:
        """Raises DatabaseUnavailable, NotFound, Garbled."""
        if ticket.ending.status is Status.COMPLETED:
            completion = last.body if reply.status is None else self._fold.answer()
            await asyncio.shield(database.run(self._store, ticket.id, completion, ticket.ending.elsewhere))
        return last

    def _store(self, call_id: UUID, completion: bytes, there: tuple[UUID, There] | None) -> None:
        """A database job."""
        if self._named is not None:
            self._add_to_thread(self._named, completion, elsewhere.kept(there))
        if self._metadata is not None:
            self._record(call_id, self._metadata, completion)

    def _add_to_thread(self, named: Named, completion: bytes, there: dict[str, Any]) -> None:
        choices = msgspec.json.decode(completion)["choices"]
        asked = _spoken(self._messages) if named.past is None else _new(self._messages)
        said = [*asked, *(choice["message"] for choice in choices[:1])]
        new = [new_item(item) for item in items_of(said)]
        tenant_id, kept_for = self._caller.tenant_id, self._caller.retention_days
        if named.past is None:
            conversations.create(
                tenant_id,
                id=named.thread_id,
                retention_days=kept_for,
                user=named.user,
                user_id=self._caller.user_id,
            )
        history.append_to_conversation(
            tenant_id, named.thread_id, new, retention_days=kept_for, user=named.user, elsewhere=there
        )

    def _record(self, call_id: UUID, metadata: dict[str, str], completion: bytes) -> None:
        kept = {
            **msgspec.json.decode(completion, type=Fields),
            "metadata": msgspec.Raw(msgspec.json.encode(metadata)),
        }
        completed = Completed(
            id=call_id,
            model=self.call.model,
            body=msgspec.json.encode(kept),
            messages=[msgspec.json.encode(message) for message in self._messages],
            created_at=datetime.fromtimestamp(created_at(call_id), UTC),
            retention_days=self._caller.retention_days,
            metadata=metadata,
            user=self._named.user if self._named else end_user(self.call),
            user_id=self._caller.user_id,
            api_key_id=self._caller.api_key_id,
            security_key_id=self._caller.security_key_id,
        )
        completions.record(self._caller.tenant_id, completed)
