"""A fake upstream, cheap enough to leave the processors to the server being measured.

    python -m benchmarks.upstream PORT

Answers POST /v1/chat/completions: one JSON of about 700 bytes, or, for `"stream":true`, as many paced
token events as `max_tokens` says. Each token is the moment it was sent, so that the client can tell how
long it was on its way. It reads only what it needs: it is no example of an HTTP server.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import cast

import uvloop

EVENTS_PER_SECOND = 50
MODEL = b"gpt-4o-mini-2024-07-18"
TEXT = (
    b"A gateway stands between many callers and many models. It knows who is calling, decides what they "
    b"may spend, finds a server that can answer, passes the answer on as it is written, and keeps an exact "
    b"account of it all."
)
JSON_BODY = (
    b'{"id":"chatcmpl-BENCH0123456789abcdefghijkl","object":"chat.completion","created":1763700000,'
    b'"model":"%b","choices":[{"index":0,"message":{"role":"assistant","content":"%b","refusal":null,'
    b'"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":19,'
    b'"completion_tokens":46,"total_tokens":65,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},'
    b'"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}},"service_tier":"default"}'
) % (MODEL, TEXT)
MODELS_BODY = b'{"object":"list","data":[{"id":"gpt-4o-mini","object":"model","created":0}]}'
CHUNK = (
    b'data: {"id":"chatcmpl-BENCH0123456789abcdefghijkl","object":"chat.completion.chunk",'
    b'"created":1763700000,"model":"%b","service_tier":"default","system_fingerprint":"fp_bench",' % MODEL
)
ROLE_EVENT = CHUNK + (
    b'"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},'
    b'"logprobs":null,"finish_reason":null}]}\n\n'
)
TOKEN_EVENT = CHUNK.replace(b"%", b"%%") + (
    b'"choices":[{"index":0,"delta":{"content":" %d"},"logprobs":null,"finish_reason":null}]}\n\n'
)
STOP_EVENT = CHUNK + b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
USAGE_EVENT = CHUNK + (
    b'"choices":[],"usage":{"prompt_tokens":19,"completion_tokens":%d,"total_tokens":%d,'
    b'"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}\n\n'
)
DONE = b"data: [DONE]\n\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"x-request-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n"
)


def json_response(body: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_bench\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )


JSON_RESPONSE = json_response(JSON_BODY)
MODELS_RESPONSE = json_response(MODELS_BODY)


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream_tail(body: bytes, events: int) -> bytes:
    """What ends a stream, the usage event in it when the caller asked."""
    usage = USAGE_EVENT % (events, events + 19) if b'"include_usage":true' in body else b""
    return chunked(STOP_EVENT + usage + DONE) + b"0\r\n\r\n"


def requested_events(body: bytes) -> int:
    found = re.search(rb'"max_tokens":(\d+)', body)
    return int(found[1]) if found else 10


class UpstreamConnection(asyncio.Protocol):
    """One keep-alive connection; answers one request at a time."""

    def __init__(self) -> None:
        self.received = b""
        self.loop = asyncio.get_running_loop()
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are not its subclasses

    def connection_lost(self, reason: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if separator and len(body) >= (int(length[1]) if length else 0):
            self.received = b""
            self.answer(head, body.replace(b'": ', b'":'))

    def answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET"):
            self.transport.write(MODELS_RESPONSE)
        elif b'"stream":true' in body:
            self.begin_stream(body)
        else:
            self.transport.write(JSON_RESPONSE)

    def begin_stream(self, body: bytes) -> None:
        events = requested_events(body)
        self.transport.write(STREAM_HEAD + chunked(ROLE_EVENT))
        self.pace(self.loop.time(), 1, events, stream_tail(body, events))

    def pace(self, began: float, number: int, events: int, tail: bytes) -> None:
        """Plans event `number` at its own moment, counted from the beginning so that no delay adds up."""
        moment = began + number / EVENTS_PER_SECOND
        self.timer = self.loop.call_at(moment, self.send_event, began, number, events, tail)

    def send_event(self, began: float, number: int, events: int, tail: bytes) -> None:
        if number > events:
            self.transport.write(tail)
            return
        self.transport.write(chunked(TOKEN_EVENT % time.monotonic_ns()))
        self.pace(began, number + 1, events, tail)


async def serve(port: int) -> None:
    """Serves on 127.0.0.1 until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(UpstreamConnection, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
