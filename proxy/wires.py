"""Which language is spoken to a target, and how its answer reads in the caller's.

A Response goes to an upstream that has `/responses` as it is; to any other as a chat, which always streams
there and is put together here when the client asked for one piece. Which of the two an upstream is, an
operator says, or the first call finds out (`responses: auto`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from uuid import UUID

import msgspec

from accounts.ids import created_at
from proxy import canned, chat_wires
from proxy.admission import Ending
from proxy.call import Call, Fields, InvalidBody, NotOffered, member
from proxy.chained import FoldedChat, ResponseOverChat
from proxy.dialects import openai
from proxy.dialects.openai import Whole
from proxy.findings import COUNTS, ENCRYPTED, OPEN_REASONING, Findings, Tried, Wire
from proxy.reasoning import Asked
from proxy.responses import foreign, native
from proxy.responses.from_chat import ChatToResponses
from proxy.responses.gpt_oss_native import GptOssResponsesPassage
from proxy.responses.to_chat import to_chat
from proxy.routing import Target
from proxy.upstream import Exchange

CREATES = frozenset({"responses", "responses.compact"})
_TAKES_ANY = ("openai", "demo")


def speak(call: Call, target: Target, request_id: str, findings: Findings, tried: Tried) -> Wire:
    """How this target is asked. Raises NotOffered, InvalidBody for what it cannot be asked."""
    if call.endpoint == "chat.completions" and chat_wires.is_special(call, target):
        return _special(call, target, request_id, findings, tried)
    if call.endpoint == COUNTS:
        return _counting(call, target, findings)
    if call.endpoint in CREATES:
        if findings.chat_only(target):
            return _over_chat(call, target, request_id, findings, tried)
        return _native(call, target, request_id, findings)
    if target.dialect not in _TAKES_ANY:
        raise NotOffered(f"The model '{call.model}' answers chat completions only.", "model")
    here = partial(canned.open_demo, call, paced=call.stream) if target.dialect == "demo" else None
    return Wire(
        call, partial(openai.passage, call, request_id), partial(openai.whole, call, request_id), here
    )


def _special(call: Call, target: Target, request_id: str, findings: Findings, tried: Tried) -> Wire:
    wire = chat_wires.speak(call, target, request_id, findings, tried)
    if call.stream:
        return wire
    return replace(wire, passage=lambda content_type: FoldedChat(wire.passage(content_type)))


def _over_chat(call: Call, target: Target, request_id: str, findings: Findings, tried: Tried) -> Wire:
    fields = to_chat(call.fields, target.upstream)
    chat = replace(
        call,
        endpoint="chat.completions",
        path="/chat/completions",
        stream=True,
        fields=fields,
        shows_usage=True,
    )
    response = partial(ChatToResponses, *_named(call, request_id))
    if chat_wires.is_special(chat, target):
        wire = chat_wires.speak(chat, target, request_id, findings, tried)
        return replace(
            wire, passage=lambda content_type: ResponseOverChat(wire.passage(content_type), response())
        )
    here = partial(canned.open_demo, chat, paced=call.stream) if target.dialect == "demo" else None
    return Wire(chat, lambda content_type: response(), None, here)


def _native(call: Call, target: Target, request_id: str, findings: Findings) -> Wire:
    if not target.own:
        foreign.refuse(call.fields)
    wishes = chat_wires.asked(call, target) if chat_wires.is_special(call, target) else None
    fields, asks = chat_wires.with_effort(call, wishes) if wishes else call.fields, False
    if call.kept and not includes_encrypted(call.asked) and not findings.lacks(target, ENCRYPTED):
        fields, asks = {**fields, "include": msgspec.Raw(_with_encrypted(fields))}, True
    tells = b'"reasoning_text"' in bytes(fields["input"])
    if tells and findings.lacks(target, OPEN_REASONING):
        fields, tells = {**fields, "input": msgspec.Raw(_without_open_reasoning(fields["input"]))}, False
    wire = Wire(
        replace(call, endpoint="responses", fields=fields),
        lambda content_type: native.ResponsesPassage(*_named(call, request_id)),
        lambda content_type, body: _whole(native.ResponsesPassage(*_named(call, request_id)), body),
        asks_encrypted=asks,
        tells_reasoning=OPEN_REASONING if tells else "",
    )
    return _without_leaks(wire, wishes, call, request_id) if wishes else wire


def _without_leaks(wire: Wire, wishes: Asked, call: Call, request_id: str) -> Wire:
    """The wire of a Response that a gpt-oss model's upstream tells itself."""
    made = partial(GptOssResponsesPassage, *_named(call, request_id), shows_reasoning=wishes.shown)
    read: list[GptOssResponsesPassage] = []

    def passage(content_type: str) -> GptOssResponsesPassage:
        read.append(made())
        return read[-1]

    def whole(content_type: str, body: bytes) -> Whole:
        passage = made()
        return replace(_whole(passage, body), control_tokens=passage.harmony_tokens)

    def ended(ending: Ending, exchange: Exchange) -> None:
        ending.took_out(read[-1].harmony_tokens)

    return replace(wire, passage=passage, whole=whole, ended=ended)


def _named(call: Call, request_id: str) -> tuple[str, str, Fields, int]:
    return f"resp_{request_id}", call.model, call.asked, created_at(UUID(request_id))


def _whole(passage: native.ResponsesPassage, body: bytes) -> Whole:
    answer = native.whole(passage, body)
    estimate = answer.output_tokens_estimate
    return Whole(
        b"application/json", answer.body, answer.usage, answer.items, output_tokens_estimate=estimate
    )


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


def _with_encrypted(fields: Fields) -> bytes:
    """The member `include`, with that in it. Raises InvalidBody."""
    given = member(fields, "include") or []
    if not isinstance(given, list):
        raise InvalidBody("'include' must be an array.", "include")
    return msgspec.json.encode([*given, ENCRYPTED])


def _without_open_reasoning(given: msgspec.Raw) -> bytes:
    items: list[dict[str, object]] = msgspec.json.decode(given)
    told = (item for item in items if item["type"] != "reasoning" or item.get("encrypted_content"))
    return msgspec.json.encode(list(told))
