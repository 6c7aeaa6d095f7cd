"""The messages of a chat call, read for wires that have another shape for them. Pure.

Shapes: OpenAI API reference, "Create chat completion", 2026-11. Its older forms are read too:
`function_call`, the roles `developer` and `function`, an image's URL as a bare string.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from proxy.call import Call, Fields, InvalidBody, NotOffered

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_EMPTY = (b"null", b"false", b"[]", b"{}", b'""')
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?[^,]*,", re.ASCII)
_IMAGE_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
}
_SOUND_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg"}


@dataclass(frozen=True, slots=True)
class Attachment:
    """An image, a sound or a file: its address (https, or data), its type, its name and, of an image, the
    `detail` that was asked for."""

    url: str
    media_type: str
    name: str = ""
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool, its arguments as JSON; `result` is what a later message answered."""

    id: str
    name: str
    arguments: str
    result: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message: `role` is system, user, assistant or tool."""

    role: str
    text: str
    attachments: tuple[Attachment, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


def read(call: Call) -> list[Message]:
    """The call's messages. Raises InvalidBody; NotOffered for a part that can be sent to nobody else."""
    try:
        given = msgspec.json.decode(
            call.fields.get("messages", msgspec.Raw(b"[]")), type=list[dict[str, Any]]
        )
    except (msgspec.DecodeError, RecursionError):
        raise _invalid("'messages' must be an array of objects.") from None
    if not given:
        raise _invalid("'messages' must not be empty.")
    return [_message(each) for each in given]


def all_text(said: list[Message]) -> str:
    """What the messages say, with what tools were called with."""
    calls = ((f"{each.name} {each.arguments}" for each in message.tool_calls) for message in said)
    return "\n".join(
        text for message, names in zip(said, calls, strict=True) for text in (message.text, *names)
    )


def refuse(fields: Fields, names: tuple[str, ...]) -> None:
    """Raises NotOffered for the first of these members that asks for something."""
    for name in names:
        if bytes(fields.get(name, b"null")) not in _EMPTY:
            raise NotOffered(f"'{name}' cannot be asked of this model's upstream.", name)


def require_plain(call: Call) -> None:
    """Raises NotOffered for what needs more, or other, than one answer in plain text.

    What only tunes an answer (temperature, seed, stop, a limit of tokens, …) is no reason to refuse a call:
    it is left out, as the proxies did that spoke these wires before.
    """
    if call.endpoint != "chat.completions":
        raise NotOffered(f"The model '{call.model}' answers chat completions only.", "model")
    if bytes(call.fields.get("n", b"null")) not in (b"null", b"1"):
        raise NotOffered("Only one choice can be asked of this model's upstream.", "n")
    format_ = bytes(call.fields.get("response_format", b"null"))
    if format_ != b"null" and b'"text"' not in format_:
        raise NotOffered("Only text can be asked of this model's upstream.", "response_format")
    if b'"audio"' in bytes(call.fields.get("modalities", b"")):
        raise NotOffered("Only text can be asked of this model's upstream.", "modalities")
    refuse(call.fields, ("logprobs", "top_logprobs", "audio"))


def refuse_tools(fields: Fields) -> None:
    """Raises NotOffered where the model is to have tools."""
    if bytes(fields.get("tool_choice", b"")) != b'"none"':
        refuse(fields, ("tools", "functions"))


def with_results(messages: list[Message]) -> list[Message]:
    """The messages without those of tools: what they answered is in the calls that asked for it. A tool's
    message that no call asked for stays."""
    waiting: dict[str, list[str]] = {}
    for message in messages:
        if message.role == "tool":
            waiting.setdefault(message.tool_call_id, []).append(message.text)
    joined: list[Message] = []
    answered: set[str] = set()
    for message in messages:
        calls = tuple(_answered(each, waiting) for each in message.tool_calls)
        answered.update(each.id for each in calls if each.result is not None)
        joined.append(replace(message, tool_calls=calls))
    return [each for each in joined if each.role != "tool" or each.tool_call_id not in answered]


def _answered(call: ToolCall, waiting: dict[str, list[str]]) -> ToolCall:
    """The call with the first result for its id that no earlier call has taken."""
    results = waiting.get(call.id)
    return replace(call, result=results.pop(0)) if results else call


def _message(given: dict[str, Any]) -> Message:
    role = _ROLES.get(str(given.get("role")))
    if role is None:
        raise _invalid("A message must have one of the roles system, developer, user, assistant or tool.")
    texts, attachments = [], []
    for part in _parts(given.get("content")):
        if isinstance(part, str):
            texts.append(part)
        else:
            attachments.append(part)
    return Message(
        role=role,
        text="\n".join(texts),
        attachments=tuple(attachments),
        tool_calls=tuple(_tool_calls(given)),
        tool_call_id=str(given.get("tool_call_id") or given.get("name") or ""),
    )


def _parts(content: object) -> Iterator[str | Attachment]:
    if content is None or isinstance(content, str):
        yield content or ""
        return
    if not isinstance(content, list):
        raise _invalid("The content of a message must be a text or an array.")
    for part in content:
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            yield _part(part)
        else:
            raise _invalid("A part of a message must be an object.")


def _part(part: dict[str, Any]) -> str | Attachment:
    type_ = part.get("type", "text")
    if type_ in ("text", "input_text", "output_text", "refusal") and isinstance(_of(part, type_), str):
        return str(_of(part, type_))
    read_part = _READERS.get(type_)
    if read_part is None:
        raise NotOffered(
            f"A message holds a part of the type '{type_}', which cannot be sent on.", "messages"
        )
    return read_part(_of(part, type_))


def _of(part: dict[str, Any], type_: str) -> Any:
    return part.get(type_) if type_ in part else part.get("text")


def _image(given: Any) -> Attachment:
    url, detail = (given.get("url"), given.get("detail")) if isinstance(given, dict) else (given, None)
    if not isinstance(url, str) or not url:
        raise _invalid("An image must have a 'url'.")
    media_type = _media_type(url) or _IMAGE_TYPES.get(_ending(url), "image/jpeg")
    return Attachment(url, media_type, _name(url), detail if isinstance(detail, str) else None)


def _sound(given: Any) -> Attachment:
    data, format_ = (given.get("data"), given.get("format")) if isinstance(given, dict) else (None, None)
    if not isinstance(data, str) or format_ not in _SOUND_TYPES:
        raise _invalid("A sound must have 'data', and the 'format' wav or mp3.")
    media_type = _SOUND_TYPES[format_]
    return Attachment(f"data:{media_type};base64,{data}", media_type, f"audio.{format_}")


def _file(given: Any) -> Attachment:
    data = given.get("file_data") if isinstance(given, dict) else None
    if not isinstance(data, str):
        raise NotOffered("A file can be sent on only with its 'file_data'.", "messages")
    media_type = _media_type(data) or "application/pdf"
    url = data if data.startswith("data:") else f"data:{media_type};base64,{data}"
    return Attachment(url, media_type, str(given.get("filename") or "file"))


_READERS = {"image_url": _image, "input_audio": _sound, "file": _file}


def _media_type(url: str) -> str | None:
    found = _DATA_URL.match(url)
    return found[1] if found else None


def _ending(url: str) -> str:
    return re.split(r"[?#]", url, maxsplit=1)[0].rpartition(".")[2].lower()


def _name(url: str) -> str:
    if url.startswith("data:"):
        media_type = _media_type(url) or "image/jpeg"
        return f"image.{media_type.partition('/')[2].partition('+')[0]}"
    return re.split(r"[?#]", url, maxsplit=1)[0].rpartition("/")[2] or "image"


def _tool_calls(given: dict[str, Any]) -> Iterator[ToolCall]:
    calls = given.get("tool_calls") or []
    if isinstance(given.get("function_call"), dict):
        older = given["function_call"]
        calls = [*calls, {"id": older.get("name"), "function": older}]
    if not isinstance(calls, list):
        raise _invalid("'tool_calls' must be an array.")
    for each in calls:
        function = each.get("function") or each.get("custom") if isinstance(each, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise _invalid("A tool call must have a function with a name.")
        arguments = function.get("arguments", function.get("input", ""))
        yield ToolCall(str(each.get("id") or ""), function["name"], str(arguments or ""))


def _invalid(message: str) -> InvalidBody:
    return InvalidBody(message, "messages")
