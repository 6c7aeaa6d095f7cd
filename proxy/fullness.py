"""How full limits and budgets are at the moment, for pages: as the limiter has it (without Redis, that of the
process that is asked), and as the database has what was spent.

It is asked on Django's threads. A limiter that does not answer in time leaves limits out: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from uuid import UUID

from accounts.limits import Bucket, Demands, HoldState, Lease, LeaseState, Level, State
from accounts.models import ApiKey, Budget, Limit, Membership, SecurityKey, Spend
from accounts.money import dollars
from accounts.rules import BudgetRule, LimitRule, SubjectId, Subjects, budget_rule, limit_rule
from accounts.tenancy import operator_scope
from proxy.asgi import PLANE
from proxy.budgets import Charge
from proxy.demands import Asked, demands_of
from proxy.models import Model

MOST_SUBJECTS = 500  # of one row; who has more sees those that were made first
MOST_PAIRS = 2_000  # of one question
AT_ONCE = 500  # asked of the limiter in one step, which calls wait for

Pair = tuple[LimitRule | BudgetRule, SubjectId]


@dataclass(frozen=True, slots=True)
class Fill:
    """How much of what a rule lets one subject have is taken. `counts`: "requests per minute", "a month"."""

    rule_id: UUID
    subject: SubjectId
    counts: str
    taken: int
    limit: int
    in_dollars: bool = False

    @property
    def share(self) -> float:
        """From 0 to 1; above it, for a debt."""
        return self.taken / self.limit

    @property
    def words(self) -> str:
        """Such as "12 of 60 requests per minute"."""
        if self.in_dollars:
            return f"{dollars(self.taken)} of {dollars(self.limit)} {self.counts}"
        return f"{self.taken:,} of {self.limit:,} {self.counts}"


def pairs_of(rows: Sequence[Limit | Budget]) -> list[Pair]:
    """Each row's rule with every subject that it is known to be for. Rows come with their tenants.

    Only the limiter knows who called from which address: a limit for each of them is left out.
    """
    with operator_scope():
        named = Subjects(rows)
        everybody = {tenant_id: _Everybody(tenant_id) for tenant_id in {row.tenant_id for row in rows}}
        return [
            (_rule(row, subject_id), subject)
            for row in rows
            for subject_id in named.of(row)
            for subject in (
                [subject_id] if subject_id is not None else everybody[row.tenant_id].of(row.scope)
            )
        ]


def pairs_for(rows: Sequence[Limit | Budget], subjects: Mapping[str, SubjectId]) -> list[Pair]:
    """The rules among those that hold for somebody, whom each scope calls so."""
    with operator_scope():
        named = Subjects(rows)
    return [
        (_rule(row, subject_id), subjects[row.scope])
        for row in rows
        for subject_id in named.of(row)
        if row.scope in subjects and subject_id in (None, subjects[row.scope])
    ]


def _rule(row: Limit | Budget, subject_id: SubjectId | None) -> LimitRule | BudgetRule:
    return limit_rule(row, subject_id) if isinstance(row, Limit) else budget_rule(row, subject_id)


class _Everybody:
    """Those in a tenant whom a limit for each of them is for."""

    def __init__(self, tenant_id: UUID) -> None:
        self._tenant_id = tenant_id
        self._found: dict[str, list[SubjectId]] = {"tenant": [tenant_id], "ip": []}

    def of(self, scope: str) -> list[SubjectId]:
        if scope not in self._found:
            self._found[scope] = list(islice(self._look_up(scope), MOST_SUBJECTS))
        return self._found[scope]

    def _look_up(self, scope: str) -> Iterator[SubjectId]:
        if scope == "user":
            yield from Membership.objects.of(self._tenant_id).order_by("id").values_list("user_id", flat=True)
        elif scope == "key":
            for table in (ApiKey.objects, SecurityKey.objects):
                in_force = table.of(self._tenant_id).filter(revoked_at=None).order_by("id")
                yield from in_force.values_list("id", flat=True)[:MOST_SUBJECTS]
        else:
            names = Model.objects.of(self._tenant_id).exclude(name__contains="*").order_by("id")
            yield from names.values_list("name", flat=True)[:MOST_SUBJECTS]


def fills(pairs: Iterable[Pair]) -> list[Fill]:
    """Of every pair, the fullest first. A database job, which asks the limiter too."""
    now = datetime.now(UTC)
    limits: list[tuple[Asked, Pair]] = []
    budgets: list[_Budgeted] = []
    for rule, subject in islice(pairs, MOST_PAIRS):
        if isinstance(rule, LimitRule):
            limits += [(asked, (rule, subject)) for asked in demands_of(rule, subject) if _fills(asked)]
        else:
            start, _ = rule.window(now)
            charge = Charge.of(rule, f"{rule.scope}:{subject}", start)
            budgets.append(_Budgeted(rule, subject, start, charge))
    found = [*_of_limits(limits), *_of_budgets(budgets)]
    return sorted(found, key=lambda fill: fill.share, reverse=True)


def _fills(asked: Asked) -> bool:
    """Whether it is a count at all: where calls queue for evenly spaced starts, there is only a next one."""
    return not isinstance(asked.demand, Bucket) or asked.demand.capacity == asked.demand.limit


def _of_limits(limits: Sequence[tuple[Asked, Pair]]) -> Iterator[Fill]:
    for start in range(0, len(limits), AT_ONCE):
        part = sorted(limits[start : start + AT_ONCE], key=lambda each: isinstance(each[0].demand, Lease))
        demands = Demands(
            tuple(asked.demand for asked, _ in part if isinstance(asked.demand, Bucket)),
            tuple(asked.demand for asked, _ in part if isinstance(asked.demand, Lease)),
        )
        for (asked, (rule, subject)), state in zip(part, PLANE.states(demands) or (), strict=False):
            yield Fill(rule.id, subject, _counts(asked), _taken(state), asked.demand.limit)


def _counts(asked: Asked) -> str:
    if isinstance(asked.demand, Lease):
        return "calls at once"
    return f"{asked.counts} per {'second' if asked.demand.period_seconds == 1 else 'minute'}"


def _taken(state: State) -> int:
    if isinstance(state, LeaseState):
        return state.leases
    assert isinstance(state, Level)
    return state.limit - state.remaining


@dataclass(frozen=True, slots=True)
class _Budgeted:
    """A budget's present window for one subject."""

    rule: BudgetRule
    subject: SubjectId
    start: datetime
    charge: Charge


def _of_budgets(budgets: Sequence[_Budgeted]) -> Iterator[Fill]:
    """What is spent and what calls under way hold; where the limiter does not tell, what is spent alone."""
    spent = _spent(budgets)
    held: list[State] = []
    for start in range(0, len(budgets), AT_ONCE):
        part = budgets[start : start + AT_ONCE]
        holds = tuple(each.charge.hold(each.rule.amount_nano_usd) for each in part)
        held += PLANE.states(Demands(holds=holds)) or [HoldState(0, None, 0, 0)] * len(part)
    for each, state in zip(budgets, held, strict=True):
        assert isinstance(state, HoldState)
        taken = spent.get((each.rule.id, each.charge.subject, each.start), 0) + state.held
        period = "in total" if each.rule.period == Budget.Period.TOTAL else f"a {each.rule.period}"
        yield Fill(each.rule.id, each.subject, period, taken, each.rule.amount_nano_usd, in_dollars=True)


def _spent(budgets: Sequence[_Budgeted]) -> dict[tuple[UUID, str, datetime], int]:
    rows = Spend.objects.filter(
        budget_id__in={each.rule.id for each in budgets}, window_start__in={each.start for each in budgets}
    )
    return {(row.budget_id, row.subject, row.window_start): row.amount_nano_usd for row in rows}
