"""The AI SDK's streams: what the parts of either generation come to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from proxy import sse
from proxy.chunk_passage import ChunkPassage, Told
from proxy.dialects import ai_sdk
from proxy.dialects.ai_sdk_passage import LineSplitter, begins, read_usage
from proxy.passage import Garbled, Truncated
from proxy.reported import UpstreamReported
from proxy.usage import Usage
from tests.proxy.dialects.transcripts import (
    FIXTURES,
    Document,
    at_every_cut,
    chat,
    chunks,
    deltas,
    fixture,
    folded,
    message,
    passed,
    run,
    user,
)

LINES, EVENTS = "text/plain", "text/event-stream"
ANSWERS: dict[str, Document] = {
    "aisdk_v1_01_text.txt": {"content": 'Hello there, "quoted" é 你\nline2'},
    "aisdk_v1_03_two_steps_tool.txt": {
        "content": "It is 21.4 °C.",
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "getWeather", "arguments": '{"latitude":41.99,"longitude":21.43}'},
            }
        ],
    },
    "aisdk_v5_01_text_reasoning.sse": {"reasoning_content": "Think.", "content": "Hello there"},
}


def passage(content_type: str, *, shows_usage: bool = False) -> ChunkPassage:
    told = Told(7, shows_usage=shows_usage, input_tokens_estimate=12)
    return ai_sdk.passage(chat(user()), "chatcmpl-ours", told, content_type)


def passage_of(name: str) -> ChunkPassage:
    return passage(EVENTS if name.endswith(".sse") else LINES)


@pytest.mark.parametrize("name", ANSWERS)
def test_it_tells_what_the_upstream_said(name: str) -> None:
    stream = run(passage_of(name), fixture(name))
    assert message(stream) == {"role": "assistant", **ANSWERS[name]}
    assert folded(stream)["choices"][0]["finish_reason"] == "stop"
    assert deltas(stream)[0]["role"] == "assistant"
    assert stream.endswith(sse.DONE)


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.glob("aisdk_*")))
def test_it_reads_the_same_at_every_cut(name: str) -> None:
    assert at_every_cut(lambda: passage_of(name), fixture(name)) == {
        passed(passage_of(name), [fixture(name)])
    }


@pytest.mark.parametrize("name", ["aisdk_v1_02_error.txt", "aisdk_v5_02_error.sse"])
def test_an_error_in_the_stream_is_told_as_it_came(name: str) -> None:
    with pytest.raises(UpstreamReported) as caught:
        run(passage_of(name), fixture(name))
    assert caught.value.error["message"] == "An error occurred."


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("aisdk_v1_01_text.txt", Usage(12, output_tokens=7)),
        ("aisdk_v1_03_two_steps_tool.txt", Usage(200, output_tokens=29)),
        ("aisdk_v5_01_text_reasoning.sse", None),
    ],
)
def test_it_reads_usage(name: str, usage: Usage | None) -> None:
    made = passage_of(name)
    run(made, fixture(name))
    assert made.usage == usage
    assert made.output_tokens_estimate > 0


def test_it_shows_usage_to_who_asked() -> None:
    last = chunks(run(passage(LINES, shows_usage=True), fixture("aisdk_v1_01_text.txt")))[-1]
    assert last["usage"] == {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}
    last = chunks(run(passage(EVENTS, shows_usage=True), fixture("aisdk_v5_01_text_reasoning.sse")))[-1]
    assert last["usage"]["estimated"] is True


@pytest.mark.parametrize("name", ["aisdk_v1_01_text.txt", "aisdk_v1_03_two_steps_tool.txt"])
def test_lines_that_break_off_anywhere_are_never_whole(name: str) -> None:
    stream = fixture(name)
    for cut in range(stream.index(b'e:{"finishReason":"stop"')):
        with pytest.raises(Truncated):
            run(passage(LINES), stream[:cut])


def test_events_that_break_off_anywhere_are_never_whole() -> None:
    stream = fixture("aisdk_v5_01_text_reasoning.sse")
    for cut in range(stream.index(b'"finish"')):
        with pytest.raises(Truncated):
            run(passage(EVENTS), stream[:cut])


def end(reason: str, **usage: Any) -> bytes:
    return b"d:" + msgspec.json.encode({"finishReason": reason, "usage": usage}) + b"\n"


def step(reason: str, *, goes_on: bool = False, **usage: Any) -> bytes:
    return (
        b"e:" + msgspec.json.encode({"finishReason": reason, "usage": usage, "isContinued": goes_on}) + b"\n"
    )


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content-filter", "content_filter"),
        ("tool-calls", "tool_calls"),
        ("other", "stop"),
        ("unknown", "stop"),
    ],
)
def test_it_tells_why_an_answer_ended(reason: str, expected: str) -> None:
    assert folded(run(passage(LINES), b'0:"a"\n' + end(reason)))["choices"][0]["finish_reason"] == expected
    finish = sse.encode(msgspec.json.encode({"type": "finish", "finishReason": reason}))
    stream = run(passage(EVENTS), said("a") + finish)
    assert folded(stream)["choices"][0]["finish_reason"] == expected


def test_an_answer_that_ended_in_an_error_is_one() -> None:
    with pytest.raises(UpstreamReported):
        run(passage(LINES), b'0:"a"\n' + end("error"))
    with pytest.raises(UpstreamReported):
        run(passage(EVENTS), said("a") + event("finish", finishReason="error"))


@pytest.mark.parametrize("usage", [{}, {"promptTokens": None, "completionTokens": None}])
def test_usage_that_is_not_known_is_none(usage: Document) -> None:
    made = passage(LINES)
    run(made, b'0:"a"\n' + end("stop", **usage))
    assert made.usage is None


def test_a_number_that_is_none_does_not_spoil_the_end() -> None:
    made = passage(LINES)
    run(made, b'0:"a"\nd:{"finishReason":"stop","usage":{"promptTokens":NaN,"completionTokens":NaN}}\n')
    assert made.usage is None


def test_a_server_that_tells_only_of_steps_is_whole_after_the_last() -> None:
    made = passage(LINES)
    steps = step("tool-calls", promptTokens=1, completionTokens=2) + b'0:"a"\n'
    stream = run(made, steps + step("stop", promptTokens=3, completionTokens=4))
    assert message(stream)["content"] == "a"
    assert made.usage == Usage(4, output_tokens=6)


@pytest.mark.parametrize(
    "last", [step("tool-calls"), step("stop", goes_on=True), step("stop") + b'f:{"messageId":"x"}\n']
)
def test_a_stream_that_ends_between_steps_is_truncated(last: bytes) -> None:
    with pytest.raises(Truncated):
        run(passage(LINES), b'0:"a"\n' + last)


def test_it_sets_the_texts_of_steps_apart() -> None:
    one, two = b'0:"Let me see."\n' + step("tool-calls"), b'0:"It is 21."\n' + end("stop")
    assert message(run(passage(LINES), one + two))["content"] == "Let me see.\n\nIt is 21."
    spaced = one.replace(b"see.", b"see. ") + two
    assert message(run(passage(LINES), spaced))["content"] == "Let me see. It is 21."
    cut = b'0:"It is"\n' + step("length", goes_on=True) + b'0:"n\'t."\n' + end("stop")
    assert message(run(passage(LINES), cut))["content"] == "It isn't."


def test_it_sets_thoughts_apart() -> None:
    lines = b'g:"One"\ng:" thought."\n' + step("tool-calls") + b'g:"Two."\n0:"a"\n' + end("stop")
    assert message(run(passage(LINES), lines))["reasoning_content"] == "One thought.\n\nTwo."
    events = thought("r1", "One") + thought("r1", " thought.") + thought("r2", "Two.") + said("a")
    stream = run(passage(EVENTS), events + event("finish"))
    assert message(stream)["reasoning_content"] == "One thought.\n\nTwo."


def test_it_streams_a_tool_call_as_its_arguments_come() -> None:
    lines = (
        b'b:{"toolCallId":"c1","toolName":"look"}\n'
        b'c:{"toolCallId":"c1","argsTextDelta":"{\\"a\\""}\n'
        b'c:{"toolCallId":"c1","argsTextDelta":":1}"}\n'
        b'9:{"toolCallId":"c1","toolName":"look","args":{"a":1}}\n'
        b'9:{"toolCallId":"c2","toolName":"look","args":{"a":2}}\n' + end("tool-calls")
    )
    stream = run(passage(LINES), lines)
    calls = message(stream)["tool_calls"]
    assert [(call["id"], call["function"]["arguments"]) for call in calls] == [
        ("c1", '{"a":1}'),
        ("c2", '{"a":2}'),
    ]
    assert deltas(stream)[0] == {"role": "assistant", "content": None}
    assert [len(delta.get("tool_calls", [])) for delta in deltas(stream)] == [0, 1, 1, 1, 1, 0]


def test_it_passes_on_sources_and_images() -> None:
    lines = (
        b'0:"Hi"\nh:{"sourceType":"url","id":"1","url":"https://a.test","title":"A"}\n'
        b'k:{"data":"AAAA","mimeType":"image/png"}\nk:{"data":"AAAA","mimeType":"text/csv"}\n' + end("stop")
    )
    made = message(run(passage(LINES), lines))
    cited = {"url": "https://a.test", "title": "A", "start_index": 2, "end_index": 2}
    assert made["annotations"] == [{"type": "url_citation", "url_citation": cited}]
    assert made["images"] == [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]


@pytest.mark.parametrize("stream", [b"<!DOCTYPE html>\n", b"0:{}\n", b'0:"a\n', b"0:\xff\n", b"d:[]\n"])
def test_lines_of_another_language_are_garbled(stream: bytes) -> None:
    with pytest.raises(Garbled):
        run(passage(LINES), stream)


@pytest.mark.parametrize("stream", [b"data: {\n\n", b"data: []\n\n", b"data: \xff\n\n"])
def test_events_of_another_language_are_garbled(stream: bytes) -> None:
    with pytest.raises(Garbled):
        run(passage(EVENTS), stream)


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    splitter = LineSplitter()
    splitter.feed(b'0:"a"\n' + b"x" * 90)
    with pytest.raises(sse.OversizedEvent):
        splitter.feed(b"x" * 90)


# The UI message stream


def event(type_: str, **members: Any) -> bytes:
    return sse.encode(msgspec.json.encode({"type": type_, **members}))


def said(words: str) -> bytes:
    return event("text-delta", id="t", delta=words)


def thought(id_: str, words: str) -> bytes:
    return event("reasoning-delta", id=id_, delta=words)


def test_it_reads_a_tool_call_and_what_follows_it() -> None:
    call = {"toolCallId": "c1", "toolName": "look"}
    events = (
        event("start-step")
        + event("tool-input-start", **call)
        + event("tool-input-delta", toolCallId="c1", inputTextDelta='{"a":1}')
        + event("tool-input-available", **call, input={"a": 1})
        + event("tool-output-available", toolCallId="c1", output={"b": 2})
        + event("finish-step")
        + event("start-step")
        + said("Done.")
        + event("finish-step")
        + event("finish", finishReason="stop")
        + sse.DONE
    )
    stream = run(passage(EVENTS), events)
    function = {"name": "look", "arguments": '{"a":1}'}
    assert message(stream)["tool_calls"] == [{"id": "c1", "type": "function", "function": function}]
    assert message(stream)["content"] == "Done."


@pytest.mark.parametrize(("answered", "reason"), [(False, "tool_calls"), (True, "stop")])
def test_a_server_that_gives_no_reason_has_ended_with_what_waits(answered: bool, reason: str) -> None:
    events = event("tool-input-available", toolCallId="c1", toolName="look", input={})
    if answered:
        events += event("tool-output-available", toolCallId="c1", output=1)
    for ending in (event("finish"), sse.DONE):
        stream = run(passage(EVENTS), events + ending)
        assert folded(stream)["choices"][0]["finish_reason"] == reason


def test_a_tool_that_the_provider_ran_is_not_the_clients() -> None:
    call = {"toolCallId": "c1", "toolName": "web_search", "providerExecuted": True}
    events = event("tool-input-available", **call, input={}) + said("Found.") + event("finish")
    assert "tool_calls" not in message(run(passage(EVENTS), events))


def test_arguments_that_come_as_plain_text_are_told_as_json() -> None:
    call = {"toolCallId": "c1", "toolName": "patch"}
    events = (
        event("tool-input-start", **call, inputEncoding="text")
        + event("tool-input-delta", toolCallId="c1", inputTextDelta="*** Begin")
        + event("tool-input-available", **call, input="*** Begin")
        + event("finish", finishReason="tool-calls")
    )
    (made,) = message(run(passage(EVENTS), events))["tool_calls"]
    assert made["function"] == {"name": "patch", "arguments": '"*** Begin"'}


def test_it_passes_on_what_a_text_was_drawn_from() -> None:
    page = {"type": "source", "sourceType": "url", "id": "s", "url": "https://a.test", "title": "A"}
    file = {"type": "source", "sourceType": "document", "id": "d", "mediaType": "a/b", "title": "B"}
    citations = [
        {"source": page, "startIndex": 1, "endIndex": 3},
        {"source": page},
        {"source": file, "startIndex": 0, "endIndex": 1},
    ]
    events = (
        event("text-delta", id="t1", delta="See.")
        + event("finish-step")
        + event("text-delta", id="t2", delta="It is")
        + event("text-end", id="t2", citations=citations)
        + event("finish")
    )
    made = message(run(passage(EVENTS), events))
    assert made["content"] == "See.\n\nIt is"
    places = [
        (each["url_citation"]["start_index"], each["url_citation"]["end_index"])
        for each in made["annotations"]
    ]
    assert places == [(7, 9), (11, 11)]


def test_a_step_that_is_made_again_before_it_said_anything_is_made_again() -> None:
    events = event("start-step") + event("reset-step") + said("a") + event("finish", finishReason="stop")
    assert message(run(passage(EVENTS), events))["content"] == "a"


def test_what_was_said_cannot_be_taken_back() -> None:
    events = event("start-step") + said("a") + event("reset-step") + said("b") + event("finish")
    with pytest.raises(UpstreamReported) as caught:
        run(passage(EVENTS), events)
    assert "took back" in caught.value.error["message"]


@pytest.mark.parametrize(
    "stream",
    [
        said("a") + event("abort", reason="x") + sse.DONE,
        said("a") + event("finish-step") + event("finish", finishReason="interrupted") + sse.DONE,
        event("start") + sse.DONE,
    ],
)
def test_an_answer_that_was_given_up_is_truncated(stream: bytes) -> None:
    with pytest.raises(Truncated):
        run(passage(EVENTS), stream)


def test_it_passes_over_what_is_meant_for_a_screen() -> None:
    noise = (
        b": stream-open\n\n"
        + event("custom", kind="a.b")
        + event("reasoning-file", url="data:image/png;base64,AAAA", mediaType="image/png")
        + event("steering-message", id="1", parts=[{"type": "text", "text": "Be brief."}])
        + event("tool-approval-request", approvalId="1", toolCallId="c1")
        + event("tool-approval-response", approvalId="1", approved=True)
        + event("data-weather", data={"celsius": 21})
    )
    stream = run(passage(EVENTS), noise + said("a") + noise + event("finish", finishReason="stop"))
    assert message(stream) == {"role": "assistant", "content": "a"}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (b": stream-open\n\n" + event("start"), None),
        (event("start") + event("start-step") + event("data-x", data=1), None),
        (event("start") + event("error", errorText="No.")[:-1], None),
        (event("start") + event("error", errorText="No."), False),
        (event("start") + event("start-step") + said("a") + event("error", errorText="No."), True),
        (event("start") + event("reasoning-start", id="r"), True),
        (b"data: {\n\n", True),
    ],
)
def test_it_sees_by_its_beginning_whether_an_answer_is_one(told: bytes, expected: bool | None) -> None:
    assert begins(told) is expected


@pytest.mark.parametrize(
    "reported",
    [
        {"inputTokens": 9, "outputTokens": 4, "reasoningTokens": 1, "cachedInputTokens": 2},
        {
            "inputTokens": 9,
            "outputTokens": 4,
            "inputTokenDetails": {"cacheReadTokens": 2},
            "outputTokenDetails": {"reasoningTokens": 1},
        },
    ],
)
def test_it_reads_usage_from_the_metadata_of_a_message(reported: Document) -> None:
    for name in ("totalUsage", "usage"):
        made = passage(EVENTS, shows_usage=True)
        stream = run(made, said("a") + event("finish", messageMetadata={name: reported}))
        assert made.usage == Usage(9, 2, 4, 1)
        assert chunks(stream)[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}


@pytest.mark.parametrize("reported", [None, [], {}, {"inputTokens": None}, {"inputTokenDetails": 1}])
def test_it_reads_no_usage_from_what_tells_none(reported: object) -> None:
    assert read_usage(reported) is None
