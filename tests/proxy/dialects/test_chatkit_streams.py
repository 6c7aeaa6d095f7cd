"""ChatKit's wire: what the events of either generation come to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from proxy import sse
from proxy.chunk_passage import Told, told
from proxy.dialects import chatkit
from proxy.dialects.chatkit_passage import ChatKitPassage
from proxy.passage import Truncated
from proxy.reported import UpstreamReported
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

THREAD = "thr_0a1b2c3d"
ANSWERS = {
    "chatkit_01_new_thread_reasoning.sse": {
        "reasoning_content": "The user greets me. A short greeting is enough.\n\n"
        "Add one fact about the Moon — keep it short.",
        "content": "Hello — the Moon drifts away ~3.8 cm a year.",
    },
    "chatkit_02_continued_thread_reasoning.sse": {
        "reasoning_content": "They ask for the same in inches. 3.8 cm is about 1.5 inches.",
        "content": "About 1.5 inches.",
    },
    "chatkit_03_new_thread_recap_only.sse": {"content": "Hi there!"},
    "chatkit_04_continued_no_cot.sse": {"content": "You're welcome."},
    "chatkit_08_noise_and_variants.sse": {"content": "ABC\u2028D"},
    "chatkit_09_two_parts.sse": {"content": "One.Two."},
}


def passage(*, shows_usage: bool = False, shows_reasoning: bool = True) -> ChatKitPassage:
    made = Told(7, shows_usage=shows_usage, shows_reasoning=shows_reasoning, input_tokens_estimate=12)
    return ChatKitPassage("chatcmpl-ours", "gpt-oss-20b", made)


@pytest.mark.parametrize("name", ANSWERS)
def test_it_tells_what_the_upstream_said(name: str) -> None:
    stream = run(passage(), fixture(name))
    assert message(stream) == {"role": "assistant", **ANSWERS[name]}
    assert folded(stream)["choices"][0]["finish_reason"] == "stop"
    assert stream.endswith(sse.DONE)


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.glob("chatkit_*")))
def test_it_reads_the_same_at_every_cut(name: str) -> None:
    assert at_every_cut(passage, fixture(name)) == {passed(passage(), [fixture(name)])}


def test_its_chunks_are_those_of_chat_completions() -> None:
    out = chunks(run(passage(), fixture("chatkit_04_continued_no_cot.sse")))
    head = {"id": "chatcmpl-ours", "object": "chat.completion.chunk", "created": 7, "model": "gpt-oss-20b"}
    assert [{name: chunk[name] for name in head} for chunk in out] == [head] * 4
    assert [chunk["choices"][0]["delta"] for chunk in out] == [
        {"role": "assistant", "content": ""},
        {"content": "You're"},
        {"content": " welcome."},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in out] == [None, None, None, "stop"]


def test_it_learns_the_thread_from_the_answer() -> None:
    for name in ("chatkit_01_new_thread_reasoning.sse", "chatkit_02_continued_thread_reasoning.sse"):
        made = passage()
        run(made, fixture(name))
        assert made.thread_id == THREAD


def test_it_hides_reasoning_from_who_does_not_want_it_and_counts_it() -> None:
    shown, hidden = passage(), passage(shows_reasoning=False)
    stream = run(hidden, fixture("chatkit_01_new_thread_reasoning.sse"))
    run(shown, fixture("chatkit_01_new_thread_reasoning.sse"))
    assert b"reasoning" not in stream
    assert hidden.output_tokens_estimate == shown.output_tokens_estimate > 20


def test_it_estimates_usage_for_who_asked_and_says_so() -> None:
    made = passage(shows_usage=True)
    last = chunks(run(made, fixture("chatkit_03_new_thread_recap_only.sse")))[-1]
    usage = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15, "estimated": True}
    assert (last["choices"], last["usage"]) == ([], usage)
    assert made.usage is None


def test_it_shows_what_was_counted() -> None:
    counted = Told(7, shows_usage=True, input_tokens_estimate=12, asked="Hi")
    made = chatkit.passage(chat(user()), "chatcmpl-ours", counted)
    made.feed(made.splitter.feed(fixture("chatkit_01_new_thread_reasoning.sse")))
    assert made.texts is not None
    assert made.texts[0] == "Hi"
    assert made.texts[1].endswith("Hello — the Moon drifts away ~3.8 cm a year.")
    made.count(5, 40)
    last = chunks(made.rest())[-1]
    usage = {"prompt_tokens": 5, "completion_tokens": 40, "total_tokens": 45, "estimated": True}
    assert last["usage"] == usage
    assert (made.input_tokens_counted, made.output_tokens_estimate) == (5, 40)


def test_what_comes_after_the_count_is_estimated() -> None:
    made = chatkit.passage(chat(user()), "chatcmpl-ours", Told(7, asked="Hi"))
    made.feed(added("m", content=[]) + delta("m", "Hello there"))
    made.count(1, 2)
    made.feed(delta("m", "!" * 40))
    assert made.output_tokens_estimate == 12


def test_a_call_for_one_json_has_usage_in_it() -> None:
    assert told(chat(user()), 7).shows_usage
    assert not told(chat(user(), stream=True), 7).shows_usage


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("chatkit_05_auth_widget_200.sse", "sign-in"),
        ("chatkit_06_error_event.sse", "reported an error"),
    ],
)
def test_it_tells_what_went_wrong(name: str, words: str) -> None:
    with pytest.raises(UpstreamReported) as caught:
        run(passage(), fixture(name))
    assert words in caught.value.error["message"]
    assert not chunks(passed(passage(), [fixture(name)]))


def test_a_stream_that_ends_before_its_message_does_is_truncated() -> None:
    made = passage()
    out = passed(made, [fixture("chatkit_07_truncated.sse")])
    assert deltas(out)[-1] == {"content": "Half an ans"}
    assert not any(chunk["choices"][0]["finish_reason"] for chunk in chunks(out))
    with pytest.raises(Truncated):
        made.end()


@pytest.mark.parametrize("name", ["chatkit_01_new_thread_reasoning.sse", "chatkit_09_two_parts.sse"])
def test_an_answer_that_breaks_off_anywhere_is_never_whole(name: str) -> None:
    stream = fixture(name)
    done = stream.rindex(b"thread.item_done")
    for cut in range(0, done, 7):
        with pytest.raises(Truncated):
            run(passage(), stream[:cut])


# The published generation


def event(type_: str, **members: Any) -> bytes:
    return sse.encode(msgspec.json.encode({"type": type_, **members}))


def added(item_id: str, type_: str = "assistant_message", **members: Any) -> bytes:
    item = {"id": item_id, "type": type_, "thread_id": "thr_1", **members}
    return event("thread.item.added", item=item)


def done(item_id: str, type_: str = "assistant_message", **members: Any) -> bytes:
    return added(item_id, type_, **members).replace(b"item.added", b"item.done")


def updated(item_id: str, type_: str, **members: Any) -> bytes:
    return event("thread.item.updated", item_id=item_id, update={"type": type_, **members})


def text(words: str) -> list[Document]:
    return [{"type": "output_text", "text": words, "annotations": []}]


def delta(item_id: str, piece: str) -> bytes:
    return updated(item_id, "assistant_message.content_part.text_delta", content_index=0, delta=piece)


def thought(kind: str, index: int, words: str) -> bytes:
    return updated(
        "wf", f"workflow.task.{kind}", task_index=index, task={"type": "thought", "content": words}
    )


REASONING = {"type": "reasoning", "tasks": []}
ANSWER = (
    added("m", content=[]) + delta("m", "Hi ") + delta("m", "there") + done("m", content=text("Hi there"))
)


def test_it_reads_thoughts_as_they_grow() -> None:
    tasks = [{"type": "thought", "content": words} for words in ("First thought", "Second")]
    workflow = {"type": "reasoning", "tasks": tasks, "summary": {"duration": 3}}
    stream = (
        event("thread.created", thread={"id": "thr_1", "items": {"data": [], "has_more": False}})
        + added("wf", "workflow", workflow=REASONING)
        + thought("added", 0, "First")
        + thought("updated", 0, "First thought")
        + thought("added", 1, "Second")
        + done("wf", "workflow", workflow=workflow)
        + ANSWER
    )
    made = passage()
    assert message(run(made, stream)) == {
        "role": "assistant",
        "reasoning_content": "First thought\n\nSecond",
        "content": "Hi there",
    }
    assert made.thread_id == "thr_1"


def test_it_does_not_repeat_the_thoughts_of_an_earlier_answer() -> None:
    workflow = {"type": "reasoning", "tasks": [{"type": "thought", "content": "Long ago"}]}
    assert "reasoning_content" not in message(
        run(passage(), done("wf", "workflow", workflow=workflow) + ANSWER)
    )


def test_a_recap_is_known_by_its_type_and_not_by_its_words() -> None:
    stream = fixture("chatkit_01_new_thread_reasoning.sse")
    done = stream.replace(b"Add one fact about the Moon \xe2\x80\x94 keep it short.", b"Done")
    told = message(run(passage(), done))["reasoning_content"]
    assert told.endswith("\n\nDone")
    assert "couple of seconds" not in told


def test_it_tells_the_text_of_no_item_but_the_assistants() -> None:
    other = updated("rs_1", "assistant_message.content_part.text_delta", content_index=0, delta="hidden")
    kept = added("cot", "cot", entries=[]) + updated(
        "cot", "assistant_message.content_part.text_delta", content_index=0, delta="hidden"
    )
    assert message(run(passage(), other + kept + ANSWER))["content"] == "Hi there"


def test_it_reads_every_message_of_an_answer() -> None:
    stream = ANSWER + added("m2", content=[]) + delta("m2", "!") + done("m2", content=text("!"))
    assert message(run(passage(), stream))["content"] == "Hi there!"


def test_a_second_message_that_does_not_end_makes_the_answer_truncated() -> None:
    with pytest.raises(Truncated):
        run(passage(), ANSWER + added("m2", content=[]) + delta("m2", "And"))


@pytest.mark.parametrize(
    "stream",
    [
        done("m", content=text("Hi there")),
        added("m", content=text("Hi ")) + done("m", content=text("Hi there")),
        added("m", content=[]) + delta("m", "Hi") + done("m", content=text("Hi there")),
        added("m", content=[])
        + updated("m", "assistant_message.content_part.added", content_index=0, content=text("Hi")[0])
        + delta("m", " there")
        + updated("m", "assistant_message.content_part.done", content_index=0, content=text("Hi there")[0])
        + done("m", content=text("Hi there")),
    ],
)
def test_it_says_each_part_once_however_it_comes(stream: bytes) -> None:
    assert message(run(passage(), stream))["content"] == "Hi there"


def test_it_passes_over_what_is_meant_for_a_screen() -> None:
    noise = (
        event("stream_options", stream_options={"allow_cancel": True})
        + event("progress_update", icon="bolt", text="Working")
        + event("notice", level="info", message="Hello")
        + added("w", "widget", widget={"type": "Card", "children": []})
        + event("client_effect", name="confetti", data={})
        + event("thread.updated", thread={"id": "thr_1", "title": "A title"})
    )
    assert message(run(passage(), noise + ANSWER + noise)) == {"role": "assistant", "content": "Hi there"}


def test_it_passes_on_sources() -> None:
    source = {"type": "url", "url": "https://a.test", "title": "A"}
    annotation = {"type": "annotation", "source": source, "index": 2}
    content = [{"type": "output_text", "text": "Hi", "annotations": [annotation]}]
    cite = updated(
        "m",
        "assistant_message.content_part.annotation_added",
        content_index=0,
        annotation_index=0,
        annotation=annotation,
    )
    stream = added("m", content=[]) + delta("m", "Hi") + cite + done("m", content=content)
    cited = {"url": "https://a.test", "title": "A", "start_index": 2, "end_index": 2}
    assert message(run(passage(), stream))["annotations"] == [{"type": "url_citation", "url_citation": cited}]


def test_a_tool_of_the_client_is_a_tool_call() -> None:
    item = {"status": "pending", "call_id": "call_1", "name": "look", "arguments": {"city": "Rome"}}
    stream = run(passage(), done("t", "client_tool_call", **item))
    function = {"name": "look", "arguments": '{"city":"Rome"}'}
    assert message(stream)["tool_calls"] == [{"id": "call_1", "type": "function", "function": function}]
    assert folded(stream)["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(("label", "words"), [("Log in", "sign-in"), ("A chart", "widget")])
def test_a_widget_in_place_of_an_answer_is_an_error(label: str, words: str) -> None:
    widget = {"type": "Card", "children": [{"type": "Row", "children": [{"type": "Text", "value": label}]}]}
    with pytest.raises(UpstreamReported) as caught:
        run(passage(), done("w", "widget", widget=widget))
    assert words in caught.value.error["message"]


def test_a_message_that_is_taken_back_is_no_answer() -> None:
    with pytest.raises(Truncated):
        run(passage(), ANSWER + event("thread.item.removed", item_id="m"))


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (
            {"code": "custom", "message": "Too many.", "allow_retry": False},
            {"message": "Too many.", "code": "custom"},
        ),
        ({"error": {"message": "No.", "code": "x"}}, {"message": "No.", "code": "x"}),
        ({"error": "No."}, {"message": "No.", "code": None}),
    ],
)
def test_an_error_in_the_stream_is_told_as_it_came(members: Document, expected: Document) -> None:
    with pytest.raises(UpstreamReported) as caught:
        run(passage(), added("m", content=[]) + event("error", **members))
    assert caught.value.error == expected


def test_a_published_stream_reads_the_same_at_every_cut() -> None:
    stream = added("wf", "workflow", workflow=REASONING) + thought("added", 0, "Häh?") + ANSWER
    assert at_every_cut(passage, stream) == {passed(passage(), [stream])}


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"])
def test_it_reads_any_line_ends(line_end: bytes) -> None:
    stream = fixture("chatkit_01_new_thread_reasoning.sse").replace(b"\n", line_end)
    assert message(run(passage(), stream)) == {
        "role": "assistant",
        **ANSWERS["chatkit_01_new_thread_reasoning.sse"],
    }
