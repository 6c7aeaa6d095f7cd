"""The built-in demo model: answers well and without any upstream, so that a first call works. Pure.

Everything but ids and times follows from the request. What a member of the wrong type would ask for is
not done. Shapes: OpenAI API reference, 2026-11.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from proxy.dialects import demo_chat
from proxy.dialects.demo_text import Answer, Said, count_words, event, say, signed, spell, stream, whole
from proxy.embeddings import to_base64

Document = dict[str, Any]

DIMENSIONS = 256
MAX_DIMENSIONS = 3072  # as OpenAI's largest ("Create embeddings", 2026-11)
MAX_NUMBERS = 2**19  # of one answer, for what they cost the loop
_TRANSCRIPT = (
    "This is Tollgate's built-in demo model. It hears nothing and always writes this down. "
    "Next: add an upstream that can listen in the admin panel, or set OPENAI_API_KEY and start again."
)
_SECONDS_PER_WORD = 0.4


def answer(path: str, document: Document) -> Answer:
    """Status, content type, and the answer in pieces: an event each when it is a stream, else one.

    `path` is the endpoint's, such as "/chat/completions", and `document` the request; of a form its fields.
    """
    return _ANSWERS[path](document)


def _completions(document: Document) -> Answer:
    prompt = document.get("prompt")
    said = say(prompt, document.get("max_tokens"))
    head, usage = signed("cmpl-", "text_completion", document), _usage(prompt, said)
    if document.get("stream"):
        choices = [_choice({"text": word}, None) for word in said.words]
        return stream(head, [*choices, _choice({"text": ""}, said)], document, usage)
    return whole({**head, "choices": [_choice({"text": said.text}, said)], "usage": usage})


def _choice(content: Document, finished: Said | None) -> Document:
    reason = None if finished is None else "length" if finished.cut else "stop"
    return {"index": 0, **content, "logprobs": None, "finish_reason": reason}


def _usage(asked: object, said: Said) -> Document:
    inputs, outputs = count_words(asked), len(said.words)
    return {"prompt_tokens": inputs, "completion_tokens": outputs, "total_tokens": inputs + outputs}


def _embeddings(document: Document) -> Answer:
    """Vectors of length 1, the same for the same input; what they say of its meaning is nothing."""
    asked = document.get("input")
    inputs = asked if isinstance(asked, list) and not _is_tokens(asked) else [asked]
    if not inputs or not all(isinstance(each, str | list) for each in inputs):
        return _refuse("'input' must be a text, an array of tokens, or an array of these.", "input")
    dimensions = document.get("dimensions") or DIMENSIONS
    if not isinstance(dimensions, int) or not 1 <= dimensions <= MAX_DIMENSIONS:
        return _refuse(f"'dimensions' must be a number from 1 to {MAX_DIMENSIONS}.", "dimensions")
    if len(inputs) * dimensions > MAX_NUMBERS:
        return _refuse(f"'input' must be at most {MAX_NUMBERS // dimensions} texts.", "input")
    return whole(
        {
            "object": "list",
            "data": _vectors(inputs, dimensions, quoted=document.get("encoding_format") == "base64"),
            "model": document.get("model") or "demo",
            "usage": {"prompt_tokens": count_words(asked), "total_tokens": count_words(asked)},
        }
    )


def _is_tokens(asked: list[object]) -> bool:
    return bool(asked) and isinstance(asked[0], int)


def _vectors(inputs: list[object], dimensions: int, *, quoted: bool) -> list[Document]:
    vectors = [_vector(each, dimensions) for each in inputs]
    return [
        {"object": "embedding", "index": index, "embedding": to_base64(vector) if quoted else vector}
        for index, vector in enumerate(vectors)
    ]


def _vector(asked: object, dimensions: int) -> list[float]:
    """Bits of a hash as the signs of equal numbers."""
    size = dimensions**-0.5
    digest = hashlib.shake_128(msgspec.json.encode(asked)).digest((dimensions + 7) // 8)
    return [size if digest[place >> 3] >> (place & 7) & 1 else -size for place in range(dimensions)]


def _refuse(message: str, param: str) -> Answer:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": "invalid_value"}
    return 400, "application/json", [msgspec.json.encode({"error": error})]


def _transcription(document: Document) -> Answer:
    return _written_down(document, "transcribe")


def _translation(document: Document) -> Answer:
    return _written_down(document, "translate")


def _written_down(document: Document, task: str) -> Answer:
    said = spell(_TRANSCRIPT)
    if str(document.get("stream", "")).lower() == "true":
        events = [{"type": "transcript.text.delta", "delta": word} for word in said.words]
        events.append({"type": "transcript.text.done", "text": said.text})
        return 200, "text/event-stream", [event(each) for each in events]
    format_ = document.get("response_format")
    if format_ == "verbose_json":
        return whole(_verbose(said, task))
    if format_ not in ("text", "srt", "vtt"):
        return whole({"text": said.text})
    return 200, "text/plain; charset=utf-8", [_plain(said, format_).encode()]


def _plain(said: Said, format_: str) -> str:
    if format_ == "text":
        return f"{said.text}\n"
    end = f"{len(said.words) * _SECONDS_PER_WORD:06.3f}"
    if format_ == "vtt":
        return f"WEBVTT\n\n00:00:00.000 --> 00:00:{end}\n{said.text}\n\n"
    return f"1\n00:00:00,000 --> 00:00:{end.replace('.', ',')}\n{said.text}\n\n"


def _verbose(said: Said, task: str) -> Document:
    """As if the words had been spoken: how long the sound was, nobody looked."""
    seconds = round(len(said.words) * _SECONDS_PER_WORD, 1)
    segment: Document = {"id": 0, "seek": 0, "start": 0.0, "end": seconds, "text": said.text, "tokens": []}
    segment |= {"temperature": 0.0, "avg_logprob": 0.0, "compression_ratio": 1.0, "no_speech_prob": 0.0}
    head = {"task": task, "language": "english", "duration": seconds, "text": said.text}
    return {**head, "segments": [segment]}


_ANSWERS = {
    "/chat/completions": demo_chat.answer,
    "/completions": _completions,
    "/embeddings": _embeddings,
    "/audio/transcriptions": _transcription,
    "/audio/translations": _translation,
}
