"""Responses that wait for a worker, and those whose worker is gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import Tenant
from tests.databases import database
from tests.server import PROJECT, plain_environment
from tests.threads.turns import begun, finished, message, queued, said_before, turn
from threads import history, responses
from threads.errors import NotFound
from threads.models import StoredResponse
from threads.pages import Page
from threads.responses import Orphan, Status

WORKER = uuid7()


def enqueue(tenant: Tenant, **more: Any) -> UUID:
    begin = queued(tenant, **more)
    responses.begin(tenant.id, begin)
    return begin.id


def state(tenant: Tenant, response: UUID) -> tuple[str, str]:
    """What the row and the body say of its status."""
    row = responses.get(tenant.id, response)
    return row.status, json.loads(row.body)["status"]


def claimed(tenant: Tenant, worker: UUID = WORKER) -> UUID:
    enqueue(tenant)
    row = responses.claim(worker)
    assert row is not None
    return row.id


def test_it_gives_a_worker_the_oldest_one(acme: Tenant, globex: Tenant) -> None:
    first, second = sorted((uuid7(), uuid7()))
    enqueue(globex, id=second)
    enqueue(acme, id=first, request=b'{"model": "demo"}')
    row = responses.claim(WORKER)
    assert row is not None
    assert (row.id, row.tenant_id, row.request, row.attempts) == (first, acme.id, '{"model": "demo"}', 1)
    assert state(acme, first) == ("in_progress", "in_progress")
    assert state(globex, second) == ("queued", "queued")


def test_it_gives_none_away_that_is_not_waiting(acme: Tenant) -> None:
    turn(acme, "hello")
    responses.begin(acme.id, begun(acme, message("hello")))
    assert responses.claim(WORKER) is None


def test_it_ends_well_with_its_items(acme: Tenant) -> None:
    response = claimed(acme)
    assert responses.finish(acme.id, response, finished(message("hi", "assistant")), WORKER)
    row = responses.get(acme.id, response)
    assert (row.status, row.request, row.pending_input) == ("completed", "", "")
    assert row.ended_at is not None
    assert said_before(acme, response) == ["hello", "hi"]


def test_it_keeps_the_thread_that_it_waits_to_go_on_from(acme: Tenant) -> None:
    first = turn(acme, "one")
    second = enqueue(acme, past=history.past_of_response(acme.id, first))
    responses.delete(acme.id, first)
    responses.claim(WORKER)
    assert responses.finish(acme.id, second, finished(message("hi", "assistant")))
    assert said_before(acme, second) == ["one", "re: one", "hello", "hi"]


def test_it_is_cancelled_at_once_while_it_waits(acme: Tenant) -> None:
    response = enqueue(acme)
    assert responses.request_cancel(acme.id, response).status == "cancelled"
    assert state(acme, response) == ("cancelled", "cancelled")
    assert responses.claim(WORKER) is None
    assert responses.still_wanted([response]) == set()


def test_it_is_left_to_its_worker_to_cancel_while_it_runs(acme: Tenant) -> None:
    response, other = claimed(acme), claimed(acme)
    assert responses.request_cancel(acme.id, response).status == "in_progress"
    assert responses.still_wanted([response, other]) == {other}
    assert responses.finish(acme.id, response, finished(status=Status.CANCELLED), WORKER)
    assert responses.request_cancel(acme.id, response).status == "cancelled"


def test_it_stays_what_it_is_when_it_is_cancelled_too_late(acme: Tenant) -> None:
    response = turn(acme, "hello", background=True)
    assert responses.request_cancel(acme.id, response).status == "completed"
    assert said_before(acme, response) == ["hello", "re: hello"]


def test_it_is_not_wanted_any_more_when_it_is_deleted(acme: Tenant) -> None:
    response = claimed(acme)
    responses.delete(acme.id, response)
    assert responses.still_wanted([response]) == set()
    assert not responses.finish(acme.id, response, finished())


def test_it_ends_once(acme: Tenant) -> None:
    response = claimed(acme)
    assert responses.finish(acme.id, response, finished(message("first", "assistant")))
    assert not responses.finish(acme.id, response, finished(message("second", "assistant")))
    assert said_before(acme, response) == ["hello", "first"]


def test_it_fails_when_its_worker_is_gone_after_something_was_seen_of_it(acme: Tenant) -> None:
    response = claimed(acme)
    responses.note_produced(acme.id, response)
    assert responses.fail_orphans([]) == [Orphan(response, acme.id, "failed")]
    body = json.loads(responses.get(acme.id, response).body)
    assert (body["status"], body["error"]["code"]) == ("failed", "server_error")
    assert body["error"]["message"]
    assert list(body) == ["id", "status", "error"]


def test_it_fails_when_the_process_is_gone_that_made_it_in_the_foreground(acme: Tenant) -> None:
    begin = begun(acme, message("hello"))
    responses.begin(acme.id, begin)
    assert responses.fail_orphans([]) == [Orphan(begin.id, acme.id, "failed")]
    assert [item.type for item in responses.input_items(acme.id, begin.id, Page()).data] == ["message"]


def test_it_is_cancelled_when_its_worker_is_gone_that_was_to_cancel_it(acme: Tenant) -> None:
    response = claimed(acme)
    responses.request_cancel(acme.id, response)
    assert responses.fail_orphans([]) == [Orphan(response, acme.id, "cancelled")]
    assert state(acme, response) == ("cancelled", "cancelled")


def test_it_leaves_alone_what_the_living_have_and_what_has_ended(acme: Tenant) -> None:
    response = claimed(acme)
    turn(acme, "hello")
    enqueue(acme)
    assert responses.fail_orphans([WORKER]) == []
    assert state(acme, response) == ("in_progress", "in_progress")


def test_it_is_not_charlies_to_cancel_end_or_put_back(acme: Tenant, globex: Tenant) -> None:
    response = claimed(acme)
    with pytest.raises(NotFound, match=r"^response$"):
        responses.request_cancel(globex.id, response)
    assert not responses.finish(globex.id, response, finished())
    assert not responses.requeue(globex.id, response, WORKER, timezone.now())
    responses.note_produced(globex.id, response)
    row: StoredResponse = responses.get(acme.id, response)
    assert (row.status, row.produced, row.cancel_requested) == ("in_progress", False, False)


# Processes


@pytest.fixture
def environment(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Of processes that share a database of the test's own."""
    shared = plain_environment() | {
        "DJANGO_SETTINGS_MODULE": os.environ["DJANGO_SETTINGS_MODULE"],
        "DATA_DIR": str(tmp_path),
        "SECRET_KEY": "a secret of the tests, long enough to be taken for one",
    }
    with ExitStack() as stack:
        if os.environ.get("DATABASE_URL"):
            url = request.getfixturevalue("postgres_url")
            shared["DATABASE_URL"] = stack.enter_context(
                database(url, f"tollgate_tests_{os.getpid()}_claims")
            )
        yield shared


def test_it_gives_each_one_to_one_of_several_processes(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "tests.threads.claiming"]
    subprocess.run([*command, "make", "40"], env=environment, cwd=PROJECT, check=True)
    with ExitStack() as stack:
        claimers = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, "claim"],
                    env=environment,
                    cwd=PROJECT,
                    text=True,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            for _ in range(3)
        ]
        assert all(claimer.stdout and claimer.stdout.readline() == "ready\n" for claimer in claimers)
        for claimer in claimers:
            assert claimer.stdin
            claimer.stdin.write("go\n")
            claimer.stdin.flush()
        got = [claimer.communicate(timeout=30)[0].split() for claimer in claimers]
    assert len([response for ids in got for response in ids]) == 40
    assert len({response for ids in got for response in ids}) == 40
