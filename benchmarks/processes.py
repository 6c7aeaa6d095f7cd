"""Processes of the bench's own: started, waited for, their processor time read, ended by their own id."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 15
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
LOOPBACK_ONLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Process = subprocess.Popen[bytes]


class NotServing(Exception):
    """A process ended, or did not answer in time; what it said last is in the message."""


@dataclass(frozen=True, slots=True)
class ProcessTime:
    """One line of /proc: whose child a process is, and what it and its reaped children have used."""

    parent: int
    ticks: int


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[Process]:
    """The process runs while the block does; its output goes to `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: Process) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until_serving(process: Process, url: str, log: Path) -> None:
    """Returns once `url` answers 200. Raises NotServing with the end of the log."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(errors="replace")[-2000:]
            raise NotServing(f"{process.args!r} does not serve {url}:\n{said}")
        time.sleep(0.1)


def answers(url: str) -> bool:
    try:
        with LOOPBACK_ONLY.open(url, timeout=2) as response:
            return int(response.status) == 200
    except (urllib.error.URLError, OSError):
        return False


def process_table() -> dict[int, ProcessTime]:
    """Every process, from /proc/PID/stat (proc(5)): ppid is field 4, utime to cstime are 14 to 17."""
    table = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended since the directory was listed
        table[int(entry.name)] = ProcessTime(int(fields[1]), sum(map(int, fields[11:15])))
    return table


def cpu_seconds(root: int) -> float:
    """User and system time that a process and all its descendants have used so far."""
    table = process_table()
    family = [root]
    for member in family:
        family += [pid for pid, process in table.items() if process.parent == member]
    return sum(table[member].ticks for member in family) / TICKS_PER_SECOND
