"""Who keeps house: one process an interval, and none while Celery does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F

from gateway import housekeeping
from proxy.models import Worker

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
