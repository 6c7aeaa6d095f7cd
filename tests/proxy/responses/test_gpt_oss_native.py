"""A Response of a gpt-oss model on its way through: what leaked of the model's own format is taken out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.responses import native
from proxy.responses.gpt_oss_native import GptOssResponsesPassage
from tests import open_responses
from tests.proxy.responses.native_transcripts import (
    TRANSCRIPTS,
    alike,
    begun,
    call,
    event,
    feed,
    message,
    open_thoughts,
    response,
    run,
    spell,
    thoughts,
    whole,
)
from tests.proxy.responses.transcripts import events, fields, named

Document = dict[str, Any]

# A server that reads nothing of the format: all of it stands in the message.
RAW = (
    "<|channel|>ana",
    "lysis<|message|>Is 1 < 2? Yes.<|end",
    "|><|start|>assistant<|channel|>final<|mess",
    "age|>1 < 2 <",
    "b>and</b> that is it.<|return|>",
)
LEAKY: dict[str, bytes] = {
    "raw": spell(*whole([message("msg_1", *RAW)])),
    "raw, with spaces": spell(*whole([message("msg_1", *RAW)]), spaced=True),
    "raw, escaped": spell(*whole([message("msg_1", *RAW)])).replace(b"<", b"\\u003c"),
    "a trailing token": spell(*whole([message("msg_1", "Hi ", "there", "<|return|>")])),
    "half a token": spell(*whole([message("msg_1", "It ends with <|chan")])),
    "reasoning": spell(
        *whole([open_thoughts("rs_1", "Hm<|end", "|>", ", so."), message("msg_1", "<|message|>", "So.")])
    ),
    "a summary": spell(*whole([thoughts("rs_1", "Hm<|", "end|>."), message("msg_1", "So.")])),
    "names of tools": spell(
        *whole(
            [
                call("fc_1", "call_a", "get_weather<|channel|>commentary", '{"city":"<|x|>"}'),
                call("fc_2", "call_b", "get_time", "{", "}"),
            ]
        )
    ),
    "nothing but the end": spell(whole([message("msg_1", *RAW)])[-1]),
    "items that were only done": spell(
        *(each for each in whole([message("msg_1", *RAW)]) if each["type"].endswith(("item.done", "ted")))
    ),
    "only reasoning, in the message": spell(*whole([message("msg_1", *RAW[:2], "|>")])),
}
TEXT = "1 < 2 <b>and</b> that is it."
each_leak = pytest.mark.parametrize("transcript", LEAKY.values(), ids=LEAKY)


def passage(*, shows_reasoning: bool = True) -> GptOssResponsesPassage:
    return GptOssResponsesPassage("resp_ours", "public", {}, 1700000000, shows_reasoning=shows_reasoning)


def told(
    transcript: bytes, cuts: tuple[int, ...] = (), *, shows_reasoning: bool = True
) -> tuple[bytes, Document, int]:
    """The stream that a client gets, the Response that it comes to, and how many tokens were taken out."""
    made = passage(shows_reasoning=shows_reasoning)
    out = feed(made, transcript, cuts) + made.end()
    return out, json.loads(made.final()), made.harmony_tokens


def in_one_piece(transcript: bytes, *, shows_reasoning: bool = True) -> tuple[Document, int]:
    """The same Response, had the upstream been asked for one piece."""
    made = passage(shows_reasoning=shows_reasoning)
    last = events(transcript)[-1]["response"]
    return json.loads(native.whole(made, json.dumps(last).encode()).body), made.harmony_tokens


def texts(made: Document) -> list[str]:
    """All texts in the Response, and the names of tools."""
    parts = [
        part for item in made["output"] for name in ("content", "summary") for part in item.get(name, ())
    ]
    return [part["text"] for part in parts] + [item["name"] for item in made["output"] if "name" in item]


def unnamed(made: Document) -> bytes:
    return alike(json.dumps(made, separators=(",", ":")).encode())


@each_leak
def test_no_token_gets_through_however_the_stream_is_cut(transcript: bytes) -> None:
    stream, made, count = told(transcript)
    assert not any("<|" in text and "|>" in text for text in texts(made))
    for each in events(stream):
        assert "|>" not in json.dumps({name: each.get(name) for name in ("text", "part", "name")})
    assert b"analysis" not in stream
    assert open_responses.stream_faults(stream) == []
    for cut in range(0, len(transcript), 5):
        cut_stream, _, cut_count = told(transcript, (cut,))
        assert (alike(cut_stream), cut_count) == (alike(stream), count)


@each_leak
def test_a_stream_comes_to_what_one_piece_would_have_been(transcript: bytes) -> None:
    _, made, count = told(transcript)
    expected, expected_count = in_one_piece(transcript)
    assert unnamed(made) == unnamed(expected)
    assert count == expected_count


@each_leak
def test_its_deltas_come_to_the_text_that_they_end_in(transcript: bytes) -> None:
    stream, made, _ = told(transcript)
    deltas = "".join(each["delta"] for each in named(stream, "response.output_text.delta"))
    said = [part["text"] for item in made["output"] if item["type"] == "message" for part in item["content"]]
    assert deltas in ("".join(said), "")


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_it_says_the_same_however_often_the_stream_is_cut(data: st.DataObject) -> None:
    transcript = data.draw(st.sampled_from(sorted(LEAKY.values())))
    cuts = tuple(sorted(data.draw(st.lists(st.integers(0, len(transcript)), max_size=12))))
    stream, _, count = told(transcript, cuts)
    whole_stream, _, whole_count = told(transcript)
    assert (alike(stream), count) == (alike(whole_stream), whole_count)


@pytest.mark.parametrize(
    ("name", "said", "count"),
    [
        ("raw", [TEXT], 7),
        ("raw, escaped", [TEXT], 7),
        ("a trailing token", ["Hi there"], 1),
        ("half a token", ["It ends with <|chan"], 0),
        ("reasoning", ["Hm, so.", "Hm, so.", "So."], 2),
        ("names of tools", ["get_weather", "get_time"], 1),
        ("nothing but the end", [TEXT], 7),
        ("items that were only done", [TEXT], 7),
        ("only reasoning, in the message", [""], 3),
    ],
)
def test_it_counts_each_token_once(name: str, said: list[str], count: int) -> None:
    _, made, counted = told(LEAKY[name])
    assert (texts(made), counted) == (said, count)


@pytest.mark.parametrize("transcript", TRANSCRIPTS.values(), ids=TRANSCRIPTS)
def test_what_has_no_leaks_goes_through_as_any_response(transcript: bytes) -> None:
    stream, made, count = told(transcript)
    expected, expected_made = run(transcript)
    assert alike(stream) == alike(expected)
    assert unnamed(made) == unnamed(expected_made)
    assert count == 0


def test_reasoning_is_left_out_for_who_does_not_want_it() -> None:
    for name in ("reasoning", "a summary"):
        stream, made, _ = told(LEAKY[name], shows_reasoning=False)
        assert texts(made) == ["So."]
        assert b"Hm" not in stream
        assert open_responses.stream_faults(stream) == []
        assert unnamed(made) == unnamed(in_one_piece(LEAKY[name], shows_reasoning=False)[0])


def test_what_a_request_said_comes_back_as_it_was() -> None:
    instructions = "Never say <|channel|>."
    first = event("response.created", response=response("in_progress", [], instructions=instructions))
    item, between = message("msg_1", "Hi")
    last = event("response.completed", response=response("completed", [item], instructions=instructions))
    added = event("response.output_item.added", output_index=0, item=item)
    asked = fields(instructions=instructions)
    made = GptOssResponsesPassage("resp_ours", "public", asked, 1700000000, shows_reasoning=True)
    feed(made, spell(first, added, *between, last))
    made.end()
    assert json.loads(made.final())["instructions"] == instructions
    assert made.harmony_tokens == 0


def test_what_was_held_back_of_a_stream_that_breaks_off_is_told() -> None:
    item, between = message("msg_1", "Hi <|chan")
    added = event("response.output_item.added", output_index=0, item=item)
    made = passage()
    place = {"output_index": 0, "item_id": "msg_1"}
    out = feed(made, spell(*begun(), added, *({**place, **each} for each in between[:2])))
    assert "".join(each["delta"] for each in named(out, "response.output_text.delta")) == "Hi <|chan"
