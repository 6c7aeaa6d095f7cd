"""Budgets as they burn down: what is left of each, since its window began, and where that leads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from zoneinfo import ZoneInfo

from accounts.models import ApiKey, Budget, Spend
from accounts.windows import NEVER, window
from gateway.dashboard.numbers import round_money, share
from gateway.dashboard.period import Period
from gateway.dashboard.viewer import Viewer
from proxy.usage_query import Question, Value
from proxy.usage_report import over_time

MOST_BUDGETS = 20
MOST_SUBJECTS = 3  # of a budget that is for each user or key: those who have spent most
MOST_SHOWN = 12
_TELLING_SECONDS = 6 * 3600  # of spending, which say something of what is to come
_TOTAL_DAYS = 30  # how far back a budget without windows is shown
_COST = ("calls", "cost_nano_usd", "unpriced")


@dataclass(frozen=True, slots=True)
class BurnDown:
    """One whom a budget is for. `left` are nano-dollars at each of the period's bounds up to now, and
    None from there on; empty where the viewer may not see what others spent when."""

    budget: Budget
    group: str
    subject: Value
    spent_nano_usd: int
    period: Period
    left: tuple[int | None, ...]
    forecast: str

    @property
    def amount(self) -> str:
        return round_money(self.budget.amount_nano_usd)

    @property
    def spent(self) -> str:
        return round_money(self.spent_nano_usd)

    @property
    def left_over(self) -> str:
        return round_money(max(0, self.budget.amount_nano_usd - self.spent_nano_usd))

    @property
    def share(self) -> str:
        return share(self.spent_nano_usd, self.budget.amount_nano_usd)

    @property
    def id(self) -> str:
        return f"budget-{self.budget.pk.hex}-{self.subject}"


def burn_downs(viewer: Viewer, now: datetime) -> list[BurnDown]:
    """Those of the viewer's tenant: the fullest first."""
    if viewer.tenant is None:
        return []
    found = []
    budgets = Budget.objects.of(viewer.tenant).order_by("scope", "name", "period")
    for budget in budgets[:MOST_BUDGETS]:
        start, end = window(budget.period, now, viewer.zone)
        for group, subject, spent in _subjects(viewer, budget, start):
            found.append((budget, group, subject, spent, start, end))
    found.sort(key=lambda each: each[3] / each[0].amount_nano_usd, reverse=True)
    return [_burn_down(viewer, now, *each) for each in found[:MOST_SHOWN]]


def _subjects(viewer: Viewer, budget: Budget, start: datetime) -> Iterator[tuple[str, Value, int]]:
    """Whom it is for and what they have spent in this window, as far as the viewer may see."""
    assert viewer.tenant is not None
    spends = Spend.objects.of(viewer.tenant).filter(budget=budget, window_start=start)
    own = viewer.scope.user_id
    if budget.scope == "user" and own is not None:
        spends = spends.filter(subject=f"user:{own}")
    if budget.scope == "key" and own is not None:
        keys = ApiKey.objects.of(viewer.tenant).filter(user_id=own).values_list("id", flat=True)
        spends = spends.filter(subject__in=[f"key:{key}" for key in keys])
    rows = list(spends.order_by("-amount_nano_usd")[:MOST_SUBJECTS])
    for row in rows:
        yield budget.scope, row.subject_id, row.amount_nano_usd
    if budget.scope == "tenant" and not rows:
        yield "tenant", viewer.tenant.pk, 0


def _burn_down(
    viewer: Viewer,
    now: datetime,
    budget: Budget,
    group: str,
    subject: Value,
    spent: int,
    start: datetime,
    end: datetime,
) -> BurnDown:
    shown = _shown(viewer.zone, now, start, end)
    left: tuple[int | None, ...] = ()
    if viewer.scope.user_id is None or group != "tenant":
        filters = {} if group == "tenant" else {group: (subject,)}
        question = Question(viewer.scope, shown.start, shown.end, viewer.zone, filters)
        left = _left(question, shown, now, budget.amount_nano_usd - spent)
    since = max(start, budget.created_at.astimezone(UTC))
    forecast = _forecast(now, since, end, budget.amount_nano_usd, spent, ZoneInfo(viewer.zone))
    return BurnDown(budget, group, subject, spent, shown, left, forecast)


def _shown(zone: str, now: datetime, start: datetime, end: datetime) -> Period:
    """The window; of one without an end, the last days."""
    there = ZoneInfo(zone)
    if end == NEVER:
        today = now.astimezone(there).date()
        return Period.between("budget", zone, today - timedelta(days=_TOTAL_DAYS - 1), today)
    last = end.astimezone(there) - timedelta(microseconds=1)
    return Period.between("budget", zone, start.astimezone(there).date(), last.date())


def _left(question: Question, shown: Period, now: datetime, left: int) -> tuple[int | None, ...]:
    """Backwards from what is left now: before each stretch there was as much more as it cost."""
    costs = [0] * (len(shown.bounds) - 1)
    for line in over_time(question, shown.bounds, wanted=_COST):
        costs[line.bucket] = line.sums.cost_nano_usd
    after = [left + more for more in accumulate(reversed(costs), initial=0)][::-1]
    current = sum(bound <= now for bound in shown.bounds)  # the bound that ends what is under way
    return tuple(value if number <= current else None for number, value in enumerate(after))


def _forecast(now: datetime, since: datetime, end: datetime, amount: int, spent: int, there: ZoneInfo) -> str:
    """Where spending as until now leads."""
    if spent >= amount:
        return "It is used up."
    elapsed = (now - since).total_seconds()
    if not spent:
        return "Nothing has been spent yet."
    if elapsed < min(_TELLING_SECONDS, (end - since).total_seconds() / 10):
        return "It has only begun: too early to tell how long it lasts."
    seconds = elapsed * (amount - spent) / spent
    if end == NEVER and seconds > 3 * 366 * 86_400:
        return "At this rate it lasts for years."
    if end == NEVER or now + timedelta(seconds=seconds) < end:
        when = (now + timedelta(seconds=seconds)).astimezone(there)
        return f"At this rate it is used up on {when:%-d %B %Y, %H:%M}."
    total = spent + round(spent * (end - now).total_seconds() / elapsed)
    return f"At this rate {round_money(total)} are spent by {end.astimezone(there):%-d %B, %H:%M}."


def values_of(found: Sequence[BurnDown]) -> dict[str, list[Value]]:
    """Whose names it takes to show these."""
    values: dict[str, list[Value]] = {}
    for each in found:
        values.setdefault(each.group, []).append(each.subject)
    return values
