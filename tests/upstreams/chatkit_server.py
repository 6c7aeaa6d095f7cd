"""A ChatKit server made with the official SDK, as an upstream that somebody else wrote.

    python -m tests.upstreams.chatkit_server --port 9002

Base URL http://127.0.0.1:9002, threads in memory, a thread for whoever began it: by the cookie `user_id`,
which the first answer sets. What it answers follows from the words in what it is told:

  think     thinks first, two thoughts           boom      fails in the middle
  ask       calls the client's tool `ask`        refuse    refuses with a message of its own
  sign in   answers with a widget                silence   says nothing at all
  count     how many messages it was sent        model     the model and the headers that came along
"""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import uvicorn
from chatkit.errors import CustomStreamError
from chatkit.server import ChatKitServer, StreamingResult
from chatkit.store import NotFoundError, Store
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartDone,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    Attachment,
    ClientToolCallItem,
    Page,
    ProgressUpdateEvent,
    ThoughtTask,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
    WidgetItem,
    Workflow,
    WorkflowItem,
    WorkflowTaskAdded,
    WorkflowTaskUpdated,
)
from chatkit.widgets import Card, Title
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

Events = AsyncIterator[ThreadStreamEvent]


@dataclass(frozen=True)
class Context:
    """Who asks, and with which headers."""

    user: str
    headers: dict[str, str]


class Memory(Store[Context]):
    """Threads of this process; another user's is not found."""

    def __init__(self) -> None:
        self._threads: dict[str, tuple[str, ThreadMetadata]] = {}
        self._items: dict[str, dict[str, ThreadItem]] = {}

    async def load_thread(self, thread_id: str, context: Context) -> ThreadMetadata:
        user, thread = self._threads.get(thread_id, ("", None))
        if thread is None or user != context.user:
            raise NotFoundError(thread_id)
        return thread

    async def save_thread(self, thread: ThreadMetadata, context: Context) -> None:
        self._threads[thread.id] = (context.user, thread)

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: Context
    ) -> Page[ThreadItem]:
        items = list(self._items.get(thread_id, {}).values())
        return Page(data=items[::-1] if order == "desc" else items)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: Context) -> None:
        self._items.setdefault(thread_id, {})[item.id] = item

    save_item = add_thread_item

    async def load_item(self, thread_id: str, item_id: str, context: Context) -> ThreadItem:
        return self._items[thread_id][item_id]

    async def load_threads(
        self, limit: int, after: str | None, order: str, context: Context
    ) -> Page[ThreadMetadata]:
        return Page(data=[thread for user, thread in self._threads.values() if user == context.user])

    async def delete_thread(self, thread_id: str, context: Context) -> None:
        self._threads.pop(thread_id, None)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: Context) -> None:
        self._items[thread_id].pop(item_id, None)

    async def save_attachment(self, attachment: Attachment, context: Context) -> None:
        raise NotImplementedError

    async def load_attachment(self, attachment_id: str, context: Context) -> Attachment:
        raise NotImplementedError

    async def delete_attachment(self, attachment_id: str, context: Context) -> None:
        raise NotImplementedError


class Answers(ChatKitServer[Context]):
    """What the server says."""

    async def respond(
        self, thread: ThreadMetadata, input_user_message: UserMessageItem | None, context: Context
    ) -> Events:
        said = await self._said(thread, context)
        text = said[-1]
        yield ProgressUpdateEvent(text="Working")
        if "refuse" in text:
            raise CustomStreamError("Too many questions today.")
        if "sign in" in text:
            yield self._done(thread, WidgetItem, widget=Card(children=[Title(value="Sign in to continue")]))
        elif "ask" in text:
            arguments = {"question": "Why?"}
            yield self._done(thread, ClientToolCallItem, call_id="call_1", name="ask", arguments=arguments)
        elif "silence" not in text:
            if "think" in text:
                async for event in self._think(thread):
                    yield event
            words = self._words(said, input_user_message, context)
            async for event in self._say(thread, words, fails="boom" in text):
                yield event

    def _words(self, said: list[str], message: UserMessageItem | None, context: Context) -> str:
        if "count" in said[-1]:
            return f"I was sent {len(said)}."
        if "model" in said[-1] and message is not None:
            return json.dumps({"model": message.inference_options.model, **context.headers})
        return f"You said: {said[-1]}"

    async def _said(self, thread: ThreadMetadata, context: Context) -> list[str]:
        """What users and their tools have told so far, in order."""
        items = await self.store.load_thread_items(thread.id, None, 1000, "asc", context)
        told = []
        for item in items.data:
            if isinstance(item, UserMessageItem):
                told.append("".join(part.text for part in item.content))
            elif isinstance(item, ClientToolCallItem) and item.status == "completed":
                told.append(json.dumps(item.output))
        return told

    async def _think(self, thread: ThreadMetadata) -> Events:
        item = self._item(thread, WorkflowItem, workflow=Workflow(type="reasoning", tasks=[]))
        yield ThreadItemAddedEvent(item=item)
        for index, thoughts in enumerate((("First", "First this."), ("Then that.",))):
            item.workflow.tasks.append(ThoughtTask(content=thoughts[0]))
            added = WorkflowTaskAdded(task_index=index, task=item.workflow.tasks[index])
            yield ThreadItemUpdatedEvent(item_id=item.id, update=added)
            for thought in thoughts[1:]:
                item.workflow.tasks[index] = ThoughtTask(content=thought)
                updated = WorkflowTaskUpdated(task_index=index, task=item.workflow.tasks[index])
                yield ThreadItemUpdatedEvent(item_id=item.id, update=updated)
        yield ThreadItemDoneEvent(item=item)

    async def _say(self, thread: ThreadMetadata, words: str, *, fails: bool) -> Events:
        item = self._item(thread, AssistantMessageItem, content=[])
        yield ThreadItemAddedEvent(item=item)
        empty = AssistantMessageContentPartAdded(content_index=0, content=AssistantMessageContent(text=""))
        yield ThreadItemUpdatedEvent(item_id=item.id, update=empty)
        for word in words.split(" "):
            piece = word if word == words.split(" ")[0] else f" {word}"
            delta = AssistantMessageContentPartTextDelta(content_index=0, delta=piece)
            yield ThreadItemUpdatedEvent(item_id=item.id, update=delta)
            if fails:
                raise RuntimeError("boom")
        content = AssistantMessageContent(text=words)
        part_done = AssistantMessageContentPartDone(content_index=0, content=content)
        yield ThreadItemUpdatedEvent(item_id=item.id, update=part_done)
        yield ThreadItemDoneEvent(item=item.model_copy(update={"content": [content]}))

    def _item(self, thread: ThreadMetadata, kind: type[Any], **members: Any) -> Any:
        item_id = f"item_{uuid.uuid4().hex[:8]}"
        return kind(id=item_id, thread_id=thread.id, created_at=datetime.now(UTC), **members)

    def _done(self, thread: ThreadMetadata, kind: type[Any], **members: Any) -> ThreadItemDoneEvent:
        return ThreadItemDoneEvent(item=self._item(thread, kind, **members))


def application() -> Starlette:
    server = Answers(Memory())

    async def answer(request: Request) -> Response:
        user = request.cookies.get("user_id") or str(uuid.uuid4())
        headers = {name: value for name, value in request.headers.items() if name.startswith("x-")}
        result = await server.process(await request.body(), Context(user, headers))
        response: Response
        if isinstance(result, StreamingResult):
            response = StreamingResponse(result, media_type="text/event-stream")
        else:
            response = Response(result.json, media_type="application/json")
        response.set_cookie("user_id", user, httponly=True)
        return response

    async def health(request: Request) -> Response:
        return PlainTextResponse("up")

    return Starlette(
        routes=[Route("/chatkit", answer, methods=["POST"]), Route("/health", health, methods=["GET"])]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="A ChatKit server made with the official SDK.")
    parser.add_argument("--port", type=int, default=9002)
    given = parser.parse_args()
    uvicorn.run(application(), host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
