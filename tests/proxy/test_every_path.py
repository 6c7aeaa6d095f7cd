"""Every path that takes calls, found in the tables of paths: each call is in the ledger once."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from proxy.api.organization import KINDS
from proxy.asgi import POSTS
from proxy.endpoints import older_pages, older_paths
from tests.conftest import StartGateway
from tests.server import Gateway, Person

HELLO = [{"role": "user", "content": "Hello"}]
SOUND = {"file": ("a.wav", b"RIFF", "audio/wav")}
CHAT: dict[str, Any] = {"json": {"model": "gpt-test", "messages": HELLO}}
INPUT: dict[str, Any] = {"json": {"model": "gpt-test", "input": "Hello"}}
FORM: dict[str, Any] = {"data": {"model": "gpt-test"}, "files": SOUND}
BODIES: dict[str, dict[str, Any]] = {
    "/chat/completions": CHAT,
    "/completions": {"json": {"model": "gpt-test", "prompt": "Hello"}},
    "/embeddings": INPUT,
    "/responses": INPUT,
    "/responses/input_tokens": INPUT,
    "/responses/compact": INPUT,
    "/audio/transcriptions": FORM,
    "/audio/translations": FORM,
    "/api/gpt-oss-2t": {"json": {"messages": HELLO}},
    "/openai": CHAT,
    "/openai2": INPUT,
    "/chatgpt": {"json": {"model": "gpt-test", "prompt": "Hello"}},
    "/openai/audio/transcriptions": FORM,
}


def test_it_knows_every_path_that_takes_calls() -> None:
    assert BODIES.keys() == POSTS.keys() | older_paths.POSTS.keys()


@pytest.mark.parametrize("path", BODIES)
def test_a_call_is_on_record_once(gateway: Gateway, alice: Person, path: str) -> None:
    before = len(gateway.usage())
    answer = alice.http.post(path, **BODIES[path])
    assert answer.status_code == 200, answer.text
    record = gateway.usage_of(answer.headers["x-request-id"])
    assert (record["status"], record["status_code"]) == ("completed", 200)
    assert any(record["endpoint"] in kind.endpoints for kind in KINDS.values())  # the usage API tells of it
    assert len(gateway.usage()) == before + 1
    assert gateway.open_calls() == 0


@pytest.mark.parametrize("path", BODIES)
def test_a_call_without_a_key_is_on_no_record(gateway: Gateway, path: str) -> None:
    before = len(gateway.usage())
    answer = httpx.post(gateway.url + path, **BODIES[path], trust_env=False)
    assert answer.status_code == {"/chatgpt": 400}.get(path, 403 if path.startswith("/openai") else 401)
    assert len(gateway.usage()) == before


def test_the_pages_that_make_a_call_are_on_record_once(start_gateway: StartGateway) -> None:
    for path, page in older_pages.PAGES.items():
        gateway = start_gateway(ACCESS_TOKEN="a-token", DEFAULT_MODEL="gpt-test")
        answer = httpx.get(f"{gateway.url}{path}", params={"access_token": "a-token"}, trust_env=False)
        assert answer.status_code == 200
        made = [] if page in (older_pages.log, older_pages.log_errors) else ["completed"]
        assert [record["status"] for record in gateway.usage()] == made
