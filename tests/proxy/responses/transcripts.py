"""What chat servers send, chunk by chunk, as seen in 2026-11; and a stream run through its passage."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import msgspec

from proxy import sse
from proxy.call import Fields
from proxy.responses.from_chat import ChatToResponses

Document = dict[str, Any]

USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 5,
    "total_tokens": 16,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
_IDS = re.compile(rb"(?:[a-z]+_)[0-9a-f]{32}")
_TIMES = re.compile(rb'"completed_at":\d+')


def chunk(*choices: Document, **more: Any) -> bytes:
    document = {"id": "chatcmpl-theirs", "object": "chat.completion.chunk", "created": 1, "model": "theirs"}
    return sse.encode(json.dumps({**document, "choices": list(choices), **more}, ensure_ascii=False).encode())


def delta(*, finish: str | None = None, logprobs: Any = None, **members: Any) -> bytes:
    return chunk({"index": 0, "delta": members, "logprobs": logprobs, "finish_reason": finish})


def call(index: int | None, id: str | None = None, name: str | None = None, arguments: Any = None) -> bytes:
    """A piece of a tool call; what is None is left out."""
    function = {"name": name, "arguments": arguments}
    piece: Document = {"index": index, "id": id, "type": "function" if id else None}
    piece["function"] = {key: member for key, member in function.items() if member is not None}
    return delta(tool_calls=[{key: member for key, member in piece.items() if member is not None}])


def usage_chunk(usage: Document | None = None) -> bytes:
    return chunk(usage=USAGE if usage is None else usage)


def token(text: str, logprob: float = -0.5) -> Document:
    top = [{"token": text, "logprob": logprob, "bytes": list(text.encode())}]
    return {"token": text, "logprob": logprob, "bytes": None, "top_logprobs": top}


_BEGIN = delta(role="assistant", content="")
_TEXT = _BEGIN + delta(content="Zwölf") + delta(content=' "Uhr"\u2028') + delta(content="\n12 🕛")
_CALLS = (
    call(0, "call_a", "get_weather", "")
    + call(0, arguments='{"city":')
    + call(1, "call_b", "get_time", '{"zone"')
    + call(0, arguments='"Wien"}')
    + call(1, arguments=':"CET"}')
)

TRANSCRIPTS: dict[str, bytes] = {
    "text": _TEXT + delta(finish="stop") + usage_chunk() + sse.DONE,
    "text without [DONE]": _TEXT + delta(finish="stop", content="."),
    "text whose usage comes last of all": _TEXT + chunk({"delta": {}, "finish_reason": "stop"}, usage=USAGE),
    "null content first": delta(role="assistant", content=None, tool_calls=None) + _TEXT + sse.DONE,
    "keys that are missing": chunk({"delta": {"content": "Hi"}}) + chunk({"finish_reason": "stop"}),
    "choices that are null": b'data: {"choices":null}\n\n' + _TEXT + delta(finish="stop") + sse.DONE,
    "comments and CRLF": b": ping\n\n" + (_TEXT + delta(finish="stop") + sse.DONE).replace(b"\n", b"\r\n"),
    "nothing said": _BEGIN + delta(finish="stop") + sse.DONE,
    "reasoning_content": (
        delta(role="assistant", reasoning_content="Hm")
        + delta(reasoning_content=", so.", content=None)
        + _TEXT
        + delta(finish="stop")
        + usage_chunk()
        + sse.DONE
    ),
    "reasoning, both names": (
        delta(reasoning="Hm", reasoning_content="Hm") + delta(reasoning="…") + _TEXT + delta(finish="stop")
    ),
    "reasoning between words": (
        delta(reasoning="a") + delta(content="b") + delta(reasoning="c") + delta(content="d", finish="stop")
    ),
    "reasoning as parts of the content": (
        delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}])
        + delta(content=[{"type": "text", "text": "Yes"}], finish="stop")
    ),
    "calls interleaved": (
        delta(reasoning_content="Two.") + _BEGIN + _CALLS + delta(finish="tool_calls") + usage_chunk()
    ),
    "words, then a call": (
        _TEXT + call(0, "call_a", "get_time", "{}") + delta(finish="tool_calls") + sse.DONE
    ),
    "a call, then words": call(0, "call_a", "f", "{}") + delta(content="Done.") + delta(finish="stop"),
    "a name that comes late": (
        call(0, "call_a", None, '{"a"') + call(0, None, "late", ":1}") + delta(finish="tool_calls")
    ),
    "a name in every piece": (
        call(0, "call_a", "f", "{") + call(0, "call_a", "f", "}") + delta(finish="tool_calls")
    ),
    "calls without an index": call(None, "a", "f", "{}") + call(None, "b", "g", "{}") + delta(finish="stop"),
    "calls all at index 0": call(0, "a", "f", "{}") + call(0, "b", "g", "{}") + delta(finish="tool_calls"),
    "calls without an id": call(0, None, "f", "{}") + call(1, None, "f", "{}") + delta(finish="tool_calls"),
    "calls of one id": call(0, "a", "f", "{}") + call(1, "a", "g", "{}") + delta(finish="tool_calls"),
    "arguments that are no string": call(0, "a", "f", {"x": [1]}) + delta(finish="tool_calls"),
    "the older function_call": (
        delta(function_call={"name": "f", "arguments": ""})
        + delta(function_call={"arguments": "{}"})
        + delta(finish="function_call")
        + sse.DONE
    ),
    "refusal": (
        delta(role="assistant", refusal="I can") + delta(refusal="not.") + delta(finish="stop") + sse.DONE
    ),
    "words, then refusal": delta(content="Well") + delta(refusal="no") + delta(finish="stop"),
    "cut by length": _TEXT + delta(finish="length") + usage_chunk() + sse.DONE,
    "a call cut by length": call(0, "call_a", "f", '{"ha') + delta(finish="length") + sse.DONE,
    "cut by the filter": _TEXT + delta(finish="content_filter") + sse.DONE,
    "logprobs": (
        delta(content="Hi", logprobs={"content": [token("Hi")], "refusal": None})
        + delta(content="!", logprobs={"content": [{"token": "!", "logprob": -1}]})
        + delta(finish="stop", logprobs=None)
    ),
    "annotations": (
        delta(content="See [1].")
        + delta(
            annotations=[{"type": "url_citation", "url_citation": {"url": "https://a.test", "title": "A"}}]
        )
        + delta(finish="stop")
    ),
    "a service tier": chunk({"delta": {"content": "Hi"}}, service_tier="flex") + delta(finish="stop"),
    "an answer in one piece": chunk(
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Both:",
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "b", "type": "function", "function": {"name": "f", "arguments": "[]"}},
                ],
            },
            "finish_reason": "tool_calls",
        },
        usage=USAGE,
    ),
    "a second choice": chunk({"index": 1, "delta": {"content": "no"}}) + _TEXT + delta(finish="stop"),
}


def fields(**asked: Any) -> Fields:
    return {name: msgspec.Raw(msgspec.json.encode(member)) for name, member in asked.items()}


# A request that wants to see all that there is.
CURIOUS = fields(
    model="public",
    input="Hi",
    include=["message.output_text.logprobs"],
)


def passage(asked: Fields = CURIOUS) -> ChatToResponses:
    return ChatToResponses("resp_ours", "public", asked, 1700000000)


def run(transcript: bytes, cuts: tuple[int, ...] = (), asked: Fields = CURIOUS) -> tuple[bytes, Document]:
    """The stream that a client gets of a transcript that comes in pieces, and the response as one JSON."""
    made, splitter = passage(asked), sse.Splitter()
    edges = (0, *cuts, len(transcript))
    out = made.begin()
    for start, end in itertools.pairwise(edges):
        if events := splitter.feed(transcript[start:end]):
            out += made.feed(events)
    out += made.end()
    return out, json.loads(made.final())


def events(stream: bytes) -> list[Document]:
    return [json.loads(sse.data(event)) for event in sse.split(stream)]


def named(stream: bytes, type_: str) -> list[Document]:
    return [event for event in events(stream) if event["type"] == type_]


def alike(stream: bytes) -> bytes:
    """The stream with its ids numbered as they appear and its times left out: what two runs share."""
    found: dict[bytes, bytes] = {}
    numbered = _IDS.sub(lambda match: found.setdefault(match[0], b"id_%d" % len(found)), stream)
    return _TIMES.sub(b'"completed_at":0', numbered)


def fold(stream: bytes) -> Document:
    """The response that a client puts together from deltas and nothing else, but for how it ended, and for
    the content of reasoning: that has no deltas which every client knows."""
    told = events(stream)
    response: Document = told[0]["response"]
    for event in told[2:]:
        _apply(response["output"], event)
    ended = told[-1]["response"]
    differing = ("status", "usage", "incomplete_details", "completed_at", "service_tier")
    return {**response, **{name: ended[name] for name in differing}}


def _apply(output: list[Document], event: Document) -> None:
    kind = event["type"].removeprefix("response.")
    if kind == "output_item.added":
        assert event["output_index"] == len(output)
        output.append(json.loads(json.dumps(event["item"])))
        return
    if "output_index" not in event:
        return
    item = output[event["output_index"]]
    if kind == "output_item.done":
        item["status"] = event["item"]["status"]
        return
    assert item["id"] == event["item_id"]
    parts = item["summary"] if "summary_index" in event else item.get("content", [])
    place = event.get("summary_index", event.get("content_index", 0))
    if kind in ("content_part.added", "reasoning_summary_part.added"):
        assert place == len(parts)
        parts.append(dict(event["part"]))
    elif kind == "content_part.done" and event["part"]["type"] == "reasoning_text":
        parts[place] = event["part"]
    elif kind == "output_text.annotation.added":
        parts[place]["annotations"] = [*parts[place]["annotations"], event["annotation"]]
    elif kind.endswith(".delta"):
        _append(item if kind in _ARGUMENTS else parts[place], kind, event)


_ARGUMENTS = {"function_call_arguments.delta": "arguments", "custom_tool_call_input.delta": "input"}


def _append(written: Document, kind: str, event: Document) -> None:
    name = _ARGUMENTS.get(kind, "refusal" if kind == "refusal.delta" else "text")
    written[name] += event["delta"]
    if "logprobs" in written:
        written["logprobs"] = [*written["logprobs"], *event["logprobs"]]
