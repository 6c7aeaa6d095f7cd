"""Celery as a deployment runs it: worker and beat of their own, beside a serving process."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from tests.conftest import StartGateway
from tests.deadline import until
from tests.server import PROJECT, Gateway, plain_environment

OPTIONS = {
    "worker": ["--pool", "threads", "--concurrency", "2", "--without-gossip", "--without-mingle"],
    "beat": [],
}


@contextmanager
def celery(
    gateway: Gateway, *roles: str, more: tuple[str, ...] = ()
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes of these roles, one each."""
    processes = []
    for role in roles:
        with open(gateway.folder / f"celery-{role}", "wb") as log:
            command = [sys.executable, "-m", "celery", "-A", "gateway", role, *OPTIONS[role], *more]
            processes.append(
                subprocess.Popen(command, cwd=PROJECT, env=gateway.environment, stdout=log, stderr=log)
            )
    try:
        yield processes
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)


def celery_was_seen(gateway: Gateway) -> bool:
    return bool(gateway.query("SELECT id FROM proxy_worker WHERE kind = 'celery'"))


@pytest.mark.redis
def test_it_keeps_house_and_leaves_its_sign_of_life(start_gateway: StartGateway, redis_url: str) -> None:
    gateway = start_gateway()
    with celery(gateway, "worker", "beat"):
        until(lambda: celery_was_seen(gateway), seconds=40, what="Celery's sign of life")
    log = (gateway.folder / "celery-worker").read_text()
    received = re.findall(r"gateway\.housekeeping\[([^]]+)\] received", log)
    assert len(received) == len(set(received)) > 0, "each message comes once"
    installation = str(gateway.query("SELECT id FROM accounts_installation")[0]["id"])
    with redis.Redis.from_url(redis_url) as client:
        left = [key.decode() for key in client.scan_iter("*celery*") if b"tollgate:" not in key]
        ours = list(client.scan_iter(f"tollgate:{installation}:celery:*"))
        client.delete(*ours)
    assert ours
    assert left == [], "every key carries the installation"


@pytest.mark.redis
def test_it_is_told_of_a_response_that_waits(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    with celery(gateway, "worker"):
        worker = "SELECT id FROM proxy_worker WHERE kind = 'worker'"
        until(lambda: gateway.query(worker), seconds=40, what="a worker that makes responses")
        asked = {"model": "gpt-test", "input": "Hi", "background": True}
        assert gateway.people["alice"].http.post("/v1/responses", json=asked).status_code == 200
        log = gateway.folder / "celery-worker"
        until(lambda: "gateway.make_responses" in log.read_text(), what="the message")
        made = "SELECT r.status FROM threads_storedresponse r JOIN proxy_worker w ON w.id = r.worker_id"
        finished = f"{made} WHERE r.status = 'completed' AND w.kind = 'worker'"
        until(lambda: gateway.query(finished), what="a response made in Celery")


@pytest.mark.redis
def test_a_worker_that_forks_makes_no_responses(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    with celery(gateway, "worker", more=("--pool", "prefork")):
        log = gateway.folder / "celery-worker"
        until(lambda: "with --pool threads only" in log.read_text(), seconds=40, what="its complaint")
    assert gateway.query("SELECT id FROM proxy_worker WHERE kind = 'worker'") == []


def test_it_says_that_it_needs_redis() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "gateway", "beat"],
        cwd=PROJECT,
        env=plain_environment() | {"SECRET_KEY": "any"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ended.returncode != 0
    assert "Celery needs REDIS_URL" in ended.stdout + ended.stderr
