"""A ChatKit server of before the release, as gpt-oss.com had one (captured 2025-08): `op`, camelCase, `cot`.

    python -m tests.upstreams.prerelease_chatkit --port 9003

Base URL http://127.0.0.1:9003, threads in memory, a thread for whoever began it: by the cookie `user_id`,
which the first answer sets. A body without `op` is not understood. What it answers follows from the words in
what it is told:

  think     thinks first, two thoughts and a recap     boom      tells of an error in the middle
  sign in   answers with a widget                      cut       ends in the middle
  count     how many messages it was sent              headers   what came along
"""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

Document = dict[str, Any]

AT = "2025-08-06T09:00:00.100000"
THOUGHTS = ("First this.", "Then that.")
_TOLD = ("x-selected-model", "x-reasoning-effort", "x-show-reasoning", "user-agent", "origin", "cookie")


class Threads:
    """What each thread was told, and whose it is."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}
        self._told: dict[str, list[str]] = {}

    def begin(self, user: str) -> str:
        id_ = f"thr_{uuid.uuid4().hex[:8]}"
        self._owners[id_], self._told[id_] = user, []
        return id_

    def is_of(self, id_: str, user: str) -> bool:
        return self._owners.get(id_) == user

    def tell(self, id_: str, text: str) -> int:
        """How many texts the thread has with this one."""
        self._told[id_].append(text)
        return len(self._told[id_])


def events(thread: str, text: str, *, begun: bool, number: int, headers: Document) -> Iterator[Document]:
    """The answer, in the order of the capture."""
    if begun:
        yield {"type": "thread.created", "thread": _thread(thread)}
    content = [{"type": "input_text", "text": text}]
    asked = {"type": "user_message", "content": content, "attachments": [], "quoted_text": "", "text": text}
    yield _item("done", thread, {"id": "msg_0000aaaa", "created_at": AT, **asked})
    if "sign in" in text:
        card = {"type": "Card", "children": [{"type": "Title", "value": "Sign in to continue"}]}
        yield _item("done", thread, {"id": "msg_55555555", "type": "widget", "widget": card})
        return
    if "think" in text and headers["x-show-reasoning"] == "true":
        yield from _think(thread)
    words = f"Message {number}" if "count" in text else f"You said: {text}"
    yield from _say(thread, json.dumps(headers) if "headers" in text else words, text)


def _think(thread: str) -> Iterator[Document]:
    id_, entries = "msg_11111111", [{"type": "thought", "summary": "", "content": each} for each in THOUGHTS]
    entries.append({"type": "recap", "summary": "Thought for a couple of seconds", "content": "Done"})
    yield _item("added", thread, {"type": "cot", "id": id_, "created_at": AT, "entries": []})
    part = {"annotations": [], "text": "", "type": "output_text"}
    yield _update(
        thread, "rs_" + "1" * 48, "assistant_message.content_part.added", contentIndex=0, content=part
    )
    for index, entry in enumerate(entries):
        yield _update(thread, id_, "cot.entry_added", entryIndex=index, entry=entry)
    yield _item("done", thread, {"type": "cot", "id": id_, "created_at": AT, "entries": entries})


def _say(thread: str, words: str, asked: str) -> Iterator[Document]:
    id_ = "msg_" + "2" * 48
    item = {"id": id_, "created_at": AT, "type": "assistant_message"}
    part = {"annotations": [], "text": "", "type": "output_text"}
    yield _item("added", thread, {**item, "content": []})
    yield _update(thread, id_, "assistant_message.content_part.added", contentIndex=0, content=part)
    for number, word in enumerate(words.split(" ")):
        delta = word if number == 0 else f" {word}"
        yield _update(thread, id_, "assistant_message.content_part.text_delta", contentIndex=0, delta=delta)
        if "boom" in asked:
            yield {"type": "error", "code": "stream.error", "allow_retry": True}
        if "cut" in asked or "boom" in asked:
            return
    whole = {**part, "text": words}
    yield _update(thread, id_, "assistant_message.content_part.done", contentIndex=0, content=whole)
    yield _item("done", thread, {**item, "content": [whole]})
    yield {"type": "thread.updated", "thread": {**_thread(thread), "title": "A title"}}


def _thread(id_: str) -> Document:
    return {"items": {"data": [], "hasMore": False}, "id": id_, "created_at": AT}


def _item(step: str, thread: str, item: Document) -> Document:
    return {"type": f"thread.item_{step}", "threadId": thread, "item": item}


def _update(thread: str, item_id: str, type_: str, **members: Any) -> Document:
    update = {"type": type_, **members}
    return {"type": "thread.item_updated", "threadId": thread, "itemId": item_id, "update": update}


def application() -> Starlette:
    threads = Threads()

    async def answer(request: Request) -> Response:
        body, known = await request.json(), request.cookies.get("user_id")
        op, params = body.get("op"), body.get("params", {})
        if op not in ("threads.create", "threads.addMessage"):
            return PlainTextResponse("Unknown op", 422)
        user = known or str(uuid.uuid4())
        thread = params["threadId"] if op == "threads.addMessage" else threads.begin(user)
        if not threads.is_of(thread, user):
            return PlainTextResponse("No such thread", 404)
        text = params["input"]["text"]
        assert params["input"]["content"] == [{"type": "input_text", "text": text}]
        headers = {name: request.headers[name] for name in _TOLD if name in request.headers}
        made = events(
            thread, text, begun=op == "threads.create", number=threads.tell(thread, text), headers=headers
        )
        encoded = (f"data: {json.dumps(each, ensure_ascii=False)}\n\n: keep-alive\n\n" for each in made)
        response = StreamingResponse(encoded, media_type="text/event-stream")
        if known is None:
            response.set_cookie("user_id", user, httponly=True)
        return response

    async def health(request: Request) -> Response:
        return PlainTextResponse("up")

    return Starlette(
        routes=[Route("/chatkit", answer, methods=["POST"]), Route("/health", health, methods=["GET"])]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="A ChatKit server of before the release.")
    parser.add_argument("--port", type=int, default=9003)
    given = parser.parse_args()
    uvicorn.run(application(), host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
