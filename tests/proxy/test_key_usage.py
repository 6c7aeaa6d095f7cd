"""When keys were last used, and what they spent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from accounts.models import ApiKey, Tenant
from accounts.tenancy import operator_scope, tenant_scope
from proxy.key_usage import DAYS, SPEND_DAYS, last_call, uses
from proxy.rollups import roll_up
from tests.recording import record, settle

NOW = datetime(2026, 3, 28, 12, 34, 56, tzinfo=UTC)


@pytest.fixture
def acme(db: None) -> Tenant:
    with operator_scope():
        return Tenant.objects.create(slug="acme", name="Acme")


@pytest.mark.parametrize("rolled", [False, True])
def test_it_tells_the_last_use_and_the_spending_of_each_key(acme: Tenant, rolled: bool) -> None:
    busy, idle, shared, unused = uuid4(), uuid4(), uuid4(), uuid4()
    long_ago = NOW - timedelta(days=SPEND_DAYS + 5)
    settle(
        record(acme.id, NOW - timedelta(minutes=20), api_key_id=busy),
        record(acme.id, NOW, api_key_id=busy, cost_nano_usd=None),
        record(acme.id, long_ago, api_key_id=idle),
        record(acme.id, NOW - timedelta(days=1), security_key_id=shared),
        record(acme.id, NOW - timedelta(days=DAYS + 1), api_key_id=unused),
    )
    if rolled:
        roll_up()
    with operator_scope():
        found = uses([ApiKey(id=id_, tenant=acme) for id_ in (busy, idle, shared, unused)], NOW)
        stranger = ApiKey(tenant_id=uuid4())
        assert uses([ApiKey(id=busy, tenant=acme), stranger], NOW) == {busy: found[busy]}
        assert uses([ApiKey(id=busy, tenant_id=stranger.tenant_id)], NOW) == {}
        assert uses([], NOW) == {}
    assert set(found) == {busy, idle, shared}
    assert found[busy].last_day == datetime(2026, 3, 28, tzinfo=UTC)
    spent = found[busy].sums
    assert (spent.calls, spent.cost_nano_usd, spent.unpriced) == (2, 1000, 1)
    assert found[idle].sums.calls == 0
    assert found[idle].last_day == long_ago.replace(hour=0, minute=0, second=0)
    with tenant_scope(acme.id):
        for key, at in ((busy, NOW), (idle, long_ago), (shared, NOW - timedelta(days=1))):
            last_day = found[key].last_day
            assert last_day is not None
            assert last_call(acme.id, key, last_day) == at


def test_it_tells_a_tenant_nothing_of_anothers_keys(acme: Tenant) -> None:
    with operator_scope():
        globex = Tenant.objects.create(slug="globex", name="Globex")
    key = uuid4()
    settle(record(acme.id, NOW, api_key_id=key))
    with tenant_scope(globex.id):
        assert last_call(globex.id, key, NOW.replace(hour=0, minute=0, second=0)) is None
