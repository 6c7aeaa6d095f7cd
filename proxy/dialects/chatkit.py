"""The wire of ChatKit servers: one user's text into a thread, and events of what becomes of the thread. Pure.

Two generations of it are spoken. The one before ChatKit was released (`op`, `threads.addMessage`, camelCase;
as chatkit.js 0.7 spoke it to gpt-oss.com, captured 2025-08) and the published one (`type`,
`threads.add_user_message`; openai-chatkit 1.6, `chatkit/types.py`, 2026-11). Answers are
proxy/dialects/chatkit_passage.py, for both.

The wire has no field for instructions, for what was said before, or for several messages: they are folded
into the text of a new thread's first message, so that nothing is left out. Nothing but text can be sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from proxy import messages
from proxy.call import Call, InvalidBody, NotOffered
from proxy.chunk_passage import Told
from proxy.dialects.chatkit_passage import ChatKitPassage
from proxy.dialects.outbound import Outbound
from proxy.messages import Message

PATH = "/chatkit"
# Nobody has written down what the first generation's servers say their answers are.
STREAMS = frozenset({"text/event-stream", "text/plain", "application/octet-stream", ""})
# What a server may answer that is asked in the way of the other generation: few foresee it.
MISUNDERSTOOD = frozenset({400, 415, 422, 500})
USER_COOKIE = "user_id"

_ERROR_EVENT = re.compile(rb'data: ?\{"type": ?"error"')
# A cookie's value (RFC 6265, section 4.1.1), of a length that any identifier stays below.
_COOKIE_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]{1,200}")
_LABELS = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "A tool's result"}


class Generation(StrEnum):
    """Which ChatKit a server speaks."""

    PRERELEASE = "prerelease"
    PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Continued:
    """A thread that the upstream keeps, and how many of the call's messages, from the first on, are in it."""

    thread_id: str
    known: int


def request(
    call: Call,
    model: str,
    *,
    generation: Generation,
    continued: Continued | None = None,
    user_id: str | None = None,
    cookies: tuple[tuple[str, str], ...] = (),
    effort: str = "medium",
    shows_reasoning: bool = True,
) -> Outbound:
    """The call for an upstream that knows the model as `model`.

    `user_id` is what the upstream called this user when the thread began; `cookies` are the operator's, and
    come first. `effort` is low, medium or high. Raises NotOffered, InvalidBody.
    """
    messages.require_plain(call)
    messages.refuse_tools(call.fields)
    said = messages.read(call)[continued.known if continued else 0 :]
    if not said:
        raise InvalidBody("'messages' must hold a message that the thread does not have yet.", "messages")
    if any(message.attachments for message in said):
        raise NotOffered(f"The model '{call.model}' takes text only: no images, sounds or files.", "messages")
    write = _prerelease if generation is Generation.PRERELEASE else _published
    body = write(said, model, continued.thread_id if continued else None)
    headers = [
        ("accept", "text/event-stream"),
        ("x-selected-model", model),
        ("x-reasoning-effort", effort),
        ("x-show-reasoning", "true" if shows_reasoning else "false"),
    ]
    if cookie := _cookie(cookies, user_id):
        headers.append(("cookie", cookie))
    return Outbound(PATH, "application/json", msgspec.json.encode(body), tuple(headers))


def passage(call: Call, answer_id: str, told: Told) -> ChatKitPassage:
    """What a stream of this call goes through; afterwards it knows the upstream's `thread_id`."""
    return ChatKitPassage(answer_id, call.model, told)


def begins(told: bytes) -> bool | None:
    """Whether an answer that begins so is one: servers take a call in a thread that they do not have, and
    tell of an error at once (openai-chatkit 1.6, 2026-11)."""
    return not _ERROR_EVENT.match(told)


def user_id(set_cookies: Iterable[str]) -> str | None:
    """What the upstream calls this user from now on, by the `set-cookie` headers of its answer."""
    for header in set_cookies:
        name, _, value = header.partition(";")[0].partition("=")
        if name.strip() == USER_COOKIE and _COOKIE_VALUE.fullmatch(value.strip().strip('"')):
            return value.strip().strip('"')
    return None


def _cookie(cookies: tuple[tuple[str, str], ...], user: str | None) -> str:
    sent = dict(cookies)
    if user is not None:
        if not _COOKIE_VALUE.fullmatch(user):
            raise InvalidBody("The user's id must be at most 200 characters of printable ASCII.", "user")
        sent.setdefault(USER_COOKIE, user)
    return "; ".join(f"{name}={value}" for name, value in sent.items())


def _prerelease(said: list[Message], model: str, thread_id: str | None) -> dict[str, Any]:
    text = one_text(said)
    content = [{"type": "input_text", "text": text}]
    params: dict[str, Any] = {
        "input": {"text": text, "content": content, "quoted_text": "", "attachments": []},
    }
    if thread_id is None:
        return {"op": "threads.create", "params": params}
    return {"op": "threads.addMessage", "params": {**params, "threadId": thread_id}}


def _published(said: list[Message], model: str, thread_id: str | None) -> dict[str, Any]:
    if thread_id is not None and len(said) == 1 and said[0].role == "tool":
        result = {"thread_id": thread_id, "result": _json_or_text(said[0].text)}
        return {"type": "threads.add_client_tool_output", "params": result}
    params: dict[str, Any] = {
        "input": {
            "content": [{"type": "input_text", "text": one_text(said)}],
            "attachments": [],
            "quoted_text": "",
            "inference_options": {"model": model},
        }
    }
    if thread_id is None:
        return {"type": "threads.create", "params": params}
    return {"type": "threads.add_user_message", "params": {**params, "thread_id": thread_id}}


def _json_or_text(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def one_text(said: list[Message]) -> str:
    """Several messages as the text of one. A user's only message stays as it is, after what instructs the
    model; a longer conversation is told as one, each message under the name of who said it."""
    said = messages.with_results(said)
    instructions = [message.text for message in said if message.role == "system"]
    rest = [message for message in said if message.role != "system"]
    if len(rest) > 1 or (rest and rest[0].role != "user"):
        rest_text = "\n\n".join(_line(message) for message in rest)
        return "\n\n".join([*instructions, "The conversation so far:", rest_text])
    return "\n\n".join([*instructions, *(message.text for message in rest)])


def _line(message: Message) -> str:
    lines = [f"{_LABELS[message.role]}: {message.text}"] if message.text or not message.tool_calls else []
    for each in message.tool_calls:
        lines.append(f"Assistant called the tool {each.name} with: {each.arguments}")
        if each.result is not None:
            lines.append(f"The tool {each.name} answered: {each.result}")
    return "\n\n".join(lines)
