"""The paths of two older proxies, "GPT-OSS 2T" and "chatgpt-proxy" (docs/compatibility.md).

Their calls go through the relay as all others do; what differs is where things stand in a body, and the shape
of what is answered.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from django.conf import settings

from accounts.keys import InvalidCredential
from proxy import call
from proxy.endpoints import older_calls, older_pages, stored_responses
from proxy.endpoints.endpoint import MAX_JSON_BYTES, Endpoint
from proxy.endpoints.older_calls import GPT_OSS_MODEL, Plain
from proxy.endpoints.visit import Answer, Visit
from proxy.http import Reply, Request
from proxy.intake import header_credential, one_credential
from proxy.older_replies import (
    ChatgptReply,
    MessageReply,
    PlainReply,
    Responses2Reply,
    StoredReply,
    TwoTReply,
)
from proxy.relay import Relay

RESPONSES = "/openai2"
TWO_T = "/api/gpt-oss-2t"


@dataclass(frozen=True, slots=True)
class Older:
    """A path for calls, and the shape of its answers."""

    endpoint: Endpoint
    reply: type[Reply]


POSTS: dict[str, Older] = {
    TWO_T: Older(older_calls.TWO_T, TwoTReply),
    "/openai": Older(older_calls.OPENAI, PlainReply),
    RESPONSES: Older(older_calls.OPENAI2, Responses2Reply),
    "/chatgpt": Older(older_calls.CHATGPT, ChatgptReply),
    "/openai/audio/transcriptions": Older(older_calls.TRANSCRIPTION, PlainReply),
}
STORED: dict[tuple[str, str], Answer] = {
    ("GET", ""): stored_responses.retrieve,
    ("DELETE", ""): stored_responses.delete,
    ("POST", "/cancel"): stored_responses.cancel,
    ("GET", "/input_items"): stored_responses.list_input_items,
}


def reply_at(path: str) -> type[Reply] | None:
    """The shape of the answers at this path, without a slash at its end; None: it is none of these."""
    if path in POSTS:
        return POSTS[path].reply
    if path in older_pages.PAGES:
        return MessageReply if path == "/health" else PlainReply
    return StoredReply if path.startswith(f"{RESPONSES}/") else None


async def answer(relay: Relay, path: str, request: Request, reply: Reply) -> None:
    """Answers at a path that `reply_at` knows. What is wrong before a call is admitted is raised."""
    if path in older_pages.PAGES:
        return await older_pages.answer(relay, path, request, reply)
    if path in POSTS and request.method == "POST":
        return await relay.answer(POSTS[path].endpoint, request, reply)
    if path == TWO_T and request.method == "GET":
        return await _show_2t(reply)
    if path == RESPONSES and request.method in ("GET", "DELETE"):
        raise Plain(400, "Missing response_id")
    response_id, slash, rest = path.removeprefix(f"{RESPONSES}/").partition("/")
    found = STORED.get((request.method, slash + rest)) if path.startswith(f"{RESPONSES}/") else None
    if found is None:
        raise Plain(404, "Not Found")
    await _visit(relay, found, response_id, request, reply)


async def _show_2t(reply: Reply) -> None:
    """That it is there, and what it answers with."""
    document = {
        "status": "ok",
        "message": "GPT-OSS API is running. Send a POST request with a 'messages' array.",
        "model": settings.DEFAULT_MODEL or GPT_OSS_MODEL,
        "endpoint": TWO_T,
        "rate_limit": "As the operator sets it for each address; GET /v1/limits tells how it stands.",
    }
    await reply.whole(200, b"application/json", msgspec.json.encode(document))


async def _visit(relay: Relay, found: Answer, response_id: str, request: Request, reply: Reply) -> None:
    """As proxy/endpoints/visit.py, for a caller whose key may be in the body. Raises NoCredential, …"""
    credential = header_credential(request)
    with relay.held.hold(request, MAX_JSON_BYTES, authenticated=credential is not None) as holding:
        if request.method == "POST":
            body = await request.body(MAX_JSON_BYTES, MAX_JSON_BYTES, holding.grow)
            inside = call.string(call.parse_fields(body), "security_key") if body.strip() else None
            credential = one_credential(credential, inside)
        caller = await relay.whose(credential, request)
        await found(Visit(relay, caller, request, reply, (response_id,), holding))


def is_older_embeddings(error: Exception, request: Request) -> bool:
    """Whether it was refused at `/embeddings` of "chatgpt-proxy", for the `security_key` in its body."""
    bare = request.path.removesuffix("/") == "/embeddings"
    return bare and isinstance(error, InvalidCredential) and header_credential(request) is None
