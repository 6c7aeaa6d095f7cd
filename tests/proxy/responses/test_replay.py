"""A Response that has ended, told once more as a stream."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.responses.replay import events_of
from tests import open_responses
from tests.proxy.responses.test_from_chat import client
from tests.proxy.responses.transcripts import TRANSCRIPTS, call, delta, events, fields, fold, named, run

Document = dict[str, Any]

CUSTOM = call(0, "a", "patch", '{"input":"+1"}') + delta(finish="tool_calls")
WHOLES: dict[str, Document] = {
    **{name: run(transcript)[1] for name, transcript in TRANSCRIPTS.items()},
    "a custom tool": run(CUSTOM, asked=fields(tools=[{"type": "custom", "name": "patch"}]))[1],
}
ANSWER = WHOLES["reasoning_content"]

each_transcript = pytest.mark.parametrize("transcript", TRANSCRIPTS.values(), ids=TRANSCRIPTS)
each_whole = pytest.mark.parametrize("whole", WHOLES.values(), ids=WHOLES)


def kinds(stream: bytes) -> set[str]:
    return {event["type"] for event in events(stream)}


@each_whole
def test_its_deltas_come_to_the_whole(whole: Document) -> None:
    assert fold(events_of(whole)) == whole


@each_transcript
def test_it_keeps_the_open_responses_schema(transcript: bytes) -> None:
    assert open_responses.stream_faults(events_of(run(transcript)[1])) == []


@each_transcript
def test_it_has_the_kinds_of_events_that_it_had_the_first_time(transcript: bytes) -> None:
    first, whole = run(transcript)
    assert kinds(events_of(whole)) == kinds(first)


@each_whole
def test_it_is_read_by_the_official_sdk(whole: Document) -> None:
    with client(events_of(whole)).responses.stream(model="public", input="Hi") as told:
        read = [event.type for event in told]
        if whole["status"] == "completed":
            assert told.get_final_response().id == whole["id"]
    assert read == [event["type"] for event in events(events_of(whole))]


def test_it_goes_on_after_any_event() -> None:
    every = events(events_of(ANSWER))
    for number in range(-1, len(every) - 1):
        assert events(events_of(ANSWER, number)) == every[number + 1 :]


def test_whoever_has_seen_more_events_than_there_are_gets_the_whole() -> None:
    """The first time there were more deltas."""
    (last,) = events(events_of(ANSWER, 500))
    assert (last["type"], last["sequence_number"]) == ("response.completed", 501)
    assert last["response"] == ANSWER


@pytest.mark.parametrize(
    ("status", "event"), [("failed", "response.failed"), ("cancelled", "response.failed")]
)
def test_one_that_was_not_completed_ends_as_it_did(status: str, event: str) -> None:
    last = events(events_of({**ANSWER, "status": status}))[-1]
    assert (last["type"], last["response"]["status"]) == (event, status)


def test_an_item_without_events_of_its_own_is_announced_and_done() -> None:
    item = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search"}}
    stream = events_of({**ANSWER, "output": [item]})
    (added,) = named(stream, "response.output_item.added")
    (done,) = named(stream, "response.output_item.done")
    assert added["item"] == {**item, "status": "in_progress"}
    assert done["item"] == item
