"""Recorded answers of upstreams, and what a passage makes of one that comes in pieces."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from proxy import sse
from proxy.call import Call, parse_fields
from proxy.fold import Fold
from proxy.passage import Passage

FIXTURES = Path(__file__).with_name("fixtures")

Document = dict[str, Any]


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def chat(*messages: Document, **members: Any) -> Call:
    """A chat call for the model gpt-oss-20b."""
    body = msgspec.json.encode({"model": "gpt-oss-20b", "messages": list(messages), **members})
    return Call(
        endpoint="chat.completions",
        path="/chat/completions",
        model="gpt-oss-20b",
        stream=bool(members.get("stream")),
        fields=parse_fields(body),
        input_tokens_estimate=12,
    )


def user(content: Any = "Hi") -> Document:
    return {"role": "user", "content": content}


def passed(passage: Passage, pieces: Iterable[bytes]) -> bytes:
    """What the client gets of a stream before its terminal marker."""
    out = []
    for piece in pieces:
        if (events := passage.splitter.feed(piece)) and not passage.finished:
            out.append(passage.feed(events))
    return b"".join([*out, passage.rest()])


def run(passage: Passage, *pieces: bytes) -> bytes:
    """What the client gets of a whole stream, its marker included. Raises what the passage raises."""
    return passed(passage, pieces) + passage.end()


def chunks(stream: bytes) -> list[Document]:
    data = [sse.data(event) for event in sse.split(stream)]
    return [msgspec.json.decode(each) for each in data if each and each != b"[DONE]"]


def deltas(stream: bytes) -> list[Document]:
    return [chunk["choices"][0]["delta"] for chunk in chunks(stream) if chunk["choices"]]


def folded(stream: bytes) -> Document:
    fold = Fold()
    fold.feed(stream)
    answer: Document = msgspec.json.decode(fold.answer())
    return answer


def message(stream: bytes) -> Document:
    """The message of the answer that a stream is, less the members that say nothing."""
    said: Document = folded(stream)["choices"][0]["message"]
    return {name: member for name, member in said.items() if member is not None}


def at_every_cut(make: Callable[[], Passage], stream: bytes) -> set[bytes]:
    """What a stream comes to: cut in two anywhere, byte by byte, and in thirds."""
    length = len(stream)
    ways = [(stream[:cut], stream[cut:]) for cut in range(length)]
    ways.append(tuple(bytes([byte]) for byte in stream))  # type: ignore[arg-type]
    for first, second in itertools.product(range(0, length, length // 9 or 1), repeat=2):
        if first < second:
            ways.append((stream[:first], stream[first:second], stream[second:]))  # type: ignore[arg-type]
    return {passed(make(), way) for way in ways}
