"""Counts the tokens of calls whose upstream reports none, where the optional tokenizer is installed
(requirements/tokenizer.txt); without it their usage is estimated from bytes.

A process of its own counts (proxy/token_process.py), for to load the tokenizer takes a second or two and some
140 MB, and it holds the interpreter while it works. It begins with the first call that may need it, and ends
with the process that began it, however that ends. A call that it does not answer in time is estimated as
without it.

The vocabulary is `o200k_base`, of OpenAI's models since gpt-4o; that of gpt-oss is the same but for control
tokens, which no text has (openai-harmony's README, 2026-11).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import msgspec

logger = logging.getLogger(__name__)

INSTALLED = find_spec("bpe_openai") is not None
COUNT_SECONDS = 2.0
MAX_CHARACTERS = 500_000  # of one text; what is more is estimated
MAX_WAITING = 64
RESTART_SECONDS = 60.0
_BYTES_PER_TOKEN = 4
_PROGRAM = (sys.executable, "-P", str(Path(__file__).with_name("token_process.py")))
_ENVIRONMENT = ("PATH", "LANG", "PYTHONPATH", "SYSTEMROOT")

Counts = tuple[int, int]


class TokenCounter:
    """Of one event loop."""

    def __init__(self) -> None:
        self._starting: asyncio.Task[Process] | None = None
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Counts | None]] = {}
        self._numbers = itertools.count()
        self._not_before = 0.0
        self._closing = False

    @property
    def process_id(self) -> int | None:
        """Of the process that counts, None while there is none."""
        process = self._process
        return process.pid if process is not None else None

    def prepare(self) -> None:
        """A call has begun that may have to be counted."""
        is_due = self._starting is None and time.monotonic() >= self._not_before
        if INSTALLED and is_due and not self._closing:
            self._not_before = time.monotonic() + RESTART_SECONDS
            self._starting = asyncio.create_task(self._start())

    async def count(self, texts: tuple[str, str]) -> Counts | None:
        """How many tokens each of the texts is; None where they cannot be counted, or not in time."""
        self.prepare()
        if self._starting is None or len(self._waiting) >= MAX_WAITING:
            return None
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(COUNT_SECONDS):
                process = await asyncio.shield(self._starting)
                assert process.stdin is not None
                known = (text[:MAX_CHARACTERS] for text in texts)
                process.stdin.write(msgspec.json.encode([number, *known]) + b"\n")
                await process.stdin.drain()
                counted = await answer
        except (TimeoutError, OSError):
            return None
        finally:
            del self._waiting[number]
        return counted and (counted[0] + _estimated(texts[0]), counted[1] + _estimated(texts[1]))

    async def close(self) -> None:
        """Ends the process that counts."""
        self._closing = True
        if self._starting is not None:
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._process is not None:
            _kill(self._process)
        if self._reading is not None:
            await self._reading

    async def _start(self) -> Process:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                *_PROGRAM, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment, start_new_session=True
            )
        except OSError:
            self._starting = None
            raise
        self._process, self._reading = process, asyncio.create_task(self._read(process))
        return process

    async def _read(self, process: Process) -> None:
        """Hears what was counted, until the process ends."""
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                number, asked, said = map(int, line.split())
                self._answer(number, (asked, said))
            if not self._closing:
                logger.warning("The tokenizer has ended. Usage is estimated from bytes for a minute.")
        finally:
            self._starting = self._process = None
            for number in self._waiting:
                self._answer(number, None)
            _kill(process)
            await process.wait()

    def _answer(self, number: int, counted: Counts | None) -> None:
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(counted)


def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):  # It has ended by itself.
        process.kill()


def _estimated(text: str) -> int:
    """What is left of a text that is too long."""
    return -(-len(text[MAX_CHARACTERS:].encode()) // _BYTES_PER_TOKEN)
