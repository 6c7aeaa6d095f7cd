"""Which language is spoken to a target, and how its answer reads in the caller's.

A Response goes to an upstream that has `/responses` as it is; to any other as a chat, which always streams
there and is put together here when the client asked for one piece. Which of the two an upstream is, an
operator says, or the first call finds out (`responses: auto`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

import msgspec

from accounts.ids import created_at
from proxy import canned
from proxy.call import Call, Fields
from proxy.dialects import openai
from proxy.dialects.openai import Whole
from proxy.passage import Passage
from proxy.reported import UpstreamReported
from proxy.responses import foreign, native
from proxy.responses.from_chat import ChatToResponses
from proxy.responses.to_chat import to_chat
from proxy.routing import Target
from proxy.upstream import Exchange

CREATES = frozenset({"responses", "responses.compact"})
COUNTS = "responses.input_tokens"
ENCRYPTED = "reasoning.encrypted_content"
# Reasoning that is not encrypted, as the servers of open models have it; OpenAI takes none (2026-11).
OPEN_REASONING = "open reasoning"

FOUND_FOR_SECONDS = 3600.0
# What servers answer on a path that they do not have (vLLM, Ollama, llama.cpp, gateways; 2026-11).
_NO_SUCH_PATH = frozenset({404, 405, 501})


@dataclass(frozen=True, slots=True)
class Wire:
    """One call as one target gets it. `call` is in the target's language.

    `whole` reads an answer in one piece; None where the target always answers in events. `here` answers in
    place of a target that cannot.
    """

    call: Call
    passage: Callable[[], Passage]
    whole: Callable[[str, bytes], Whole] | None
    here: Callable[[], Exchange] | None = None
    asks_encrypted: bool = False
    tells_reasoning: bool = False


class Findings:
    """What calls have shown of upstreams, believed for an hour."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[Hashable, float] = {}

    def lacks(self, target: Target, what: str) -> bool:
        """Whether the upstream was found not to have `what`, a path or a member of `include`."""
        return self._until.get(_key(target, what), 0.0) > self._clock()

    def chat_only(self, target: Target) -> bool:
        """Whether Responses go to this target as chats."""
        if target.dialect != "openai" or target.responses == "chat":
            return True
        return target.responses == "auto" and self.lacks(target, "/responses")

    def learn(self, wire: Wire, target: Target, refusal: UpstreamReported) -> bool:
        """Whether a refusal says what the upstream lacks, so that the call is worth putting another way."""
        what = _lacking(wire, target, refusal)
        if what is None:
            return False
        self._until[_key(target, what)] = self._clock() + FOUND_FOR_SECONDS
        return True


def _key(target: Target, what: str) -> Hashable:
    """What paths there are is the upstream's; what becomes of reasoning, the model's."""
    return target.upstream_id, what, "" if what.startswith("/") else target.model


def _lacking(wire: Wire, target: Target, refusal: UpstreamReported) -> str | None:
    path = wire.call.path
    if refusal.status in _NO_SUCH_PATH and not _is_about_the_model(refusal):
        if path == "/responses" and target.responses == "auto":
            return path
        return path if wire.call.endpoint == COUNTS else None
    told = f"{refusal.error.get('message')} {refusal.error.get('param')}"
    if wire.asks_encrypted and refusal.status == 400 and ("ncrypted" in told or "include" in told):
        return ENCRYPTED
    if wire.tells_reasoning and refusal.status in (400, 404, 422) and ("reasoning" in told or "rs_" in told):
        return OPEN_REASONING
    return None


def _is_about_the_model(refusal: UpstreamReported) -> bool:
    return refusal.error.get("code") == "model_not_found" or refusal.error.get("param") == "model"


def speak(call: Call, target: Target, request_id: str, findings: Findings) -> Wire:
    """How this target is asked. Raises NotOffered, InvalidBody for what it cannot be asked."""
    if call.endpoint == COUNTS:
        return _counting(call, target, findings)
    if call.endpoint in CREATES:
        if findings.chat_only(target):
            return _over_chat(call, target, request_id)
        return _native(call, target, request_id, findings)
    here = partial(canned.open_demo, call) if target.dialect == "demo" else None
    return Wire(
        call, partial(openai.passage, call, request_id), partial(openai.whole, call, request_id), here
    )


def _over_chat(call: Call, target: Target, request_id: str) -> Wire:
    fields = to_chat(call.fields, target.upstream)
    chat = replace(call, endpoint="chat.completions", path="/chat/completions", stream=True, fields=fields)
    here = partial(canned.open_demo, chat) if target.dialect == "demo" else None
    return Wire(chat, partial(ChatToResponses, *_named(call, request_id)), None, here)


def _native(call: Call, target: Target, request_id: str, findings: Findings) -> Wire:
    if not target.own:
        foreign.refuse(call.fields)
    fields, asks = call.fields, False
    if call.kept and not includes_encrypted(call.asked) and not findings.lacks(target, ENCRYPTED):
        fields, asks = {**fields, "include": msgspec.Raw(_with_encrypted(fields.get("include")))}, True
    tells = b'"reasoning_text"' in bytes(fields["input"])
    if tells and findings.lacks(target, OPEN_REASONING):
        fields, tells = {**fields, "input": msgspec.Raw(_without_open_reasoning(fields["input"]))}, False
    named = _named(call, request_id)
    return Wire(
        replace(call, endpoint="responses", fields=fields),
        partial(native.ResponsesPassage, *named),
        partial(_native_whole, named),
        asks_encrypted=asks,
        tells_reasoning=tells,
    )


def _named(call: Call, request_id: str) -> tuple[str, str, Fields, int]:
    return f"resp_{request_id}", call.model, call.asked, created_at(UUID(request_id))


def _native_whole(named: tuple[str, str, Fields, int], content_type: str, body: bytes) -> Whole:
    answer = native.whole(*named, body)
    return Whole(b"application/json", answer.body, answer.usage, answer.items)


def _counting(call: Call, target: Target, findings: Findings) -> Wire:
    """Counted by the upstream where it can, else told from the size of what was sent."""
    passage = partial(openai.passage, call, "")
    if findings.chat_only(target) or findings.lacks(target, call.path):
        return Wire(call, passage, _counted, partial(_estimated, call.input_tokens_estimate))
    if not target.own:
        foreign.refuse(call.fields)
    return Wire(call, passage, _counted)


def _counted(content_type: str, body: bytes) -> Whole:
    return openai.counted(body)


def _estimated(tokens: int) -> Exchange:
    document = {"object": "response.input_tokens", "input_tokens": tokens, "estimated": True}
    return canned.Canned(200, "application/json", [msgspec.json.encode(document)])


def includes_encrypted(asked: Fields) -> bool:
    """Whether the caller wants to have the encrypted reasoning itself."""
    return f'"{ENCRYPTED}"'.encode() in bytes(asked.get("include", b""))


def _with_encrypted(include: msgspec.Raw | None) -> bytes:
    given: list[object] = (msgspec.json.decode(include, type=list[object] | None) if include else None) or []
    return msgspec.json.encode([*given, ENCRYPTED])


def _without_open_reasoning(given: msgspec.Raw) -> bytes:
    items: list[dict[str, object]] = msgspec.json.decode(given)
    told = (item for item in items if item["type"] != "reasoning" or item.get("encrypted_content"))
    return msgspec.json.encode(list(told))
