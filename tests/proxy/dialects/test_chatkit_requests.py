"""ChatKit's wire: what servers of either generation are asked."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from proxy.call import InvalidBody, NotOffered
from proxy.dialects import chatkit
from proxy.dialects.chatkit import Continued, Generation
from proxy.dialects.outbound import Outbound
from tests.proxy.dialects.transcripts import Document, chat, user

PRERELEASE, PUBLISHED = Generation.PRERELEASE, Generation.PUBLISHED
THREAD = "thr_0a1b2c3d"


def ask(*messages: Document, generation: Generation = PRERELEASE, **more: Any) -> Outbound:
    return chatkit.request(chat(*messages), "gpt-oss-120b", generation=generation, **more)


def body(outbound: Outbound) -> Document:
    found: Document = msgspec.json.decode(outbound.body)
    return found


def asked_text(*messages: Document, **more: Any) -> str:
    text: str = body(ask(*messages, **more))["params"]["input"]["text"]
    return text


def test_it_begins_a_thread_as_the_first_generation_wants_it() -> None:
    content = [{"type": "input_text", "text": "Hi"}]
    given = {"text": "Hi", "content": content, "quoted_text": "", "attachments": []}
    assert body(ask(user("Hi"))) == {"op": "threads.create", "params": {"input": given}}


def test_it_begins_a_thread_as_the_published_one_wants_it() -> None:
    outbound = body(ask(user("Hi"), generation=PUBLISHED))
    assert outbound["type"] == "threads.create"
    assert outbound["params"]["input"]["content"] == [{"type": "input_text", "text": "Hi"}]
    assert outbound["params"]["input"]["inference_options"] == {"model": "gpt-oss-120b"}
    assert "op" not in outbound


def test_it_continues_a_thread() -> None:
    said = [user("One"), {"role": "assistant", "content": "Two"}, user("Three")]
    older = body(ask(*said, continued=Continued(THREAD, 2)))
    assert (older["op"], older["params"]["threadId"]) == ("threads.addMessage", THREAD)
    assert older["params"]["input"]["text"] == "Three"
    newer = body(ask(*said, continued=Continued(THREAD, 2), generation=PUBLISHED))
    assert (newer["type"], newer["params"]["thread_id"]) == ("threads.add_user_message", THREAD)
    assert newer["params"]["input"]["content"][0]["text"] == "Three"


def test_it_refuses_to_continue_with_nothing_new() -> None:
    with pytest.raises(InvalidBody, match="does not have yet"):
        ask(user("One"), continued=Continued(THREAD, 1))


def test_it_names_model_effort_and_visibility_in_headers_and_wears_no_disguise() -> None:
    headers = dict(ask(user(), effort="high", shows_reasoning=False).headers)
    assert headers == {
        "accept": "text/event-stream",
        "x-selected-model": "gpt-oss-120b",
        "x-reasoning-effort": "high",
        "x-show-reasoning": "false",
    }


def test_it_sends_the_users_cookie_beside_the_operators() -> None:
    outbound = ask(user(), user_id="11111111-aaaa", cookies=(("session", "s"),))
    assert dict(outbound.headers)["cookie"] == "session=s; user_id=11111111-aaaa"
    assert "11111111" not in repr(outbound)


def test_the_operators_own_user_cookie_wins() -> None:
    outbound = ask(user(), user_id="mine", cookies=(("user_id", "theirs"),))
    assert dict(outbound.headers)["cookie"] == "user_id=theirs"


@pytest.mark.parametrize("user_id", ["", "a;b", "a\r\nb", "a b", "x" * 201])
def test_it_sends_no_cookie_that_could_be_two(user_id: str) -> None:
    with pytest.raises(InvalidBody):
        ask(user(), user_id=user_id)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (["user_id=5d1e; Path=/; HttpOnly"], "5d1e"),
        (["session=x", 'user_id="5d1e"'], "5d1e"),
        (["session=user_id=5d1e"], None),
        (["user_id=; Max-Age=0"], None),
        ([], None),
    ],
)
def test_it_reads_the_users_id_from_the_cookies_that_were_set(
    headers: list[str], expected: str | None
) -> None:
    assert chatkit.user_id(headers) == expected


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://chat.test", "https://chat.test/chatkit"),
        ("https://chat.test/", "https://chat.test/chatkit"),
        ("https://chat.test/chatkit", "https://chat.test/chatkit"),
        ("https://chat.test/a/chatkit/", "https://chat.test/a/chatkit"),
    ],
)
def test_it_goes_to_chatkit_however_the_address_is_written(base_url: str, url: str) -> None:
    assert ask(user()).url(base_url) == url


def test_it_folds_instructions_into_the_first_message() -> None:
    said = [{"role": "system", "content": "Be brief."}, user("Hi")]
    assert asked_text(*said) == "Be brief.\n\nHi"


def test_it_folds_what_was_said_before_into_the_first_message() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
    text = asked_text(
        {"role": "developer", "content": "Be brief."},
        user("What is the weather?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "Rain"},
        {"role": "assistant", "content": "It rains."},
        user([{"type": "text", "text": "And"}, {"type": "text", "text": "tomorrow?"}]),
    )
    assert text == (
        "Be brief.\n\nThe conversation so far:\n\nUser: What is the weather?\n\n"
        'Assistant called the tool look with: {"a":1}\n\nThe tool look answered: Rain\n\n'
        "Assistant: It rains.\n\nUser: And\ntomorrow?"
    )


def test_it_folds_a_tools_result_that_nobody_asked_for() -> None:
    assert "A tool's result: 21" in asked_text(
        user("Hi"), {"role": "tool", "tool_call_id": "x", "content": "21"}
    )


def test_it_gives_a_published_server_the_result_of_its_clients_tool() -> None:
    said = [user(), {"role": "tool", "tool_call_id": "c1", "content": '{"c":21}'}]
    outbound = body(ask(*said, continued=Continued(THREAD, 1), generation=PUBLISHED))
    assert outbound == {
        "type": "threads.add_client_tool_output",
        "params": {"thread_id": THREAD, "result": {"c": 21}},
    }


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "look"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
    ],
)
def test_it_refuses_by_name_what_the_wire_cannot_say(members: Document, param: str) -> None:
    with pytest.raises(NotOffered) as caught:
        chatkit.request(chat(user(), **members), "m", generation=PRERELEASE)
    assert caught.value.param == param


def test_it_refuses_images_by_name() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://a.test/1.png"}}
    with pytest.raises(NotOffered, match="text only"):
        ask(user([{"type": "text", "text": "Describe"}, image]))


def test_it_takes_images_that_the_thread_has_already() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://a.test/1.png"}}
    assert asked_text(user([image]), user("And?"), continued=Continued(THREAD, 1)) == "And?"


def test_it_leaves_out_what_only_tunes_an_answer() -> None:
    call = chat(user(), temperature=0.2, max_tokens=5, seed=1, stop=["x"], n=1, tools=[], logprobs=False)
    assert body(chatkit.request(call, "m", generation=PRERELEASE)) == body(ask(user()))
