"""How a chat goes to a target of its own kind: gpt-oss on a compatible server, ChatKit, the AI SDK.

All of them answer in a stream, whatever the client asked for; what is read of it are chat chunks, which
proxy/wires.py folds for a client that wants one piece, or makes a Response of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from uuid import UUID

import msgspec

from accounts.ids import created_at
from proxy import chunk_passage, gpt_oss, messages, reasoning, tokens
from proxy.admission import Ending
from proxy.call import Call, Fields, members
from proxy.chunk_passage import Told
from proxy.dialects import ai_sdk, ai_sdk_passage, chatkit, openai
from proxy.dialects.chatkit_passage import ChatKitPassage
from proxy.elsewhere import There
from proxy.findings import CHAT_REASONING, SYSTEM, THREAD, Findings, Tried, Wire
from proxy.gpt_oss import GptOssPassage
from proxy.reasoning import Asked
from proxy.routing import Target
from proxy.upstream import Exchange

_GENERATIONS = (chatkit.Generation.PRERELEASE, chatkit.Generation.PUBLISHED)
_AI_SDK_GENERATIONS = (ai_sdk.Generation.FOUR, ai_sdk.Generation.FIVE)


def is_special(call: Call, target: Target) -> bool:
    """Whether a chat goes to this target by one of these wires."""
    if target.dialect == "openai":
        return bool(target.effort) or gpt_oss.is_gpt_oss(call.model) or gpt_oss.is_gpt_oss(target.model)
    return target.dialect in _WIRES


def speak(call: Call, target: Target, request_id: str, findings: Findings, tried: Tried) -> Wire:
    """The wire of a chat that `is_special`; its passage tells chat chunks. Raises NotOffered, InvalidBody."""
    return _WIRES[target.dialect](call, target, request_id, findings, tried)


def asked(call: Call, target: Target) -> Asked:
    """What is asked of the model's reasoning, with the operator's default. Raises InvalidBody."""
    effort_header, show_header = call.wishes
    return reasoning.asked(
        call.fields,
        effort_header=effort_header,
        show_header=show_header,
        default_effort=target.effort or None,
    )


def with_effort(call: Call, wishes: Asked) -> Fields:
    """The members of a Response, which goes upstream as one, with the effort in them that is asked for
    elsewhere, or that the operator set. Raises InvalidBody."""
    if (effort := wishes.effort) is None:
        return call.fields
    known = members(call.fields, "reasoning")
    known["effort"] = msgspec.Raw(msgspec.json.encode(gpt_oss.EFFORTS[effort]))
    return {**call.fields, "reasoning": msgspec.Raw(msgspec.json.encode(known))}


def _gpt_oss(call: Call, target: Target, request_id: str, findings: Findings, tried: Tried) -> Wire:
    wishes = asked(call, target)
    chat = gpt_oss.prepare(call, wishes)
    bare = gpt_oss.without_reasoning(chat)
    tells = "" if bare is chat else CHAT_REASONING
    if tells and findings.lacks(target, CHAT_REASONING):
        chat, tells = bare, ""
    chat = replace(chat, stream=True, fields={**chat.fields, "stream": msgspec.Raw(b"true")})
    read: list[GptOssPassage] = []

    def passage(content_type: str) -> GptOssPassage:
        made = GptOssPassage(
            openai.answer_id(call, request_id),
            call.model,
            shows_usage=call.shows_usage or not call.stream,
            shows_reasoning=wishes.shown,
            repeats_reasoning=target.repeats_reasoning,
        )
        read.append(made)
        return made

    def ended(ending: Ending, exchange: Exchange) -> None:
        ending.took_out(read[-1].harmony_tokens)

    return Wire(chat, passage, None, tells_reasoning=tells, ended=ended)


def _chatkit(call: Call, target: Target, request_id: str, findings: Findings, tried: Tried) -> Wire:
    wishes = asked(call, target)
    said = messages.read(call)
    known = len(said) - (call.elsewhere.fresh if call.elsewhere else 0)
    instructions = _digest(message.text for message in said[:known] if message.role == "system")
    there = None
    if call.elsewhere is not None and known > 0 and THREAD not in tried.ways:
        there = call.elsewhere.there(target.upstream_id, instructions)
    generation = chatkit.Generation(findings.way(target, _GENERATIONS, tried))
    outbound = chatkit.request(
        call,
        target.model,
        generation=generation,
        continued=chatkit.Continued(there.thread_id, known) if there else None,
        user_id=there.user_id if there else None,
        cookies=target.cookies,
        effort=gpt_oss.effort(wishes),
        shows_reasoning=wishes.shown,
    )
    told = _told(call, request_id, wishes)
    read: list[ChatKitPassage] = []

    def passage(content_type: str) -> ChatKitPassage:
        read.append(chatkit.passage(call, openai.answer_id(call, request_id), told))
        return read[-1]

    def ended(ending: Ending, exchange: Exchange) -> None:
        thread_id = read[-1].thread_id or (there.thread_id if there else None)
        if thread_id is not None:
            user_id = chatkit.user_id(exchange.set_cookies) or (there.user_id if there else None)
            ending.elsewhere = (target.upstream_id, There(thread_id, user_id, instructions))

    return Wire(
        call,
        passage,
        None,
        outbound=outbound,
        streams=chatkit.STREAMS,
        ended=ended,
        way=generation,
        misunderstood=chatkit.MISUNDERSTOOD,
        supposes=THREAD if there else "",
        begins=chatkit.begins if there else None,
    )


def _ai_sdk(call: Call, target: Target, request_id: str, findings: Findings, tried: Tried) -> Wire:
    wishes = asked(call, target)
    way = ai_sdk.Generation(findings.way(target, _AI_SDK_GENERATIONS, tried))
    instructs = way is ai_sdk.Generation.FIVE and ai_sdk.instructs(call)
    lacks_system, takes_system = findings.lacks(target, SYSTEM), findings.understands(target, SYSTEM)
    bare = instructs and (lacks_system or SYSTEM in tried.ways)
    generation = ai_sdk.Generation.SEVEN if bare else way
    session_id = "-".join(filter(None, (target.session_prefix, str(UUID(request_id)))))
    outbound = ai_sdk.request(call, target.model, generation=generation, session_id=session_id)
    told = _told(call, request_id, wishes)
    return Wire(
        call,
        partial(ai_sdk.passage, call, openai.answer_id(call, request_id), told),
        None,
        outbound=outbound,
        streams=ai_sdk.STREAMS,
        way=way,
        misunderstood=ai_sdk.MISUNDERSTOOD,
        supposes=SYSTEM if instructs and not bare else "",
        begins=None if lacks_system or takes_system or not instructs else ai_sdk_passage.begins,
    )


def _told(call: Call, request_id: str, wishes: Asked) -> Told:
    """What the client is told besides an answer whose upstream may report no usage."""
    created, asked = created_at(UUID(request_id)), None
    if tokens.INSTALLED:
        asked = messages.all_text(messages.read(call))
    return chunk_passage.told(call, created, shows_reasoning=wishes.shown, asked=asked)


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256(msgspec.json.encode(list(texts))).hexdigest()


_WIRES: dict[str, Callable[[Call, Target, str, Findings, Tried], Wire]] = {
    "openai": _gpt_oss,
    "chatkit": _chatkit,
    "ai_sdk": _ai_sdk,
}
