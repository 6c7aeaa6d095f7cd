"""/healthz and /readyz, asked as a load balancer asks them."""

from __future__ import annotations

import os
import signal
from uuid import UUID

import httpx
import psycopg
import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from psycopg import sql

from gateway.health import is_migrated
from tests.conftest import StartGateway
from tests.deadline import until
from tests.server import Gateway


def ask(gateway: Gateway, path: str, method: str = "GET") -> httpx.Response:
    return httpx.request(method, gateway.url + path, trust_env=False)


@pytest.mark.parametrize("path", ["/healthz", "/healthz/", "/readyz", "/readyz/"])
def test_it_is_well(gateway: Gateway, path: str) -> None:
    answer = ask(gateway, path)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert UUID(answer.headers["x-request-id"])
    assert ask(gateway, path, "HEAD").content == b""


def test_it_refuses_other_methods(gateway: Gateway) -> None:
    answer = ask(gateway, "/readyz", "POST")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_it_notices_that_a_migration_is_missing(db: None) -> None:
    assert is_migrated(False)
    MigrationRecorder(connection).migration_qs.filter(app="proxy").delete()
    assert not is_migrated(False)


@pytest.mark.postgres
def test_it_is_unready_without_its_database_and_says_so(
    start_gateway: StartGateway, postgres_url: str
) -> None:
    gateway = start_gateway()
    name = sql.Identifier(gateway.database_name)
    with psycopg.connect(postgres_url, autocommit=True) as operator:
        operator.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
    answer = ask(gateway, "/readyz")
    assert (answer.status_code, answer.json()["missing"]) == (503, ["database"])
    assert ask(gateway, "/healthz").status_code == 200


def test_it_becomes_unready_before_it_stops(start_gateway: StartGateway) -> None:
    gateway = start_gateway(SHUTDOWN_DELAY_SECONDS="30")
    os.kill(gateway.pid, signal.SIGTERM)
    until(lambda: ask(gateway, "/readyz").status_code == 503, what="unready")
    assert ask(gateway, "/readyz").json()["missing"] == ["draining"]
    assert ask(gateway, "/healthz").status_code == 200
    gateway.stop()  # the second signal is acted on at once
