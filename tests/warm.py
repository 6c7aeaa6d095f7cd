"""Runs management commands in forks of a process that has Django loaded: each begins as one that was started
for it, without the second of the processor that loading takes.

    python -m tests.warm

A line of JSON comes in for each command, its arguments; one goes out, its exit status and what it printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NoReturn

import django
from django.core.management import execute_from_command_line, load_command_class

PROJECT = Path(__file__).resolve().parent.parent


class Warm:
    """Such a process, with these variables; close it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm"],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> str:
        """What the command printed; an AssertionError with that where it failed."""
        asked, told = self._pipes()
        asked.write(json.dumps(arguments) + "\n")
        asked.flush()
        status, printed = json.loads(told.readline())
        assert status == 0, printed
        return str(printed)

    def close(self) -> None:
        for pipe in self._pipes():
            pipe.close()
        self._process.wait()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout


def main() -> None:
    """Serves until nobody asks any more."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
    django.setup()
    load_command_class("gateway", "apply")
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


def _run(arguments: list[str]) -> tuple[int, str]:
    """How it ended, and what it printed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        _execute(arguments)
    os.close(writing)
    with open(reading, errors="replace") as printed:
        told = printed.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told


def _execute(arguments: list[str]) -> NoReturn:
    """Ends this process, however the command ends."""
    status = 1
    try:
        execute_from_command_line(["manage.py", *arguments])
        status = 0
    finally:
        if status:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
