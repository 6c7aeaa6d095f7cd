"""Programs written for the older proxies run as they are, but for the base URL (tests/proxy/clients/)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartGateway
from tests.machine import INSTALL_NODE, need
from tests.server import Gateway, plain_environment

CLIENTS = Path(__file__).with_name("clients")

# What is asked and answered here has nothing to do with where it is stored.
pytestmark = [pytest.mark.slow, pytest.mark.sqlite]


@pytest.fixture(scope="module")
def chats(start_session_gateway: StartGateway, chatkit_upstream: str, ai_sdk_4: str) -> Gateway:
    """As somebody sets it up who comes from one of the first three: by their environment."""
    return start_session_gateway(
        PUBLIC_ACCESS="true",
        BASE_URL=chatkit_upstream,
        VERCEL_MINIMAL_API_URL=ai_sdk_4,
        OPENAI_API_KEY="",
        OPENAI_BASE_URL="",
    )


@pytest.fixture(scope="module")
def openai(start_session_gateway: StartGateway) -> Gateway:
    """As somebody does who comes from one of the other two."""
    return start_session_gateway(PUBLIC_ACCESS="true", SECURITY_KEY="the-security-key")


def run(client: str, gateway: Gateway) -> list[str]:
    """The lines that the client prints."""
    program = sys.executable if client.endswith(".py") else need("node", INSTALL_NODE)
    environment = plain_environment() | {"BASE_URL": gateway.url, "SECURITY_KEY": "the-security-key"}
    ended = subprocess.run(
        [program, CLIENTS / client], capture_output=True, text=True, env=environment, timeout=50, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def test_a_client_of_gptoss_proxy(chats: Gateway) -> None:
    assert run("gptoss_proxy.py", chats) == [
        "thoughts: First this.||Then that.",
        "said: You said: think ended: stop",
        "counted: I was sent 2.",
    ]


def test_a_client_of_gptoss_to_api(chats: Gateway) -> None:
    assert run("gptoss_to_api.mjs", chats) == [
        "models: gpt-oss-120b gpt-oss-20b",
        "said: You said: Hi there last: [DONE]",
    ]


def test_a_client_of_hosted_api(chats: Gateway) -> None:
    assert run("hosted_api.py", chats) == [
        "chatkit: You said: Hello",
        "ai sdk: You said: Hello",
        "image: image",
        'stream: Let me see.||The tool said: {"celsius":21} ended: stop',
    ]


def test_a_client_of_gpt_oss_2t(openai: Gateway) -> None:
    assert run("gpt_oss_2t.mjs", openai) == [
        "health: ok",
        "said: w1 w2 w3 w4 w5 done: true",
        "whole: w1 w2 w3 w4 w5",
        "refused: 400 Missing messages array",
    ]


def test_a_client_of_chatgpt_proxy(openai: Gateway) -> None:
    assert run("chatgpt_proxy.mjs", openai) == [
        "openai: w1 w2 w3 w4 w5",
        "openai2: w1 w2 w3 w4 w5",
        "found: true",
        "deleted: true",
        "stream ends: data: [DONE]",
        "chatgpt: assistant w1 w2 w3 w4 w5",
        "embeddings: 1",
        "heard: string",
        "refused: 403 Forbidden",
    ]
