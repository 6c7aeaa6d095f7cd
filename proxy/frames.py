"""The messages of Responses over WebSocket: a client's event → the body of a call; an answer → events. Pure.

Source: Open Responses 2026-04-24, "x-openresponses-websocket", WebSocketResponseCreateEvent and
WebSocketErrorEvent; OpenAI's guide "WebSocket mode", 2026-11.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from proxy import call, sse
from proxy.call import InvalidBody, NotOffered

CREATE = "response.create"
# What a client says to tell that it has read a Response (Codex 0.130); nothing follows from it.
PROCESSED = "response.processed"

# Members of a create request over HTTP that have no place in an event.
_OF_HTTP = ("stream", "stream_options", "background")
# And what an event has that such a request has not.
_OF_EVENTS = ("type", "generate")
_TRUE = msgspec.Raw(b"true")

# Refusals whose status over a WebSocket is not that over HTTP.
_STATUSES = {"previous_response_not_found": 400}
_TOLD_HEADERS = frozenset({b"retry-after", b"x-should-retry", b"x-request-id"})
_TOLD_PREFIX = b"x-ratelimit-"


def create_body(event: bytes, tolerated: Iterable[str] = ()) -> bytes:
    """The body of the streamed create request that a client's event stands for; members that have no place
    in an event are dropped where they are `tolerated`. Raises InvalidBody, NotOffered.
    """
    fields = call.parse_fields(event)
    kind = call.string(fields, "type") or ""
    if kind != CREATE:
        raise InvalidBody(f"There is no event of type '{kind[:64]}' here; send '{CREATE}'.", "type")
    for name in _OF_HTTP:
        value = bytes(fields.pop(name, b"null"))
        if value != b"null" and name not in tolerated:
            raise InvalidBody(f"'{name}' has no place in an event: it belongs to a request over HTTP.", name)
    if bytes(fields.pop("stream_id", b"null")) != b"null":
        raise NotOffered("A connection has one stream here: leave 'stream_id' out.", "stream_id")
    for name in _OF_EVENTS:
        fields.pop(name, None)
    fields["stream"] = _TRUE
    return msgspec.json.encode(fields)


def is_warm_up(event: bytes) -> bool:
    """Whether a Response is only to be prepared, and nothing is to be said in it. Raises InvalidBody."""
    return b'"generate"' in event and not call.boolean(call.parse_fields(event), "generate", default=True)


def is_notice(event: bytes) -> bool:
    """Whether a client only tells something, and waits for no answer."""
    if PROCESSED.encode() not in event:
        return False
    try:
        return call.string(call.parse_fields(event), "type") == PROCESSED
    except InvalidBody:
        return False


def messages(events: bytes) -> Iterator[str]:
    """What each of the whole server-sent events says; nothing of comments, and of the end of a stream."""
    for event in sse.split(events):
        said = sse.data(event)
        if said and event != sse.DONE:
            yield said.decode()


def error_event(status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> str:
    """A refusal as an event; `body` is that of ApiError, or an upstream's in its shape."""
    error = msgspec.json.decode(body)["error"]
    error["code"] = error["code"] or error["type"]
    told = {name.decode(): value.decode("latin-1") for name, value in headers if _is_told(name)}
    if told:
        error["headers"] = told
    event = {"type": "error", "status": _STATUSES.get(error["code"], status), "error": error}
    return msgspec.json.encode(event).decode()


def _is_told(name: bytes) -> bool:
    return name in _TOLD_HEADERS or name.startswith(_TOLD_PREFIX)
