"""What every test may ask for.

The engine is the one that DATABASE_URL names: PostgreSQL, else SQLite. `make test` runs all tests on
both; `pytest` alone runs them on SQLite, `python -m tests.services pytest` on PostgreSQL with Redis.
Tests marked `postgres`, `sqlite` or `redis` run only where that is what is there.

In this process, with pytest-django: `db`, `transactional_db`, `client`, … on PostgreSQL through an
ordinary login, so that forced row-level security bites.

Over real sockets:

* `upstream`: the scripted upstream (tests/upstreams/scripted.py), its log empty at the start of a test.
  `upstream.behave(model, options)`, `upstream.call(model)`, `upstream.ended(model)`, `upstream.calls()`.
* `gateway`: a running server whose upstream it is, shared by the whole run: `.url`, `.port`, `.pid`,
  `.query(sql, …)`, `.usage_of(request id)`, `.usage()`, `.open_calls()`, `.log()`, `.apply(document)`,
  `.tenant(slug)` for a tenant that no other test uses.
* `alice` (owner of acme), `bob` (her colleague), `charlie` (of globex): `.api_key`, `.security_key`,
  `.http` (httpx) and `.sdk` (openai), both authenticated.
* `start_gateway(**environment)`: another server on a database of its own, with the same people in
  `.people`, for tests that stop, kill or restart it, or need it configured otherwise. Its tables are a copy
  of others, unless it is started with `empty=True`.
* `llama`: the base URL of a real llama.cpp server with a tiny model; `chatkit_upstream`: that of a real
  ChatKit server, `prerelease_chatkit`: of one as before the release; `ai_sdk_4`, `ai_sdk_7`: addresses of
  real chat applications made with those AI SDKs.
* `redis_url`, `postgres_url`: the services themselves, or a skip that says what installs them.

`tests.machine.need("nginx", "apt-get install nginx-light")` skips a test where a program is missing.
With CI=true a skip is a failure.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import django
import psycopg
import pytest
from django.db import connection

from tests.cable import Cable
from tests.databases import database, migrate, ordinary_login
from tests.server import UPSTREAM_API_KEY, Gateway, Person, plain_environment
from tests.upstreams import programs
from tests.upstreams.scripted import ScriptedUpstream

GIVEN_DATABASE_URL = os.environ.get("DATABASE_URL") or None
GIVEN_REDIS_URL = os.environ.get("REDIS_URL") or None
ENGINES = {
    "postgres": bool(GIVEN_DATABASE_URL),
    "sqlite": not GIVEN_DATABASE_URL,
    "redis": bool(GIVEN_REDIS_URL),
}
DATABASE_FILE = "tollgate.sqlite3"
RUN = f"tollgate_tests_{os.getpid()}"

_data_folder = tempfile.TemporaryDirectory(prefix="tollgate-tests-")
os.environ |= plain_environment() | {
    "DJANGO_SETTINGS_MODULE": "gateway.settings",
    "DATABASE_URL": GIVEN_DATABASE_URL or "",
    "REDIS_URL": GIVEN_REDIS_URL or "",
    "DATA_DIR": _data_folder.name,
    "SECRET_KEY": "a secret of the tests, long enough to be taken for one",
}
django.setup()  # so that test modules, and the conftest files below this one, may import models


def pytest_unconfigure() -> None:
    _data_folder.cleanup()


# What leads to a database or a Redis. A test that asks for none of them is the same on every engine.
SERVERS = frozenset({"session_gateway", "start_gateway", "start_session_gateway"})
STORES = SERVERS | {"db", "transactional_db", "postgres_url", "redis_url", "django_db_setup"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests of an engine that this run is not on; a server of its own makes a test slow, and
    `make test-fast` starts none."""
    for item in items:
        fixtures = frozenset(getattr(item, "fixturenames", ()))
        if "start_gateway" in fixtures:
            item.add_marker(pytest.mark.slow)
        if fixtures & SERVERS:
            item.add_marker(pytest.mark.served)
        engines = any(item.get_closest_marker(name) for name in (*ENGINES, "django_db"))
        if not fixtures & STORES and not engines:
            item.add_marker(pytest.mark.pure)
    absent = [name for name, present in ENGINES.items() if not present]
    out = [item for item in items if any(item.get_closest_marker(name) for name in absent)]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"Skipped, and CI runs every test: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
    return report


# The database of this process


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """The PostgreSQL of this run through an ordinary login."""
    if GIVEN_DATABASE_URL is None:
        pytest.skip("PostgreSQL is not running for this run: python -m tests.services pytest")
    return ordinary_login(GIVEN_DATABASE_URL)


@pytest.fixture(scope="session")
def redis_url() -> str:
    if GIVEN_REDIS_URL is None:
        pytest.skip("Redis is not running for this run: python -m tests.services pytest")
    return GIVEN_REDIS_URL


@pytest.fixture(scope="session")
def django_db_modify_db_settings(request: pytest.FixtureRequest) -> None:
    """Points Django at a test database of this run's own."""
    if GIVEN_DATABASE_URL is None:
        return
    login = psycopg.conninfo.conninfo_to_dict(request.getfixturevalue("postgres_url"))
    connection.settings_dict["USER"] = login["user"]
    connection.settings_dict["PASSWORD"] = login.get("password", "")
    connection.settings_dict["TEST"]["NAME"] = f"{RUN}_django"


# Servers


@pytest.fixture(scope="session")
def session_upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(session_upstream: ScriptedUpstream) -> ScriptedUpstream:
    session_upstream.clear()
    return session_upstream


StartGateway = Callable[..., Gateway]


@pytest.fixture(scope="session")
def start_session_gateway(
    tmp_path_factory: pytest.TempPathFactory,
    session_upstream: ScriptedUpstream,
    request: pytest.FixtureRequest,
) -> Iterator[StartGateway]:
    """Starts servers that live as long as the run."""
    postgres = request.getfixturevalue("postgres_url") if GIVEN_DATABASE_URL else None
    with ExitStack() as stack:
        yield _starter(stack, tmp_path_factory, session_upstream, postgres, None)


@pytest.fixture
def start_gateway(
    tmp_path_factory: pytest.TempPathFactory,
    upstream: ScriptedUpstream,
    migrated: str,
    request: pytest.FixtureRequest,
) -> Iterator[StartGateway]:
    """Starts servers that live as long as the test: `start_gateway(REQUEST_TIMEOUT_SECONDS="2")`."""
    postgres = request.getfixturevalue("postgres_url") if GIVEN_DATABASE_URL else None
    with ExitStack() as stack:
        yield _starter(stack, tmp_path_factory, upstream, postgres, migrated)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database that has every table: its name on PostgreSQL, the path of its file else."""
    folder = tmp_path_factory.mktemp("migrated")
    environment = plain_environment() | {"DATA_DIR": str(folder)}
    if not GIVEN_DATABASE_URL:
        migrate(environment)
        yield str(folder / DATABASE_FILE)
        return
    name = f"{RUN}_migrated"
    with database(request.getfixturevalue("postgres_url"), name) as url:
        migrate(environment | {"DATABASE_URL": url})
        yield name


_numbers = itertools.count(1)


def _starter(
    stack: ExitStack,
    folders: pytest.TempPathFactory,
    upstream: ScriptedUpstream,
    postgres: str | None,
    migrated: str | None,
) -> StartGateway:
    def start(cable: Cable | None = None, *, empty: bool = migrated is None, **environment: str) -> Gateway:
        stores = {}
        folder = folders.mktemp("gateway")
        if postgres is not None:
            template = "template1" if empty or migrated is None else migrated
            made_database = database(postgres, f"{RUN}_{next(_numbers)}", template)
            stores["DATABASE_URL"] = stack.enter_context(made_database)
        elif migrated is not None and not empty:
            (folder / "data").mkdir(mode=0o700)
            shutil.copy(migrated, folder / "data" / DATABASE_FILE)
        if GIVEN_REDIS_URL is not None:
            stores["REDIS_URL"] = GIVEN_REDIS_URL
        upstreams = {"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": UPSTREAM_API_KEY}
        made = Gateway(folder, stores | upstreams | environment)
        if cable is not None:
            made.environment["DATABASE_URL"] = cable.through(stores["DATABASE_URL"])
        return stack.enter_context(made)

    return start


@pytest.fixture(scope="session")
def session_gateway(start_session_gateway: StartGateway) -> Gateway:
    return start_session_gateway()


@pytest.fixture
def gateway(session_gateway: Gateway, upstream: ScriptedUpstream) -> Gateway:
    return session_gateway


@pytest.fixture
def alice(gateway: Gateway) -> Person:
    return gateway.people["alice"]


@pytest.fixture
def bob(gateway: Gateway) -> Person:
    return gateway.people["bob"]


@pytest.fixture
def charlie(gateway: Gateway) -> Person:
    return gateway.people["charlie"]


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a real llama.cpp server; its model is tests/upstreams/memo.gguf."""
    with _llama(tmp_path_factory.mktemp("llama") / "log") as url:
        yield url


@pytest.fixture(scope="session")
def llama_embeddings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of another one, that answers embeddings instead of chat."""
    with _llama(tmp_path_factory.mktemp("llama") / "log", "--embeddings") as url:
        yield url


@contextmanager
def _llama(log: Path, *arguments: str) -> Iterator[str]:
    module = [sys.executable, "-m", "tests.upstreams.llama", "--port"]
    with programs.served(lambda port: [*module, str(port), *arguments], log, "/health") as url:
        yield f"{url}/v1"


@pytest.fixture(scope="session")
def chatkit_upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a ChatKit server made with the official SDK."""
    with programs.chatkit(tmp_path_factory.mktemp("chatkit") / "log") as url:
        yield url


@pytest.fixture(scope="session")
def prerelease_chatkit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a ChatKit server of before the release."""
    with programs.prerelease_chatkit(tmp_path_factory.mktemp("prerelease") / "log") as url:
        yield url


@pytest.fixture(scope="session")
def ai_sdk_4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a chat application made with AI SDK 4."""
    with programs.ai_sdk(4, tmp_path_factory.mktemp("ai_sdk_4") / "log") as url:
        yield url


@pytest.fixture(scope="session")
def ai_sdk_7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a chat application made with AI SDK 7."""
    with programs.ai_sdk(7, tmp_path_factory.mktemp("ai_sdk_7") / "log") as url:
        yield url
