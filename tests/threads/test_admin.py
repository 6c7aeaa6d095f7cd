"""The panel's pages of threads and stored responses: what was said takes a right and a reason."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts.ids import uuid7
from accounts.models import AuditEntry, Membership, Tenant, User
from accounts.tenancy import operator_scope
from tests.accounts.conftest import acme, alice, globex, member
from threads import content
from threads.models import Item, StoredResponse, Thread

__all__ = ["acme", "alice", "globex"]
SAID = "<script>alert(1)</script>\u202e\u2028said"
WHY = {"reason": "A complaint <b>"}


@pytest.fixture
def thread(acme: Tenant) -> Thread:
    with operator_scope():
        made: Thread = Thread.objects.create(
            tenant=acme,
            conversation=True,
            title=f"title {SAID}",
            metadata={f"name {SAID}": f"value {SAID}"},
            end_user=f"user {SAID}",
            end=3,
        )
        for position in range(3):
            Item.objects.create(
                tenant=acme,
                thread=made,
                position=position,
                type="message",
                role="user",
                text=f"item {position} {SAID}",
                data='{"type":"message","content":"as it is kept"}',
            )
    return made


@pytest.fixture
def response(acme: Tenant, thread: Thread) -> StoredResponse:
    with operator_scope():
        made: StoredResponse = StoredResponse.objects.create(
            id=uuid7(),
            tenant=acme,
            thread=thread,
            kind="response",
            model=SAID,
            status="queued",
            background=True,
            body='{"output":"<script>alert(1)</script>"}',
            metadata={"name": f"value {SAID}"},
        )
    return made


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def path(row: Any, page: str) -> str:
    return f"/admin/threads/{row._meta.model_name}/{row.pk}/{page}/"


def readings() -> list[AuditEntry]:
    with operator_scope():
        return list(AuditEntry.objects.filter(action="read"))


def test_it_shows_what_was_said_for_a_reason_alone(alice: User, thread: Thread) -> None:
    client = client_of(alice)
    for page in (client.get("/admin/threads/thread/"), client.get(path(thread, "change"))):
        assert page.status_code == 200
        assert b"title " not in page.content
        assert b"item 0" not in page.content
    for asked in (client.get(path(thread, "content")), client.post(path(thread, "content"), {"reason": " "})):
        assert asked.status_code == 200
        assert b"item 0" not in asked.content
    assert not readings()
    told = client.post(path(thread, "content"), WHY).content.decode()
    for part in ("title ", "name ", "value ", "item 0", "item 2", "as it is kept"):
        assert part in told
    [entry] = readings()
    assert (entry.actor, entry.resource, entry.reason) == ("alice@acme.test", "threads", WHY["reason"])
    assert (entry.object_id, entry.tenant_id) == (str(thread.pk), thread.tenant_id)
    assert "said" not in entry.object_name


def test_it_shows_what_callers_wrote_as_text(
    admin_client: Client, thread: Thread, response: StoredResponse
) -> None:
    pages = [admin_client.get(f"/admin/threads/{table}/") for table in ("thread", "storedresponse")]
    for row in (thread, response):
        pages += [admin_client.get(path(row, "change")), admin_client.post(path(row, "content"), WHY)]
        pages.append(admin_client.get(path(row, "delete")))
    for page in pages[:-1]:
        assert page.status_code == 200
        assert b"<script>alert" not in page.content


def test_it_shows_it_a_part_at_a_time(
    admin_client: Client, thread: Thread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "AT_ONCE", 2)
    first = admin_client.post(path(thread, "content"), WHY).content.decode()
    assert "item 1" in first
    assert "item 2" not in first
    assert 'name="start" value="2"' in first
    rest = admin_client.post(path(thread, "content"), {**WHY, "start": 2}).content.decode()
    assert "item 2" in rest
    assert "Go on" not in rest
    assert len(readings()) == 2


def test_it_lets_nobody_read_who_may_not(acme: Tenant, globex: Tenant, thread: Thread) -> None:
    viewer = client_of(member(acme, "vera", Membership.Role.VIEWER))
    assert str(thread.id.hex) in viewer.get("/admin/threads/thread/").content.decode()
    assert b"Read what was said" not in viewer.get(path(thread, "change")).content
    outsider = client_of(member(globex, "olga", Membership.Role.OWNER))
    for client, status in ((viewer, 403), (outsider, 404), (Client(), 302)):
        assert client.get(path(thread, "content")).status_code == status
        assert client.post(path(thread, "content"), WHY).status_code == status
    assert not readings()


def test_it_finds_threads_by_their_id_and_their_user(admin_client: Client, thread: Thread) -> None:
    for query, found in (
        ({"q": f"conv_{thread.id.hex}"}, True),
        ({"q": str(thread.id)}, True),
        ({"q": thread.end_user}, True),
        ({"q": str(uuid7())}, False),
        ({"q": "user"}, False),
        ({"conversation__exact": "0"}, False),
    ):
        page = admin_client.get("/admin/threads/thread/", query).content.decode()
        assert (f"conv_{thread.id.hex}</a>" in page) is found, query


def test_it_shows_the_background_queue(admin_client: Client, response: StoredResponse) -> None:
    page = admin_client.get("/admin/threads/storedresponse/").content.decode()
    assert "1 waiting" in page
    assert "0 being made" in page
    for queue, found in (("waiting", True), ("making", False)):
        page = admin_client.get("/admin/threads/storedresponse/", {"queue": queue}).content.decode()
        assert (f"resp_{response.id.hex}</a>" in page) is found


def test_it_deletes_a_thread_with_what_is_in_it(
    alice: User, thread: Thread, response: StoredResponse
) -> None:
    client = client_of(alice)
    assert client.post(path(thread, "delete"), {"post": "yes"}).status_code == 302
    with operator_scope():
        assert not Item.objects.exists()
        assert not StoredResponse.objects.exists()
        [entry] = AuditEntry.objects.filter(action="delete")
    assert entry.object_name == f"conv_{thread.id.hex}"
