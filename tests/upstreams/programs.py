"""Upstreams that run as programs of their own: the official ChatKit server, AI SDK servers, llama.cpp."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.deadline import until
from tests.machine import node, node_22
from tests.services import free_port

AI_SDK = Path(__file__).with_name("ai_sdk")


@contextmanager
def served(command: Callable[[int], list[str]], log: Path, health: str = "/") -> Iterator[str]:
    """The program, its standard output in `log`, from when it answers `health` on; its address."""
    port = free_port()
    with open(log, "wb") as output:
        process = subprocess.Popen(command(port), stdout=output, stderr=output)
    try:
        until(lambda: _healthy(process, f"http://127.0.0.1:{port}{health}", log), seconds=40, what=str(log))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> bool:
    assert process.poll() is None, f"It ended: {log.read_text()[-2000:]}"
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def chatkit(log: Path) -> Iterator[str]:
    """The base URL of a real ChatKit server (tests/upstreams/chatkit_server.py)."""
    module = [sys.executable, "-m", "tests.upstreams.chatkit_server", "--port"]
    with served(lambda port: [*module, str(port)], log, "/health") as url:
        yield url


@contextmanager
def prerelease_chatkit(log: Path) -> Iterator[str]:
    """The base URL of a ChatKit server of before the release (tests/upstreams/prerelease_chatkit.py)."""
    module = [sys.executable, "-m", "tests.upstreams.prerelease_chatkit", "--port"]
    with served(lambda port: [*module, str(port)], log, "/health") as url:
        yield url


@contextmanager
def ai_sdk(major: int, log: Path) -> Iterator[str]:
    """The address of a real chat application made with that AI SDK (tests/upstreams/ai_sdk/). Skips the test
    where there is no Node.js, or where its packages are not there and cannot be had."""
    installed = node(AI_SDK)
    program = node_22() if major >= 7 else installed  # What ai 7.0 names as its engine.
    server = [str(program), str(AI_SDK / "server.mjs"), str(major)]
    with served(lambda port: [*server, str(port)], log) as url:
        yield f"{url}/api/chat"
