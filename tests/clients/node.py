"""Runs programs that use the official SDK for Node: tests/clients/node, its packages locked there."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests import machine
from tests.server import Person, plain_environment

FOLDER = Path(__file__).parent / "node"
SECONDS = 50


def run(program: str, *arguments: str, person: Person) -> None:
    """Runs a program of that folder as this caller; what it finds wrong fails the test."""
    environment = plain_environment() | {
        "OPENAI_BASE_URL": f"{person.gateway.url}/v1",
        "OPENAI_API_KEY": person.api_key,
    }
    command: list[str | Path] = [machine.node(FOLDER), FOLDER / program, *arguments]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
