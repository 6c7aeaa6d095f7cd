"""The dialects against servers that others wrote: bytes go there as they are, and chunks come back."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from proxy.call import Call
from proxy.chunk_passage import ChunkPassage, Told
from proxy.dialects import ai_sdk, ai_sdk_passage, chatkit
from proxy.dialects.chatkit import Continued
from proxy.dialects.chatkit_passage import ChatKitPassage
from proxy.dialects.outbound import Outbound
from proxy.passage import Truncated
from proxy.reported import UpstreamReported
from proxy.usage import Usage
from tests.proxy.dialects.transcripts import Document, chat, folded, user

pytestmark = pytest.mark.slow

TOLD = Told(7, shows_usage=True, input_tokens_estimate=12)
RED_DOT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAA"
    "AABJRU5ErkJggg=="
)
_sessions = itertools.count(1)


@contextmanager
def posted(outbound: Outbound, base_url: str) -> Iterator[httpx.Response]:
    headers = {**dict(outbound.headers), "content-type": outbound.content_type, "accept-encoding": "identity"}
    with httpx.stream(
        "POST",
        outbound.url(base_url),
        content=outbound.body,
        headers=headers,
        timeout=20,
        trust_env=False,
    ) as response:
        yield response


def read(response: httpx.Response, passage: ChunkPassage) -> bytes:
    """What the client gets of the answer, its marker included."""
    out = []
    for piece in response.iter_raw():
        if (events := passage.splitter.feed(piece)) and not passage.finished:
            out.append(passage.feed(events))
    return b"".join([*out, passage.rest(), passage.end()])


# ChatKit


class Thread:
    """A conversation with the ChatKit server, as the gateway keeps it: whose it is there, and which."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.user_id: str | None = None
        self.continued: Continued | None = None
        self.said: list[Document] = []

    def ask(self, *messages: Document, **more: Any) -> Document:
        """The answer to the new messages. Raises what the passage raises."""
        self.said += messages
        call = chat(*self.said)
        outbound = chatkit.request(
            call,
            "gpt-oss-120b",
            generation=chatkit.Generation.PUBLISHED,
            continued=self.continued,
            user_id=self.user_id,
            **more,
        )
        with posted(outbound, self.base_url) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].partition(";")[0] in chatkit.STREAMS
            passage: ChatKitPassage = chatkit.passage(call, "chatcmpl-ours", TOLD)
            answer = folded(read(response, passage))
        self.user_id = self.user_id or chatkit.user_id(response.headers.get_list("set-cookie"))
        assert passage.thread_id is not None
        self.said.append(answer["choices"][0]["message"])
        self.continued = Continued(passage.thread_id, len(self.said))
        return answer


@pytest.fixture
def thread(chatkit_upstream: str) -> Thread:
    return Thread(chatkit_upstream)


def content(answer: Document) -> str:
    text: str = answer["choices"][0]["message"]["content"]
    return text


def test_chatkit_answers_in_a_new_thread(thread: Thread) -> None:
    answer = thread.ask(user("Hi there"))
    assert content(answer) == "You said: Hi there"
    assert answer["choices"][0]["finish_reason"] == "stop"
    usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17, "estimated": True}
    assert answer["usage"] == usage


def test_chatkit_goes_on_with_a_thread(thread: Thread) -> None:
    thread.ask(user("One"))
    thread.ask(user("Two"))
    assert content(thread.ask(user("count"))) == "I was sent 3."


def test_chatkit_keeps_a_thread_for_whoever_began_it(thread: Thread) -> None:
    thread.ask(user("One"))
    thread.user_id = "somebody-else"
    with pytest.raises(httpx.RemoteProtocolError):
        thread.ask(user("Two"))


def test_chatkit_is_told_what_was_said_before(thread: Thread) -> None:
    said = [{"role": "system", "content": "Be brief."}, user("One"), {"role": "assistant", "content": "Two"}]
    told = content(thread.ask(*said, user("Three")))
    assert (
        told
        == "You said: Be brief.\n\nThe conversation so far:\n\nUser: One\n\nAssistant: Two\n\nUser: Three"
    )


def test_chatkit_is_told_the_model_and_the_effort(thread: Thread) -> None:
    told = json.loads(content(thread.ask(user("model"), effort="high", shows_reasoning=False)))
    assert told == {
        "model": "gpt-oss-120b",
        "x-selected-model": "gpt-oss-120b",
        "x-reasoning-effort": "high",
        "x-show-reasoning": "false",
    }


def test_chatkit_thinks_first(thread: Thread) -> None:
    said = thread.ask(user("think"))["choices"][0]["message"]
    assert (said["reasoning_content"], said["content"]) == ("First this.\n\nThen that.", "You said: think")


def test_chatkit_leaves_a_tool_to_the_client(thread: Thread) -> None:
    choice = thread.ask(user("ask"))["choices"][0]
    function = {"name": "ask", "arguments": '{"question":"Why?"}'}
    assert choice["message"]["tool_calls"] == [{"id": "call_1", "type": "function", "function": function}]
    assert choice["finish_reason"] == "tool_calls"
    answered = {"role": "tool", "tool_call_id": "call_1", "content": '{"because":1}'}
    assert content(thread.ask(answered)) == 'You said: {"because": 1}'


@pytest.mark.parametrize(
    ("text", "words"),
    [("boom", "reported an error"), ("refuse", "Too many questions today."), ("sign in", "sign-in")],
)
def test_chatkit_tells_what_went_wrong(thread: Thread, text: str, words: str) -> None:
    with pytest.raises(UpstreamReported) as caught:
        thread.ask(user(text))
    assert words in caught.value.error["message"]


def test_chatkit_says_nothing_and_that_is_no_answer(thread: Thread) -> None:
    with pytest.raises(Truncated):
        thread.ask(user("silence"))


def test_a_published_chatkit_does_not_understand_the_generation_before(chatkit_upstream: str) -> None:
    outbound = chatkit.request(chat(user()), "m", generation=chatkit.Generation.PRERELEASE)
    with posted(outbound, chatkit_upstream) as response:
        assert response.status_code in chatkit.MISUNDERSTOOD


# The AI SDK


class Application:
    """A chat application made with the AI SDK."""

    def __init__(self, url: str, generation: ai_sdk.Generation) -> None:
        self.url = url
        self.generation = generation
        self.usage: Usage | None = None

    def write(self, call: Call, model: str = "gpt-4o-mini") -> Outbound:
        session = f"session-{next(_sessions)}"
        return ai_sdk.request(call, model, generation=self.generation, session_id=session)

    def ask(self, *messages: Document) -> Document:
        """The answer. Raises what the passage raises."""
        call = chat(*messages)
        with posted(self.write(call), self.url) as response:
            assert response.status_code == 200
            content_type = response.headers["content-type"].partition(";")[0]
            assert content_type in ai_sdk.STREAMS
            passage = ai_sdk.passage(call, "chatcmpl-ours", TOLD, content_type)
            answer = folded(read(response, passage))
        self.usage = passage.usage
        return answer

    def prompt(self, *messages: Document) -> list[Document]:
        """What the SDK made of these messages for its model."""
        said: list[Document] = json.loads(content(self.ask(*messages)))
        return said


@pytest.fixture
def four(ai_sdk_4: str) -> Application:
    return Application(ai_sdk_4, ai_sdk.Generation.FOUR)


@pytest.fixture
def seven(ai_sdk_7: str) -> Application:
    return Application(ai_sdk_7, ai_sdk.Generation.SEVEN)


@pytest.fixture(params=["four", "seven"])
def application(request: pytest.FixtureRequest) -> Application:
    found: Application = request.getfixturevalue(request.param)
    return found


def test_the_ai_sdk_answers(application: Application) -> None:
    answer = application.ask(user("Hi there"))
    assert content(answer) == "You said: Hi there"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["total_tokens"] == 8
    assert application.usage is not None
    assert (application.usage.input_tokens, application.usage.output_tokens) == (3, 5)


def test_the_ai_sdk_ends_for_its_length(application: Application) -> None:
    assert application.ask(user("long"))["choices"][0]["finish_reason"] == "length"


def test_the_ai_sdk_thinks_first(application: Application) -> None:
    said = application.ask(user("think"))["choices"][0]["message"]
    apart = "" if application.generation is ai_sdk.Generation.FOUR else "\n\n"  # 4 does not tell them apart.
    assert (said["reasoning_content"], said["content"]) == (
        f"First this.{apart}Then that.",
        "You said: think",
    )


def test_the_ai_sdk_runs_a_tool_and_goes_on(application: Application) -> None:
    answer = application.ask(user("tool"))
    choice = answer["choices"][0]
    function = {"name": "weather", "arguments": '{"city":"Rome"}'}
    assert choice["message"]["content"] == 'Let me see.\n\nThe tool said: {"celsius":21}'
    assert choice["message"]["tool_calls"] == [{"id": "call_1", "type": "function", "function": function}]
    assert choice["finish_reason"] == "stop"
    assert answer["usage"]["total_tokens"] == 16


def test_the_ai_sdk_leaves_a_tool_to_the_client(application: Application) -> None:
    asked = user("ask")
    choice = application.ask(asked)["choices"][0]
    function = {"name": "ask", "arguments": '{"question":"Why?"}'}
    assert choice["message"]["tool_calls"] == [{"id": "call_1", "type": "function", "function": function}]
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "tool_calls")
    answered = {"role": "tool", "tool_call_id": "call_1", "content": "Because."}
    assert content(application.ask(asked, choice["message"], answered)) == 'The tool said: "Because."'


def test_the_ai_sdk_tells_what_went_wrong(application: Application) -> None:
    with pytest.raises(UpstreamReported) as caught:
        application.ask(user("boom"))
    assert caught.value.error["message"] == "An error occurred."


def test_the_ai_sdk_refuses_a_model_that_it_does_not_have(application: Application) -> None:
    with posted(application.write(chat(user()), model="missing"), application.url) as response:
        assert response.status_code == 404


CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    user("One"),
    {"role": "assistant", "content": "Two"},
    user("prompt"),
]


def test_ai_sdk_4_is_told_the_whole_conversation(four: Application) -> None:
    prompt = four.prompt(*CONVERSATION)
    assert [each["role"] for each in prompt] == ["system", "user", "assistant", "user"]
    assert prompt[0]["content"] == "Be brief."
    assert prompt[2]["content"][0]["text"] == "Two"


def test_ai_sdk_7_is_told_the_whole_conversation(seven: Application) -> None:
    prompt = seven.prompt(*CONVERSATION)
    assert [each["role"] for each in prompt] == ["user", "assistant", "user"]
    texts = [each["content"][0]["text"] for each in prompt]
    assert texts == ["Be brief.\n\nOne", "Two", "prompt"]


def test_ai_sdk_7_takes_no_system_messages(seven: Application) -> None:
    seven.generation = ai_sdk.Generation.FIVE
    with posted(seven.write(chat(*CONVERSATION)), seven.url) as response:
        assert response.status_code == 200
        told = response.read()
    assert ai_sdk_passage.begins(told) is False


def picture(url: str, **more: str) -> Document:
    return {"type": "image_url", "image_url": {"url": url, **more}}


@pytest.mark.parametrize("detail", [{}, {"detail": "low"}])
def test_ai_sdk_4_gets_every_image(four: Application, detail: dict[str, str]) -> None:
    parts = [{"type": "text", "text": "prompt"}, picture("https://a.test/1.png", **detail), picture(RED_DOT)]
    (sent,) = four.prompt(user(parts))
    _, linked, inline = sent["content"]
    assert (linked["type"], linked["image"]) == ("image", "https://a.test/1.png")
    assert (inline["type"], inline["image"], inline["mimeType"]) == ("image", "70 bytes", "image/png")
    metadata = {"openai": {"imageDetail": "low"}} if detail else None
    assert linked.get("providerMetadata") == metadata


@pytest.mark.parametrize("detail", [{}, {"detail": "low"}])
def test_ai_sdk_7_gets_every_image(seven: Application, detail: dict[str, str]) -> None:
    parts = [{"type": "text", "text": "prompt"}, picture("https://a.test/1.png", **detail), picture(RED_DOT)]
    (sent,) = seven.prompt(user(parts))
    _, linked, inline = sent["content"]
    assert (linked["type"], linked["mediaType"]) == ("file", "image/png")
    assert linked["data"] == {"type": "url", "url": "https://a.test/1.png"}
    assert (inline["type"], inline["mediaType"]) == ("file", "image/png")
    assert inline["data"] == {"type": "data", "data": RED_DOT.partition(",")[2]}
    options = {"openai": {"imageDetail": "low"}} if detail else None
    assert linked.get("providerOptions") == options


def test_ai_sdk_7_does_not_understand_the_generation_before(ai_sdk_7: str) -> None:
    older = Application(ai_sdk_7, ai_sdk.Generation.FOUR)
    with posted(older.write(chat(user())), older.url) as response:
        assert response.status_code in ai_sdk.MISUNDERSTOOD
