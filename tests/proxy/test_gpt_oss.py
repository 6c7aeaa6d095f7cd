"""A gpt-oss model's chat: reasoning under one name, control tokens out, all else as it came."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from proxy import sse
from proxy.gpt_oss import GptOssPassage
from proxy.passage import ChatPassage, Garbled, Truncated
from proxy.reported import UpstreamReported
from proxy.usage import Usage
from tests.proxy.dialects.transcripts import (
    Document,
    at_every_cut,
    chunks,
    deltas,
    folded,
    message,
    passed,
    run,
)

HEAD = {"id": "chatcmpl-theirs", "object": "chat.completion.chunk", "created": 7, "model": "theirs"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def passage(*, shows: bool = True, repeats: bool = False, usage: bool = False) -> GptOssPassage:
    return GptOssPassage(
        "chatcmpl-ours", "public", shows_usage=usage, shows_reasoning=shows, repeats_reasoning=repeats
    )


def chunk(*choices: Document, **more: object) -> bytes:
    return sse.encode(msgspec.json.encode({**HEAD, "choices": list(choices), **more}))


def delta(*, finish_reason: str | None = None, **members: Any) -> bytes:
    return chunk({"index": 0, "delta": members, "finish_reason": finish_reason})


ROLE = delta(role="assistant", content="")
END = delta(finish_reason="stop") + sse.DONE


@pytest.mark.parametrize(
    "members",
    [
        {"reasoning_content": "Hm."},
        {"reasoning": "Hm."},
        {"reasoning": "Hm.", "reasoning_content": "Hm."},
        {"reasoning": "Hm.", "content": "", "role": "assistant"},
        {"reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "H"}, {"summary": "m."}, 5]},
    ],
)
def test_it_gives_reasoning_under_one_name(members: Document) -> None:
    stream = ROLE + delta(**members) + delta(content="Yes") + END
    said = {"role": "assistant", "content": "Yes"}
    assert message(run(passage(), stream)) == {**said, "reasoning_content": "Hm."}
    twice = {"reasoning_content": "Hm.", "reasoning": "Hm."}
    assert message(run(passage(repeats=True), stream)) == {**said, **twice}
    hidden = run(passage(shows=False), stream)
    assert message(hidden) == said
    assert b"Hm." not in hidden


def test_it_tells_nothing_in_place_of_reasoning_that_is_hidden() -> None:
    stream = ROLE + delta(reasoning="Hm.", content="") * 5 + delta(content="Yes") + END
    assert len(deltas(run(passage(shows=False), stream))) == 3


def test_it_leaves_an_answer_without_either_as_a_chat_passage_does() -> None:
    stream = ROLE + b"".join(delta(content=word) for word in ("One", " two", " \u2028")) + END
    plain = ChatPassage("chatcmpl-ours", "public", shows_usage=False)
    assert run(passage(), stream) == run(plain, stream)


def test_it_leaves_the_bytes_of_a_chunk_without_either_as_they_were() -> None:
    made = passage()
    made.feed(ROLE)
    odd = delta(content="a").replace(b'"choices"', b'"n":1.50, "choices"')
    expected = odd.replace(b"chatcmpl-theirs", b"chatcmpl-ours").replace(b'"theirs"', b'"public"')
    assert made.feed(odd) == expected


LEAK = "<|channel|>analysis<|message|>Hm. 1 < 2<|end|><|start|>assistant<|channel|>final<|message|>Yes."


@pytest.mark.parametrize("size", [1, 3, 7, 200])
@pytest.mark.parametrize("escaped", [b"<", b"\\u003c", b"\\u003C"])
def test_it_takes_control_tokens_out_however_they_are_cut(size: int, escaped: bytes) -> None:
    pieces = [LEAK[start : start + size] for start in range(0, len(LEAK), size)]
    stream = ROLE + b"".join(delta(content=piece).replace(b"<", escaped) for piece in pieces) + END
    made = passage()
    out = run(made, stream)
    assert message(out) == {"role": "assistant", "reasoning_content": "Hm. 1 < 2", "content": "Yes."}
    assert made.harmony_tokens == 6
    assert b"|>" not in out


def test_it_reads_the_same_at_every_cut() -> None:
    stream = ROLE + delta(reasoning="Hm<|end|>.") + delta(content="Y<|cha") + delta(content="nnel|>es") + END
    assert at_every_cut(passage, stream) == {passed(passage(), [stream])}


def test_it_keeps_choices_apart() -> None:
    first = chunk({"index": 0, "delta": {"content": "a<|chan"}, "finish_reason": None})
    second = chunk({"index": 1, "delta": {"content": "nel|>b"}, "finish_reason": None})
    ends = [chunk({"index": index, "delta": {}, "finish_reason": "stop"}) for index in (0, 1)]
    out = folded(run(passage(), first + second + b"".join(ends) + sse.DONE))
    assert [choice["message"]["content"] for choice in out["choices"]] == ["a<|chan", "nel|>b"]


@pytest.mark.parametrize(
    "names",
    [
        ["get_weather<|channel|>commentary"],
        ["get_weather<|chan", "nel|>commentary"],
        ["get_weather", "<|channel|>", "commentary"],
    ],
)
def test_it_takes_control_tokens_out_of_tool_names(names: list[str]) -> None:
    calls = [{"index": 0, "function": {"name": name, "arguments": ""}} for name in names]
    calls[0] |= {"id": "call_1", "type": "function"}
    calls.append({"index": 0, "function": {"arguments": "{}"}})
    stream = ROLE + b"".join(delta(tool_calls=[call]) for call in calls) + END
    made = passage()
    function = {"name": "get_weather", "arguments": "{}"}
    assert message(run(made, stream))["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": function}
    ]
    assert made.harmony_tokens == 1


def test_it_cleans_tool_calls_that_nobody_numbered() -> None:
    calls = [
        {"id": name, "type": "function", "function": {"name": f"{name}<|end|>", "arguments": "{}"}}
        for name in "ab"
    ]
    made = message(run(passage(), delta(tool_calls=calls) + END))
    assert [call["function"]["name"] for call in made["tool_calls"]] == ["a", "b"]


@pytest.mark.parametrize("ending", [END, sse.DONE])
def test_what_was_held_back_comes_at_the_end(ending: bytes) -> None:
    out = run(passage(), ROLE + delta(content="1 <") + ending)
    assert message(out)["content"] == "1 <"
    assert {chunk["id"] for chunk in chunks(out)} == {"chatcmpl-ours"}


def test_it_keeps_usage_that_rides_on_what_is_held_back() -> None:
    last = chunk({"index": 0, "delta": {"reasoning": "Hm."}, "finish_reason": None}, usage=USAGE)
    made = passage(shows=False, usage=True)
    out = run(made, ROLE + last + END)
    assert made.usage == Usage(7, None, 2)
    assert any(chunk.get("usage") == USAGE for chunk in chunks(out))


def test_its_endings_are_those_of_a_chat() -> None:
    with pytest.raises(Truncated):
        run(passage(), ROLE + delta(reasoning="Hm.") + delta(content="1 <"))
    with pytest.raises(UpstreamReported):
        run(passage(), ROLE + delta(content="1 <") + b'data: {"error":{"message":"x"}}\n\n' + sse.DONE)


@pytest.mark.parametrize("choices", [b"{}", b"[1]", b'[{"index":"a","delta":{"content":"<"}}]'])
def test_what_is_not_a_chunk_is_garbled(choices: bytes) -> None:
    with pytest.raises(Garbled):
        run(passage(), b'data: {"choices":' + choices + b"}\n\n")
