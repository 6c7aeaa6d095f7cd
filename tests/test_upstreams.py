"""The upstreams that other tests stand on do what those tests rely on."""

from __future__ import annotations

import dataclasses
from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.upstreams.behaviour import Behaviour, UnknownOption, parse
from tests.upstreams.scripted import ScriptedUpstream


def chat(upstream: ScriptedUpstream, model: str, stream: bool = False) -> httpx.Response:
    document = {"model": model, "messages": [], "stream": stream, "stream_options": {"include_usage": stream}}
    return httpx.post(f"{upstream.url}/chat/completions", json=document, timeout=10, trust_env=False)


def test_it_takes_options_from_the_models_name() -> None:
    assert parse("gpt-test") == Behaviour()
    assert parse("gpt-test+cut=3+crlf+usage=missing+tag=one") == dataclasses.replace(
        Behaviour(), cut=3, crlf=True, usage="missing", tag="one"
    )


def test_it_refuses_an_option_that_there_is_not() -> None:
    with pytest.raises(UnknownOption, match="bogus"):
        parse("gpt-test+bogus")


def test_it_streams_as_the_official_client_expects(upstream: ScriptedUpstream) -> None:
    with OpenAI(api_key="any", base_url=upstream.url, max_retries=0) as client:
        stream = client.chat.completions.create(
            model="gpt-test+words=3", messages=[], stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "w1 w2 w3"
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 3
    assert upstream.ended("gpt-test+words=3").ending == "complete"


def test_it_streams_responses_as_the_official_client_expects(upstream: ScriptedUpstream) -> None:
    with (
        OpenAI(api_key="any", base_url=upstream.url, max_retries=0) as client,
        client.responses.stream(model="gpt-test", input="Hello") as stream,
    ):
        final = stream.get_final_response()
    assert final.output_text == "w1 w2 w3 w4 w5"


def responses(upstream: ScriptedUpstream, model: str, path: str = "", **members: object) -> httpx.Response:
    document = {"model": model, "input": "Hello", **members}
    return httpx.post(f"{upstream.url}/responses{path}", json=document, timeout=10, trust_env=False)


def test_it_keeps_nothing_to_refer_to(upstream: ScriptedUpstream) -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    assert responses(upstream, "gpt-test", input=[thought]).status_code == 404
    assert responses(upstream, "gpt-test", previous_response_id="resp_1").status_code == 404
    assert responses(upstream, "gpt-test", input=[thought | {"encrypted_content": "g"}]).status_code == 200


@pytest.mark.parametrize("status", [404, 405, 501])
def test_it_only_chats_where_that_is_named(upstream: ScriptedUpstream, status: int) -> None:
    assert responses(upstream, f"gpt-test+chatonly={status}").status_code == status
    assert chat(upstream, f"gpt-test+chatonly={status}").status_code == 200


def test_it_counts_where_that_is_named(upstream: ScriptedUpstream) -> None:
    assert responses(upstream, "gpt-test", "/input_tokens").status_code == 404
    assert responses(upstream, "gpt-test+counts", "/input_tokens").json()["input_tokens"] == 11


def test_it_calls_tools_until_it_has_a_result(upstream: ScriptedUpstream) -> None:
    tool: Any = {"type": "function", "function": {"name": "look", "parameters": {}}}
    messages: Any = [{"role": "user", "content": "Look."}]
    with OpenAI(api_key="any", base_url=upstream.url, max_retries=0) as client:
        asked: Any = {"model": "gpt-test+tools", "messages": messages, "tools": [tool]}
        with client.chat.completions.stream(**asked) as stream:
            message = stream.get_final_completion().choices[0].message
        assert message.tool_calls
        messages += [message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "far"}]
        assert client.chat.completions.create(**asked).choices[0].message.content == "w1 w2 w3 w4 w5"


def test_it_breaks_off_after_the_event_named(upstream: ScriptedUpstream) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        chat(upstream, "gpt-test+cut=2", stream=True)
    assert upstream.ended("gpt-test+cut=2").ending == "cut"


def test_it_fails_as_often_as_named_and_then_succeeds(upstream: ScriptedUpstream) -> None:
    answers = [chat(upstream, "gpt-test+fail=2+status=503").status_code for _ in range(3)]
    assert answers == [503, 503, 200]


def test_it_behaves_for_a_plain_name(upstream: ScriptedUpstream) -> None:
    upstream.behave("gpt-test", "status=429+retry_after=7")
    assert chat(upstream, "gpt-test").headers["retry-after"] == "7"


def test_it_notices_a_client_that_leaves(upstream: ScriptedUpstream) -> None:
    model = "gpt-test+hang_after=1"
    with httpx.stream(
        "POST", f"{upstream.url}/chat/completions", json={"model": model, "stream": True}, trust_env=False
    ) as response:
        next(response.iter_raw())
    assert upstream.ended(model).ending == "left"


def test_llama_answers_what_it_was_fitted_to(llama: str) -> None:
    question = {"messages": [{"role": "user", "content": "Count from 1 to 5."}]}
    answer = httpx.post(f"{llama}/chat/completions", json=question, timeout=30, trust_env=False).json()
    assert answer["choices"][0]["message"]["content"] == "1, 2, 3, 4, 5"
