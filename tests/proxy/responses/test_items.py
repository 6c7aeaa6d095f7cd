"""Items: what a request's input may be, and the chat messages that say the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.call import InvalidBody
from proxy.responses.items import input_items, items_of, messages_of, search_text, unanswered

Document = dict[str, Any]

CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
CUSTOM = {"type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": "a"}
CUSTOM_OUTPUT = {"type": "custom_tool_call_output", "call_id": "call_2", "output": "done"}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"}


def items(given: object) -> list[Document]:
    return input_items(json.dumps(given).encode())


def user(content: object) -> Document:
    return {"type": "message", "role": "user", "content": content}


def assistant(text: str) -> Document:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


# What an input may be.


def test_a_string_is_one_user_message() -> None:
    assert items("Hi") == [user([{"type": "input_text", "text": "Hi"}])]


def test_a_message_needs_no_type() -> None:
    for untyped in ({"role": "user", "content": "Hi"}, {"type": None, "role": "user", "content": "Hi"}):
        assert items([untyped]) == [user("Hi")]


def test_an_id_alone_is_a_reference() -> None:
    assert items([{"id": "msg_1"}]) == [{"type": "item_reference", "id": "msg_1"}]


def test_what_nobody_here_knows_stays() -> None:
    odd = {"type": "tomorrows_item", "anything": [1, {"a": None}]}
    known = {**CALL, "namespace": "crm", "status": "completed", "id": "fc_1"}
    part = user([{"type": "tomorrows_part", "a": 1}])
    assert items([odd, known, part]) == [odd, known, part]


@pytest.mark.parametrize(
    ("given", "place"),
    [
        (5, "input"),
        ({"role": "user", "content": "Hi"}, "input"),
        (["Hi"], "input[0]"),
        ([user("Hi"), None], "input[1]"),
        ([{"type": 5}], "input[0].type"),
        ([{}], "input[0].role"),
        ([{"role": "tool", "content": "Hi"}], "input[0].role"),
        ([{"role": "user"}], "input[0].content"),
        ([user("Hi"), user(5)], "input[1].content"),
        ([user(["Hi"])], "input[0].content[0]"),
        ([user([{"text": "Hi"}])], "input[0].content[0]"),
        ([user([IMAGE, {"type": "input_text"}])], "input[0].content[1].text"),
        ([user([{"type": "input_image", "image_url": {"url": "x"}}])], "input[0].content[0].image_url"),
        ([user([{"type": "input_audio"}])], "input[0].content[0].input_audio"),
        ([{**CALL, "arguments": {}}], "input[0].arguments"),
        ([{"type": "function_call", "call_id": "a", "arguments": "{}"}], "input[0].name"),
        ([{**OUTPUT, "call_id": None}], "input[0].call_id"),
        ([{**OUTPUT, "output": {"a": 1}}], "input[0].output"),
        ([{**OUTPUT, "output": [{"type": "input_text"}]}], "input[0].output[0].text"),
        ([{**CUSTOM, "input": 1}], "input[0].input"),
        ([{"type": "reasoning", "summary": [{"type": "summary_text"}]}], "input[0].summary[0].text"),
        ([{"type": "reasoning", "summary": 1}], "input[0].summary"),
        ([{"type": "reasoning", "summary": [], "encrypted_content": 1}], "input[0].encrypted_content"),
        ([{"type": "compaction"}], "input[0].encrypted_content"),
        ([{"type": "item_reference"}], "input[0].id"),
    ],
)
def test_it_names_the_place_of_what_is_wrong(given: object, place: str) -> None:
    with pytest.raises(InvalidBody) as caught:
        items(given)
    assert caught.value.param == place
    assert f"'{place}'" in str(caught.value)


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidBody, match="'input'"):
        input_items(b'[{"role":"user","content":"Hi","x":1e999}]')


def test_an_output_without_its_call_is_found() -> None:
    assert unanswered([user("Hi"), CALL, OUTPUT, CUSTOM, CUSTOM_OUTPUT]) is None
    assert unanswered([CALL, {**OUTPUT, "call_id": "call_9"}]) == "call_9"
    assert unanswered([OUTPUT, CALL]) == "call_1"
    assert unanswered([CUSTOM_OUTPUT]) == "call_2"


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (user("Hello there"), ["Hello there"]),
        (
            user([{"type": "input_text", "text": "one"}, IMAGE, {"type": "input_text", "text": "two"}]),
            ["two"],
        ),
        (assistant("answer"), ["answer"]),
        ({**assistant(""), "content": [{"type": "refusal", "refusal": "No."}]}, ["No."]),
        ({**CALL, "arguments": '{"city":"Wien"}'}, ["f", "Wien"]),
        (CUSTOM, ["patch", "a"]),
        (OUTPUT, ["42"]),
        ({"type": "reasoning", "summary": [{"type": "summary_text", "text": "brief"}]}, ["brief"]),
    ],
)
def test_an_items_words_are_found(item: Document, words: list[str]) -> None:
    found = search_text(item)
    assert [word for word in words if word not in found] == []
    assert "base64" not in found


def test_an_item_without_words_has_none() -> None:
    assert search_text({"type": "web_search_call", "status": "completed"}) == ""


# Items as chat messages.


def test_calls_that_follow_each_other_are_one_message() -> None:
    first, second = {**CALL, "call_id": "a"}, {**CALL, "call_id": "b"}
    outputs = [{**OUTPUT, "call_id": "a"}, {**OUTPUT, "call_id": "b"}]
    made = messages_of([assistant("Let me see."), first, second, *outputs])
    assert [message["role"] for message in made] == ["assistant", "tool", "tool"]
    assert made[0]["content"] == "Let me see."
    assert [call["id"] for call in made[0]["tool_calls"]] == ["a", "b"]
    assert [message["tool_call_id"] for message in made[1:]] == ["a", "b"]


def test_calls_with_an_answer_between_them_are_two_messages() -> None:
    again, answer = {**CALL, "call_id": "b"}, {**OUTPUT, "call_id": "b"}
    made = messages_of([CALL, OUTPUT, again, answer])
    assert [message["role"] for message in made] == ["assistant", "tool", "assistant", "tool"]


def test_an_output_follows_its_call_wherever_it_was_sent() -> None:
    made = messages_of([CALL, user("Well?"), OUTPUT, user("Thanks.")])
    assert [message["role"] for message in made] == ["assistant", "tool", "user", "user"]


def test_calls_that_share_an_id_in_two_turns_keep_their_own_outputs() -> None:
    made = messages_of([CALL, OUTPUT, user("Again"), CALL, user("So?"), {**OUTPUT, "output": "43"}])
    assert [message["content"] for message in made if message["role"] == "tool"] == ["42", "43"]
    assert [message["role"] for message in made][-3:] == ["assistant", "tool", "user"]


def test_an_output_of_texts_is_one_text() -> None:
    texts = [{"type": "input_text", "text": "one"}, {"type": "output_text", "text": "two"}]
    made = messages_of([CALL, {**OUTPUT, "output": texts}])
    assert made[1] == {"role": "tool", "tool_call_id": "call_1", "content": "one\ntwo"}


def test_a_picture_in_an_output_is_shown_after_all_outputs() -> None:
    other, picture = {**CALL, "call_id": "b"}, {**OUTPUT, "output": [IMAGE]}
    made = messages_of([CALL, other, picture, {**OUTPUT, "call_id": "b"}, user("Well?")])
    assert [message["role"] for message in made] == ["assistant", "tool", "tool", "user", "user"]
    text, image = made[3]["content"]
    assert "call_1" in text["text"]
    assert image["image_url"] == {"url": IMAGE["image_url"], "detail": "low"}
    assert made[1]["content"]


def test_reasoning_goes_to_the_message_that_follows() -> None:
    thought = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
    (message,) = messages_of([thought, assistant("Yes"), CALL])
    assert message["reasoning_content"] == "Hm."
    assert message["content"] == "Yes"


def test_a_summary_stands_in_for_reasoning_that_is_not_shown() -> None:
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "In short."}]}
    assert messages_of([thought, CALL])[0]["reasoning_content"] == "In short."


def test_reasoning_that_led_nowhere_is_left_out() -> None:
    thought = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
    made = messages_of([thought, user("Stop"), assistant("Yes")])
    assert made == [{"role": "user", "content": "Stop"}, {"role": "assistant", "content": "Yes"}]


def test_an_item_that_chat_has_no_form_for_is_told_in_words() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "tides"}}
    shot = {"type": "computer_call_output", "output": {"image_url": "data:image/png;base64,AA"}}
    made = messages_of([search, shot])
    assert made[0] == {"role": "assistant", "content": '[web_search_call] {"action":{"query":"tides"}}'}
    assert made[1]["role"] == "user"
    assert "base64" not in made[1]["content"]


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({}, "messages[1]"),
        ({"role": "user"}, "messages[1]"),
        ({"role": "user", "content": 5}, "messages[1]"),
        ({"role": "user", "content": ["Hi"]}, "messages[1]"),
        ({"role": "tool", "content": "Hi"}, "messages[1]"),
        ({"role": "assistant", "tool_calls": [{}]}, "messages[1]"),
        ({"role": "assistant", "tool_calls": 5}, "messages[1]"),
    ],
)
def test_it_names_the_message_that_is_none(message: Document, place: str) -> None:
    with pytest.raises(InvalidBody) as caught:
        items_of([{"role": "user", "content": "Hi"}, message])
    assert caught.value.param == place


def test_the_older_function_call_becomes_items() -> None:
    call = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    answer = {"role": "function", "name": "f", "content": "42"}
    made = items_of([call, answer])
    assert [item["type"] for item in made] == ["function_call", "function_call_output"]
    assert unanswered(made) is None


def test_items_of_a_chat_are_valid_input() -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "Hi"}]}
    assert input_items(json.dumps(items_of([message])).encode()) == items_of([message])


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
NAME = st.fixed_dictionaries({}, optional={"name": TEXT})
PART = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, TEXT),
    st.builds(lambda url: {"type": "image_url", "image_url": {"url": url}}, TEXT),
    st.builds(lambda url: {"type": "image_url", "image_url": {"url": url, "detail": "high"}}, TEXT),
    st.builds(lambda data: {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}, TEXT),
    st.builds(lambda data: {"type": "file", "file": {"filename": "a.pdf", "file_data": data}}, TEXT),
    st.builds(lambda id_: {"type": "file", "file": {"file_id": id_}}, TEXT),
    st.builds(lambda url: {"type": "video_url", "video_url": {"url": url}}, TEXT),
)
SAID = st.one_of(TEXT, st.lists(PART, min_size=2, max_size=4))
USER = st.builds(lambda name, content: {"role": "user", **name, "content": content}, NAME, SAID)
SYSTEM = st.builds(
    lambda role, name, content: {"role": role, **name, "content": content},
    st.sampled_from(["system", "developer"]),
    NAME,
    TEXT,
)
FUNCTION_CALL = st.builds(
    lambda name, arguments: {"type": "function", "function": {"name": name, "arguments": arguments}},
    TEXT,
    TEXT,
)
CUSTOM_CALL = st.builds(
    lambda name, input_: {"type": "custom", "custom": {"name": name, "input": input_}}, TEXT, TEXT
)


@st.composite
def turns(draw: st.DrawFn, number: int) -> list[Document]:
    """An assistant's message, the outputs of its calls in any order, and what is said to that."""
    message: Document = {"role": "assistant", **draw(NAME), "content": draw(TEXT)}
    message |= draw(st.fixed_dictionaries({}, optional={"reasoning_content": TEXT, "refusal": TEXT}))
    calls = draw(st.lists(FUNCTION_CALL | CUSTOM_CALL, max_size=3))
    calls = [{"id": f"call_{number}_{place}", **call} for place, call in enumerate(calls)]
    if calls:
        message["tool_calls"] = calls
    if "refusal" in message or (calls and "name" not in message):
        message["content"] = draw(st.none() | TEXT)
    outputs = draw(st.permutations(calls))
    answers = [{"role": "tool", "tool_call_id": call["id"], "content": draw(TEXT)} for call in outputs]
    return [message, *answers, draw(USER)]


@st.composite
def chats(draw: st.DrawFn) -> list[Document]:
    begun = draw(st.lists(SYSTEM | USER, max_size=3))
    count = draw(st.integers(0, 3))
    return [*begun, *(message for number in range(count) for message in draw(turns(number)))]


@settings(deadline=None)
@given(chats())
def test_a_chat_is_the_same_after_it_was_items(chat: list[Document]) -> None:
    made = items_of(chat)
    assert input_items(json.dumps(made).encode()) == made
    assert unanswered(made) is None
    assert messages_of(made) == chat
