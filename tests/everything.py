"""Runs every test, on both engines, in about half the time that they take: `make test`.

Three lanes side by side: what runs on SQLite; what is quick on PostgreSQL and Redis; and what is slow there,
which mostly waits. Then come those marked `alone`, which measure time or put load on the machine, with
nothing beside them. What the lanes in the background print is shown when they have ended. The exit status is
the first that is not 0.

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

PYTEST = [sys.executable, "-m", "pytest"]
SERVICES = [sys.executable, "-m", "tests.services"]
NOTHING_CHOSEN = 5  # pytest's exit status where no test is left


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

    def run(self, chosen: list[str]) -> int:
        """Its exit status; what it prints is seen as it comes."""
        print(f"\n{self.title}:", flush=True)
        return subprocess.run(self.command(chosen), env=self.environment, check=False).returncode


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
        statuses = _side_by_side(_STORED, (_PURE,), chosen)
    else:
        statuses = [*_side_by_side(SLOW, (QUICK, SQLITE), chosen), *(lane.run(chosen) for lane in ALONE)]
    failed = [status for status in statuses if status not in (0, NOTHING_CHOSEN)]
    return failed[0] if failed else min(statuses)


def _side_by_side(seen: Lane, behind: tuple[Lane, ...], chosen: list[str]) -> list[int]:
    """The exit statuses of them all."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = [(lane, _begin(lane, chosen, folder, stack)) for lane in behind]
        statuses = [seen.run(chosen)]
        for lane, process in running:
            statuses.append(process.wait())
            print(f"\n{lane.title}:", flush=True)
            sys.stdout.buffer.write((folder / lane.title).read_bytes())
            sys.stdout.flush()
    return statuses


def _begin(lane: Lane, chosen: list[str], folder: Path, stack: ExitStack) -> subprocess.Popen[bytes]:
    """The lane's process, which ends with the stack; what it prints goes to the file with its title."""
    told = stack.enter_context((folder / lane.title).open("wb"))
    process = subprocess.Popen(
        lane.command(chosen), env=lane.environment, stdout=told, stderr=subprocess.STDOUT
    )
    stack.callback(process.terminate)
    return process


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
