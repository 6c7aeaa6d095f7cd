"""`limits` and `budgets`: what a tenant's calls are held to, and how full each budget is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.api.fields import Asked, DollarsField, TenantField, Written
from accounts.api.resource import Altered, Made, Removed
from accounts.models import LARGEST_BUDGET_NANO_USD, Budget, Limit, Spend
from accounts.money import dollars

FULLEST = 10


class LimitBody(Written[Limit]):
    lasting = ("tenant", "scope", "name")
    tenant = TenantField(required=False)

    class Meta:
        model = Limit
        fields = (
            *("id", "tenant", "scope", "name", "requests_per_second", "requests_per_minute"),
            *("tokens_per_minute", "concurrent", "when_exceeded", "queue_seconds", "created_at"),
        )
        read_only_fields = ("id", "created_at")
        validators: list[Any] = []


class LimitsAsked(Asked):
    scope = serializers.ChoiceField(Limit.Scope.choices, required=False)
    name = serializers.CharField(required=False, allow_blank=True)


class Limits(Made, Altered, Removed):
    """How many calls and tokens, and how many calls at once."""

    resource, noun = "limits", "limit"
    serializer_class = LimitBody
    asked = LimitsAsked
    orderings = ("id", "created_at", "scope", "name")

    def rows(self) -> QuerySet[Any]:
        return Limit.objects.select_related("tenant")


class Subject(serializers.Serializer[Any]):
    """One of those whom a budget is for, and what they spent in its present window."""

    subject = serializers.CharField(help_text="Such as key:<id>, user:<id>, tenant:<id>.")
    spent_usd = DollarsField(source="amount_nano_usd")
    left_usd = DollarsField()


class BudgetBody(Written[Budget]):
    lasting = ("tenant", "scope", "name", "period")
    tenant = TenantField(required=False)
    amount_usd = DollarsField(source="amount_nano_usd")
    window_start = serializers.SerializerMethodField()
    fullest = serializers.SerializerMethodField(help_text="The ten that have spent most in this window.")

    class Meta:
        model = Budget
        fields = (
            *("id", "tenant", "scope", "name", "amount_usd", "period", "allow_unpriced"),
            *("window_start", "fullest", "created_at"),
        )
        read_only_fields = ("id", "created_at")
        validators: list[Any] = []

    def validate_amount_usd(self, nano: int) -> int:
        """In dollars: the column's own rule would speak of nano-dollars."""
        if not 0 < nano <= LARGEST_BUDGET_NANO_USD:
            largest = dollars(LARGEST_BUDGET_NANO_USD)
            raise serializers.ValidationError(f"This must be more than $0, and {largest} at most.")
        return nano

    @extend_schema_field(serializers.DateTimeField)
    def get_window_start(self, budget: Budget) -> str:
        return str(_window(budget).isoformat())

    @extend_schema_field(Subject(many=True))
    def get_fullest(self, budget: Budget) -> list[dict[str, str]]:
        return [
            {
                "subject": spend.subject,
                "spent_usd": dollars(spend.amount_nano_usd).removeprefix("$"),
                "left_usd": dollars(max(0, budget.amount_nano_usd - spend.amount_nano_usd)).removeprefix("$"),
            }
            for spend in self.context["spent"][budget.id]
        ]


class BudgetsAsked(LimitsAsked):
    scope = serializers.ChoiceField(Budget.Scope.choices, required=False)
    period = serializers.ChoiceField(Budget.Period.choices, required=False)


class Budgets(Made, Altered, Removed):
    """How much may be spent in a day, a week, a month, or in total."""

    resource, noun = "budgets", "budget"
    serializer_class = BudgetBody
    asked = BudgetsAsked
    orderings = ("id", "created_at", "scope", "name", "period")

    def rows(self) -> QuerySet[Any]:
        return Budget.objects.select_related("tenant")

    def context_of(self, rows: Sequence[Any]) -> dict[str, Any]:
        spent: dict[UUID, list[Spend]] = defaultdict(list)
        for budget in rows:
            theirs = Spend.objects.of(budget.tenant_id).filter(budget=budget, window_start=_window(budget))
            spent[budget.id] = list(theirs.order_by("-amount_nano_usd")[:FULLEST])
        return {"spent": spent}


def _window(budget: Budget) -> Any:
    return budget.window_start(timezone.now(), budget.tenant.timezone)
