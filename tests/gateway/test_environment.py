"""What the environment may say, and how it is told that it cannot mean it."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.databases import postgres
from gateway.environment import Environment, EnvironmentMistake, gather, read_file
from gateway.keyring import encryption_keys, kept_secret_key
from tests.server import PROJECT, plain_environment


def start(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`manage.py check`, as a start would be."""
    return subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=PROJECT,
        env=plain_environment() | {"DATA_DIR": str(tmp_path / "data")} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("PORT", "70000"),
        ("WORKERS", "0"),
        ("DJANGO_DEBUG", "maybe"),
        ("DATABASE_URL", "mysql://localhost/tollgate"),
        ("REDIS_URL", "localhost:6379"),
        ("TRUSTED_PROXIES", "10.0.0.0/99"),
        ("REQUEST_TIMEOUT_SECONDS", "soon"),
        ("REQUEST_TIMEOUT_SECONDS", "0"),
        ("OPENAI_BASE_URL", "api.openai.com/v1"),
        ("ENCRYPTION_KEYS", "one:two"),
        ("LOG_LEVEL", "loud"),
        ("DATA_DIR", "/proc/no/such/folder"),
    ],
)
def test_it_refuses_to_start_on_a_value_that_cannot_be_meant(tmp_path: Path, name: str, value: str) -> None:
    ended = start(tmp_path, **{name: value})
    assert ended.returncode != 0
    assert ended.stderr.startswith(f"tollgate cannot start: {name}")
    assert len(ended.stderr.splitlines()) == 1


def test_it_refuses_more_than_one_worker_on_sqlite_and_says_why(tmp_path: Path) -> None:
    ended = start(tmp_path, WORKERS="2")
    assert ended.returncode != 0
    assert "WORKERS must be 1 with SQLite" in ended.stderr
    assert "DATABASE_URL" in ended.stderr


def test_it_passes_the_deployment_checks_behind_tls(tmp_path: Path) -> None:
    environment = plain_environment() | {"DATA_DIR": str(tmp_path), "BEHIND_TLS": "true"}
    ended = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ended.returncode == 0, ended.stderr


def test_it_takes_an_empty_value_for_none() -> None:
    assert Environment({"PORT": ""}).whole("PORT", 8000, low=1, high=65535) == 8000


def test_it_remembers_which_names_it_was_asked_for() -> None:
    environment = Environment({})
    environment.flag("ONE", False)
    environment.words("TWO")
    assert environment.names == {"ONE", "TWO"}


def test_it_never_shows_what_the_environment_holds() -> None:
    assert "hush" not in repr(Environment({"SECRET_KEY": "hush"}))


def test_it_reads_env_files_with_the_real_environment_winning(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ONE=1\nTWO=2\nTHREE=3\n")
    (tmp_path / ".env.local").write_text("TWO=two\nTHREE=three\n")
    assert gather(tmp_path, {"THREE": "III"}) == {"ONE": "1", "TWO": "two", "THREE": "III"}


def test_it_reads_quotes_comments_and_exports(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(
        "# a comment\n\nexport A=plain # told\nB='single # kept'\n"
        'C="double" # told\nD=with#hash\nE=   # told\nF = spaced \n'
    )
    assert read_file(file) == {
        "A": "plain",
        "B": "single # kept",
        "C": "double",
        "D": "with#hash",
        "E": "",
        "F": "spaced",
    }


def test_it_names_the_line_of_an_env_file_that_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nnot a variable\n")
    with pytest.raises(EnvironmentMistake, match=r"\.env, line 2"):
        read_file(tmp_path / ".env")


def test_it_reads_every_part_of_a_database_url() -> None:
    parts = postgres("postgres://us%40er:p%2Fw@db.test:6432/toll%20gate?sslmode=require")
    assert (parts["USER"], parts["PASSWORD"]) == ("us@er", "p/w")
    assert (parts["HOST"], parts["PORT"], parts["NAME"]) == ("db.test", "6432", "toll gate")
    assert parts["OPTIONS"]["sslmode"] == "require"


def test_it_takes_a_unix_socket_from_a_database_url() -> None:
    parts = postgres("postgresql://postgres@/name?host=/tmp/folder&port=5433")
    assert (parts["HOST"], parts["PORT"], parts["NAME"]) == ("/tmp/folder", "5433", "name")


def test_it_makes_one_secret_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    first = kept_secret_key(tmp_path)
    assert kept_secret_key(tmp_path) == first
    assert len(first) >= 64
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["secret_key"]


def test_it_seals_with_the_first_key_given_and_still_knows_the_derived_one() -> None:
    given = base64.b64encode(bytes(32)).decode()
    derived = encryption_keys([], "a secret")
    keys = encryption_keys([f"00000001:{given}"], "a secret")
    assert list(keys) == ["00000001", *derived]
    assert keys["00000001"] == bytes(32)
