"""A chat stream as a Response: what is told, in which order, and what it comes to."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import OpenAI

from proxy import sse
from proxy.fold import TooMuchToFold
from proxy.passage import Garbled, Truncated
from proxy.reported import UpstreamReported
from proxy.responses.from_chat import ChatToResponses
from proxy.usage import Usage
from tests import open_responses
from tests.proxy.responses.transcripts import (
    TRANSCRIPTS,
    USAGE,
    alike,
    call,
    chunk,
    delta,
    events,
    fields,
    fold,
    named,
    passage,
    run,
    usage_chunk,
)

Document = dict[str, Any]

each_transcript = pytest.mark.parametrize("transcript", TRANSCRIPTS.values(), ids=TRANSCRIPTS)


def output(transcript: bytes, **asked: Any) -> list[Document]:
    found: list[Document] = run(transcript, asked=fields(**asked))[1]["output"]
    return found


@each_transcript
def test_its_deltas_come_to_the_whole(transcript: bytes) -> None:
    stream, whole = run(transcript)
    assert fold(stream) == whole


@each_transcript
def test_the_terminal_event_bears_the_whole(transcript: bytes) -> None:
    stream, whole = run(transcript)
    assert events(stream)[-1]["response"] == whole
    assert events(stream)[-1]["type"] == f"response.{whole['status']}"


@pytest.mark.slow
@each_transcript
def test_it_says_the_same_wherever_the_stream_is_cut(transcript: bytes) -> None:
    expected = alike(run(transcript)[0])
    for cut in range(len(transcript)):
        assert alike(run(transcript, (cut,))[0]) == expected


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_it_says_the_same_however_often_the_stream_is_cut(data: st.DataObject) -> None:
    transcript = data.draw(st.sampled_from(sorted(TRANSCRIPTS.values())))
    places = st.lists(st.integers(0, len(transcript)), max_size=12)
    stream, whole = run(transcript, tuple(sorted(data.draw(places))))
    assert alike(stream) == alike(run(transcript)[0])
    assert fold(stream) == whole


@each_transcript
def test_it_keeps_the_open_responses_schema(transcript: bytes) -> None:
    stream, whole = run(transcript)
    assert open_responses.stream_faults(stream) == []
    assert open_responses.faults(whole, "ResponseResource") == []


@each_transcript
def test_it_is_read_by_the_official_sdk(transcript: bytes) -> None:
    stream, whole = run(transcript)
    kinds = []
    with client(stream).responses.stream(model="public", input="Hi") as told:
        kinds += [event.type for event in told]
        if whole["status"] == "completed":
            read = told.get_final_response()
            assert [item.type for item in read.output] == [item["type"] for item in whole["output"]]
            assert read.output_text == "".join(texts(whole))
    assert kinds == [event["type"] for event in events(stream)]


def client(stream: bytes) -> OpenAI:
    """The official SDK, whose every call is answered with this stream."""
    headers = {"content-type": "text/event-stream"}
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, content=stream, headers=headers))
    http_client = httpx2.Client(transport=transport)
    return OpenAI(api_key="none", base_url="http://gateway.test/v1", http_client=http_client)


def texts(whole: Document) -> list[str]:
    parts = [part for item in whole["output"] if item["type"] == "message" for part in item["content"]]
    return [part["text"] for part in parts if part["type"] == "output_text"]


@each_transcript
def test_it_numbers_events_and_opens_before_it_writes(transcript: bytes) -> None:
    told = events(run(transcript)[0])
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert [event["type"] for event in told[:2]] == ["response.created", "response.in_progress"]
    open_items: set[int] = set()
    for event in told:
        if event["type"] == "response.output_item.added":
            open_items.add(event["output_index"])
        elif event["type"] == "response.output_item.done":
            open_items.remove(event["output_index"])
        elif "output_index" in event:
            assert event["output_index"] in open_items
    assert not open_items


def test_nothing_of_the_upstreams_names_is_told() -> None:
    assert b"theirs" not in run(TRANSCRIPTS["text"])[0]


def test_text_becomes_one_message() -> None:
    (message,) = output(TRANSCRIPTS["text"])
    assert message["type"] == "message"
    assert message["role"] == "assistant"
    assert message["status"] == "completed"
    assert [part["text"] for part in message["content"]] == ['Zwölf "Uhr"\u2028\n12 🕛']


def test_each_delta_is_told_at_once() -> None:
    made = passage()
    made.begin()
    (told,) = named(made.feed(delta(content="now")), "response.output_text.delta")
    assert told["delta"] == "now"


@pytest.mark.parametrize(
    "name", ["reasoning_content", "reasoning, both names", "reasoning as parts of the content"]
)
def test_reasoning_becomes_an_item_of_its_own(name: str) -> None:
    reasoning, message = output(TRANSCRIPTS[name])
    assert reasoning["type"] == "reasoning"
    assert reasoning["content"][0]["type"] == "reasoning_text"
    assert reasoning["content"][0]["text"].startswith("Hm")
    assert message["type"] == "message"


def test_reasoning_under_both_names_is_told_once() -> None:
    assert output(TRANSCRIPTS["reasoning, both names"])[0]["content"][0]["text"] == "Hm…"


def test_reasoning_is_told_as_it_comes_by_events_that_every_client_knows() -> None:
    stream, whole = run(TRANSCRIPTS["reasoning_content"])
    told = named(stream, "response.reasoning_summary_text.delta")
    assert [event["delta"] for event in told] == ["Hm", ", so."]
    assert whole["output"][0]["summary"] == [{"type": "summary_text", "text": "Hm, so."}]
    assert whole["output"][0]["content"] == [{"type": "reasoning_text", "text": "Hm, so."}]
    assert b"response.reasoning.delta" not in stream
    assert b"response.reasoning_text.delta" not in stream


def test_reasoning_between_words_keeps_its_place() -> None:
    kinds = [item["type"] for item in output(TRANSCRIPTS["reasoning between words"])]
    assert kinds == ["reasoning", "message", "reasoning", "message"]


def test_calls_whose_pieces_interleave_are_kept_apart() -> None:
    first, second = output(TRANSCRIPTS["calls interleaved"])[1:]
    assert (first["call_id"], first["name"], first["arguments"]) == (
        "call_a",
        "get_weather",
        '{"city":"Wien"}',
    )
    assert (second["call_id"], second["name"], second["arguments"]) == (
        "call_b",
        "get_time",
        '{"zone":"CET"}',
    )


def test_what_came_before_a_calls_name_is_not_lost() -> None:
    (made,) = output(TRANSCRIPTS["a name that comes late"])
    assert (made["call_id"], made["name"], made["arguments"]) == ("call_a", "late", '{"a":1}')


def test_a_name_that_is_repeated_is_the_same_call() -> None:
    (made,) = output(TRANSCRIPTS["a name in every piece"])
    assert (made["name"], made["arguments"]) == ("f", "{}")


@pytest.mark.parametrize("name", ["calls without an index", "calls all at index 0"])
def test_calls_are_told_apart_by_their_ids(name: str) -> None:
    assert [(made["call_id"], made["name"]) for made in output(TRANSCRIPTS[name])] == [("a", "f"), ("b", "g")]


@pytest.mark.parametrize("name", ["calls without an id", "calls of one id"])
def test_every_call_has_an_id_of_its_own(name: str) -> None:
    ids = [made["call_id"] for made in output(TRANSCRIPTS[name])]
    assert len({*ids, ""}) == 3


def test_an_answer_that_was_not_streamed_is_read_too() -> None:
    message, first, second = output(TRANSCRIPTS["an answer in one piece"])
    assert message["content"][0]["text"] == "Both:"
    assert [(call["call_id"], call["arguments"]) for call in (first, second)] == [("a", "{}"), ("b", "[]")]


def test_arguments_that_come_as_json_become_a_string() -> None:
    assert output(TRANSCRIPTS["arguments that are no string"])[0]["arguments"] == '{"x":[1]}'


def test_the_older_function_call_is_a_call() -> None:
    (made,) = output(TRANSCRIPTS["the older function_call"])
    assert (made["type"], made["name"], made["arguments"]) == ("function_call", "f", "{}")


def test_a_call_without_a_name_is_no_answer() -> None:
    with pytest.raises(Garbled):
        run(call(0, "call_a", None, "{}") + delta(finish="tool_calls"))


CUSTOM = {"tools": [{"type": "custom", "name": "patch"}]}


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_custom_tool_is_called_with_its_input(size: int) -> None:
    arguments = json.dumps({"input": 'a "b"\n\u00e9'})
    pieces = [arguments[start : start + size] for start in range(0, len(arguments), size)]
    calls = b"".join(call(0, arguments=piece) for piece in pieces)
    stream, whole = run(call(0, "a", "patch") + calls + delta(finish="tool_calls"), asked=fields(**CUSTOM))
    (made,) = whole["output"]
    assert (made["type"], made["name"], made["input"]) == ("custom_tool_call", "patch", 'a "b"\né')
    assert named(stream, "response.custom_tool_call_input.done")[0]["input"] == 'a "b"\né'
    assert fold(stream) == whole


@pytest.mark.parametrize("arguments", ["just text", '{"other":1}', "[1]", '{"input":2}', '{"input":"cut'])
def test_a_custom_tools_arguments_of_another_shape_are_its_input(arguments: str) -> None:
    (made,) = output(call(0, "a", "patch", arguments) + delta(finish="tool_calls"), **CUSTOM)
    assert made["input"] == arguments


def test_a_function_beside_a_custom_tool_stays_a_function() -> None:
    (made,) = output(call(0, "a", "other", "{}") + delta(finish="tool_calls"), **CUSTOM)
    assert made["type"] == "function_call"


def test_a_refusal_is_a_part_of_the_message() -> None:
    (message,) = output(TRANSCRIPTS["refusal"])
    assert message["content"] == [{"type": "refusal", "refusal": "I cannot."}]


def test_a_refusal_after_words_is_a_second_part() -> None:
    (message,) = output(TRANSCRIPTS["words, then refusal"])
    assert [part["type"] for part in message["content"]] == ["output_text", "refusal"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("cut by length", "max_output_tokens"), ("cut by the filter", "content_filter")],
)
def test_an_answer_that_was_cut_is_incomplete(name: str, reason: str) -> None:
    whole = run(TRANSCRIPTS[name])[1]
    assert whole["status"] == "incomplete"
    assert whole["incomplete_details"] == {"reason": reason}
    assert whole["output"][0]["status"] == "incomplete"
    assert whole["completed_at"] is None


def test_a_call_that_was_cut_is_incomplete() -> None:
    (made,) = output(TRANSCRIPTS["a call cut by length"])
    assert (made["status"], made["arguments"]) == ("incomplete", '{"ha')


def test_a_whole_answer_says_when_it_was_completed() -> None:
    whole = run(TRANSCRIPTS["text"])[1]
    assert whole["completed_at"] >= whole["created_at"]
    assert whole["incomplete_details"] is None


@pytest.mark.parametrize("asked", [{"include": ["message.output_text.logprobs"]}, {"top_logprobs": 1}])
def test_logprobs_are_told_to_those_who_ask(asked: Document) -> None:
    stream, whole = run(TRANSCRIPTS["logprobs"], asked=fields(**asked))
    first, second = whole["output"][0]["content"][0]["logprobs"]
    top = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105]}
    assert first == {"token": "Hi", "logprob": -0.5, "bytes": [], "top_logprobs": [top]}
    assert second == {"token": "!", "logprob": -1, "bytes": [], "top_logprobs": []}
    assert named(stream, "response.output_text.delta")[0]["logprobs"] == [first]


def test_logprobs_are_kept_from_those_who_do_not() -> None:
    assert output(TRANSCRIPTS["logprobs"])[0]["content"][0]["logprobs"] == []


def test_sources_are_cited() -> None:
    (message,) = output(TRANSCRIPTS["annotations"])
    cited = {"type": "url_citation", "url": "https://a.test", "title": "A", "start_index": 0, "end_index": 0}
    assert message["content"][0]["annotations"] == [cited]


def test_usage_is_told_in_full() -> None:
    made = passage()
    made.feed(TRANSCRIPTS["text"])
    made.end()
    assert made.usage == Usage(11, 3, 5, 2)
    assert json.loads(made.final())["usage"] == {
        "input_tokens": 11,
        "input_tokens_details": {"cached_tokens": 3},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 16,
    }


def test_usage_that_nobody_reported_is_estimated_for_the_client_alone() -> None:
    made = passage(fields(input="x" * 400))
    made.feed(delta(content="a") + delta(content="b") + delta(finish="stop"))
    made.end()
    told = json.loads(made.final())["usage"]
    assert made.usage is None
    assert told["estimated"] is True
    assert told["input_tokens"] == 101
    assert told["output_tokens"] == 3


def test_a_running_count_ends_with_the_last() -> None:
    counted = [{**USAGE, "completion_tokens": n} for n in range(3)]
    stream = b"".join(chunk({"delta": {"content": "a"}}, usage=usage) for usage in counted)
    assert run(stream + delta(finish="stop"))[1]["usage"]["output_tokens"] == 2


def test_only_the_first_choice_is_read() -> None:
    assert b'"no"' not in run(TRANSCRIPTS["a second choice"])[0]


def test_the_service_tier_is_the_upstreams() -> None:
    assert run(TRANSCRIPTS["a service tier"])[1]["service_tier"] == "flex"


def test_it_echoes_what_was_asked() -> None:
    asked = fields(instructions="Be kind.", temperature=0.5, metadata={"a": "b"}, tools=[])
    whole = run(TRANSCRIPTS["text"], asked=asked)[1]
    assert (whole["instructions"], whole["temperature"], whole["metadata"]) == ("Be kind.", 0.5, {"a": "b"})
    assert (whole["id"], whole["model"], whole["created_at"]) == ("resp_ours", "public", 1700000000)


@pytest.mark.parametrize(
    "error",
    [
        b'{"error":{"message":"overloaded","code":503}}',
        b'{"object":"error","message":"overloaded"}',
        b'{"error":"overloaded"}',
        b'{"detail":"overloaded"}',
    ],
)
def test_an_error_in_the_stream_is_raised_at_its_end(error: bytes) -> None:
    with pytest.raises(UpstreamReported) as caught:
        run(delta(content="a") + sse.encode(error) + delta(finish="stop") + sse.DONE)
    assert caught.value.error["message"] == "overloaded"


def test_a_choice_that_ended_in_error_is_one() -> None:
    with pytest.raises(UpstreamReported):
        run(delta(content="a") + delta(finish="error") + sse.DONE)


@pytest.mark.parametrize("ending", [b"", usage_chunk(), delta(finish="abort")])
def test_a_stream_that_stops_is_truncated(ending: bytes) -> None:
    with pytest.raises(Truncated):
        run(delta(content="a") + ending)


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[1]",
        b'{"choices":1}',
        b'{"choices":[1]}',
        b'{"choices":[{"delta":1}]}',
        b'{"choices":[{"delta":{"tool_calls":1}}]}',
        b'{"choices":[{"delta":{"content":[1]}}]}',
        b'{"choices":[{"finish_reason":1}]}',
    ],
)
def test_what_is_no_chunk_is_garbled(data: bytes) -> None:
    with pytest.raises(Garbled):
        passage().feed(sse.encode(data))


def test_it_takes_so_much_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.responses.from_chat.MAX_FOLDED_BYTES", 1000)
    made = passage()
    made.feed(b": " + b"x" * 996 + b"\n\n")
    with pytest.raises(TooMuchToFold):
        made.feed(b"\n")


ERROR = {"message": "It broke.", "type": "upstream_error", "param": None, "code": "upstream_truncated"}


def failed(made: ChatToResponses) -> list[Document]:
    return events(made.failed(ERROR))


def test_a_failure_is_told_twice_and_ends_it() -> None:
    made = passage()
    begun = made.begin() + made.feed(delta(content="Half"))
    stream = begun + made.failed(ERROR)
    error, ended = events(stream)[-2:]
    assert {**ERROR, "type": "error"}.items() <= error.items()
    assert error["error"] == ERROR
    assert ended["type"] == "response.failed"
    assert ended["response"]["error"] == {"code": "upstream_truncated", "message": "It broke."}
    assert ended["response"]["output"][0]["content"][0]["text"] == "Half"
    assert ended["response"]["output"][0]["status"] == "incomplete"
    assert json.loads(made.final()) == ended["response"]
    assert open_responses.stream_faults(stream) == []


def test_a_failure_before_anything_begins_the_response_first() -> None:
    assert [event["type"] for event in failed(passage())] == [
        "response.created",
        "response.in_progress",
        "error",
        "response.failed",
    ]


@each_transcript
def test_a_failure_at_any_moment_is_well_told(transcript: bytes) -> None:
    pieces = list(sse.split(transcript))
    for count in range(len(pieces) + 1):
        made = passage()
        stream = made.begin() + b"".join(made.feed(piece) for piece in pieces[:count])
        stream += made.failed(ERROR)
        numbers = [event["sequence_number"] for event in events(stream)]
        assert all(after == before + 1 for before, after in pairwise(numbers))
        assert open_responses.stream_faults(stream) == []
