"""The wire of OpenAI and of every compatible server (vLLM, Ollama, llama.cpp, LM Studio, …). Pure.

`request` turns a call into what goes upstream, `whole` an answer in one piece into what goes to the client.
Streams are proxy/passage.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from proxy import usage
from proxy.audio import rewrite_form
from proxy.call import Call, Fields, members
from proxy.embeddings import transcode_embeddings
from proxy.passage import ChatPassage, Garbled, Passage, decode, value, without_private
from proxy.reported import UpstreamReported, read_error
from proxy.typed_passage import TranscriptPassage
from proxy.usage import Usage

# Consumed here: an upstream's account is shared by tenants, so nothing of theirs is stored there.
_CONSUMED = ("security_key", "store", "metadata")
_ASKS_USAGE = frozenset({"chat.completions", "completions"})
_PREFIXES = {"chat.completions": "chatcmpl-", "completions": "cmpl-"}


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer in one piece, as the client gets it; of a Response its items too, with what the client does
    not see of them. `control_tokens` of gpt-oss were taken out of it. The estimate is of output that is not
    reported."""

    content_type: bytes
    body: bytes
    usage: Usage | None
    items: list[dict[str, Any]] = field(default_factory=list)
    control_tokens: int = 0
    output_tokens_estimate: int = 0


def request(call: Call, model: str) -> tuple[str, bytes]:
    """Content type and body of the call for an upstream that knows the model as `model`.

    Members that the gateway does not touch keep their bytes.
    """
    if call.form is not None:
        body, content_type = rewrite_form(call.form, {"model": model, "security_key": None})
        return content_type, body
    fields: Fields = {name: value for name, value in call.fields.items() if name not in _CONSUMED}
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    if call.endpoint == "responses":
        fields["store"] = msgspec.Raw(b"false")
    if call.stream and call.endpoint in _ASKS_USAGE:
        fields["stream_options"] = msgspec.Raw(_with_usage(fields))
    return "application/json", msgspec.json.encode(fields)


def _with_usage(fields: Fields) -> bytes:
    options = members(fields, "stream_options")
    options["include_usage"] = msgspec.Raw(b"true")
    return msgspec.json.encode(options)


def answer_id(call: Call, request_id: str) -> str:
    """Our id for the answer; it holds the request's, so that one leads to the other."""
    return _PREFIXES.get(call.endpoint, "") + request_id


def passage(call: Call, request_id: str, content_type: str = "text/event-stream") -> Passage:
    """What a stream of this call goes through."""
    id_ = answer_id(call, request_id)
    if call.form is not None:
        return TranscriptPassage(id_, call.model)
    return ChatPassage(id_, call.model, shows_usage=call.shows_usage)


def whole(call: Call, request_id: str, content_type: str, body: bytes) -> Whole:
    """Raises Garbled, UpstreamReported."""
    if call.form is not None and content_type == "text/html":
        raise Garbled
    if call.form is not None and content_type != "application/json":
        return Whole((content_type or "text/plain").encode() + b"; charset=utf-8", body, None)
    document = decode(body)
    if "choices" not in document and (error := read_error(body)):
        raise UpstreamReported(error)
    if _EXPECTED.get(call.endpoint, "text") not in document:
        raise Garbled
    reported = usage.read(value(document["usage"])) if "usage" in document else None
    if call.form is not None:
        return Whole(b"application/json", body, reported or _duration(document))
    if call.endpoint in _PREFIXES:
        document["id"] = msgspec.Raw(msgspec.json.encode(answer_id(call, request_id)))
    document["model"] = msgspec.Raw(msgspec.json.encode(call.model))
    if call.endpoint == "embeddings":
        document = transcode_embeddings(document, _wanted_encoding(call))
    said = estimate(document) if reported is None or reported.output_tokens is None else 0
    made = msgspec.json.encode(without_private(document))
    return Whole(b"application/json", made, reported, output_tokens_estimate=said)


def estimate(document: Fields) -> int:
    """About how many tokens a chat or a completion says. Raises Garbled."""
    return usage.estimate_output(value(document["choices"])) if "choices" in document else 0


# The member without which an answer is not one.
_EXPECTED = {
    "chat.completions": "choices",
    "completions": "choices",
    "embeddings": "data",
}


def _duration(document: Fields) -> Usage | None:
    """`verbose_json` tells how long the sound was, in seconds (OpenAI API reference, 2026-11)."""
    if "duration" not in document:
        return None
    seconds = value(document["duration"])
    try:
        given = float(seconds) if isinstance(seconds, str) else seconds  # Some servers send it as a string.
    except ValueError:
        return None
    return usage.read({"type": "duration", "seconds": given})


def _wanted_encoding(call: Call) -> str:
    raw = call.fields.get("encoding_format")
    return "base64" if raw is not None and bytes(raw) == b'"base64"' else "float"


def counted(body: bytes) -> Whole:
    """The upstream's own count of an input's tokens. Raises Garbled."""
    document = decode(body)
    if "input_tokens" not in document:
        raise Garbled
    told: Fields = {
        "object": msgspec.Raw(b'"response.input_tokens"'),
        "input_tokens": document["input_tokens"],
    }
    if "estimated" in document:
        told["estimated"] = document["estimated"]
    return Whole(b"application/json", msgspec.json.encode(told), Usage(input_tokens=0, output_tokens=0))
