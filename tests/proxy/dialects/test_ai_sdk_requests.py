"""The AI SDK's wire: what each generation of its servers is asked."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from proxy.call import InvalidBody, NotOffered
from proxy.dialects import ai_sdk
from proxy.dialects.ai_sdk import Generation
from tests.proxy.dialects.transcripts import Document, chat, user

FOUR, FIVE, SEVEN = Generation.FOUR, Generation.FIVE, Generation.SEVEN
IMAGE = "https://a.test/pictures/1.png?size=2"
INLINE = "data:image/webp;base64,AAAA"
CALL: Document = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "getWeather", "arguments": '{"city":"Rome"}'},
}
ASKED_TOOL: list[Document] = [
    user("Weather?"),
    {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "21"},
]


def ask(*messages: Document, generation: Generation = FOUR, **members: Any) -> Document:
    outbound = ai_sdk.request(
        chat(*messages, **members), "gpt-4o-mini", generation=generation, session_id="s1"
    )
    body: Document = msgspec.json.decode(outbound.body)
    return body


def picture(url: str, **more: str) -> Document:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def text(words: str) -> Document:
    return {"type": "text", "text": words}


def test_it_asks_the_fourth_generation_for_a_chat() -> None:
    said = [{"role": "user", "content": "Say hello"}]
    assert ask(user("Say hello")) == {"id": "s1", "modelId": "gpt-4o-mini", "messages": said}


def test_it_asks_the_fifth_generation_for_a_chat() -> None:
    said = [{"id": "s1-0", "role": "user", "parts": [text("Say hello")]}]
    asked = ask(user("Say hello"), generation=FIVE)
    assert (asked["id"], asked["messages"], asked["trigger"]) == ("s1", said, "submit-message")
    assert (asked["model"], asked["modelId"]) == ("gpt-4o-mini", "gpt-4o-mini")


def test_it_names_the_model_as_the_application_wants_it() -> None:
    outbound = ai_sdk.request(
        chat(user()), "m", generation=FOUR, session_id="s", model_members=("selectedChatModel",)
    )
    assert msgspec.json.decode(outbound.body)["selectedChatModel"] == "m"


def test_its_base_url_is_the_whole_address() -> None:
    outbound = ai_sdk.request(chat(user()), "m", generation=FOUR, session_id="s")
    assert outbound.url("https://a.test/api/chat") == "https://a.test/api/chat"


@pytest.mark.parametrize("generation", [FOUR, FIVE])
def test_it_sends_the_whole_conversation(generation: Generation) -> None:
    said = [
        {"role": "developer", "content": "Be brief."},
        user("One"),
        {"role": "assistant", "content": "Two"},
        user("Three"),
    ]
    sent = ask(*said, generation=generation)["messages"]
    assert [each["role"] for each in sent] == ["system", "user", "assistant", "user"]
    spoken = [each["content"] if generation is FOUR else each["parts"][0]["text"] for each in sent]
    assert spoken == ["Be brief.", "One", "Two", "Three"]


def test_it_attaches_every_image_for_the_fourth_generation() -> None:
    (sent,) = ask(user([text("Describe"), picture(IMAGE), picture(INLINE)]))["messages"]
    assert sent["content"] == "Describe"
    assert sent["experimental_attachments"] == [
        {"name": "1.png", "contentType": "image/png", "url": IMAGE},
        {"name": "image.webp", "contentType": "image/webp", "url": INLINE},
    ]


def test_it_sends_the_fourth_generation_parts_where_detail_was_asked_for() -> None:
    """Its attachments have no place for it."""
    (sent,) = ask(user([text("Describe"), picture(IMAGE, detail="low"), picture(INLINE, detail="auto")]))[
        "messages"
    ]
    detail = {"openai": {"imageDetail": "low"}}
    assert sent["content"] == [
        text("Describe"),
        {"type": "image", "image": IMAGE, "providerOptions": detail, "experimental_providerMetadata": detail},
        {"type": "image", "image": INLINE},
    ]


def test_it_sends_every_image_as_a_file_to_the_fifth_generation() -> None:
    (sent,) = ask(user([text("Describe"), picture(IMAGE, detail="low"), picture(INLINE)]), generation=FIVE)[
        "messages"
    ]
    assert sent["parts"] == [
        text("Describe"),
        {
            "type": "file",
            "mediaType": "image/png",
            "url": IMAGE,
            "filename": "1.png",
            "providerMetadata": {"openai": {"imageDetail": "low"}},
        },
        {"type": "file", "mediaType": "image/webp", "url": INLINE, "filename": "image.webp"},
    ]


@pytest.mark.parametrize(
    ("part", "media_type", "url"),
    [
        ({"type": "image_url", "image_url": IMAGE}, "image/png", IMAGE),
        (picture("https://a.test/photo"), "image/jpeg", "https://a.test/photo"),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            "audio/mpeg",
            "data:audio/mpeg;base64,AAAA",
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
            "application/pdf",
            "data:application/pdf;base64,AAAA",
        ),
        (
            {"type": "file", "file": {"file_data": "AAAA"}},
            "application/pdf",
            "data:application/pdf;base64,AAAA",
        ),
    ],
)
def test_it_sends_files_of_any_kind(part: Document, media_type: str, url: str) -> None:
    (older,) = ask(user([part]))["messages"]
    (newer,) = ask(user([part]), generation=FIVE)["messages"]
    assert (older["experimental_attachments"][0]["contentType"], newer["parts"][0]["mediaType"]) == (
        media_type,
        media_type,
    )
    assert older["experimental_attachments"][0]["url"] == newer["parts"][0]["url"] == url


def test_it_tells_the_fourth_generation_what_tools_answered() -> None:
    invocation = {
        "state": "result",
        "toolCallId": "call_1",
        "toolName": "getWeather",
        "args": {"city": "Rome"},
        "result": "21",
    }
    assert ask(*ASKED_TOOL)["messages"][1:] == [
        {"role": "assistant", "content": "Let me see."},
        {"role": "assistant", "content": "", "toolInvocations": [invocation]},
    ]


def test_it_tells_the_fifth_generation_what_tools_answered() -> None:
    tool = {
        "type": "dynamic-tool",
        "state": "output-available",
        "toolCallId": "call_1",
        "toolName": "getWeather",
        "input": {"city": "Rome"},
        "output": "21",
    }
    assert ask(*ASKED_TOOL, generation=FIVE)["messages"][1:] == [
        {"id": "s1-1", "role": "assistant", "parts": [text("Let me see."), tool]}
    ]


def test_the_seventh_generation_hears_instructions_from_the_user() -> None:
    system = {"role": "system", "content": "Be brief."}
    answer = {"role": "assistant", "content": "Two"}
    late = {"role": "developer", "content": "And kind."}
    sent = ask(system, late, user("One"), answer, system, user([picture(IMAGE)]), late, generation=SEVEN)
    assert [each["role"] for each in sent["messages"]] == ["user", "assistant", "user", "user"]
    assert [each["parts"][0] for each in sent["messages"]] == [
        text("Be brief.\n\nAnd kind.\n\nOne"),
        text("Two"),
        text("Be brief."),
        text("And kind."),
    ]
    assert ask(user("One"), answer, generation=SEVEN) == ask(user("One"), answer, generation=FIVE)


@pytest.mark.parametrize("generation", [FOUR, FIVE])
def test_it_refuses_a_tool_call_that_nothing_answered(generation: Generation) -> None:
    with pytest.raises(InvalidBody, match="call_1"):
        ask(*ASKED_TOOL[:2], generation=generation)


@pytest.mark.parametrize("generation", [FOUR, FIVE])
def test_it_leaves_out_a_call_that_the_application_answered_itself(generation: Generation) -> None:
    silent = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    sent = ask(*ASKED_TOOL[:2], user("And?"), silent, user("Well?"), generation=generation)["messages"]
    assert [each["role"] for each in sent] == ["user", "assistant", "user", "user"]
    assert "getWeather" not in str(sent)
    assert "Let me see." in str(sent[1])


@pytest.mark.parametrize("generation", [FOUR, FIVE])
def test_a_result_that_nobody_asked_for_is_told_as_text(generation: Generation) -> None:
    sent = ask(user(), ASKED_TOOL[2], generation=generation)["messages"][1]
    assert sent["role"] == "user"
    assert "A tool's result: 21" in str(sent)


def test_it_answers_each_of_two_calls_with_the_same_id_in_order() -> None:
    again = [ASKED_TOOL[1], {**ASKED_TOOL[2], "content": "22"}]
    sent = ask(*ASKED_TOOL, *again)["messages"]
    results = [each["toolInvocations"][0]["result"] for each in sent if "toolInvocations" in each]
    assert results == ["21", "22"]


def test_it_brings_the_clients_tools() -> None:
    function = {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}
    tools = [{"type": "function", "function": function}]
    assert ask(user(), tools=tools)["tools"] == {
        "look": {"description": "Looks.", "parameters": {"type": "object"}}
    }
    assert "tools" not in ask(user(), tools=tools, tool_choice="none")


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([], InvalidBody),
        ([{"role": "nobody", "content": ""}], InvalidBody),
        ([user(5)], InvalidBody),
        ([user([5])], InvalidBody),
        ([user([picture("")])], InvalidBody),
        ([user([{"type": "video_url", "video_url": "x"}])], NotOffered),
        ([user([{"type": "file", "file": {"file_id": "file-1"}}])], NotOffered),
        ([user([{"type": "input_audio", "input_audio": {"data": "A", "format": "raw"}}])], InvalidBody),
        ([{"role": "assistant", "tool_calls": [{"id": "x"}]}], InvalidBody),
    ],
)
def test_it_refuses_messages_that_cannot_be_read(messages: list[Document], error: type[Exception]) -> None:
    with pytest.raises(error):
        ask(*messages)
