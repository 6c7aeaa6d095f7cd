"""The panel's lists of calls: who sees which, filtered, however many there are, whatever callers wrote."""

from __future__ import annotations

import html
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import reading
from accounts.ids import uuid7
from accounts.models import ApiKey, Tenant, User
from accounts.reading import first_id
from accounts.tenancy import operator_scope
from proxy.models import OpenCall, UsageRecord
from tests.accounts.conftest import acme, alice, bob, charlie, globex

__all__ = ["acme", "alice", "bob", "charlie", "globex"]
LIST = "/admin/proxy/usagerecord/"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ODD = (
    *("<script>alert(1)</script>", '=HYPERLINK("x")', "two\nlines", "\u2028", "\u202egpt", "x" * 200),
    *('" onmouseover="alert(1)', "{{ 7 }}", "</time>"),
)


def record(tenant: Tenant, **values: Any) -> UsageRecord:
    """Whose id says, as every call's does, when it began."""
    came_in = first_id(values.get("started_at", NOON)).int
    known: dict[str, Any] = {
        "id": UUID(int=came_in + uuid7().int % 2**76),
        "tenant_id": tenant.id,
        "endpoint": "chat.completions",
        "model": "gpt-4o-mini",
        "stream": False,
        "started_at": NOON,
        "ended_at": NOON,
        "status": "completed",
        "upstream": "openai",
        "estimated": False,
        "duration_milliseconds": 1500,
    }
    with operator_scope():
        made: UsageRecord = UsageRecord.objects.create(**{**known, **values})
    return made


@pytest.fixture
def root(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def shown(client: Client, **query: Any) -> str:
    answer = client.get(LIST, query)
    assert answer.status_code == 200, answer.headers
    return answer.content.decode()


def ids(page: str, records: list[UsageRecord]) -> list[UsageRecord]:
    return [each for each in records if f"/{each.id}/change/" in page]


def test_it_finds_calls_by_what_they_were(
    root: Client, acme: Tenant, globex: Tenant, alice: User, bob: User
) -> None:
    with operator_scope():
        key = ApiKey.objects.create(tenant=acme, user=alice, name="ci", prefix="sk-x", digest="0" * 64)
    first = record(acme, user_id=alice.pk, api_key_id=key.pk, status="lost", error_code="worker_lost")
    second = record(globex, model="o3", upstream="azure", started_at=NOON - timedelta(days=2))
    third = record(acme, user_id=bob.pk, started_at=datetime.now(UTC))
    records = [first, second, third]
    wanted: list[tuple[dict[str, object], list[UsageRecord]]] = [
        ({}, records),
        ({"tenant": "acme"}, [first, third]),
        ({"tenant": "nobodys"}, []),
        ({"status": "lost"}, [first]),
        ({"model": "o3"}, [second]),
        ({"upstream": "azure", "tenant": "acme"}, []),
        ({"user": "bob@acme.test"}, [third]),
        ({"user": "nobody"}, []),
        ({"api_key": key.pk}, [first]),
        ({"api_key": "x"}, []),
        ({"when": "1h"}, [third]),
        ({"started_from": NOON.isoformat()}, [first, third]),
        ({"started_from": "2026-11-18T00:00:00Z", "started_before": NOON.isoformat()}, [second]),
        ({"tenant": "acme", "started_before": "2026-11-21T12:00:01+00:00"}, [first]),
        ({"q": str(first.id)}, [first]),
        ({"q": f" req_{second.id.hex}"}, [second]),
        ({"q": "O3"}, [second]),
        ({"q": "worker_"}, [first]),
        ({"q": str(uuid4())}, []),
    ]
    for query, found in wanted:
        assert ids(shown(root, **query), records) == found, query
    exported = html.unescape(html.unescape(shown(root, tenant="acme", status="lost", when="1h")))
    assert "/api/usage/export/?format=csv&tenant=acme&status=lost&started_from=" in exported


@pytest.mark.parametrize(
    "query",
    [
        {"_facets": "True"},
        {"started_from": "soon"},
        {"after": "x"},
        {"after": str(UUID(int=7))},
        {"p": "x"},
        {"model": "\0"},
    ],
)
def test_it_does_not_break_on_what_cannot_be_meant(root: Client, acme: Tenant, query: dict[str, str]) -> None:
    record(acme)
    assert root.get(LIST, query).status_code in (200, 302, 400)


def test_it_shows_each_what_they_may_see(
    acme: Tenant, alice: User, bob: User, charlie: User, globex: Tenant
) -> None:
    ours, bobs, theirs = record(acme, user_id=alice.pk), record(acme, user_id=bob.pk), record(globex)
    records = [ours, bobs, theirs]
    assert ids(shown(client_of(alice)), records) == [ours, bobs]
    assert ids(shown(client_of(bob)), records) == [bobs]
    assert ids(shown(client_of(charlie)), records) == [theirs]
    assert ids(shown(client_of(alice), q=str(theirs.id)), records) == []
    assert f"tenant={acme.id}" in shown(client_of(alice))
    detail = client_of(alice).get(f"{LIST}{bobs.id}/change/").content.decode()
    assert "bob@acme.test" in detail
    for client, row in ((client_of(alice), theirs), (client_of(bob), ours)):
        assert client.get(f"{LIST}{row.id}/change/").status_code == 404
        assert client.get(LIST, {"upstream": "openai", "tenant": "globex"}).status_code == 400


def test_it_tells_all_of_a_call(root: Client, acme: Tenant, alice: User) -> None:
    attempts = [{"upstream": "azure", "outcome": "503"}, {"upstream": "openai", "outcome": "200"}]
    row = record(
        acme,
        user_id=alice.pk,
        attempts=attempts,
        cost_nano_usd=1_250_000,
        input_tokens=1234,
        first_byte_milliseconds=250,
    )
    page = root.get(f"{LIST}{row.id}/change/").content.decode()
    for told in ("$0.00125", "<li>azure: 503</li><li>openai: 200</li>", "250 ms", "1.5 s", "alice@acme.test"):
        assert told in page
    assert "1,234 → ?" in shown(root)
    assert "no upstream was asked" in root.get(f"{LIST}{record(acme).id}/change/").content.decode()


def test_it_shows_what_callers_wrote_as_text(root: Client, acme: Tenant) -> None:
    rows = [
        record(acme, model=name, attempts=[{"upstream": name, "outcome": name}], error_code=name[:64])
        for name in ODD
    ]
    for page in (shown(root), *(root.get(f"{LIST}{row.id}/change/").content.decode() for row in rows)):
        assert "<script>alert" not in page
        assert 'onmouseover="alert' not in page
    for name in ODD:
        assert shown(root, model=name, q=name[:100])


def test_it_looks_through_a_part_at_a_time(
    root: Client, acme: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LOOKED_THROUGH", 3)
    records = [record(acme, started_at=NOON + timedelta(seconds=n)) for n in range(7)]
    records.sort(key=lambda row: row.id, reverse=True)
    for query, in_order in (
        ({}, records),
        ({"tenant": "acme"}, sorted(records, key=lambda row: row.started_at, reverse=True)),
    ):
        page = shown(root, **query)
        assert set(ids(page, records)) == set(in_order[:3])
        page = shown(root, **query, after=in_order[2].id)
        assert set(ids(page, records)) == set(in_order[3:6])
        assert f"after={in_order[5].id}" in page
        assert set(ids(shown(root, **query, after=in_order[5].id), records)) == set(in_order[6:])
    assert ids(shown(root, q=str(records[-1].id)), records) == [records[-1]]


def test_it_asks_as_much_for_many_as_for_few(root: Client, acme: Tenant, alice: User) -> None:
    shown(root)
    asked = []
    for _ in range(2):
        for _ in range(5):
            record(acme, user_id=alice.pk)
        with CaptureQueriesContext(connection) as queries:
            shown(root)
        asked.append(len(queries))
    assert asked[0] == asked[1]
    assert not [each for each in queries if "COUNT" in each["sql"] and "LIMIT" not in each["sql"]]


def test_it_shows_calls_in_flight(root: Client, acme: Tenant, alice: User, bob: User) -> None:
    with operator_scope():
        call = OpenCall.objects.create(
            id=uuid7(),
            tenant_id=acme.id,
            user_id=alice.pk,
            endpoint="chat.completions",
            model="<b>",
            stream=True,
            started_at=datetime.now(UTC),
            worker_id=uuid4(),
            input_tokens_estimate=1,
        )
    for client, seen in ((root, True), (client_of(alice), True), (client_of(bob), False)):
        page = client.get("/admin/proxy/opencall/").content.decode()
        assert (str(call.id) in page) is seen
        assert "<b>" not in page
