"""Limits and budgets in the admin panel. How full they are stands beside them in gateway/admin.py."""

from __future__ import annotations

from decimal import Decimal

from django.contrib import admin
from django.http import HttpRequest

from accounts.models import LARGEST_BUDGET_NANO_USD, Budget, Limit
from accounts.money import NANO, dollars
from accounts.panel import AuditedAdmin, DollarsField, RowForm, TenantFilter


class ScopedAdmin(AuditedAdmin):
    """What limits and budgets have in common. What one holds for stays; it may hold for more or less."""

    lasting: tuple[str, ...] = ("tenant", "scope", "name")
    list_select_related = ("tenant",)
    search_fields = ("name", "tenant__slug")
    autocomplete_fields = ("tenant",)

    def get_readonly_fields(self, request: HttpRequest, obj: Limit | Budget | None = None) -> tuple[str, ...]:
        return () if obj is None else self.lasting


class LimitAdmin(ScopedAdmin):
    resource = "limits"
    list_filter = (TenantFilter, "scope")
    list_display = ("__str__", "tenant", "allows", "exceeded")
    fields = (
        *("tenant", "scope", "name", "requests_per_second", "requests_per_minute"),
        *("tokens_per_minute", "concurrent", "when_exceeded", "queue_seconds"),
    )

    @admin.display(description="allows")
    def allows(self, limit: Limit) -> str:
        told = (
            (limit.requests_per_second, "requests per second"),
            (limit.requests_per_minute, "requests per minute"),
            (limit.tokens_per_minute, "tokens per minute"),
            (limit.concurrent, "calls at once"),
        )
        return ", ".join(f"{number:,} {what}" for number, what in told if number is not None)

    @admin.display(description="when exceeded")
    def exceeded(self, limit: Limit) -> str:
        if limit.when_exceeded == Limit.WhenExceeded.REJECT:
            return "refused"
        return f"queues, {limit.queue_seconds} s at most"


class BudgetForm(RowForm):
    amount_nano_usd = DollarsField(
        label="Amount in $",
        min_value=Decimal(1) / NANO,
        max_value=LARGEST_BUDGET_NANO_USD // NANO,
        error_messages={"min_value": "A budget is more than nothing."},
    )

    class Meta:
        model = Budget
        fields = ("tenant", "scope", "name", "period", "amount_nano_usd", "allow_unpriced")


class BudgetAdmin(ScopedAdmin):
    resource = "budgets"
    form = BudgetForm
    lasting = (*ScopedAdmin.lasting, "period")
    list_display = ("__str__", "tenant", "amount", "period", "allow_unpriced")
    list_filter = (TenantFilter, "scope", "period")

    @admin.display(description="amount", ordering="amount_nano_usd")
    def amount(self, budget: Budget) -> str:
        return dollars(budget.amount_nano_usd)
