"""Responses that wait to be made: who gets them, and what becomes of those that nobody makes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import Tenant
from accounts.tenancy import operator_scope
from tests.threads.turns import begun, finished
from threads import queue, responses
from threads.models import StoredResponse
from threads.responses import Status

WORKER, OTHER = UUID(int=1), UUID(int=2)


def queued(tenant: Tenant, **more: Any) -> UUID:
    """A response that waits; its id."""
    waiting = begun(tenant, status=Status.QUEUED, background=True, request=b"{}", worker_id=None, **more)
    queue.put(tenant.id, waiting)
    return waiting.id


def row(tenant: Tenant, response_id: UUID) -> StoredResponse:
    return responses.get(tenant.id, response_id)


def claimed(worker: UUID = WORKER, **more: Any) -> UUID | None:
    response = responses.claim(worker, **more)
    return response.id if response else None


def test_it_gives_out_the_oldest_first_and_each_once(acme: Tenant, globex: Tenant) -> None:
    ids = [queued(tenant, id=uuid7()) for tenant in (acme, globex, acme)]
    assert [claimed() for _ in range(4)] == [*sorted(ids), None]


def test_it_says_that_it_is_in_progress_and_whose(acme: Tenant) -> None:
    response_id = queued(acme)
    assert json.loads(row(acme, response_id).body)["status"] == "queued"
    assert claimed() == response_id
    response = row(acme, response_id)
    assert (response.status, response.worker_id, response.attempts) == (Status.IN_PROGRESS, WORKER, 1)
    assert json.loads(response.body)["status"] == "in_progress"


def test_it_passes_over_tenants_that_have_enough(acme: Tenant, globex: Tenant) -> None:
    queued(acme)
    of_globex = queued(globex)
    assert claimed(passing_over={acme.id}) == of_globex
    assert claimed(passing_over={acme.id}) is None


def test_it_takes_a_thousand_of_a_tenant_and_no_more(
    acme: Tenant, globex: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "MOST_QUEUED", 3)
    for _ in range(3):
        queued(acme)
    with pytest.raises(queue.QueueFull):
        queued(acme)
    queued(globex)
    claimed()
    queued(acme)


@pytest.mark.usefixtures("database_threads")
def test_one_of_many_that_claim_at_once_gets_it(acme: Tenant) -> None:
    response_id = queued(acme)

    def claim(_: int) -> UUID | None:
        try:
            return claimed(uuid4())
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(claim, range(8)))
    assert [each for each in got if each] == [response_id]


def test_it_gives_back_what_cannot_be_made_now(acme: Tenant) -> None:
    response_id = queued(acme)
    claimed()
    later = timezone.now() + timedelta(minutes=1)
    assert not responses.requeue(acme.id, response_id, OTHER, later)
    assert responses.requeue(acme.id, response_id, WORKER, later)
    assert claimed() is None
    with operator_scope():
        StoredResponse.objects.update(not_before=timezone.now() - timedelta(minutes=1))
    assert claimed() == response_id
    assert row(acme, response_id).attempts == 1


def test_it_postpones_what_would_be_refused_alike_and_nothing_else(acme: Tenant) -> None:
    key, ids = uuid4(), sorted(uuid7() for _ in range(4))  # of one millisecond they are in no order
    first, alike = (queued(acme, api_key_id=key, id=id_) for id_ in ids[:2])
    by_another_key = queued(acme, api_key_id=uuid4(), id=ids[2])
    for_another_model = queued(acme, api_key_id=key, model="m", id=ids[3])
    assert claimed() == first
    queue.postpone(row(acme, first), timezone.now() + timedelta(minutes=1))
    assert {claimed(), claimed(), claimed()} == {by_another_key, for_another_model, None}
    assert row(acme, alike).status == Status.QUEUED


def test_it_knows_who_makes_what(acme: Tenant) -> None:
    made, done = queued(acme), queued(acme)
    claimed(), claimed()
    waiting = queued(acme)
    responses.finish(acme.id, done, finished())
    assert queue.held_by(WORKER) == {made}
    assert queue.producers([made, waiting, done, uuid4()]) == {made: WORKER, waiting: None}


@pytest.mark.parametrize(
    ("produced", "cancelled", "status"),
    [
        (False, False, Status.QUEUED),
        (True, False, Status.FAILED),
        (False, True, Status.CANCELLED),
        (True, True, Status.CANCELLED),
    ],
)
def test_it_lets_down_what_its_worker_does_not_make(
    acme: Tenant, produced: bool, cancelled: bool, status: str
) -> None:
    response_id = queued(acme)
    claimed()
    if produced:
        responses.note_produced(acme.id, response_id)
    if cancelled:
        responses.request_cancel(acme.id, response_id)
    assert queue.let_down(OTHER, [response_id]) == []
    [orphan] = queue.let_down(WORKER, [response_id])
    assert orphan.status == row(acme, response_id).status == status


def test_it_is_made_again_once_and_then_has_failed(acme: Tenant) -> None:
    response_id = queued(acme)
    for status in (Status.QUEUED, Status.FAILED):
        claimed()
        assert [each.status for each in responses.fail_orphans([OTHER])] == [status]
    body = json.loads(row(acme, response_id).body)
    assert (body["status"], body["error"]["code"]) == ("failed", "server_error")


def test_a_worker_thought_dead_ends_nothing(acme: Tenant) -> None:
    response_id = queued(acme)
    claimed()
    responses.fail_orphans([])
    claimed(OTHER)
    assert not responses.finish(acme.id, response_id, finished(), WORKER)
    assert responses.finish(acme.id, response_id, finished(), OTHER)


def test_it_leaves_what_living_workers_make(acme: Tenant) -> None:
    queued(acme)
    claimed()
    assert responses.fail_orphans([WORKER]) == []
    with operator_scope():
        assert StoredResponse.objects.filter(status=Status.IN_PROGRESS).count() == 1
