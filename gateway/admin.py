"""The pages of keys, limits and budgets, with what only higher apps than accounts know of them: how full they
are, and what a key has used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts.actors import names_of
from accounts.key_pages import ApiKeyAdmin, CredentialAdmin, SecurityKeyAdmin
from accounts.limit_pages import BudgetAdmin, LimitAdmin, ScopedAdmin
from accounts.models import ApiKey, Budget, Credential, Limit, SecurityKey
from accounts.money import dollars
from accounts.rules import SubjectId
from proxy.fullness import Fill, fills, pairs_for, pairs_of
from proxy.key_usage import DAYS, SPEND_DAYS, KeyUse, last_call, uses
from proxy.usage_report import Sums

SHOWN = 20


def meter(fill: Fill) -> SafeString:
    """A bar, and its words for those who do not see it."""
    scale = 'min="0" max="1" low="0.7" high="0.9" optimum="0"'
    bar = f'<span class="filled"><meter class="fill" {scale} value="{{}}"></meter> {{}}</span>'
    return format_html(bar, f"{min(1.0, max(0.0, fill.share)):.3f}", fill.words)


def not_used(key: Credential) -> str:
    """Since what is looked through began."""
    return "never" if key.created_at > timezone.now() - timedelta(days=DAYS - 1) else f"not in {DAYS} days"


def told(sums: Sums) -> str:
    """What some calls cost, as far as anybody knows."""
    if sums.cost is None and sums.calls:
        return "unpriced"
    spent = dollars(sums.cost_nano_usd)
    return f"{spent} and {sums.unpriced:,} unpriced" if sums.unpriced else spent


class MeasuredAdmin(ScopedAdmin):
    """Limits and budgets, and how full they are."""

    def prepare(self, rows: Sequence[Any]) -> None:
        """With how full the fullest of those is whom each is for."""
        fullest: dict[UUID, Fill] = {}
        for fill in fills(pairs_of(rows)):
            fullest.setdefault(fill.rule_id, fill)
        for row in rows:
            row.fullest = fullest.get(row.id)

    def get_list_display(self, request: HttpRequest) -> Sequence[Any]:
        name, *others = super().get_list_display(request)
        return (name, "how_full", *others)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[Any]:
        shown = [name for name in super().get_fields(request, obj) if name != "subjects"]
        return shown if obj is None else (*shown, "subjects")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*super().get_readonly_fields(request, obj), "subjects")

    @admin.display(description="fullest")
    def how_full(self, row: Any) -> str:
        return "–" if row.fullest is None else meter(row.fullest)

    @admin.display(description="how full now")
    def subjects(self, row: Any) -> str:
        kept = self.model._default_manager.select_related("tenant").get(pk=row.pk)  # whatever is typed
        found = fills(pairs_of([kept]))
        names = named(kept, found[:SHOWN])
        if not found:
            return "Nobody is counted, or nobody can tell."
        return listed((names[fill.subject], fill) for fill in found[:SHOWN])


def listed(rows: Iterable[tuple[str, Fill]]) -> SafeString:
    lines = [(name, meter(fill)) for name, fill in rows]
    return format_html(
        '<ul class="fills">{}</ul>', format_html_join("", "<li><b>{}</b> <span>{}</span></li>", lines)
    )


def named(row: Limit | Budget, found: Sequence[Fill]) -> dict[SubjectId, str]:
    """What people call those who are counted."""
    subjects = [fill.subject for fill in found]
    ids = [subject for subject in subjects if isinstance(subject, UUID)]
    users = names_of({subject for subject in subjects if isinstance(subject, int)})
    names: dict[object, str] = {row.tenant_id: row.tenant.slug, **dict(users.items())}
    for table in (ApiKey.objects, SecurityKey.objects):
        names |= dict(table.of(row.tenant_id).filter(id__in=ids).values_list("id", "name"))
    return {subject: names.get(subject, str(subject)) for subject in subjects}


class KeyPages(CredentialAdmin):
    """Keys, with what they have been used for, and the limits and budgets that hold for their calls."""

    list_per_page = 50

    def get_list_display(self, request: HttpRequest) -> Sequence[Any]:
        shown = [name for name in super().get_list_display(request) if name != "created_at"]
        return [*shown[:-1], "last_day", "spent", shown[-1]]

    def prepare(self, rows: Sequence[Any]) -> None:
        """With what they have been used for."""
        found = uses(rows, timezone.now())
        for row in rows:
            row.use = found.get(row.id, KeyUse())

    @admin.display(description="last used")
    def last_day(self, key: Any) -> str:
        day: datetime | None = key.use.last_day
        return not_used(key) if day is None else date_format(day, "DATE_FORMAT")

    @admin.display(description=f"{SPEND_DAYS} days")
    def spent(self, key: Any) -> str:
        return told(key.use.sums)

    def get_fields(self, request: HttpRequest, obj: Credential | None = None) -> Sequence[str]:
        shown = super().get_fields(request, obj)
        return shown if obj is None else (*shown, "last_used", "used", "held_to")

    def get_readonly_fields(self, request: HttpRequest, obj: Credential | None = None) -> Sequence[str]:
        return (*super().get_readonly_fields(request, obj), "last_used", "used", "held_to")

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        row = super().get_object(request, object_id, from_field)
        self.prepare([] if row is None else [row])
        return row

    @admin.display(description="last used")
    def last_used(self, key: Any) -> str:
        day = key.use.last_day
        if day is None:
            return not_used(key)
        at = last_call(key.tenant_id, key.id, day)
        return date_format(day, "DATE_FORMAT") if at is None else date_format(at, "DATETIME_FORMAT")

    @admin.display(description=f"in {SPEND_DAYS} days")
    def used(self, key: Any) -> str:
        calls = key.use.sums.calls
        return f"{told(key.use.sums)}, {calls:,} call{'' if calls == 1 else 's'}"

    @admin.display(description="limits and budgets")
    def held_to(self, key: Any) -> str:
        tables: tuple[type[Model], ...] = (Limit, Budget)
        rows = [
            row
            for table in tables
            for row in table._default_manager.of(key.tenant_id).select_related("tenant")  # type: ignore[attr-defined]
        ]
        subjects: dict[str, SubjectId] = {"tenant": key.tenant_id, "key": key.id}
        if isinstance(key, ApiKey):
            subjects["user"] = key.user_id
        names = {row.id: str(row) for row in rows}
        found = fills(pairs_for(rows, subjects))
        return listed((names[fill.rule_id], fill) for fill in found) if found else "none"


@admin.register(Limit)
class LimitPages(MeasuredAdmin, LimitAdmin):
    pass


@admin.register(Budget)
class BudgetPages(MeasuredAdmin, BudgetAdmin):
    pass


@admin.register(ApiKey)
class ApiKeyPages(KeyPages, ApiKeyAdmin):
    pass


@admin.register(SecurityKey)
class SecurityKeyPages(KeyPages, SecurityKeyAdmin):
    pass
