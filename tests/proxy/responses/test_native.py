"""A native Response on its way through: what becomes ours, what is filled in, how it may end."""

from __future__ import annotations

import json
import re
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
from proxy.responses import native
from proxy.usage import Usage
from tests import open_responses
from tests.proxy.responses.native_transcripts import (
    CODE,
    ENCRYPTED,
    TEXT,
    TRANSCRIPTS,
    USAGE,
    alike,
    begun,
    call,
    event,
    feed,
    message,
    open_thoughts,
    opened,
    passage,
    response,
    run,
    spell,
    thoughts,
    whole,
)
from tests.proxy.responses.transcripts import events, fields, named

Document = dict[str, Any]

each_transcript = pytest.mark.parametrize("transcript", TRANSCRIPTS.values(), ids=TRANSCRIPTS)
# What the Open Responses specification has no schema for.
BEYOND = frozenset({"hosted tools", "an unknown item and event"})
PLAIN = [name for name in TRANSCRIPTS if name not in BEYOND]
each_plain = pytest.mark.parametrize("transcript", [TRANSCRIPTS[name] for name in PLAIN], ids=PLAIN)


@each_transcript
def test_it_says_the_same_wherever_the_stream_is_cut(transcript: bytes) -> None:
    expected = alike(run(transcript)[0])
    for cut in range(0, len(transcript), 7):
        assert alike(run(transcript, (cut,))[0]) == expected


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_it_says_the_same_however_often_the_stream_is_cut(data: st.DataObject) -> None:
    transcript = data.draw(st.sampled_from(sorted(TRANSCRIPTS.values())))
    places = st.lists(st.integers(0, len(transcript)), max_size=12)
    stream, made = run(transcript, tuple(sorted(data.draw(places))))
    assert alike(stream) == alike(run(transcript)[0])
    assert events(stream)[-1]["response"] == made


@each_plain
def test_it_keeps_the_open_responses_schema(transcript: bytes) -> None:
    stream, made = run(transcript)
    assert open_responses.stream_faults(stream) == []
    assert open_responses.faults(made, "ResponseResource") == []


@pytest.mark.parametrize(
    "transcript",
    [TRANSCRIPTS[name] for name in sorted(TRANSCRIPTS) if "unknown" not in name],
    ids=[name for name in sorted(TRANSCRIPTS) if "unknown" not in name],
)
def test_it_is_read_by_the_official_sdk(transcript: bytes) -> None:
    stream, made = run(transcript)
    headers = {"content-type": "text/event-stream"}
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, content=stream, headers=headers))
    client = OpenAI(
        api_key="none", base_url="http://gateway.test", http_client=httpx2.Client(transport=transport)
    )
    with client.responses.stream(model="public", input="Hi") as told:
        kinds = [event.type for event in told if event.type in {each["type"] for each in events(stream)}]
    assert kinds[0] == "response.created"
    if made["status"] == "completed":
        assert told.get_final_response().output_text == "".join(texts(made))


def texts(made: Document) -> list[str]:
    parts = [part for item in made["output"] if item["type"] == "message" for part in item["content"]]
    return [part["text"] for part in parts if part["type"] == "output_text"]


@each_transcript
def test_it_shows_no_id_of_the_upstream(transcript: bytes) -> None:
    stream, made = run(transcript)
    spoken = json.dumps(" ".join(TEXT))
    for told in [*events(stream), made]:
        assert "theirs" not in re.sub(r'"(delta|text|results)": ?"(\\.|[^"\\])*"', "", json.dumps(told)), (
            spoken
        )


@each_transcript
def test_it_names_an_item_alike_in_every_event(transcript: bytes) -> None:
    stream, made = run(transcript)
    ids = [item["id"] for item in made["output"]]
    assert len(set(ids)) == len(ids)
    for told in events(stream):
        if "item" in told:
            assert told["item"]["id"] == ids[told["output_index"]]
        if "item_id" in told:
            assert told["item_id"] == ids[told["output_index"]]


@each_transcript
def test_it_numbers_events_and_begins_with_the_first(transcript: bytes) -> None:
    told = events(run(transcript)[0])
    assert [each["sequence_number"] for each in told] == list(range(len(told)))
    assert [each["type"] for each in told[:2]] == ["response.created", "response.in_progress"]
    assert [each["type"] for each in told].count("response.created") == 1


@each_transcript
def test_the_last_event_bears_what_the_items_came_to(transcript: bytes) -> None:
    stream, made = run(transcript)
    done = [each["item"] for each in named(stream, "response.output_item.done")]
    assert all(item in made["output"] for item in done)


@pytest.mark.parametrize(
    "name", ["text", "calls", "hosted tools", "reasoning as it is", "incomplete", "no usage"]
)
def test_an_answer_in_one_piece_is_what_a_stream_comes_to(name: str) -> None:
    body = json.dumps(events(TRANSCRIPTS[name])[-1]["response"]).encode()
    answer = native.whole(passage(), body)
    streamed = run(TRANSCRIPTS[name])[1]
    made = json.loads(answer.body)
    for each in (made, streamed):
        each["usage"].pop("estimated", None)
        each["usage"] = None if name == "no usage" else each["usage"]
    told = [alike(json.dumps(each, sort_keys=True).encode()) for each in (made, streamed)]
    assert told[0] == told[1]


@each_transcript
def test_it_counts_what_the_upstream_counted(transcript: bytes) -> None:
    made = passage()
    feed(made, transcript)
    uncounted = {TRANSCRIPTS["sparse"], TRANSCRIPTS["no usage"]}
    assert made.usage == (None if transcript in uncounted else Usage(11, 3, 5, 2, None))


def test_it_gives_programs_an_estimate_where_nothing_was_counted() -> None:
    made = run(TRANSCRIPTS["no usage"], asked=fields(input="x" * 400))[1]
    assert made["usage"]["estimated"] is True
    assert made["usage"]["input_tokens"] > 90
    assert made["usage"]["output_tokens"] > 0


def test_deltas_keep_their_bytes() -> None:
    odd = '{"delta":"a\\u00e9", "n":12345678901234567890123,"item_id":"msg_theirs","output_index":0,'
    odd += '"content_index":0,"logprobs":[],"type":"response.output_text.delta","sequence_number":%d}'
    deltas = [b"event: response.output_text.delta\ndata: %b\n\n" % (odd % n).encode() for n in (4, 5)]
    made = passage()
    item, between = message("msg_theirs")
    made.feed(spell(*begun(), event("response.output_item.added", output_index=0, item=opened(item))))
    made.feed(spell({**between[0], "item_id": "msg_theirs", "output_index": 0}, first=3) + deltas[0])
    passed = made.feed(deltas[1])
    ours = json.loads(sse.data(passed))["item_id"].encode()
    assert passed == deltas[1].replace(b"msg_theirs", ours)


def test_deltas_that_are_passed_on_are_numbered_on() -> None:
    stream = run(TRANSCRIPTS["numbered from 1"])[0]
    deltas = named(stream, "response.output_text.delta")
    assert [each["sequence_number"] for each in deltas] == [4, 5, 6, 7, 8]
    assert [each["obfuscation"] for each in deltas] == ["", "x", "xx", "xxx", "xxxx"]


def test_items_that_are_told_at_once_are_kept_apart() -> None:
    first, second = message("msg_theirs1", "a", "b", "c"), message("msg_theirs2", "A", "B", "C")
    items = [
        event("response.output_item.added", output_index=n, item=opened(m[0]))
        for n, m in enumerate((first, second))
    ]
    mixed = [
        {"item_id": item["id"], "output_index": n, **between[step]}
        for step in range(len(first[1]))
        for n, (item, between) in enumerate((first, second))
    ]
    done = [
        event("response.output_item.done", output_index=n, item=m[0]) for n, m in enumerate((first, second))
    ]
    ended = event("response.completed", response=response("completed", []))
    stream, made = run(spell(*begun(), *items, *mixed, *done, ended))
    assert texts(made) == ["abc", "ABC"]
    said = ["", ""]
    for each in named(stream, "response.output_text.delta"):
        said[each["output_index"]] += each["delta"]
    assert said == ["abc", "ABC"]


# --- What is told and what is kept


def test_it_keeps_encrypted_reasoning_from_a_client_that_did_not_ask() -> None:
    made = passage()
    assert b"gAAA" not in feed(made, TRANSCRIPTS["calls"]) + made.end() + made.final()
    assert made.items[0]["encrypted_content"] == "gAAA-secret"


def test_it_shows_encrypted_reasoning_to_a_client_that_asked() -> None:
    stream, made = run(TRANSCRIPTS["calls"], asked=ENCRYPTED)
    assert made["output"][0]["encrypted_content"] == "gAAA-secret"
    assert named(stream, "response.output_item.done")[0]["item"]["encrypted_content"] == "gAAA-secret"


def test_it_keeps_encrypted_reasoning_that_only_the_end_has() -> None:
    events_ = whole([thoughts("rs_theirs", "Hm")])
    del events_[-2]["item"]["encrypted_content"]
    events_[-1]["response"]["output"] = [thoughts("rs_theirs", "Hm")[0]]
    made = passage()
    feed(made, spell(*events_))
    assert made.items[0]["encrypted_content"] == "gAAA-secret"


def test_a_compaction_keeps_its_content() -> None:
    item = {"id": "cmp_theirs", "type": "compaction", "encrypted_content": "gAAA-window"}
    assert run(spell(*whole([(item, [])])))[1]["output"][0]["encrypted_content"] == "gAAA-window"


def test_what_is_kept_bears_the_ids_that_were_told() -> None:
    made = passage()
    feed(made, TRANSCRIPTS["hosted tools"])
    assert [item["id"] for item in made.items] == [item["id"] for item in json.loads(made.final())["output"]]


def test_ids_begin_with_what_they_are_of() -> None:
    output = run(TRANSCRIPTS["hosted tools"])[1]["output"]
    assert [item["id"].partition("_")[0] for item in output] == ["rs", "ws", "ci", "fs", "mcpr", "mcp", "msg"]


def test_what_belongs_together_is_still_named_alike() -> None:
    _, _, code, found, request, approved, said = run(TRANSCRIPTS["hosted tools"])[1]["output"]
    cited = said["content"][0]["annotations"][1]
    assert cited["container_id"] == code["container_id"]
    assert approved["approval_request_id"] == request["id"]
    assert found["results"][0]["file_id"].startswith("file-")
    assert found["results"][0]["attributes"] == {"file_id": "mine"}


def test_what_the_request_named_keeps_its_name() -> None:
    tool = {"type": "code_interpreter", "container": "cntr_theirs"}
    output = run(spell(*whole([(CODE, [])])), asked=fields(tools=[tool]))[1]["output"]
    assert output[0]["container_id"] == "cntr_theirs"


def test_a_call_keeps_the_id_that_its_output_is_sent_under() -> None:
    output = run(TRANSCRIPTS["calls"])[1]["output"]
    assert [item["call_id"] for item in output[1:]] == ["call_a", "call_b"]


def test_reasoning_is_told_as_a_summary() -> None:
    stream, made = run(TRANSCRIPTS["reasoning as it is"])
    kinds = [each["type"] for each in events(stream) if "reasoning" in each["type"]]
    summary = "response.reasoning_summary"
    assert kinds == [
        f"{summary}_part.added",
        f"{summary}_text.delta",
        f"{summary}_text.delta",
        f"{summary}_text.done",
        f"{summary}_part.done",
    ]
    assert made["output"][0]["summary"] == [{"type": "summary_text", "text": "Hm."}]
    assert made["output"][0]["content"] == [{"type": "reasoning_text", "text": "Hm."}]


def test_reasoning_that_was_summarized_is_not_told_twice() -> None:
    item, summarized = thoughts("rs_theirs", "In short.")
    _, at_length = open_thoughts("rs_theirs", "At length.")
    content = [{"type": "reasoning_text", "text": "At length."}]
    stream, made = run(spell(*whole([({**item, "content": content}, [*summarized, *at_length])])))
    assert [each["delta"] for each in named(stream, "response.reasoning_summary_text.delta")] == ["In short."]
    assert made["output"][0]["summary"] == [{"type": "summary_text", "text": "In short."}]


def test_reasoning_whose_end_was_not_told_ends_with_its_item() -> None:
    item, between = open_thoughts("rs_theirs", "Hm", ".")
    stream = run(spell(*whole([(item, between[:3])])))[0]
    assert named(stream, "response.reasoning_summary_text.done")[0]["text"] == "Hm."


def test_it_takes_out_private_fields() -> None:
    told = whole([message("msg_theirs", "a", "b", "c", timings={"ms": 1})])
    told[-1]["response"]["timings"] = {"ms": 2}
    assert b"timings" not in run(spell(*told))[0]


def test_it_tells_what_was_left_open_as_the_upstream_has_it() -> None:
    made = run(TRANSCRIPTS["text"])[1]
    assert made["reasoning"]["effort"] == "low"
    assert made["text"]["verbosity"] == "medium"
    assert made["billing"] == {"payer": "us"}
    assert made["instructions"] is None


# --- Ends other than the good one


def test_a_stream_without_its_end_is_truncated() -> None:
    with pytest.raises(Truncated):
        run(spell(*whole([message("msg_theirs", *TEXT)])[:-1]))


def test_an_error_event_is_the_end() -> None:
    with pytest.raises(UpstreamReported) as caught:
        run(spell(*begun(), event("error", code="server_error", message="boom", param=None)))
    assert caught.value.error == {"code": "server_error", "message": "boom", "param": None}


def test_a_response_that_failed_is_reported() -> None:
    failed = response("failed", [], error={"code": "server_error", "message": "boom"})
    with pytest.raises(UpstreamReported) as caught:
        run(spell(*begun(), event("response.failed", response=failed)))
    assert caught.value.error == {"code": "server_error", "message": "boom"}


def test_a_response_that_failed_ends_with_that_and_no_error_besides() -> None:
    made = passage()
    failed = response("failed", [], error={"code": "server_error", "message": "boom"})
    told = feed(made, spell(*begun(), event("response.failed", response=failed)))
    told += made.failed({"message": "told", "type": "server_error", "param": None, "code": "upstream_error"})
    assert [each["type"] for each in events(told)[2:]] == ["response.failed"]
    assert open_responses.stream_faults(told) == []
    assert made.usage == Usage(11, 3, 5, 2, None)


ERROR = {"message": "It broke off.", "type": "server_error", "param": None, "code": "upstream_truncated"}


@each_plain
def test_it_may_fail_after_any_event(transcript: bytes) -> None:
    pieces = list(sse.split(transcript))
    for count in range(len(pieces)):
        made = passage()
        told = feed(made, b"".join(pieces[:count])) + made.failed(ERROR)
        assert open_responses.stream_faults(told) == []
        assert [each["type"] for each in events(told)[-2:]] == ["error", "response.failed"]
        assert named(told, "response.created")
        assert events(told)[-1]["response"] == json.loads(made.final())


def test_a_failure_tells_what_was_said_so_far() -> None:
    said = whole([thoughts("rs_theirs", "Hm"), message("msg_theirs", "One", " two", " three")])
    until = next(n for n, each in enumerate(said) if each.get("delta") == " two") + 1
    for cut in range(0, len(spell(*said[:until])), 40):
        made = passage()
        feed(made, spell(*said[:until]), (cut,))
        made.failed(ERROR)
        ended = json.loads(made.final())
        assert ended["error"] == {"code": "upstream_truncated", "message": "It broke off."}
        assert texts(ended) == ["One two"]
        assert [item.get("status") for item in ended["output"]] == [None, "incomplete"]


def test_a_failure_tells_reasoning_and_arguments_so_far() -> None:
    said = [*whole([open_thoughts("rs_theirs", "Hm", "!"), call("fc_theirs", "call_a", "f", '{"a":', "1}")])]
    until = next(n for n, each in enumerate(said) if each.get("delta") == '{"a":') + 1
    made = passage()
    feed(made, spell(*said[:until]))
    made.failed(ERROR)
    thought, called = json.loads(made.final())["output"]
    assert thought["summary"][0]["text"] == "Hm!"
    assert called["arguments"] == '{"a":'
    early = passage()
    feed(early, spell(*said[:6]))
    early.failed(ERROR)
    assert json.loads(early.final())["output"][0]["content"] == [{"type": "reasoning_text", "text": "Hm!"}]


def test_what_is_said_at_length_is_told_when_it_fails() -> None:
    words = tuple(f"word{number} " for number in range(3000))
    made = passage()
    feed(made, spell(*whole([message("msg_theirs", *words)])[:-4]))
    made.failed(ERROR)
    assert texts(json.loads(made.final())) == ["".join(words)]


def test_a_delta_that_makes_no_sense_keeps_no_failure_from_being_told() -> None:
    made = passage()
    feed(made, spell(*whole([message("msg_theirs", "a", "b", "c")])[:6]))
    made.feed(
        spell({**message("msg_theirs", "b")[1][1], "item_id": "msg_theirs", "delta": "!"}).replace(
            b'"!"', b"!"
        )
    )
    assert named(made.failed(ERROR), "response.failed")


def test_it_fails_alike_when_it_is_asked_twice() -> None:
    made = passage()
    feed(made, spell(*whole([message("msg_theirs", *TEXT)])[:6]))
    assert made.failed(ERROR) == made.failed(ERROR)


def test_it_holds_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.responses.output.MAX_FOLDED_BYTES", 100_000)
    words = tuple("x" * 1000 for _ in range(200))
    with pytest.raises(TooMuchToFold):
        run(spell(*whole([message("msg_theirs", *words)])))


@pytest.mark.parametrize(
    "body",
    [b"[]", b"{}", b'{"id":"resp_1"}', b'{"output":[],"usage":{"input_tokens":1e999}}', b"<html>"],
    ids=str,
)
def test_what_is_no_response_is_garbled(body: bytes) -> None:
    with pytest.raises(Garbled):
        native.whole(passage(), body)


@pytest.mark.parametrize("status", ["failed", None])
def test_an_answer_that_is_an_error_is_reported(status: str | None) -> None:
    document: Document = {"error": {"message": "boom"}} | ({"status": status, "output": []} if status else {})
    with pytest.raises(UpstreamReported) as caught:
        native.whole(passage(), json.dumps(document).encode())
    assert caught.value.error == {"message": "boom"}


def test_an_answer_in_one_piece_is_counted_and_kept() -> None:
    body = json.dumps(response("completed", [thoughts("rs_theirs", "Hm")[0]])).encode()
    answer = native.whole(passage(), body)
    assert answer.usage == Usage(11, 3, 5, 2, None)
    assert answer.items[0]["encrypted_content"] == "gAAA-secret"
    assert json.loads(answer.body)["output"][0]["id"] == answer.items[0]["id"]
    assert "encrypted_content" not in json.loads(answer.body)["output"][0]
    assert json.loads(answer.body)["usage"] == USAGE
