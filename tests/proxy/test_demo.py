"""The demo model's answers, read by the official SDK and held to its own types."""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import httpx2
import pydantic
import pytest
from openai import BadRequestError, OpenAI
from openai.types import CreateEmbeddingResponse
from openai.types.audio import TranscriptionStreamEvent, TranscriptionVerbose, Translation, TranslationVerbose
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.completion import Completion

from proxy.dialects import demo
from proxy.embeddings import to_floats

MESSAGES = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who are you?"}]
STREAM = {"stream": True, "stream_options": {"include_usage": True}}
SOUND = ("memo.wav", b"RIFF")
Document = dict[str, Any]


def relay(request: httpx2.Request) -> httpx2.Response:
    """The demo model behind a transport, for the SDK to talk to."""
    path = request.url.path.removeprefix("/v1")
    document = {"response_format": "json"} if "/audio/" in path else json.loads(request.read())
    status, content_type, pieces = demo.answer(path, document)
    return httpx2.Response(status, headers={"content-type": content_type}, content=b"".join(pieces))


@pytest.fixture
def sdk() -> OpenAI:
    transport = httpx2.MockTransport(relay)
    client = httpx2.Client(transport=transport)
    return OpenAI(base_url="http://demo/v1", api_key="none", http_client=client, max_retries=0)


def events(path: str, document: Document) -> list[Document]:
    """The data of each piece but `[DONE]`; every piece is one event."""
    status, content_type, pieces = demo.answer(path, document)
    assert (status, content_type) == (200, "text/event-stream")
    lines = [piece.decode().removesuffix("\n\n").split("\n")[-1].removeprefix("data: ") for piece in pieces]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def whole(path: str, document: Document) -> bytes:
    status, _, pieces = demo.answer(path, document)
    assert (status, len(pieces)) == (200, 1)
    return pieces[0]


def test_it_greets_in_a_chat_and_tells_the_next_step() -> None:
    answer = ChatCompletion.model_validate_json(whole("/chat/completions", {"messages": MESSAGES}))
    text = answer.choices[0].message.content or ""
    assert "Tollgate's built-in demo model" in text
    assert "3 words" in text
    assert "OPENAI_API_KEY" in text
    assert "GPT_OSS_BASE_URL" in text
    assert "admin panel" in text
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, len(text.split()))


def test_it_streams_a_chat_a_word_at_a_time() -> None:
    chunks = [
        ChatCompletionChunk.model_validate(event)
        for event in events("/chat/completions", {"messages": MESSAGES, **STREAM})
    ]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert len(chunks) - 3 == len(text.split()) == chunks[-1].usage.completion_tokens
    assert len({chunk.id for chunk in chunks}) == 1


def test_it_ends_a_stream_with_done_and_keeps_usage_that_nobody_asked_for() -> None:
    _, _, pieces = demo.answer("/chat/completions", {"messages": MESSAGES, "stream": True})
    assert pieces[-1] == b"data: [DONE]\n\n"
    assert b"usage" not in b"".join(pieces)


def test_it_says_the_same_streamed_and_whole(sdk: OpenAI) -> None:
    answer = sdk.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hi"}])
    with sdk.chat.completions.stream(model="demo", messages=[{"role": "user", "content": "Hi"}]) as stream:
        streamed = stream.get_final_completion()
    assert streamed.choices[0].message.content == answer.choices[0].message.content
    assert "1 word;" in (answer.choices[0].message.content or "")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_it_stops_a_chat_at_its_limit(name: str) -> None:
    document = {"messages": MESSAGES, name: 4}
    answer = ChatCompletion.model_validate_json(whole("/chat/completions", document))
    assert answer.choices[0].message.content == "Hello! I am Tollgate's"
    assert answer.choices[0].finish_reason == "length"
    assert (
        events("/chat/completions", {**document, "stream": True})[-1]["choices"][0]["finish_reason"]
        == "length"
    )


def test_it_counts_the_words_of_parts() -> None:
    parts = [{"type": "text", "text": "a b"}, {"type": "image_url", "image_url": {"url": "data:x y z"}}]
    messages = [{"role": "user", "content": parts}]
    answer = json.loads(whole("/chat/completions", {"messages": messages}))
    assert answer["usage"]["prompt_tokens"] == 2


@pytest.mark.parametrize("messages", [None, [], "text", [7], [{"content": None}], {"content": {"text": "a"}}])
def test_it_answers_whatever_the_messages_are(messages: object) -> None:
    ChatCompletion.model_validate_json(whole("/chat/completions", {"messages": messages}))


@pytest.mark.parametrize(("prompt", "words"), [("Once upon a time", 4), (["a b", "c"], 3), ([1, 2, 3], 3)])
def test_it_completes_a_prompt(prompt: object, words: int) -> None:
    answer = Completion.model_validate_json(whole("/completions", {"prompt": prompt}))
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == words
    assert "demo model" in answer.choices[0].text


def test_it_streams_a_completion(sdk: OpenAI) -> None:
    whole = sdk.completions.create(model="demo", prompt="Once", max_tokens=9)
    options: Any = {"include_usage": True}
    chunks = list(
        sdk.completions.create(model="demo", prompt="Once", max_tokens=9, stream=True, stream_options=options)
    )
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole.choices[0].text
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    assert chunks[-1].usage == whole.usage


def test_it_embeds_with_unit_vectors_that_depend_on_the_input() -> None:
    document = {"input": ["cat", "dog", "cat"]}
    answer = CreateEmbeddingResponse.model_validate_json(whole("/embeddings", document))
    first, second, third = (each.embedding for each in answer.data)
    assert first == third != second
    assert len(first) == 256
    assert math.hypot(*first) == 1
    assert answer.usage.prompt_tokens == 3


def test_it_embeds_the_same_in_base64() -> None:
    floats = json.loads(whole("/embeddings", {"input": "cat"}))["data"][0]["embedding"]
    packed = json.loads(whole("/embeddings", {"input": "cat", "encoding_format": "base64"}))
    assert to_floats(packed["data"][0]["embedding"]) == floats


def test_it_embeds_for_the_sdk(sdk: OpenAI) -> None:
    answer = sdk.embeddings.create(model="demo", input="cat", dimensions=50)
    assert len(answer.data[0].embedding) == 50
    assert math.hypot(*answer.data[0].embedding) == pytest.approx(1)


@pytest.mark.parametrize(("given", "count"), [([1, 2], 1), ([[1, 2], [3]], 2), ("", 1), (["a"] * 2048, 2048)])
def test_it_embeds_texts_and_tokens(given: object, count: int) -> None:
    assert len(json.loads(whole("/embeddings", {"input": given}))["data"]) == count


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"text": "a"}]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "dimensions": 10_000}, "dimensions"),
        ({"input": "a", "dimensions": "many"}, "dimensions"),
    ],
)
def test_it_refuses_embeddings_that_it_cannot_make(sdk: OpenAI, document: Document, param: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        sdk.post("/embeddings", body=document, cast_to=CreateEmbeddingResponse)
    assert refused.value.param == param


def test_it_transcribes_for_the_sdk(sdk: OpenAI) -> None:
    assert "demo model" in sdk.audio.transcriptions.create(model="demo", file=SOUND).text


def test_it_translates() -> None:
    answer = Translation.model_validate_json(whole("/audio/translations", {}))
    assert "demo model" in answer.text


def test_it_transcribes_in_the_other_formats() -> None:
    path = "/audio/transcriptions"
    assert whole(path, {"response_format": "text"}).endswith(b"start again.\n")
    assert whole(path, {"response_format": "srt"}).startswith(b"1\n00:00:00,000 --> 00:00:12,400\nThis is")
    assert whole(path, {"response_format": "vtt"}).startswith(
        b"WEBVTT\n\n00:00:00.000 --> 00:00:12.400\nThis"
    )
    verbose = whole(path, {"response_format": "verbose_json"})
    answer = TranscriptionVerbose.model_validate_json(verbose)
    assert answer.segments is not None
    assert answer.segments[0].end == answer.duration
    TranslationVerbose.model_validate_json(whole("/audio/translations", {"response_format": "verbose_json"}))


def test_it_streams_a_transcription() -> None:
    told = events("/audio/transcriptions", {"stream": "true"})
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(get_args(TranscriptionStreamEvent)[0])
    for event in told:
        adapter.validate_python(event)
    assert "".join(event["delta"] for event in told[:-1]) == told[-1]["text"]
    assert told[-1]["type"] == "transcript.text.done"
