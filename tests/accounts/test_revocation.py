"""A key that one process revokes, in others that had let it in: real processes, one database."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.databases import database
from tests.server import PROJECT, plain_environment

SECRET = "shared-by-all-of-acme"
SECONDS = 1.0

Environment = Mapping[str, str]


@pytest.fixture
def environment(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Of processes that share a database of the test's own, and no Redis."""
    shared = plain_environment() | {
        "DJANGO_SETTINGS_MODULE": os.environ["DJANGO_SETTINGS_MODULE"],
        "DATA_DIR": str(tmp_path),
        "SECRET_KEY": "a secret of the tests, long enough to be taken for one",
        "REDIS_URL": "",
    }
    with ExitStack() as stack:
        if os.environ.get("DATABASE_URL"):
            url = request.getfixturevalue("postgres_url")
            shared["DATABASE_URL"] = stack.enter_context(database(url, f"tollgate_tests_{os.getpid()}_keys"))
        yield shared


def run(command: str, environment: Environment) -> None:
    subprocess.run(
        [sys.executable, "-m", "tests.accounts.process", command, SECRET],
        env=environment,
        cwd=PROJECT,
        check=True,
    )


@contextmanager
def serving(environment: Environment) -> Iterator[Iterator[str]]:
    """What a serving process says of the key, line by line."""
    command = [sys.executable, "-m", "tests.accounts.process", "serve", SECRET]
    with subprocess.Popen(
        command, env=environment, cwd=PROJECT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield (line.strip() for line in process.stdout)
        finally:
            process.kill()


def revoke_and_time(environment: Environment) -> float:
    """Seconds from the end of the revocation until two serving processes both refuse the key."""
    run("make", environment)
    with serving(environment) as first, serving(environment) as second:
        assert [next(first), next(second)] == ["in", "in"]
        run("revoke", environment)
        ended = time.monotonic()
        assert [next(first), next(second)] == ["out", "out"]
        return time.monotonic() - ended


def test_it_is_in_force_everywhere_within_a_second(environment: dict[str, str]) -> None:
    assert revoke_and_time(environment) < SECONDS


@pytest.mark.redis
def test_it_is_in_force_everywhere_within_a_second_through_redis(
    environment: dict[str, str], redis_url: str
) -> None:
    assert revoke_and_time(environment | {"REDIS_URL": redis_url}) < SECONDS


@pytest.mark.redis
def test_it_is_in_force_everywhere_within_a_second_when_redis_is_away(environment: dict[str, str]) -> None:
    assert revoke_and_time(environment | {"REDIS_URL": "redis://127.0.0.1:1"}) < SECONDS
