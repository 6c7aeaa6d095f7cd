"""Runs every test, on both engines, in little more than half the time that they take: `make test`.

Two lanes side by side: what runs on SQLite, and what runs on PostgreSQL and Redis; each waits much of its
time. Then come those marked `alone`, which measure time or put load on the machine, with nothing beside
them. What the lane on SQLite prints is shown when it has ended. The exit status is the first that is not 0.

    python -m tests.everything [what pytest takes, such as paths]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

PYTEST = [sys.executable, "-m", "pytest"]
SERVICES = [sys.executable, "-m", "tests.services"]
SQLITE = {"DATABASE_URL": "", "REDIS_URL": ""}
# A slow test runs once, on PostgreSQL and Redis, unless it is about SQLite too.
HERE = "not slow or sqlite or pure or everywhere"
THERE = "not pure"
NOTHING_CHOSEN = 5  # pytest's exit status where no test is left


def main(chosen: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        with told.open("wb") as output, _on_sqlite(chosen, output.fileno()) as lane:
            try:
                statuses = [_run("not alone", THERE, chosen), lane.wait()]
            finally:
                lane.terminate()
        print("\nTests on SQLite, without Redis:", flush=True)
        sys.stdout.buffer.write(told.read_bytes())
        sys.stdout.flush()
    statuses.append(_run("alone", HERE, chosen, SQLITE))
    statuses.append(_run("alone", THERE, chosen))
    failed = [status for status in statuses if status not in (0, NOTHING_CHOSEN)]
    return failed[0] if failed else min(statuses)


def _on_sqlite(chosen: list[str], output: int) -> subprocess.Popen[bytes]:
    command = [*PYTEST, "-m", f"({HERE}) and not alone", *chosen]
    return subprocess.Popen(command, env=os.environ | SQLITE, stdout=output, stderr=subprocess.STDOUT)


def _run(which: str, engine: str, chosen: list[str], environment: dict[str, str] | None = None) -> int:
    """One lane, whose output is seen as it comes."""
    where = "SQLite" if environment else "PostgreSQL and Redis"
    print(f"\nTests on {where}, {which}:", flush=True)
    services = [] if environment else SERVICES
    command = [*services, *PYTEST, "-m", f"({engine}) and {which}", *chosen]
    return subprocess.run(command, env=os.environ | (environment or {}), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
