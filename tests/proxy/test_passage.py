"""A stream on its way through: what is passed, what is held back, how it may end."""

import itertools
import json
from typing import Any

import msgspec
import pytest

from proxy import sse
from proxy.passage import ChatPassage, Garbled, Passage, Truncated
from proxy.reported import UpstreamReported
from proxy.typed_passage import TranscriptPassage
from proxy.usage import Usage

USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def chunk(content: str = "", finish: str | None = None, spaced: bool = False, **more: object) -> bytes:
    choices = [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]
    document = {"id": "chatcmpl-theirs", "object": "chat.completion.chunk", "model": "/disk/model.gguf"}
    separators = (", ", ": ") if spaced else (",", ":")
    encoded = json.dumps({**document, "choices": choices, **more}, separators=separators, ensure_ascii=False)
    return b"data: " + encoded.encode() + b"\n\n"


def chat(shows_usage: bool = False) -> ChatPassage:
    return ChatPassage("chatcmpl-ours", "public", shows_usage=shows_usage)


def run(passage: Passage, stream: bytes, cuts: tuple[int, ...] = ()) -> bytes:
    edges = (0, *cuts, len(stream))
    out = b"".join(
        passage.feed(events)
        for start, end in itertools.pairwise(edges)
        if (events := passage.splitter.feed(stream[start:end]))
    )
    return out + passage.rest() + passage.end()


def documents(stream: bytes) -> list[dict[str, object]]:
    return [
        msgspec.json.decode(sse.data(e)) for e in sse.split(stream) if sse.data(e) not in (b"", b"[DONE]")
    ]


@pytest.mark.parametrize("spaced", [False, True])
def test_it_puts_our_id_and_model_in_every_chunk(spaced: bool) -> None:
    words = ["One", " two", ' "three"', ' {"id":"x"}', "\u2028"]
    stream = b"".join(chunk(word, spaced=spaced) for word in words) + chunk(finish="stop", spaced=spaced)
    out = run(chat(), stream + sse.DONE)
    assert b"theirs" not in out
    assert b"gguf" not in out
    assert [d["id"] for d in documents(out)] == ["chatcmpl-ours"] * 6
    assert [d["choices"][0]["delta"]["content"] for d in documents(out)][:5] == words  # type: ignore[index]
    assert out.endswith(sse.DONE)


def test_every_cut_gives_the_same_bytes_and_usage() -> None:
    last = chunk(usage=USAGE, timings={"a": 1}).replace(b'"choices":[{', b'"choices":[],"x":[{')
    stream = (
        b": ping\n\n" + b"".join(chunk(str(n)) for n in range(4)) + chunk(finish="stop") + last + sse.DONE
    )
    whole = run(chat(), stream)
    for cut in range(len(stream)):
        passage = chat()
        assert run(passage, stream, (cut,)) == whole
        assert passage.usage == Usage(7, None, 2, None, None)


def test_it_leaves_the_bytes_of_a_chunk_as_they_were() -> None:
    passage = chat()
    passage.feed(chunk("first"))
    odd = b'data: {"id":"chatcmpl-theirs","n":12345678901234567890123, '
    odd += b'"model":"/disk/model.gguf", "choices":[]}\n\n'
    expected = odd.replace(b"chatcmpl-theirs", b"chatcmpl-ours").replace(b"/disk/model.gguf", b"public")
    assert passage.feed(odd) == expected


def test_it_swaps_ids_that_change_from_chunk_to_chunk() -> None:
    stream = b"".join(chunk(str(n)).replace(b"theirs", b"theirs-%d" % n) for n in range(5)) + chunk(
        finish="stop"
    )
    assert b"theirs" not in run(chat(), stream + sse.DONE)


def test_it_hides_the_usage_chunk_from_a_client_that_did_not_ask() -> None:
    last = b'data: {"id":"chatcmpl-theirs","model":"m","choices":[],"usage":{"prompt_tokens":1}}\n\n'
    passage = chat()
    assert b"usage" not in run(passage, chunk("a") + chunk(finish="stop") + last + sse.DONE)
    assert passage.usage == Usage(input_tokens=1)


def test_it_shows_the_usage_chunk_to_a_client_that_asked() -> None:
    last = b'data: {"id":"chatcmpl-theirs","model":"m","choices":[],"usage":{"prompt_tokens":1}}\n\n'
    out = run(chat(shows_usage=True), chunk("a") + chunk(finish="stop") + last + sse.DONE)
    assert documents(out)[-1]["usage"] == {"prompt_tokens": 1}
    assert documents(out)[-1]["choices"] == []


@pytest.mark.parametrize("spaced", [False, True])
def test_usage_that_is_null_is_hidden_too(spaced: bool) -> None:
    stream = b"".join(chunk(str(n), spaced=spaced, usage=None) for n in range(4)) + chunk(finish="stop")
    for cut in range(0, len(stream), 11):
        assert b"usage" not in run(chat(), stream + sse.DONE, (cut,))
    assert run(chat(shows_usage=True), stream + sse.DONE).count(b"usage") == 4


def test_it_keeps_the_last_choice_when_usage_rides_on_it() -> None:
    passage = chat()
    out = run(passage, chunk("a") + chunk(finish="stop", usage=USAGE) + sse.DONE)
    assert documents(out)[-1]["choices"][0]["finish_reason"] == "stop"  # type: ignore[index]
    assert "usage" not in documents(out)[-1]
    assert passage.usage is not None


@pytest.mark.parametrize("name", ["timings", "token_ids", "kv_transfer_params", "__verbose"])
def test_it_takes_out_private_fields(name: str) -> None:
    inside = chunk("b").replace(b'"index":0', b'"index":0,"%b":[1,2]' % name.encode())
    private: dict[str, Any] = {name: {"path": "/x"}}
    out = run(chat(), chunk("a", **private) + inside + chunk(finish="stop") + sse.DONE)
    assert name.encode() not in out
    assert b'"b"' in out


def test_a_stream_without_its_marker_is_truncated() -> None:
    with pytest.raises(Truncated):
        run(chat(), chunk("a") + chunk("b"))


def test_a_stream_whose_choice_finished_is_whole_without_the_marker() -> None:
    assert run(chat(), chunk("a") + chunk(finish="stop")).endswith(sse.DONE)


@pytest.mark.parametrize(
    "stream",
    [
        chunk("a", finish="stop") + chunk("b"),
        chunk("a", finish="stop").replace(b'"index":0', b'"index":1') + chunk("b"),
        chunk("a") + chunk(finish="stop").replace(b'"index":0', b'"index":1'),
        b": ping\n\n",
    ],
    ids=["said more", "another choice", "one of several", "nothing"],
)
def test_a_stream_without_its_marker_is_whole_only_if_its_one_choice_finished_last(stream: bytes) -> None:
    with pytest.raises(Truncated):
        run(chat(), stream)


def test_a_stream_without_its_marker_may_end_with_its_usage() -> None:
    last = chunk(usage=USAGE).replace(b'"choices":[{', b'"choices":[],"x":[{')
    passage = chat()
    assert run(passage, chunk("a") + chunk(finish="stop") + last).endswith(sse.DONE)
    assert passage.usage == Usage(7, None, 2, None, None)


def test_a_last_event_may_come_without_its_blank_line() -> None:
    assert run(chat(), chunk("a") + chunk(finish="stop") + b"data: [DONE]").endswith(sse.DONE)
    assert b'"b"' in run(chat(), chunk("a") + chunk("b", finish="stop").rstrip())


def test_half_of_a_last_event_is_truncated() -> None:
    with pytest.raises(Truncated):
        run(chat(), chunk("a") + chunk("b", finish="stop")[:-9])


def test_an_error_in_the_stream_is_an_error_even_before_a_marker() -> None:
    with pytest.raises(UpstreamReported) as caught:
        run(chat(), chunk("a") + b'data: {"error":{"message":"overloaded"}}\n\n' + sse.DONE)
    assert caught.value.error == {"message": "overloaded"}


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"object":"error","message":"overloaded"}\n\n',
        b'data: {"detail":"overloaded"}\n\n',
        b'event: error\ndata: {"message":"overloaded"}\n\n',
        b'event: error\ndata: {"reason":5}\n\n',
    ],
)
def test_an_error_of_any_shape_in_the_stream_is_an_error(event: bytes) -> None:
    passage = chat()
    with pytest.raises(UpstreamReported) as caught:
        run(passage, chunk("a") + event + sse.DONE)
    assert caught.value.error.get("message", "overloaded") == "overloaded"


@pytest.mark.parametrize("choices", [b'"choices":null,', b""])
def test_choices_are_an_array_in_every_chunk(choices: bytes) -> None:
    odd = chunk("b").replace(
        b'"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":null}]', choices[:-1]
    )
    out = run(chat(), chunk("a") + odd.replace(b",}", b"}") + chunk(finish="stop") + sse.DONE)
    assert [type(document["choices"]) for document in documents(out)] == [list, list, list]


def test_what_came_before_an_event_that_is_garbled_may_be_passed() -> None:
    with pytest.raises(Garbled) as caught:
        run(chat(), chunk("a") + b"data: nonsense\n\n")
    assert documents(caught.value.before)[0]["id"] == "chatcmpl-ours"


@pytest.mark.parametrize("data", [b"{", b"[1]", b"\xff", b"nonsense"])
def test_what_is_not_an_event_of_this_language_is_garbled(data: bytes) -> None:
    with pytest.raises(Garbled):
        run(chat(), b"data: " + data + b"\n\n")


def test_nothing_after_the_marker_is_passed() -> None:
    passage = chat()
    out = passage.feed(chunk("a") + chunk(finish="stop") + sse.DONE + chunk("late"))
    assert b"late" not in out
    assert passage.finished


def typed_event(type_: str, **more: object) -> bytes:
    return sse.encode(msgspec.json.encode({"type": type_, **more}), type_.encode())


def test_a_streamed_transcription_ends_with_its_text_and_usage() -> None:
    passage = TranscriptPassage("", "whisper-1")
    stream = typed_event("transcript.text.delta", delta="a") + typed_event(
        "transcript.text.done", text="a", usage={"type": "tokens", "input_tokens": 3, "output_tokens": 1}
    )
    assert b"transcript.text.done" in run(passage, stream)
    assert passage.usage == Usage(3, None, 1, None, None)
