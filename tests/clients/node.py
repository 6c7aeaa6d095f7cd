"""Runs programs that use the official SDK for Node: tests/clients/node, its packages locked there."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.machine import need
from tests.server import Person, plain_environment

FOLDER = Path(__file__).parent / "node"
_INSTALLS = "npm ci --prefix tests/clients/node"
_SECONDS = 50


def run(program: str, *arguments: str, person: Person) -> None:
    """Runs a program of that folder as this caller; what it finds wrong fails the test."""
    environment = plain_environment() | {
        "OPENAI_BASE_URL": f"{person.gateway.url}/v1",
        "OPENAI_API_KEY": person.api_key,
    }
    node = need("node", "apt-get install nodejs npm")
    command: list[str | Path] = [node, _packages() / program, *arguments]
    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=_SECONDS
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@cache
def _packages() -> Path:
    """The folder, with what package-lock.json names installed in it; skips the test where that fails."""
    if not _installed():
        npm = need("npm", "apt-get install nodejs npm")
        options = ("--ignore-scripts", "--no-audit", "--no-fund")
        command: list[str | Path] = [npm, "ci", "--prefix", FOLDER, *options]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            pytest.skip(f"The packages of tests/clients/node are missing: {_INSTALLS}\n{ended.stderr}")
    return FOLDER


def _installed() -> bool:
    """npm notes in a file what it has installed, and when."""
    noted = FOLDER / "node_modules" / ".package-lock.json"
    locked = FOLDER / "package-lock.json"
    return noted.is_file() and noted.stat().st_mtime >= locked.stat().st_mtime
