"""Passages one behind the other: another wire's answer as one chat, and as a Response."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from proxy.call import Call
from proxy.chained import FoldedChat, ResponseOverChat
from proxy.chunk_passage import Told
from proxy.dialects import ai_sdk, chatkit
from proxy.gpt_oss import GptOssPassage
from proxy.passage import Passage, Truncated
from proxy.reported import UpstreamReported
from proxy.responses.from_chat import ChatToResponses
from proxy.usage import Usage
from tests.proxy.dialects.transcripts import chat, chunks, fixture, run, user

CALL: Call = chat(user())
TOLD = Told(7, shows_usage=True, input_tokens_estimate=12)
THOUGHT = "The user greets me. A short greeting is enough.\n\nAdd one fact about the Moon — keep it short."
SAID = "Hello — the Moon drifts away ~3.8 cm a year."
KITS = "chatkit_01_new_thread_reasoning.sse"
LINES = "aisdk_v1_01_text.txt"


def kit() -> Passage:
    return chatkit.passage(CALL, "chatcmpl-ours", TOLD)


def lines() -> Passage:
    return ai_sdk.passage(CALL, "chatcmpl-ours", TOLD, "text/plain")


def response(front: Passage) -> ResponseOverChat:
    return ResponseOverChat(front, ChatToResponses("resp_ours", "gpt-oss-20b", CALL.fields, 7))


def document(encoded: bytes) -> Any:
    return msgspec.json.decode(encoded)


def test_it_folds_an_answer_into_one_chat() -> None:
    folded = FoldedChat(kit())
    run(folded, fixture(KITS))
    answer = document(folded.final())
    message = answer["choices"][0]["message"]
    assert (answer["object"], answer["model"]) == ("chat.completion", "gpt-oss-20b")
    assert (message["reasoning_content"], message["content"]) == (THOUGHT, SAID)
    assert answer["usage"]["estimated"] is True
    assert folded.usage is None
    assert folded.output_tokens_estimate > 0


def test_it_knows_the_usage_that_the_passage_in_front_knows() -> None:
    for made in (FoldedChat(lines()), response(lines())):
        run(made, fixture(LINES))
        assert made.usage == Usage(12, output_tokens=7)
        assert made.events > 0


def test_it_makes_a_response_of_an_answer() -> None:
    made = response(kit())
    events = made.begin() + run(made, fixture(KITS))
    final = document(made.final())
    assert [item["type"] for item in final["output"]] == ["reasoning", "message"]
    assert final["output"][1]["content"][0]["text"] == SAID
    assert final["status"] == "completed"
    assert chunks_types(events)[0] == "response.created"
    assert chunks_types(events)[-1] == "response.completed"
    assert made.items == final["output"]


def chunks_types(events: bytes) -> list[str]:
    return [event["type"] for event in chunks(events)]


@pytest.mark.parametrize("make", [lambda: FoldedChat(kit()), lambda: response(kit())])
@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("chatkit_05_auth_widget_200.sse", UpstreamReported),
        ("chatkit_06_error_event.sse", UpstreamReported),
        ("chatkit_07_truncated.sse", Truncated),
    ],
)
def test_what_the_passage_in_front_does_not_end_is_not_whole(
    make: Any, name: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        run(make(), fixture(name))


def test_a_response_that_failed_keeps_what_was_said() -> None:
    made = response(kit())
    made.begin()
    made.feed(fixture("chatkit_07_truncated.sse"))
    events = chunks(made.failed({"message": "x", "type": "upstream_error", "param": None, "code": None}))
    assert [event["type"] for event in events][-1] == "response.failed"
    assert "Half an ans" in str(events[-1])


@pytest.mark.parametrize("size", [1, 2, 5, 50, 500])
def test_it_folds_the_same_however_the_stream_is_cut(size: int) -> None:
    stream, folded = fixture(KITS), FoldedChat(kit())
    run(folded, *(stream[start : start + size] for start in range(0, len(stream), size)))
    assert document(folded.final())["choices"][0]["message"]["content"] == SAID


def test_a_gpt_oss_chat_becomes_a_response() -> None:
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    deltas = [{"role": "assistant"}, {"reasoning": "Hm."}, {"content": "<|channel|>final<|message|>Yes"}, {}]
    stream = b"".join(
        b"data: %b\n\n"
        % msgspec.json.encode(
            {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}]}
        )
        for delta in deltas
    )
    front = GptOssPassage(
        "chatcmpl-ours", "m", shows_usage=True, shows_reasoning=True, repeats_reasoning=False
    )
    made = response(front)
    made.begin()
    run(made, stream + b"data: [DONE]\n\n")
    output = document(made.final())["output"]
    assert [item["type"] for item in output] == ["reasoning", "message"]
    assert output[1]["content"][0]["text"] == "Yes"
