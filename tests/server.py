"""A gateway as users run it: `manage.py quickstart` in a process of its own, on a database of its own."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import psycopg
from openai import OpenAI
from psycopg.rows import dict_row

from gateway.environment import read_file
from tests.deadline import until
from tests.services import free_port
from tests.warm import Warm

PROJECT = Path(__file__).resolve().parent.parent
START_SECONDS = 40.0
STOP_SECONDS = 20.0
BOOTSTRAP_API_KEY = "sk-tests-bootstrap-key-0123456789"
SECURITY_KEY = "tests-default-security-key"
UPSTREAM_API_KEY = "sk-upstream-secret-canary"
Row = dict[str, Any]
_MARKERS = itertools.count(1)


def plain_environment() -> dict[str, str]:
    """What a process needs to run at all, and nothing of the developer's own .env files."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    ignored = read_file(PROJECT / ".env") | read_file(PROJECT / ".env.local")
    return kept | dict.fromkeys(ignored, "")


@dataclass(frozen=True)
class Person:
    """A caller: a user of a tenant, with a key of their own and the one that the tenant shares."""

    name: str
    tenant: str
    api_key: str
    security_key: str
    gateway: Gateway

    @cached_property
    def http(self) -> httpx.Client:
        """A client that sends the API key; closed with the gateway."""
        headers = {"authorization": f"Bearer {self.api_key}"}
        return self.gateway.closing.enter_context(
            httpx.Client(base_url=self.gateway.url, headers=headers, timeout=30, trust_env=False)
        )

    @cached_property
    def sdk(self) -> OpenAI:
        """OpenAI's own client, with the API key, without its retries; closed with the gateway."""
        return self.gateway.closing.enter_context(
            OpenAI(api_key=self.api_key, base_url=f"{self.gateway.url}/v1", max_retries=0, timeout=30)
        )


class Gateway:
    """The server process and the way to its database. `environment` adds to or replaces its variables."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.port = free_port()
        self.closing = ExitStack()
        self.database_url = environment.get("DATABASE_URL")
        self.environment = plain_environment() | {
            "PORT": str(self.port),
            "DATA_DIR": str(folder / "data"),
            "BOOTSTRAP_API_KEY": BOOTSTRAP_API_KEY,
            "SECURITY_KEY": SECURITY_KEY,
            "SHUTDOWN_DELAY_SECONDS": "0",
            **environment,
        }
        self.people = {person.name: person for person in cast_of(self)}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "The server is not running."
        return self._process.pid

    @property
    def database_name(self) -> str:
        """What its database is called on PostgreSQL."""
        assert self.database_url, "It is on SQLite."
        return urlsplit(self.database_url).path.removeprefix("/")

    def __enter__(self) -> Self:
        acme, globex = list(self.people.values())[:2], [self.people["charlie"]]
        document = {"tenants": [tenant_document(acme), tenant_document(globex)]}
        (self.folder / "people.yaml").write_text(json.dumps(document))  # JSON is YAML
        self.environment.setdefault("CONFIG_FILE", str(self.folder / "people.yaml"))
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.close()
        self.stop()

    # The process

    def start(self) -> None:
        """Returns when /readyz answers 200."""
        with open(self.folder / "stderr", "ab") as errors, open(self.folder / "stdout", "ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "quickstart"],
                cwd=PROJECT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
        try:
            until(self._ready, seconds=START_SECONDS, what="the gateway's start")
        except AssertionError as error:
            self.kill9()
            raise AssertionError(f"{error}\n{self.log()[-1500:]}") from None

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"The gateway ended with status {self._process.returncode}."
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """SIGTERM, as a deployment does it; killed when it does not end in time."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise
        self._process = None

    def kill9(self) -> None:
        """SIGKILL to it and to every process it started."""
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(self.pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stops it, unless it was killed before, and starts it on the same port and database."""
        self.stop()
        self.start()

    def log(self) -> str:
        """What it wrote to stderr so far: its log."""
        return (self.folder / "stderr").read_text(errors="replace")

    def output(self) -> str:
        """What it printed for the person who started it."""
        return (self.folder / "stdout").read_text(errors="replace")

    # Its configuration

    def manage(self, *arguments: str) -> str:
        """The output of a management command, run beside the server on the same database."""
        ended = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def apply(self, document: Mapping[str, object]) -> str:
        """`manage.py apply` with this configuration document."""
        path = self.folder / "applied.yaml"
        path.write_text(json.dumps(document))  # JSON is YAML
        return self._warm.run("apply", str(path))

    @cached_property
    def _warm(self) -> Warm:
        return self.closing.enter_context(closing(Warm(self.environment)))

    def configure(self, document: Mapping[str, list[object]]) -> None:
        """Applies the document, and waits until the running server goes by it."""
        marker = f"applied-{next(_MARKERS)}"
        routes = [{"upstream": "demo"}]
        models = [*document.get("models", []), {"name": marker, "routes": routes}]
        self.apply({**document, "models": models})
        until(lambda: marker in self._model_names(), seconds=5, what="the change to be in force")

    def _model_names(self) -> list[str]:
        listed = self.people["alice"].http.get("/v1/models").json()["data"]
        return [entry["id"] for entry in listed]

    def tenant(self, slug: str, people: Iterable[str] = ("owner",)) -> list[Person]:
        """Makes a tenant with these people, the first its owner; their keys may use every model."""
        made = [person(name, slug, self) for name in people]
        self.configure({"tenants": [tenant_document(made)]})
        return made

    # Its database

    def query(self, statement: str, *parameters: object) -> list[Row]:
        """Rows as an operator sees them, as the database gives them; placeholders are %s."""
        if self.database_url:
            with psycopg.connect(self.database_url, row_factory=dict_row, autocommit=True) as connection:
                connection.execute("SELECT set_config('tollgate.scope', 'operator', false)")
                cursor = connection.cursor()
                cursor.execute(statement.encode(), parameters)
                return cursor.fetchall() if cursor.description else []
        plain = [value.hex if isinstance(value, UUID) else value for value in parameters]
        path = self.folder / "data" / "tollgate.sqlite3"
        with closing(sqlite3.connect(path, timeout=10)) as database, database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(statement.replace("%s", "?"), plain)]

    def usage_of(self, request_id: str, seconds: float = 5.0) -> Row:
        """The one usage record of an answer's x-request-id, waiting until there is one."""
        id_ = UUID(request_id.removeprefix("req_"))
        rows = until(lambda: self.usage("id = %s", id_), seconds=seconds, what=f"usage record {id_}")
        assert len(rows) == 1
        return rows[0]

    def usage(self, condition: str = "1 = 1", *parameters: object) -> list[Row]:
        """Usage records in order of their ids, with the same Python types from both databases."""
        statement = f"SELECT * FROM proxy_usagerecord WHERE {condition} ORDER BY id"
        return [_typed(row) for row in self.query(statement, *parameters)]

    def open_calls(self) -> int:
        """How many calls are in flight, as the ledger sees it."""
        return int(self.query("SELECT count(*) AS calls FROM proxy_opencall")[0]["calls"])


def cast_of(gateway: Gateway) -> list[Person]:
    """alice owns acme, bob works there, charlie owns globex."""
    places = (("alice", "acme"), ("bob", "acme"), ("charlie", "globex"))
    return [person(name, tenant, gateway) for name, tenant in places]


def person(name: str, tenant: str, gateway: Gateway) -> Person:
    return Person(name, tenant, f"sk-tests-{tenant}-{name}-key", f"tests-{tenant}-security-key", gateway)


def tenant_document(people: list[Person]) -> dict[str, object]:
    """The configuration file's entry for the tenant of these people, of whom the first is the owner."""
    slug = people[0].tenant
    members = [
        {"email": f"{person.name}@{slug}.test", "role": "member" if position else "owner"}
        for position, person in enumerate(people)
    ]
    keys = [
        {"name": person.name, "user": f"{person.name}@{slug}.test", "secret": person.api_key}
        for person in people
    ]
    return {
        "slug": slug,
        "name": slug.title(),
        "security_keys": [{"name": "main", "secret": people[0].security_key}],
        "members": members,
        "api_keys": keys,
    }


def _typed(row: Row) -> Row:
    """SQLite has no booleans, UUIDs or JSON of its own."""
    typed = dict(row)
    for name in ("id", "tenant_id", "api_key_id", "security_key_id"):
        if isinstance(row[name], str):
            typed[name] = UUID(row[name])
    for name in ("estimated", "stream"):
        typed[name] = bool(row[name])
    if isinstance(row["attempts"], str):
        typed["attempts"] = json.loads(row["attempts"])
    return typed
