"""Every limit and budget as one snapshot, each name in it resolved to what it names.

Rules add up: one for each key and one for a key by name both hold for that key.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from accounts.models import ApiKey, Budget, Limit, SecurityKey, User
from accounts.tenancy import operator_scope
from accounts.windows import window

SubjectId = int | uuid.UUID | str


@dataclass(frozen=True, slots=True)
class LimitRule:
    """A `Limit`. It is for one user's id, key's id, IP address or model's name; None: for each one alone.

    `queue_seconds` is None where a call that exceeds it is rejected at once.
    """

    id: uuid.UUID
    scope: str
    subject_id: SubjectId | None
    requests_per_second: int | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrent: int | None
    queue_seconds: int | None


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """A `Budget`, for one user's or key's id, or for each one (None)."""

    id: uuid.UUID
    scope: str
    subject_id: SubjectId | None
    amount_nano_usd: int
    period: str
    allow_unpriced: bool
    timezone: str

    def window(self, now: datetime) -> tuple[datetime, datetime]:
        """When the window that `now` is in began, and when it ends, in UTC."""
        return window(self.period, now, self.timezone)


@dataclass(frozen=True, slots=True)
class TenantRules:
    """All that a tenant's calls are held to."""

    limits: tuple[LimitRule, ...]
    budgets: tuple[BudgetRule, ...]


def load_rules() -> dict[uuid.UUID, TenantRules]:
    """By tenant; one without limits and budgets is not there. A database job.

    What names a user or key that is gone holds for nobody, until there is one of that name again.
    """
    with operator_scope():
        limits = list(Limit.objects.order_by("scope", "name"))
        budgets = list(Budget.objects.select_related("tenant").order_by("scope", "name", "period"))
        subjects = Subjects([*limits, *budgets])
    found: dict[uuid.UUID, tuple[list[LimitRule], list[BudgetRule]]] = {}
    for limit in limits:
        of_limits, _ = found.setdefault(limit.tenant_id, ([], []))
        of_limits += [limit_rule(limit, subject_id) for subject_id in subjects.of(limit)]
    for budget in budgets:
        _, of_budgets = found.setdefault(budget.tenant_id, ([], []))
        of_budgets += [budget_rule(budget, subject_id) for subject_id in subjects.of(budget)]
    return {tenant_id: TenantRules(tuple(a), tuple(b)) for tenant_id, (a, b) in found.items() if a or b}


class Subjects:
    """Whom the names of some rows mean. Asks the database once for all of them, as operators may."""

    def __init__(self, rows: Collection[Limit | Budget]) -> None:
        users = {row.name for row in rows if row.scope == "user" and row.name}
        keys = {row.name for row in rows if row.scope == "key" and row.name}
        self._users = {name: user.pk for name, user in User.objects.named(users).items()}
        self._keys: dict[tuple[uuid.UUID, str], list[uuid.UUID]] = {}
        for table in (ApiKey.objects, SecurityKey.objects):
            for tenant_id, name, key_id in table.filter(name__in=keys).values_list("tenant", "name", "id"):
                self._keys.setdefault((tenant_id, name), []).append(key_id)

    def of(self, row: Limit | Budget) -> list[SubjectId | None]:
        """Two for a name that both an API key and a security key have: each is held to the row alone."""
        if not row.name:
            return [None]
        if row.scope == "user":
            return [self._users[row.name]] if row.name in self._users else []
        if row.scope == "key":
            return [*self._keys.get((row.tenant_id, row.name), ())]
        return [row.name]


def limit_rule(row: Limit, subject_id: SubjectId | None) -> LimitRule:
    """What a row comes to, for one subject or for each."""
    return LimitRule(
        id=row.id,
        scope=row.scope,
        subject_id=subject_id,
        requests_per_second=row.requests_per_second,
        requests_per_minute=row.requests_per_minute,
        tokens_per_minute=row.tokens_per_minute,
        concurrent=row.concurrent,
        queue_seconds=row.queue_seconds if row.when_exceeded == Limit.WhenExceeded.QUEUE else None,
    )


def budget_rule(row: Budget, subject_id: SubjectId | None) -> BudgetRule:
    """As `limit_rule`; the row comes with its tenant."""
    return BudgetRule(
        id=row.id,
        scope=row.scope,
        subject_id=subject_id,
        amount_nano_usd=row.amount_nano_usd,
        period=row.period,
        allow_unpriced=row.allow_unpriced,
        timezone=row.tenant.timezone,
    )
