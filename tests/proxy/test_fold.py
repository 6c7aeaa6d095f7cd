"""A stream folded into one answer is the answer that was streamed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from proxy import fold, sse
from proxy.fold import Fold, TooMuchToFold
from proxy.passage import Garbled

Document = dict[str, Any]

HEAD = {"id": "chatcmpl-1", "created": 7, "model": "gpt-oss-20b", "system_fingerprint": "fp_1"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


def chunk(*choices: Document, **more: object) -> bytes:
    document = {**HEAD, "object": "chat.completion.chunk", "choices": list(choices), **more}
    return sse.encode(msgspec.json.encode(document))


def delta(
    index: int = 0, /, *, finish_reason: str | None = None, logprobs: Any = None, **members: Any
) -> bytes:
    return chunk({"index": index, "delta": members, "logprobs": logprobs, "finish_reason": finish_reason})


def folded(*events: bytes) -> Document:
    made = Fold()
    for each in events:
        made.feed(each)
    answer: Document = msgspec.json.decode(made.answer())
    return answer


def message(*events: bytes) -> Document:
    choice: Document = folded(*events)["choices"][0]
    found: Document = choice["message"]
    return found


def pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]


def said_more(index: int, members: Document) -> bytes:
    return delta(index, **members)


def streamed(answer: Document, size: int) -> list[bytes]:
    """The chunks in which a server sends `answer`, its texts in pieces of `size` characters."""
    events = []
    for choice in answer["choices"]:
        index, said = choice["index"], choice["message"]
        events.append(delta(index, role=said["role"], content=None))
        for name in ("reasoning_content", "content", "refusal", "vendor_text"):
            if said.get(name) is not None:
                events += [said_more(index, {name: piece}) for piece in pieces(said[name], size)]
        for number, call in enumerate(said.get("tool_calls", ())):
            events += streamed_call(index, number, call, size)
        for kind, tokens in (choice["logprobs"] or {}).items():
            events += [delta(index, logprobs={kind: [token]}) for token in tokens]
        events.append(delta(index, finish_reason=choice["finish_reason"]))
    if "usage" in answer:
        events.append(chunk(usage=answer["usage"]))
    return events


def streamed_call(index: int, number: int, call: Document, size: int) -> list[bytes]:
    function = call["function"]
    start = {**call, "index": number, "function": {"name": function["name"], "arguments": ""}}
    rest = [
        {"index": number, "function": {"arguments": piece}} for piece in pieces(function["arguments"], size)
    ]
    return [delta(index, tool_calls=[each]) for each in (start, *rest)]


CALLS = st.builds(
    lambda call_id, name, arguments: {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    },
    st.text("abc", min_size=1),
    st.text("abc", min_size=1),
    TEXT,
)
LOGPROBS = st.fixed_dictionaries(
    {
        "content": st.lists(
            st.builds(lambda token: {"token": token, "logprob": -1.5}, TEXT), min_size=1, max_size=3
        )
    }
)
MESSAGES = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | TEXT, "refusal": st.none() | TEXT},
    optional={
        "reasoning_content": TEXT,
        "tool_calls": st.lists(CALLS, min_size=1, max_size=3),
        "vendor_text": TEXT,
    },
)


@st.composite
def answers(draw: st.DrawFn) -> Document:
    choices = [
        {
            "index": index,
            "message": said,
            "logprobs": draw(st.none() | LOGPROBS),
            "finish_reason": draw(st.sampled_from(["stop", "length", "tool_calls"])),
        }
        for index, said in enumerate(draw(st.lists(MESSAGES, min_size=1, max_size=3)))
    ]
    return {**HEAD, "object": "chat.completion", "choices": choices, "usage": USAGE}


@given(answers(), st.integers(1, 5))
def test_it_folds_the_stream_of_an_answer_into_that_answer(answer: Document, size: int) -> None:
    assert folded(*streamed(answer, size)) == answer


@given(answers(), st.randoms())
def test_it_takes_choices_in_any_order(answer: Document, random: Any) -> None:
    by_choice = [streamed({**answer, "choices": [choice]}, 3) for choice in answer["choices"]]
    events = []
    while by_choice:
        chosen = random.choice(by_choice)
        events.append(chosen.pop(0))
        by_choice = [left for left in by_choice if left]
    assert folded(*events) == answer


@given(answers(), st.data())
def test_it_gives_the_same_answer_however_the_stream_is_cut(answer: Document, data: st.DataObject) -> None:
    stream = b"".join(streamed(answer, 2))
    cut = data.draw(st.integers(0, len(stream)))
    splitter = sse.Splitter()
    assert folded(splitter.feed(stream[:cut]), splitter.feed(stream[cut:])) == answer


def test_it_is_what_the_official_client_reads() -> None:
    answer = Fold()
    answer.feed(delta(role="assistant", content="") + delta(content="Hi") + delta(finish_reason="stop"))
    read = ChatCompletion.model_validate_json(answer.answer())
    assert (read.choices[0].message.content, read.choices[0].finish_reason) == ("Hi", "stop")


def test_it_joins_tool_calls_whose_pieces_repeat_their_names() -> None:
    repeated = {"index": 0, "id": "call_1", "type": "function"}
    said = message(
        delta(tool_calls=[{**repeated, "function": {"name": "look", "arguments": '{"a"'}}]),
        delta(tool_calls=[{**repeated, "id": "", "function": {"name": "look", "arguments": ":1}"}}]),
        delta(finish_reason="tool_calls"),
    )
    function = {"name": "look", "arguments": '{"a":1}'}
    assert said["tool_calls"] == [{"id": "call_1", "type": "function", "function": function}]
    assert said["content"] is None


def test_it_keeps_tool_calls_that_nobody_numbered_apart() -> None:
    calls = [{"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}} for name in "ab"]
    assert message(delta(tool_calls=calls[:1]), delta(tool_calls=calls[1:]))["tool_calls"] == calls


def test_it_gathers_details_by_their_index() -> None:
    first = {"type": "reasoning.text", "index": 0, "format": "unknown", "text": "One "}
    said = message(
        delta(reasoning_details=[first]),
        delta(reasoning_details=[{**first, "text": "two."}]),
        delta(reasoning_details=[{**first, "index": 1, "text": "Three."}]),
    )
    assert said["reasoning_details"] == [
        {**first, "text": "One two."},
        {**first, "index": 1, "text": "Three."},
    ]


def test_it_keeps_members_that_nobody_knows() -> None:
    answer = folded(
        chunk(
            {"index": 0, "delta": {"content": "a", "vendor": {"n": 1, "t": "x"}}, "stop_reason": 5},
            service_tier="flex",
        ),
        delta(vendor={"n": 2, "t": "y"}, annotations=[{"type": "url_citation"}]),
        delta(annotations=[{"type": "file_citation"}]),
    )
    choice = answer["choices"][0]
    assert choice["message"]["vendor"] == {"n": 2, "t": "xy"}
    assert choice["message"]["annotations"] == [{"type": "url_citation"}, {"type": "file_citation"}]
    assert (choice["stop_reason"], answer["service_tier"]) == (5, "flex")


def test_a_text_that_was_said_to_be_empty_stays_empty() -> None:
    assert message(delta(content=""), delta(finish_reason="stop"))["content"] == ""


def test_it_reads_past_comments_and_the_marker() -> None:
    assert message(sse.KEEP_ALIVE, delta(content="a"), sse.DONE)["content"] == "a"


def test_a_stream_without_a_choice_is_no_answer() -> None:
    with pytest.raises(Garbled):
        folded(chunk(usage=USAGE))


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"choices":{}}',
        b'{"choices":[1]}',
        b'{"choices":[{"index":"0"}]}',
        b'{"choices":[{"delta":{"tool_calls":[{"index":0},7]}}]}',
        b'{"choices":[{"delta":' + b'{"a":' * 3000 + b"1" + b"}" * 3003,
    ],
)
def test_it_refuses_what_is_not_a_chunk(data: bytes) -> None:
    with pytest.raises(Garbled):
        folded(sse.encode(data))


def test_it_refuses_a_stream_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "MAX_FOLDED_BYTES", 1000)
    with pytest.raises(TooMuchToFold):
        folded(*[delta(content="a")] * 20)
