"""Runs every test, on both engines, in about half the time that they take: `make test`.

Three lanes side by side: what runs on SQLite; what is quick on PostgreSQL and Redis; and what is slow there,
which mostly waits. Then come those marked `alone`, which measure time or put load on the machine, with
nothing beside them. What the lanes in the background print is shown when they have ended. The exit status is
the first that is not 0; which tests failed, in whichever lane, is told once more at the very end.

    python -m tests.everything [--fast] [what pytest takes, such as paths]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PYTEST = [sys.executable, "-m", "pytest"]
SERVICES = [sys.executable, "-m", "tests.services"]
NOTHING_CHOSEN = 5  # pytest's exit status where no test is left
_LINE = 300  # characters of a failure that are told again
_RETOLD = 10  # failures of a lane that are told again


@dataclass(frozen=True, slots=True)
class Lane:
    """Some of the tests, on one of the engines; `marks` as pytest's -m takes them."""

    title: str
    marks: str
    services: bool = True

    def command(self, chosen: list[str]) -> list[str]:
        return [*(SERVICES if self.services else []), *PYTEST, "-m", self.marks, *chosen]

    @property
    def environment(self) -> dict[str, str]:
        return dict(os.environ) if self.services else os.environ | {"DATABASE_URL": "", "REDIS_URL": ""}

    def run(self, chosen: list[str]) -> Outcome:
        """What it prints is seen as it comes."""
        print(f"\n{self.title}:", flush=True)
        printed = bytearray()
        with self.begin(chosen, subprocess.PIPE) as process:
            assert process.stdout is not None
            while some := os.read(process.stdout.fileno(), 65536):
                sys.stdout.buffer.write(some)
                sys.stdout.flush()
                printed += some
        return Outcome(self, process.returncode, bytes(printed))

    def begin(self, chosen: list[str], output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(chosen), env=self.environment, stdout=output, stderr=subprocess.STDOUT
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a lane ended, and all that it printed."""

    lane: Lane
    status: int
    printed: bytes

    @property
    def failed(self) -> bool:
        return self.status not in (0, NOTHING_CHOSEN)

    def failures(self) -> list[str]:
        """The failed tests as pytest sums them up, each cut to a line's length, and its closing line."""
        lines = self.printed.decode(errors="replace").splitlines()
        summed_up = [line[:_LINE] for line in lines if line.startswith(("FAILED ", "ERROR "))]
        return [f"{self.lane.title}:", *summed_up[:_RETOLD], *lines[-1:]]


# A slow test runs once, on PostgreSQL and Redis, unless it is about SQLite too.
_ON_SQLITE = "(not slow or sqlite or pure or everywhere)"
SQLITE = Lane("Tests on SQLite, without Redis", f"{_ON_SQLITE} and not alone", services=False)
QUICK = Lane("Quick tests on PostgreSQL and Redis", "not pure and not slow and not alone")
SLOW = Lane("Slow tests on PostgreSQL and Redis", "not pure and slow and not alone")
ALONE = (
    Lane("Tests on SQLite, without Redis, that run alone", f"{_ON_SQLITE} and alone", services=False),
    Lane("Tests on PostgreSQL and Redis that run alone", "not pure and alone"),
)


# What is looked at while code is written: it takes no servers, and no time.
FAST = "--fast"
_PURE = Lane("Quick tests that need no database", "pure and not slow", services=False)
_STORED = Lane("Quick tests on SQLite", "not pure and not slow and not served", services=False)


def main(arguments: list[str]) -> int:
    chosen = [argument for argument in arguments if argument != FAST]
    if FAST in arguments:
        outcomes = _side_by_side(_STORED, (_PURE,), chosen)
    else:
        outcomes = [*_side_by_side(SLOW, (QUICK, SQLITE), chosen), *(lane.run(chosen) for lane in ALONE)]
    failed = [outcome for outcome in outcomes if outcome.failed]
    for outcome in failed:
        print("", *outcome.failures(), sep="\n", flush=True)
    return failed[0].status if failed else min(outcome.status for outcome in outcomes)


def _side_by_side(seen: Lane, behind: tuple[Lane, ...], chosen: list[str]) -> list[Outcome]:
    """How they all ended."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = [(lane, _begin(lane, chosen, folder, stack)) for lane in behind]
        outcomes = [seen.run(chosen)]
        for lane, process in running:
            outcome = Outcome(lane, process.wait(), (folder / lane.title).read_bytes())
            outcomes.append(outcome)
            print(f"\n{lane.title}:", flush=True)
            sys.stdout.buffer.write(outcome.printed)
            sys.stdout.flush()
    return outcomes


def _begin(lane: Lane, chosen: list[str], folder: Path, stack: ExitStack) -> subprocess.Popen[bytes]:
    """The lane's process, which ends with the stack; what it prints goes to the file with its title."""
    process = lane.begin(chosen, stack.enter_context((folder / lane.title).open("wb")))
    stack.callback(process.terminate)
    return process


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
