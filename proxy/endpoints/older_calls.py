"""What the bodies of two older proxies ask for, as calls.

"GPT-OSS 2T": one path for chats, which stream unless told otherwise. "chatgpt-proxy": bodies that bear a
`security_key`, and may bring an account of their own at the upstream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from django.conf import settings

from accounts.errors import ApiError
from accounts.keys import Caller
from proxy import background_turn, call, chat_turn
from proxy.addresses import NotSendable, check_header
from proxy.audio import Form, FormError, Part, parse_form
from proxy.call import Account, Call, Fields, InvalidBody
from proxy.endpoints import audio, chat, responses
from proxy.endpoints.endpoint import Endpoint, Take, audio_endpoint
from proxy.event_log import EventLog
from proxy.http import Request
from proxy.turns import Turn, alone

Parse = Callable[[bytes, str], tuple[Call, str | None]]

# The models that the older proxies had where none was named.
GPT_OSS_MODEL = "gpt-oss-120b"
CHAT_MODEL = "gpt-4o-mini"
TRANSCRIPTION_MODEL = "whisper-1"
INSTRUCTIONS = "You are an AI assistant."
_ACCOUNT = ("openai_api_key", "project", "organization")
_OURS = (*_ACCOUNT, "timeout", "image", "security_key")


class Plain(ApiError):
    """A refusal that those proxies' clients read as plain text."""


@dataclass(frozen=True, slots=True)
class Misread(Call):
    """A call of which something is wrong; what it is is told to those only who may call."""

    problem: Exception | None = None


def _after_the_key(parse: Parse, take: Take = alone) -> Endpoint:
    """An endpoint that says what is wrong with a body once it is known who calls, as those proxies did."""

    def understand(body: bytes, content_type: str) -> tuple[Call, str | None]:
        try:
            return parse(body, content_type)
        except (InvalidBody, FormError, Plain) as error:
            return Misread("", "", "", False, {}, 0, problem=error), _key_in(body, content_type)

    async def taken(made: Call, caller: Caller, request: Request, log: EventLog) -> Turn:
        if isinstance(made, Misread) and made.problem is not None:
            raise made.problem
        return await take(made, caller, request, log)

    return Endpoint(understand, take=taken)


def _key_in(body: bytes, content_type: str) -> str | None:
    """The security key of a body with a mistake. Raises InvalidBody, FormError where it cannot be read."""
    if content_type.startswith("multipart/"):
        return parse_form(body, content_type).fields.get("security_key")
    return call.string(call.parse_fields(body), "security_key")


# GPT-OSS 2T


def parse_2t(body: bytes, content_type: str) -> tuple[Call, str | None]:
    """A chat of "GPT-OSS 2T". Raises InvalidBody, ApiError."""
    fields = call.parse_fields(body)
    if not bytes(fields.get("messages", b"")).startswith(b"["):
        raise ApiError(400, "Missing messages array")
    fields = {**_raw(stream=True, temperature=0.8, top_p=0.9), **fields}
    fields |= _raw(model=settings.DEFAULT_MODEL or GPT_OSS_MODEL)
    if bytes(fields.get("max_tokens", b"-1")) == b"-1":  # which stands for no limit
        fields.pop("max_tokens", None)
    return chat.parse_chat(msgspec.json.encode(fields), content_type)


# chatgpt-proxy


def _parse_openai(body: bytes, content_type: str) -> tuple[Call, str | None]:
    """A chat, with an `image` beside it. Raises InvalidBody, Plain."""
    given = call.parse_fields(body)
    if bytes(given.get("stream", b"null")) not in (b"null", b"false", b"0", b'""'):
        raise Plain(400, "Streaming is not supported on this endpoint")
    fields = {name: value for name, value in given.items() if name not in (*_OURS, "stream")}
    fields.setdefault("messages", msgspec.Raw(b"[]"))
    if (part := _image_part(given)) is not None:
        fields |= _raw(messages=_with_image(fields["messages"], part))
    made, _ = chat.parse_chat(msgspec.json.encode(fields), content_type)
    return replace(made, account=_account(given)), call.string(given, "security_key")


def _image_part(given: Fields) -> dict[str, Any] | None:
    """The content part of the member `image`, None where it is not there. Raises InvalidBody, Plain."""
    image = call.member(given, "image")
    if not image:
        if isinstance(image, dict):
            raise Plain(400, "Invalid image payload")
        return None
    found = image if isinstance(image, dict) else {}
    url = found.get("url") or (f"data:image/png;base64,{found['base64']}" if found.get("base64") else None)
    if not url:
        raise Plain(400, "Invalid image payload")
    return {"type": "image_url", "image_url": {"url": url}}


def _with_image(raw: msgspec.Raw, part: dict[str, Any]) -> list[Any]:
    """The messages, with the image in the last one where that is a user's, else in one more."""
    try:
        said: list[dict[str, Any]] = msgspec.json.decode(raw, type=list[dict[str, Any]])
    except msgspec.DecodeError:
        raise InvalidBody("'messages' must be an array of objects.", "messages") from None
    if not said or said[-1].get("role") != "user":
        return [*said, {"role": "user", "content": [part]}]
    content = said[-1].get("content")
    if isinstance(content, str):
        parts = [{"type": "text", "text": content}, part]
    else:
        parts = [*content, part] if isinstance(content, list) else [part]
    return [*said[:-1], {**said[-1], "content": parts}]


def _parse_openai2(body: bytes, content_type: str) -> tuple[Call, str | None]:
    """A Response. Raises InvalidBody."""
    given = call.parse_fields(body)
    fields = {name: value for name, value in given.items() if name not in (*_ACCOUNT, "timeout")}
    made, key = responses.parse(msgspec.json.encode(fields), content_type)
    return replace(made, account=_account(given)), key


def parse_chatgpt(body: bytes, content_type: str) -> tuple[Call, str | None]:
    """A `prompt` alone, answered without memory. Raises InvalidBody, Plain."""
    given = call.parse_fields(body)
    try:
        prompt, model = call.string(given, "prompt"), call.string(given, "model")
        key = call.string(given, "security_key")
        temperature, top_p = _number(given, "temperature", 2.0), _number(given, "top_p", 1.0)
    except InvalidBody:
        raise Plain(400, "Bad Request") from None
    if prompt is None:
        raise Plain(400, "Bad Request")
    said = [{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": prompt}]
    fields = {name: value for name, value in given.items() if name in ("max_tokens", "max_completion_tokens")}
    fields |= _raw(
        model=model or settings.DEFAULT_MODEL or CHAT_MODEL,
        messages=said,
        temperature=temperature,
        top_p=top_p,
        presence_penalty=1,
    )
    made, _ = chat.parse_chat(msgspec.json.encode(fields), content_type)
    return made, key


def _number(given: Fields, name: str, most: float) -> float:
    """A number from 0 to `most`, 1 where it is not given. Raises InvalidBody, Plain."""
    value = call.member(given, name)
    if value is None:
        return 1
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise Plain(400, "Bad Request")
    return value


def _parse_transcription(body: bytes, content_type: str) -> tuple[Call, str | None]:
    """A sound, in a field of any name: the last file counts. Raises FormError, InvalidBody, Plain."""
    if not content_type.lower().startswith("multipart/form-data"):
        raise Plain(400, "Content-Type must be multipart/form-data")
    form = parse_form(body, content_type)
    files = [part for part in form.parts if part.file_name is not None]
    if not files:
        raise Plain(400, "No audio file uploaded")
    kept = [part for part in form.parts if part.file_name is None and part.name not in _OURS]
    model = form.fields.get("model") or TRANSCRIPTION_MODEL
    made, _ = audio.call_of(
        "audio.transcriptions",
        "/audio/transcriptions",
        Form(form.boundary, (*kept, _file(files[-1]))),
        model,
    )
    fields = {name: msgspec.Raw(msgspec.json.encode(form.fields.get(name, ""))) for name in _ACCOUNT}
    return replace(made, account=_account(fields)), form.fields.get("security_key")


def _file(part: Part) -> Part:
    """The part under the name that OpenAI reads."""
    name = (part.file_name or "audio.wav").replace('"', "_").replace("\r", "_").replace("\n", "_")
    head = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n'
    return Part(head.encode() + b"Content-Type: application/octet-stream\r\n", "file", name, part.body)


def _account(given: Fields) -> Account | None:
    """What a caller brings of its own. Raises InvalidBody for what cannot go into a header."""
    named = {name: call.string(given, name) or "" for name in _ACCOUNT}
    for name, value in named.items():
        try:
            check_header(value or "x")
        except NotSendable as error:
            raise InvalidBody(f"'{name}' {error}.", name) from None
    account = Account(*named.values())
    return account if account != Account() else None


def _raw(**members: Any) -> Fields:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in members.items()}


TWO_T = Endpoint(parse_2t, take=chat_turn.take)
OPENAI = _after_the_key(_parse_openai)
OPENAI2 = _after_the_key(_parse_openai2, take=background_turn.take)
CHATGPT = Endpoint(parse_chatgpt)
TRANSCRIPTION = replace(
    _after_the_key(_parse_transcription),
    max_bytes=audio_endpoint(_parse_transcription).max_bytes,
    max_image_bytes=audio_endpoint(_parse_transcription).max_image_bytes,
)
