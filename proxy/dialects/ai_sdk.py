"""The wire between Vercel's AI SDK and its chat applications (`useChat`): messages as its interface keeps
them, to one address, and a stream of parts. Pure.

Two generations of it are spoken: that of AI SDK 4 and that of 5 and later, whose messages are made of
`parts`. Since 7 servers take no system messages from clients, unless their operators let them: they break
off with an error at once. There, what instructs the model stands before the text of the next user's message.
Answers are proxy/dialects/ai_sdk_passage.py. The model's name goes along under the name that the
applications seen read it from. Images go as each generation wants them; `detail` where its conversion keeps
it: in 4 only in a part of the model's own message format, since 5 beside any file.

Facts: ai 4.3.19 (`core/prompt/convert-to-core-messages.ts`, `attachments-to-parts.ts`) and ai 7.0
(`src/ui/convert-to-model-messages.ts`, `ui-messages.ts`, `src/prompt/standardize-prompt.ts`), and what those
made of messages like these, 2026-11.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from enum import StrEnum
from typing import Any

import msgspec

from proxy import messages
from proxy.call import Call, InvalidBody
from proxy.chunk_passage import ChunkPassage, Told
from proxy.dialects.ai_sdk_passage import DataStreamPassage, UIMessagePassage
from proxy.dialects.outbound import Outbound
from proxy.messages import Attachment, Message, ToolCall

STREAMS = frozenset({"text/event-stream", "text/plain", "application/octet-stream", ""})
# What a server may answer that is asked in the way of the other generation: few foresee it.
MISUNDERSTOOD = frozenset({400, 415, 422, 500})

Document = dict[str, Any]


class Generation(StrEnum):
    """Which AI SDK a server is made with."""

    FOUR = "4"
    FIVE = "5"
    SEVEN = "7"


# Markeljan/minimal-chatbot and vercel/ai-chatbot of AI SDK 4; the examples of AI SDK 5 (AI Elements),
# 2026-11.
_MODEL_SINCE_FIVE = ("modelId", "model")
MODEL_MEMBERS = {
    Generation.FOUR: ("modelId",),
    Generation.FIVE: _MODEL_SINCE_FIVE,
    Generation.SEVEN: _MODEL_SINCE_FIVE,
}


def request(
    call: Call,
    model: str,
    *,
    generation: Generation,
    session_id: str,
    model_members: tuple[str, ...] | None = None,
) -> Outbound:
    """The call for an upstream that knows the model as `model`. The base URL is the whole address.

    Applications keep chats apart by `session_id`. Raises NotOffered, InvalidBody.
    """
    messages.require_plain(call)
    said = list(_without_own_calls(messages.with_results(messages.read(call))))
    write = _four if generation is Generation.FOUR else _five
    if generation is Generation.SEVEN:
        said = list(_without_system(said))
    body: Document = {"id": session_id}
    body |= dict.fromkeys(model_members or MODEL_MEMBERS[generation], model)
    body["messages"] = list(write(said, session_id))
    if generation is not Generation.FOUR:
        body["trigger"] = "submit-message"
    if tools := _tools(call):
        body["tools"] = tools
    return Outbound("", "application/json", msgspec.json.encode(body), (("accept", "*/*"),))


def passage(call: Call, answer_id: str, told: Told, content_type: str) -> ChunkPassage:
    """What a stream of this type, one of STREAMS, goes through."""
    kind = UIMessagePassage if content_type == "text/event-stream" else DataStreamPassage
    return kind(answer_id, call.model, told)


def _tools(call: Call) -> Document:
    """The client's tools by their names, as applications take them that let their clients bring some
    (assistant-ui, "Tools", 2026-11); others do not look at them."""
    if bytes(call.fields.get("tool_choice", b"")) == b'"none"' or "tools" not in call.fields:
        return {}
    try:
        given = msgspec.json.decode(call.fields["tools"], type=list[Document] | None) or []
    except (msgspec.DecodeError, RecursionError):
        raise InvalidBody("'tools' must be an array of objects.", "tools") from None
    functions = [each.get("function") for each in given]
    return {
        str(function["name"]): {
            "description": function.get("description"),
            "parameters": function.get("parameters") or {"type": "object", "properties": {}},
        }
        for function in functions
        if isinstance(function, dict) and "name" in function
    }


def _four(said: list[Message], session_id: str) -> Iterator[Document]:
    for message in said:
        if message.role == "tool":
            yield {"role": "user", "content": _stray(message)}
        elif message.tool_calls:
            # In one message with a text, the text would come after what the tools answered.
            if message.text:
                yield {"role": "assistant", "content": message.text}
            invocations = [_invocation(each) for each in message.tool_calls]
            yield {"role": "assistant", "content": "", "toolInvocations": invocations}
        elif any(_detail(each) for each in message.attachments):
            text = [{"type": "text", "text": message.text}] if message.text else []
            yield {"role": message.role, "content": [*text, *map(_core_part, message.attachments)]}
        elif message.attachments:
            attachments = [
                {"name": each.name, "contentType": each.media_type, "url": each.url}
                for each in message.attachments
            ]
            yield {"role": message.role, "content": message.text, "experimental_attachments": attachments}
        else:
            yield {"role": message.role, "content": message.text}


def _five(said: list[Message], session_id: str) -> Iterator[Document]:
    for number, message in enumerate(said):
        text = _stray(message) if message.role == "tool" else message.text
        parts: list[Document] = [{"type": "text", "text": text}] if text else []
        parts += [_file_part(each) for each in message.attachments]
        parts += [_tool_part(each) for each in message.tool_calls]
        role = "user" if message.role == "tool" else message.role
        yield {"id": f"{session_id}-{number}", "role": role, "parts": parts}


def instructs(call: Call) -> bool:
    """Whether there are system messages among the call's. Raises InvalidBody, NotOffered."""
    return any(message.role == "system" for message in messages.read(call))


def _without_own_calls(said: list[Message]) -> Iterator[Message]:
    """The messages without calls that nothing answered though more was said: the application's own, which it
    answers itself and tells nobody how."""
    for message in said[:-1]:
        answered = tuple(each for each in message.tool_calls if each.result is not None)
        if answered or not message.tool_calls or message.text or message.attachments:
            yield replace(message, tool_calls=answered)
    yield said[-1]


def _without_system(said: Iterable[Message]) -> Iterator[Message]:
    """The messages, what instructs the model told by the user after it."""
    instructions: list[str] = []
    for message in said:
        if message.role == "system":
            instructions.append(message.text)
        elif message.role == "user" and instructions:
            yield replace(message, text="\n\n".join(filter(None, [*instructions, message.text])))
            instructions.clear()
        else:
            yield message
    if instructions:
        yield Message("user", "\n\n".join(instructions))


def _stray(message: Message) -> str:
    """What a tool said that nobody called, as a user may tell it."""
    return f"A tool's result: {message.text}"


def _invocation(call: ToolCall) -> Document:
    return {
        "state": "result",
        "toolCallId": call.id,
        "toolName": call.name,
        "args": _arguments(call),
        "result": _result(call),
    }


def _tool_part(call: ToolCall) -> Document:
    return {
        "type": "dynamic-tool",
        "state": "output-available",
        "toolCallId": call.id,
        "toolName": call.name,
        "input": _arguments(call),
        "output": _result(call),
    }


def _arguments(call: ToolCall) -> Any:
    try:
        return msgspec.json.decode(call.arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        return call.arguments


def _result(call: ToolCall) -> str:
    if call.result is None:
        raise InvalidBody(f"The tool call '{call.id}' must be followed by its result.", "messages")
    return call.result


def _detail(attachment: Attachment) -> Document | None:
    """What tells OpenAI's models how closely to look; None where it is theirs to choose."""
    if attachment.detail in (None, "auto"):
        return None
    return {"openai": {"imageDetail": attachment.detail}}


def _core_part(attachment: Attachment) -> Document:
    if not attachment.media_type.startswith("image/"):
        return {"type": "file", "data": attachment.url, "mimeType": attachment.media_type}
    part: Document = {"type": "image", "image": attachment.url}
    if detail := _detail(attachment):
        part |= {"providerOptions": detail, "experimental_providerMetadata": detail}
    return part


def _file_part(attachment: Attachment) -> Document:
    part: Document = {"type": "file", "mediaType": attachment.media_type, "url": attachment.url}
    if attachment.name:
        part["filename"] = attachment.name
    if detail := _detail(attachment):
        part["providerMetadata"] = detail
    return part
