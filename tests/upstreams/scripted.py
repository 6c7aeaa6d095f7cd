"""An OpenAI-compatible upstream that behaves as a test wants it to, over real sockets.

    with ScriptedUpstream() as upstream:          # a thread with a loop of its own
        ... base URL: upstream.url ...
        upstream.behave("gpt-4o-mini", "status=503+retry-after=1")
        upstream.calls(model="gpt-test+cut=3")    # what it received, and how each ended

    python -m tests.upstreams.scripted --port 9000

Behaviour is chosen per call by options in the model's name (tests/upstreams/behaviour.py), or by
`behave` for a name that has to be plain.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.deadline import until
from tests.upstreams import answers, responses
from tests.upstreams.behaviour import Behaviour, parse

LARGEST_BODY_BYTES = 64 * 1024 * 1024
_FORM_FIELD = re.compile(rb'name="([^"]+)"[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--', re.DOTALL)


@dataclass(slots=True)
class Received:
    """One request as it came in, and how its answer ended. Times are of time.monotonic()."""

    method: str
    path: str
    headers: dict[str, str]  # lower-case names; of two of a name the last
    body: bytes
    at: float
    ending: str = "open"  # then: complete | cut (by us) | left (by the client)
    ended_at: float | None = None
    first_byte_at: float | None = None
    fields: dict[str, str] = field(default_factory=dict)  # of a form, without its file

    @property
    def document(self) -> dict[str, Any]:
        """The JSON body; of a form, its fields."""
        if self.fields:
            return dict(self.fields)
        loaded = json.loads(self.body)
        assert isinstance(loaded, dict)
        return loaded

    @property
    def model(self) -> str:
        return str(self.document.get("model", "")) if self.body else ""

    def end(self, ending: str) -> None:
        self.ending, self.ended_at = ending, time.monotonic()


class Cut(Exception):
    """The answer breaks off here, as scripted."""


class ScriptedUpstream:
    """The server, and what the tests read of it. Everything public may be called from any thread."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.models = ["gpt-test", "gpt-other"]
        self.received: list[Received] = []
        self._options: dict[str, str] = {}
        self._calls_of: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="scripted upstream", daemon=True)
        self._listening = threading.Event()
        self._stop = asyncio.Event()

    @property
    def url(self) -> str:
        """What goes into OPENAI_BASE_URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def behave(self, model: str, options: str) -> None:
        """From now on a call for `model` is answered as one for `model+options`."""
        parse(f"{model}+{options}")
        self._options[model] = options

    def calls(self, model: str | None = None, path: str | None = None) -> list[Received]:
        """The requests with a body so far, oldest first."""
        return [
            call
            for call in list(self.received)
            if call.body and model in (None, call.model) and path in (None, call.path)
        ]

    def call(self, model: str, seconds: float = 10.0) -> Received:
        """The newest request for the model, waiting until there is one."""
        return until(lambda: self.calls(model), seconds=seconds, what=f"a call for {model}")[-1]

    def ended(self, model: str, seconds: float = 10.0) -> Received:
        """As `call`, waiting until its answer has ended one way or the other."""
        call = self.call(model, seconds)
        until(lambda: call.ended_at, seconds=seconds, what=f"the end of the call for {model}")
        return call

    def clear(self) -> None:
        """Forgets every call and every `behave`; answers under way go on."""
        self.received.clear()
        self._options.clear()
        self._calls_of.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listening.wait(10):
            raise RuntimeError("The scripted upstream did not start.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _serve(self) -> None:
        try:
            self._loop.run_until_complete(self.run())
        finally:
            self._loop.close()

    async def run(self) -> None:
        """Serves until it is stopped."""
        server = web.Application(client_max_size=LARGEST_BODY_BYTES)
        server.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(server, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        self._listening.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        call = await receive(request)
        self.received.append(call)
        try:
            answer = await self._respond(request, call)
        except (asyncio.CancelledError, ConnectionError):
            call.end("left")
            raise
        except Cut:
            call.end("cut")
            return web.Response()  # to nobody: the connection is closed
        call.end("complete")
        return answer

    async def _respond(self, request: web.Request, call: Received) -> web.StreamResponse:
        if not call.body:
            return self._listed(call.path)
        model = call.model
        options = self._options.get(model)
        behaviour = parse(f"{model}+{options}" if options else model)
        self._calls_of[model] += 1
        await before_the_answer(request, behaviour)
        refusal = self._refusal(call, behaviour)
        if refusal is not None:
            return refusal
        writer = Writer(request, call, behaviour)
        return await say(writer, call.path.removeprefix("/v1"), model, behaviour)

    def _listed(self, path: str) -> web.Response:
        document = answers.models(self.models)
        found = [row for row in document["data"] if path == f"/v1/models/{row['id']}"]
        if path != "/v1/models" and not found:
            return json_response(404, {"error": answers.error_object("Not found.", "not_found")})
        return json_response(200, found[0] if found else document)

    def _refusal(self, call: Received, behaviour: Behaviour) -> web.Response | None:
        failing = 0 < self._calls_of[call.model] <= behaviour.fail
        status = behaviour.status
        if failing and status == 200:
            status = 500
        if status == 200 or (behaviour.fail and not failing):
            return None
        secrets = f"{call.headers.get('authorization')} at {self.url}"
        content_type, body = answers.error(behaviour, status, secrets)
        headers = {"content-type": content_type, "x-request-id": "req_upstream"}
        if behaviour.retry_after:
            headers["retry-after"] = behaviour.retry_after
        if behaviour.location:
            headers["location"] = behaviour.location
        return web.Response(status=status, body=body, headers=headers)


async def receive(request: web.Request) -> Received:
    body = await request.read()
    headers = {name.lower(): value for name, value in request.headers.items()}
    fields = {}
    if request.content_type == "multipart/form-data":
        found = _FORM_FIELD.findall(body)
        fields = {name.decode(): value.decode() for name, value in found if name != b"file"}
    return Received(request.method, request.path, headers, body, time.monotonic(), fields=fields)


def json_response(status: int, document: object) -> web.Response:
    return web.json_response(document, status=status, headers={"x-request-id": "req_upstream"})


async def before_the_answer(request: web.Request, behaviour: Behaviour) -> None:
    if behaviour.hang:
        await asyncio.Event().wait()
    await asyncio.sleep(behaviour.delay / 1000)
    if behaviour.refuse:
        assert request.transport
        request.transport.abort()
        raise Cut


async def say(writer: Writer, path: str, model: str, behaviour: Behaviour) -> web.StreamResponse:
    """The answer that the path has, as JSON, text or stream."""
    request = writer.call.document
    if behaviour.garbage:
        return await writer.whole("text/html", b"<html>This is not what you asked for.</html>")
    if path.startswith("/responses") and behaviour.chatonly:
        return json_response(behaviour.chatonly, {"detail": "Not Found"})
    if path == "/responses" and behaviour.ends == "error" and not request.get("stream"):
        broken = answers.error_object("The upstream broke down.", "scripted_breakdown")
        return json_response(500, {"error": broken})
    if path == "/responses" and (refused := responses.refusal(request, behaviour)):
        return json_response(*refused)
    if path.startswith("/audio/"):
        form = request.get("response_format", "json")
        return await writer.whole(*answers.transcription(behaviour, form))
    if request.get("stream"):
        return await say_stream(writer, path, model, behaviour)
    if path == "/chat/completions":
        document = answers.chat(model, behaviour, request)
    elif path == "/completions":
        document = answers.completion(model, behaviour)
    elif path == "/embeddings":
        document = answers.embeddings(model, behaviour, request)
    elif path == "/responses":
        document = responses.response(model, behaviour, request)
    elif path == "/responses/input_tokens" and behaviour.counts:
        document = responses.counted(behaviour)
    else:
        return json_response(404, {"detail": "Not Found"})
    return await writer.whole("application/json", answers.encode(document, behaviour))


async def say_stream(writer: Writer, path: str, model: str, behaviour: Behaviour) -> web.StreamResponse:
    if path == "/responses":
        events = responses.events(model, behaviour, writer.call.document)
        return await writer.stream(
            [(event["type"], answers.encode(event, behaviour)) for event in events], b""
        )
    make = answers.chat_events if path == "/chat/completions" else answers.completion_events
    events = make(model, behaviour, writer.call.document)
    done = b"" if behaviour.nodone else b"[DONE]"
    return await writer.stream([("", answers.encode(event, behaviour)) for event in events], done)


class Writer:
    """Sends one answer, whole or as events, and ends it as the behaviour wants."""

    def __init__(self, request: web.Request, call: Received, behaviour: Behaviour) -> None:
        self.request = request
        self.call = call
        self.behaviour = behaviour
        self.response = web.StreamResponse(headers={"x-request-id": "req_upstream"})

    async def whole(self, content_type: str, body: bytes) -> web.StreamResponse:
        self.response.content_length = len(body)
        await self._begin(content_type)
        await self._send(body[: len(body) // 2] if self.behaviour.cut else body)
        if self.behaviour.cut:
            self._cut()
        return await self._end()

    async def stream(self, events: list[tuple[str, bytes]], done: bytes) -> web.StreamResponse:
        """`events` are pairs of a name (or "") and data; `done` is the marker after them (or b"")."""
        await self._begin("text/event-stream; charset=utf-8")
        for position, (name, data) in enumerate(events, start=1):
            await self._send(self._event(name, data))
            if await self._stops(position):
                return await self._end()
            await asyncio.sleep(self.behaviour.pace / 1000)
        if done:
            await self._send(self._event("", done))
        return await self._end()

    def _event(self, name: str, data: bytes) -> bytes:
        comment = b": a comment\n\n" if self.behaviour.comments else b""
        named = b"event: %b\n" % name.encode() if name else b""
        event = comment + named + b"data: %b\n\n" % data
        if self.behaviour.crlf:
            return event.replace(b"\n", b"\r\n")
        return event.replace(b"\n", b"\r") if self.behaviour.cr else event

    async def _stops(self, position: int) -> bool:
        """Whether the stream is over after this event; breaks it or hangs where that is scripted."""
        if position == self.behaviour.cut:
            self._cut()
        if position == self.behaviour.hang_after:
            await asyncio.Event().wait()
        if position == self.behaviour.error_after:
            error = {"error": answers.error_object("The upstream broke down.", "scripted_breakdown")}
            await self._send(self._event("", answers.encode(error, self.behaviour)))
            return True
        return position == self.behaviour.end

    async def _begin(self, content_type: str) -> None:
        self.response.headers["content-type"] = content_type
        if self.behaviour.encoding:
            self.response.headers["content-encoding"] = self.behaviour.encoding
        await self.response.prepare(self.request)
        self.call.first_byte_at = time.monotonic()

    async def _send(self, data: bytes) -> None:
        size = self.behaviour.piece or len(data) or 1
        for start in range(0, len(data), size):
            await self.response.write(data[start : start + size])
            if self.behaviour.piece:
                await asyncio.sleep(0)

    async def _end(self) -> web.StreamResponse:
        await self.response.write_eof()
        return self.response

    def _cut(self) -> None:
        assert self.request.transport
        self.request.transport.close()  # what was written still goes out; the body stays unfinished
        raise Cut


def main() -> None:
    parser = argparse.ArgumentParser(description="An OpenAI-compatible upstream that behaves as told.")
    parser.add_argument("--port", type=int, default=9000)
    upstream = ScriptedUpstream(parser.parse_args().port)
    print(f"OPENAI_BASE_URL={upstream.url}", flush=True)
    try:
        asyncio.run(upstream.run())
    except KeyboardInterrupt:
        print("Stopped.")


if __name__ == "__main__":
    main()
