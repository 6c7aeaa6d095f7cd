"""Who keeps house: one process an interval, and none while Celery does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F

from accounts.models import Tenant
from accounts.tenancy import operator_scope
from gateway import housekeeping
from proxy.models import Worker
from tests.threads.turns import turn
from threads.models import Item, StoredResponse

pytestmark = pytest.mark.django_db


def pass_time(seconds: int) -> None:
    """Every sign of life is that much older."""
    Worker.objects.update(seen_at=F("seen_at") - timedelta(seconds=seconds))


def test_it_keeps_house_once_an_interval() -> None:
    assert housekeeping.run_if_due()
    assert not housekeeping.run_if_due()
    pass_time(housekeeping.INTERVAL_SECONDS + 1)
    assert housekeeping.run_if_due()


def test_it_steps_back_while_celery_is_there() -> None:
    housekeeping.celery_was_here()
    pass_time(housekeeping.INTERVAL_SECONDS + 1)
    assert not housekeeping.run_if_due()


def test_it_takes_over_when_celery_is_gone() -> None:
    housekeeping.celery_was_here()
    pass_time(4 * housekeeping.INTERVAL_SECONDS)
    assert housekeeping.run_if_due()


def test_it_leaves_one_row_however_often_celery_comes_by() -> None:
    housekeeping.celery_was_here()
    housekeeping.celery_was_here()
    assert Worker.objects.filter(kind="celery").count() == 1


def test_it_removes_stored_responses_whose_time_is_over() -> None:
    with operator_scope():
        tenant = Tenant.objects.create(slug="acme", name="Acme")
    turn(tenant, "hello", retention_days=1)
    kept = turn(tenant, "hello", retention_days=2)
    with operator_scope():
        StoredResponse.objects.update(expires_at=F("expires_at") - timedelta(days=1))
    assert housekeeping.run_if_due()
    with operator_scope():
        assert set(StoredResponse.objects.values_list("id", flat=True)) == {kept}
        assert set(Item.objects.values_list("response_id", flat=True)) == {kept}
