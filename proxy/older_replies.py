"""Answers in the shapes of two older proxies: "GPT-OSS 2T" and "chatgpt-proxy"."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from typing import Any

import msgspec

from accounts.errors import ApiError
from proxy import sse
from proxy.endpoints.older_calls import Plain
from proxy.http import EVENTS_TYPE, Header, Reply
from proxy.reported import read_error

_JSON = b"application/json"
_TEXT = b"text/plain; charset=utf-8"
FORBIDDEN = (403, _TEXT, b"Forbidden")
_EVENT_LINE = re.compile(rb"^event: [^\n]*\n", re.MULTILINE)
_WHOLE = re.compile(rb'"type": ?"response\.(?:completed|incomplete)"')
_NO_KEY = ("missing_api_key", "invalid_api_key")

Document = dict[str, Any]


class TwoTReply(Reply):
    """An error is one string: `{"error": "Missing messages array"}`."""

    async def whole(
        self, status: int, content_type: bytes, body: bytes, headers: Iterable[Header] = ()
    ) -> None:
        if status >= 400:
            body = msgspec.json.encode({"error": str(read_error(body).get("message", "Unknown error"))})
        await super().whole(status, content_type, body, headers)


class PlainReply(Reply):
    """JSON to be read by people; what the proxy itself refuses is plain text, and a wrong key 403. What
    OpenAI would have refused is JSON: that names what of the body is wrong."""

    async def refuse(self, refusal: ApiError) -> None:
        if refusal.code in _NO_KEY:
            await super().whole(*FORBIDDEN)
        elif isinstance(refusal, Plain) or self._is_unread(refusal):
            await self.text(refusal.status, refusal.message, refusal.headers)
        else:
            await super().refuse(refusal)

    def _is_unread(self, refusal: ApiError) -> bool:
        """Whether it is about a body that could not be read."""
        return (refusal.status, refusal.code, refusal.param) == (400, None, None)

    async def text(self, status: int, text: str, headers: Iterable[Header] = ()) -> None:
        await super().whole(status, _TEXT, text.encode(), headers)

    async def whole(
        self, status: int, content_type: bytes, body: bytes, headers: Iterable[Header] = ()
    ) -> None:
        if content_type == _JSON:
            shaped = self._shaped(msgspec.json.decode(body)) if status == 200 else None
            body = msgspec.json.format(msgspec.json.encode(shaped) if shaped else body, indent=2)
        await super().whole(status, content_type, body, headers)

    def _shaped(self, answer: Document) -> Document | None:
        """The answer as its clients know it; None: as it is."""
        return None


class MessageReply(PlainReply):
    """A chat as the library `chatgpt` 5 gives it: the message, and the completion in its `detail`."""

    def _shaped(self, answer: Document) -> Document:
        said = answer["choices"][0]["message"] if answer.get("choices") else {}
        return {
            "role": "assistant",
            "id": answer.get("id"),
            "parentMessageId": str(uuid.uuid4()),
            "text": said.get("content") or "",
            "detail": answer,
        }


class ChatgptReply(MessageReply):
    """Of `/chatgpt`, where a body without a key is not a body."""

    async def refuse(self, refusal: ApiError) -> None:
        if refusal.code == "missing_api_key":
            await self.text(400, "Bad Request")
        else:
            await super().refuse(refusal)


class Responses2Reply(PlainReply):
    """A Response with its `output_text`; events without their `event:` line, and `[DONE]` after the last one
    of an answer that is whole."""

    _told_whole = False

    def _shaped(self, answer: Document) -> Document | None:
        if answer.get("object") != "response" or "output" not in answer:
            return None
        parts = [
            part
            for item in answer["output"]
            if item["type"] == "message"
            for part in item["content"]
            if part["type"] == "output_text"
        ]
        return {**answer, "output_text": "".join(part["text"] for part in parts)}

    async def whole(
        self, status: int, content_type: bytes, body: bytes, headers: Iterable[Header] = ()
    ) -> None:
        told = self._told(body, ended=True) if content_type == EVENTS_TYPE else body
        await super().whole(status, content_type, told, headers)

    async def _pass(self, body: bytes) -> None:
        await super()._pass(self._told(body))

    async def end(self, body: bytes) -> None:
        await super().end(self._told(body, ended=True))

    def _told(self, events: bytes, *, ended: bool = False) -> bytes:
        self._told_whole = self._told_whole or _WHOLE.search(events) is not None
        return _EVENT_LINE.sub(b"", events) + (sse.DONE if ended and self._told_whole else b"")


class StoredReply(Responses2Reply):
    """Of a Response that is kept, where there is hardly a body to be read."""

    def _is_unread(self, refusal: ApiError) -> bool:
        return False
