"""What the scripted upstream says: well-formed OpenAI documents, as a Behaviour bends them.

A call of n words has n output tokens (and its reasoning tokens), so that a test can tell the numbers
it finds in the ledger from all others.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

from tests.upstreams.behaviour import Behaviour

Document = dict[str, Any]

CREATED = 1_763_700_000
PATH = "/srv/models/secret-weights.gguf"
DIMENSIONS = 8
PRIVATE: Document = {
    "timings": {"prompt_ms": 1.5},
    "token_ids": [1, 2, 3],
    "kv_transfer_params": {"host": "10.0.0.7"},
}


def encode(document: object, behaviour: Behaviour) -> bytes:
    separators = (", ", ": ") if behaviour.spaces else (",", ":")
    return json.dumps(document, separators=separators, ensure_ascii=False).encode()


def words(behaviour: Behaviour, model: str) -> list[str]:
    """` w1`, ` w2`, …; every answer's text is their concatenation without the first space."""
    begins, ends = ("<|channel|>final<|message|>", "<|return|>") if behaviour.leaks else ("", "")
    trouble = f' \\"id\\": "x\u2028\u0085 "model":"{model}"' if behaviour.escaped else ""
    return [
        f"{' ' if number > 1 else begins}w{number}{trouble}{'x' * behaviour.huge}"
        f"{ends if number == behaviour.words else ''}"
        for number in range(1, behaviour.words + 1)
    ]


def called(name: str, behaviour: Behaviour) -> str:
    """A tool's name, as it is called."""
    return f"{name}<|channel|>commentary" if behaviour.leaks else name


def chat_usage(behaviour: Behaviour) -> Document:
    output = behaviour.words + behaviour.reasoning_tokens
    return {
        "prompt_tokens": behaviour.prompt,
        "completion_tokens": output,
        "total_tokens": behaviour.prompt + output,
        "prompt_tokens_details": {"cached_tokens": behaviour.cached},
        "completion_tokens_details": {"reasoning_tokens": behaviour.reasoning_tokens},
    }


def _signed(document: Document, model: str, behaviour: Behaviour) -> Document:
    signed = document | {"created": CREATED, "model": PATH if behaviour.private else model}
    return signed | PRIVATE if behaviour.private else signed


def _with_usage(document: Document, behaviour: Behaviour) -> Document:
    if behaviour.usage == "missing":
        return document
    return document | {"usage": None if behaviour.usage == "null" else chat_usage(behaviour)}


def chat(model: str, behaviour: Behaviour, request: Document) -> Document:
    said, calls = _said(model, behaviour, request), _calls(behaviour, request)
    message: Document = {"role": "assistant", "content": None if calls else "".join(said), "refusal": None}
    if calls:
        message["tool_calls"] = calls
    if behaviour.reasoning:
        message[behaviour.reasoning] = "Let me think."
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(behaviour, calls)}
    document = {"id": "chatcmpl-upstream1", "object": "chat.completion", "choices": [choice]}
    return _with_usage(_signed(document, model, behaviour), behaviour)


def chat_events(model: str, behaviour: Behaviour, request: Document) -> list[Document]:
    """Role, reasoning where wanted, one event a word or two a call, the finish, the usage where wanted."""
    calls = _calls(behaviour, request)
    first: Document = {"role": "assistant", "content": None if behaviour.null_first or calls else ""}
    deltas = [first]
    if behaviour.reasoning:
        deltas += [{behaviour.reasoning: "Let me "}, {behaviour.reasoning: "think."}]
    deltas += _call_deltas(calls)
    deltas += [] if calls else [{"content": word} for word in _said(model, behaviour, request)]
    choices: list[Document] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": _finish(behaviour, calls)})
    shape = {"id": "chatcmpl-upstream1", "object": "chat.completion.chunk"}
    events = [_signed(shape | {"choices": [choice]}, model, behaviour) for choice in choices]
    return _ended_with_usage(events, behaviour, request)


def _said(model: str, behaviour: Behaviour, request: Document) -> list[str]:
    format_ = request.get("response_format") or {}
    return spoken(model, behaviour, (format_.get("json_schema") or {}).get("schema"))


def _finish(behaviour: Behaviour, calls: list[Document]) -> str:
    return "length" if behaviour.ends == "incomplete" else "tool_calls" if calls else "stop"


def _calls(behaviour: Behaviour, request: Document) -> list[Document]:
    """A call of every function, where calls are wanted and the newest message is not a result."""
    messages = request.get("messages") or []
    if not behaviour.tools or (messages and messages[-1].get("role") == "tool"):
        return []
    answered = sum(message.get("role") == "tool" for message in messages)
    functions = [tool["function"] for tool in request.get("tools") or [] if tool.get("type") == "function"]
    return [
        {
            "id": f"call_{answered + number}",
            "type": "function",
            "function": {
                "name": called(function["name"], behaviour),
                "arguments": sample(function.get("parameters")),
            },
        }
        for number, function in enumerate(functions, start=1)
    ]


def _call_deltas(calls: list[Document]) -> list[Document]:
    pieces = []
    for index, call in enumerate(calls):
        begun = {"name": call["function"]["name"], "arguments": ""}
        pieces.append({**call, "index": index, "function": begun})
        pieces.append({"index": index, "function": {"arguments": call["function"]["arguments"]}})
    return [{"tool_calls": [piece]} for piece in pieces]


def completion(model: str, behaviour: Behaviour) -> Document:
    choice = {"index": 0, "text": "".join(words(behaviour, model)), "logprobs": None, "finish_reason": "stop"}
    document = {"id": "cmpl-upstream1", "object": "text_completion", "choices": [choice]}
    return _with_usage(_signed(document, model, behaviour), behaviour)


def completion_events(model: str, behaviour: Behaviour, request: Document) -> list[Document]:
    texts = [(word, None) for word in words(behaviour, model)] + [("", "stop")]
    shape = {"id": "cmpl-upstream1", "object": "text_completion"}
    events = [
        _signed(shape | {"choices": [{"index": 0, "text": text, "finish_reason": finish}]}, model, behaviour)
        for text, finish in texts
    ]
    return _ended_with_usage(events, behaviour, request)


def _ended_with_usage(events: list[Document], behaviour: Behaviour, request: Document) -> list[Document]:
    asked = (request.get("stream_options") or {}).get("include_usage") is True
    if behaviour.usage == "last_choice":
        return [*events[:-1], events[-1] | {"usage": chat_usage(behaviour)}]
    if behaviour.usage == "always" or (behaviour.usage == "own_chunk" and asked):
        without = [event | {"usage": None} for event in events]  # as OpenAI does, 2026-11
        return [*without, events[-1] | {"choices": [], "usage": chat_usage(behaviour)}]
    return events


def embeddings(model: str, behaviour: Behaviour, request: Document) -> Document:
    """Unit vectors of eight numbers, each its own; base64 when asked, unless that is ignored."""
    asked = request.get("input", "")
    inputs = asked if isinstance(asked, list) and asked and not isinstance(asked[0], int) else [asked]
    as_base64 = request.get("encoding_format") == "base64" and not behaviour.ignore_format
    data = []
    for index in range(len(inputs)):
        floats = vector(index)
        packed = base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *floats)).decode()
        data.append({"object": "embedding", "index": index, "embedding": packed if as_base64 else floats})
    document: Document = {"object": "list", "data": data, "model": PATH if behaviour.private else model}
    if behaviour.usage != "missing":
        document["usage"] = {"prompt_tokens": behaviour.prompt, "total_tokens": behaviour.prompt}
    return document


def vector(index: int) -> list[float]:
    """Numbers that a float32 holds exactly, so that both encodings can be compared."""
    raw = [math.sin(index + place) for place in range(DIMENSIONS)]
    return list(struct.unpack(f"<{DIMENSIONS}f", struct.pack(f"<{DIMENSIONS}f", *raw)))


def transcription(behaviour: Behaviour, response_format: str) -> tuple[str, bytes]:
    """Content type and body of an audio answer in one of OpenAI's five formats."""
    if response_format == "srt":
        return "text/plain; charset=utf-8", b"1\n00:00:00,000 --> 00:00:02,500\nHello there.\n\n"
    if response_format == "vtt":
        return "text/plain; charset=utf-8", b"WEBVTT\n\n00:00:00.000 --> 00:00:02.500\nHello there.\n\n"
    if response_format == "text":
        return "text/plain; charset=utf-8", b"Hello there.\n"
    document: Document = {"text": "Hello there."}
    if behaviour.usage != "missing":
        document["usage"] = {"type": "duration", "seconds": float(behaviour.seconds)}
    if response_format == "verbose_json":
        segment = {"id": 0, "start": 0.0, "end": float(behaviour.seconds), "text": "Hello there."}
        document |= {"task": "transcribe", "language": "english", "duration": float(behaviour.seconds)}
        document["segments"] = [segment]
    return "application/json", encode(document, behaviour)


def sample(schema: Document | None) -> str:
    """JSON with something for each property of an object's schema."""
    made = {"string": "word", "integer": 7, "number": 0.5, "boolean": True, "array": [], "object": {}}
    properties = (schema or {}).get("properties") or {}
    return json.dumps({name: made.get(each.get("type")) for name, each in properties.items()})


def spoken(model: str, behaviour: Behaviour, schema: Document | None) -> list[str]:
    """The words of an answer; where it has to keep to a schema, JSON in two pieces."""
    if not behaviour.schema or schema is None:
        return words(behaviour, model)
    said = sample(schema)
    return [said[: len(said) // 2], said[len(said) // 2 :]]


def models(names: list[str]) -> Document:
    rows = [{"id": name, "object": "model", "created": CREATED, "owned_by": "scripted"} for name in names]
    return {"object": "list", "data": rows}


def error(behaviour: Behaviour, status: int, secrets: str) -> tuple[str, bytes]:
    """Content type and body of a refusal, in the shapes that servers were seen to use."""
    text = f"No to {secrets}" if behaviour.error == "leaky" else "The scripted upstream says no."
    if behaviour.error == "text":
        return "text/html", b"<html><body>502 Bad Gateway</body></html>"
    if behaviour.error == "empty":
        return "text/plain", b""
    if behaviour.error == "detail":
        return "application/json", encode({"detail": text}, behaviour)
    code: str | int = status if behaviour.error == "integer_code" else "scripted_refusal"
    return "application/json", encode({"error": error_object(text, code)}, behaviour)


def error_object(text: str, code: str | int) -> Document:
    return {"message": text, "type": "invalid_request_error", "param": None, "code": code}
