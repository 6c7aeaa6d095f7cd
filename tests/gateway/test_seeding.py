"""Made-up usage."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.models import Spend, Tenant
from accounts.tenancy import operator_scope
from proxy.models import UsageRecord, UsageTail
from proxy.usage_query import Question, Scope
from proxy.usage_report import breakdown


def test_it_makes_up_calls_that_are_added_up_and_none_beside_real_ones(transactional_db: None) -> None:
    call_command("seed_usage", records=300, days=3, tenants=2)
    now = timezone.now()
    with operator_scope():
        question = Question(Scope(None), now - timedelta(days=4), now)
        total, lines = breakdown(question, "tenant", "model", "key")
        assert (total.calls, UsageRecord.objects.count(), UsageTail.objects.count()) == (300, 300, 0)
        assert {line.group[0] for line in lines["tenant"]} == set(Tenant.objects.values_list("id", flat=True))
        spent = Spend.objects.filter(subject__startswith="tenant:").values_list("amount_nano_usd", flat=True)
        assert 0 < sum(spent) <= total.cost_nano_usd
    with pytest.raises(CommandError, match="--force"):
        call_command("seed_usage", records=1)
