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
    trouble = f' \\"id\\": "x\u2028\u0085 "model":"{model}"' if behaviour.escaped else ""
    return [
        f"{' ' if number > 1 else ''}w{number}{trouble}{'x' * behaviour.huge}"
        for number in range(1, behaviour.words + 1)
    ]


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


def chat(model: str, behaviour: Behaviour) -> Document:
    message: Document = {"role": "assistant", "content": "".join(words(behaviour, model)), "refusal": None}
    if behaviour.reasoning:
        message[behaviour.reasoning] = "Let me think."
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    document = {"id": "chatcmpl-upstream1", "object": "chat.completion", "choices": [choice]}
    return _with_usage(_signed(document, model, behaviour), behaviour)


def chat_events(model: str, behaviour: Behaviour, request: Document) -> list[Document]:
    """Role, reasoning where wanted, one event a word, the finish, the usage where wanted."""
    first: Document = {"role": "assistant", "content": None if behaviour.null_first else ""}
    deltas = [first]
    if behaviour.reasoning:
        deltas += [{behaviour.reasoning: "Let me "}, {behaviour.reasoning: "think."}]
    deltas += [{"content": word} for word in words(behaviour, model)]
    choices: list[Document] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    shape = {"id": "chatcmpl-upstream1", "object": "chat.completion.chunk"}
    events = [_signed(shape | {"choices": [choice]}, model, behaviour) for choice in choices]
    return _ended_with_usage(events, behaviour, request)


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


def response(model: str, behaviour: Behaviour, *, status: str = "completed") -> Document:
    """A Responses object, in the shape of OpenAI's reference of 2026-11."""
    done = status == "completed"
    output = behaviour.words + behaviour.reasoning_tokens
    usage = {
        "input_tokens": behaviour.prompt,
        "input_tokens_details": {"cached_tokens": behaviour.cached},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": behaviour.reasoning_tokens},
        "total_tokens": behaviour.prompt + output,
    }
    text = "".join(words(behaviour, model))
    document: Document = {
        "id": "resp_upstream1",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": PATH if behaviour.private else model,
        "output": [message(text, "completed")] if done else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if done and behaviour.usage != "missing" else None,
    }
    return document | PRIVATE if behaviour.private else document


def message(text: str | None, status: str) -> Document:
    content = [] if text is None else [part(text)]
    return {
        "id": "msg_upstream1",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def part(text: str) -> Document:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def response_events(model: str, behaviour: Behaviour) -> list[Document]:
    """The event sequence of one message of text, from response.created to response.completed."""
    place = {"item_id": "msg_upstream1", "output_index": 0, "content_index": 0}
    text = "".join(words(behaviour, model))
    begun = response(model, behaviour, status="in_progress")
    deltas = [
        place | {"type": "response.output_text.delta", "delta": word, "logprobs": []}
        for word in words(behaviour, model)
    ]
    events: list[Document] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": message(None, "in_progress")},
        place | {"type": "response.content_part.added", "part": part("")},
        *deltas,
        place | {"type": "response.output_text.done", "text": text, "logprobs": []},
        place | {"type": "response.content_part.done", "part": part(text)},
        {"type": "response.output_item.done", "output_index": 0, "item": message(text, "completed")},
        {"type": "response.completed", "response": response(model, behaviour)},
    ]
    return [event | {"sequence_number": number} for number, event in enumerate(events)]


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
