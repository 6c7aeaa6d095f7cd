"""Tokens are counted by a process of their own, where the optional tokenizer is installed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from proxy import tokens
from proxy.tokens import MAX_CHARACTERS, TokenCounter
from tests.deadline import until
from tests.machine import tokenizer
from tests.server import Gateway, Person

# Four texts and their tokens by OpenAI's own table (its cookbook, "How to count tokens with tiktoken").
KNOWN = {"tiktoken is great!": 6, "antidisestablishmentarianism": 6, "2 + 2 = 4": 7, "お誕生日おめでとう": 8}
WORDS = "お誕生日おめでとう"


@pytest.fixture
async def counter() -> AsyncIterator[TokenCounter]:
    tokenizer()
    made = TokenCounter()
    yield made
    await made.close()


async def counted(counter: TokenCounter, *texts: str) -> tuple[int, int]:
    """What they come to, once the tokenizer is loaded."""
    assert len(texts) == 2
    for _ in range(20):
        if (found := await counter.count((texts[0], texts[1]))) is not None:
            return found
    raise AssertionError("It never counted.")


@pytest.mark.slow
async def test_it_counts_many_calls_at_once(counter: TokenCounter) -> None:
    assert await counted(counter, "", "Hi") == (0, 1)
    texts = [*KNOWN, *reversed(KNOWN)] * 5
    found = await asyncio.gather(*(counter.count((text, "Hi\n")) for text in texts))
    assert found == [(KNOWN[text], 2) for text in texts]
    assert await counter.count(("x\n<|channel|>", "\u2028")) == (7, 1)  # No text is a control token.


@pytest.mark.slow
async def test_it_estimates_what_of_a_text_is_too_long(counter: TokenCounter) -> None:
    known, _ = await counted(counter, "a " * (MAX_CHARACTERS // 2), "")
    assert await counter.count(("a " * (MAX_CHARACTERS // 2) + "ö" * 10, "")) == (known + 5, 0)


@pytest.mark.slow
async def test_a_tokenizer_that_dies_costs_exactness_and_nothing_else(counter: TokenCounter) -> None:
    await counted(counter, "a", "b")
    assert counter.process_id is not None
    os.kill(counter.process_id, signal.SIGKILL)
    assert await counter.count(("a", "b")) is None
    assert await counter.count(("a", "b")) is None


async def test_without_a_tokenizer_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "INSTALLED", False)
    made = TokenCounter()
    assert await made.count(("a", "b")) is None
    assert made.process_id is None
    await made.close()


@pytest.mark.slow
def test_a_call_whose_upstream_reports_nothing_is_counted(
    session_gateway: Gateway, chatkit_upstream: str, alice: Person
) -> None:
    tokenizer()
    upstreams = [{"name": "counted", "dialect": "chatkit", "base_url": chatkit_upstream}]
    models = [{"name": "counted", "routes": [{"upstream": "counted"}]}]
    session_gateway.configure({"upstreams": list(upstreams), "models": list(models)})
    body = {"model": "counted", "messages": [{"role": "user", "content": WORDS}]}
    exact = {"prompt_tokens": KNOWN[WORDS], "completion_tokens": KNOWN[WORDS] + 3}  # "You said: "

    def is_exact() -> bool:
        answer = alice.http.post("/v1/chat/completions", json=body)
        usage = answer.json()["usage"]
        record = session_gateway.usage_of(answer.headers["x-request-id"])
        shown = (usage["prompt_tokens"], usage["completion_tokens"])
        assert (record["input_tokens"], record["output_tokens"]) == shown
        assert record["estimated"]
        return bool(exact.items() <= usage.items() and usage["estimated"])

    until(is_exact, seconds=20, what="usage that was counted")
    streamed = alice.http.post("/v1/responses", json={"model": "counted", "input": WORDS, "stream": True})
    record = session_gateway.usage_of(streamed.headers["x-request-id"])
    assert (record["input_tokens"], record["output_tokens"]) == tuple(exact.values())
    assert f'"output_tokens":{exact["completion_tokens"]}' in streamed.text
