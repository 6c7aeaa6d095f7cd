"""What limits and budgets demand of the limiter for a call, and how a refusal is told. Pure.

What applies to a call is a `Plan`. It is the same for all calls of one caller, address and model, so that it
is worked out once and kept: with limits of every kind on every scope it has more than twenty demands.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from accounts.keys import Caller
from accounts.limits import Amounts, Bucket, Demands, Grant, Lease, Level, Refusal, State, level
from accounts.rules import BudgetRule, LimitRule, SubjectId, TenantRules
from proxy.budgets import Charge, Worst
from proxy.call import Call, member

# Output is reserved as asked for, within these: most answers are short, and what was too little is taken
# while the answer runs.
DEFAULT_OUTPUT_TOKENS = 1_000
MAX_OUTPUT_TOKENS = 4_000
MOST_PLANS = 10_000  # of a tenant: who calls from more addresses at a time pays for the work again
_OUTPUT_MEMBERS = ("max_completion_tokens", "max_tokens", "max_output_tokens")

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Asked:
    """One demand, the limit that makes it, and what it counts: requests, tokens or concurrent calls."""

    demand: Bucket | Lease
    rule: LimitRule
    counts: str

    def words(self) -> str:
        """The limit as a sentence names it."""
        if isinstance(self.demand, Lease):
            return f"{self.demand.limit} concurrent calls per {self.rule.scope}"
        period = "second" if self.demand.period_seconds == 1 else "minute"
        return f"{self.demand.limit} {self.counts} per {period} and {self.rule.scope}"


class RateLimited(Exception):
    """A limit is exceeded, and the call was not, or not in time, let in. `headers` tell how things stand."""

    def __init__(self, asked: Asked, retry_after_seconds: float) -> None:
        super().__init__(asked.words())
        self.counts = asked.counts
        self.retry_after_seconds = retry_after_seconds
        self.headers = (
            (b"retry-after", b"%d" % math.ceil(retry_after_seconds)),
            (b"retry-after-ms", b"%d" % math.ceil(retry_after_seconds * 1000)),
            *_exceeded(asked, retry_after_seconds),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """The demands of every limit that applies, those of requests before those of tokens before those of
    concurrent calls, and then of every budget. Good from `start` to `end`, when a budget's window ends
    (seconds since 1970)."""

    asked: tuple[Asked, ...]
    demands: Demands
    requests: int  # how many of the buckets count requests
    tokens: int  # and how many tokens
    budgets: tuple[BudgetRule, ...]
    charges: tuple[Charge, ...]
    start: float
    end: float

    @property
    def demands_nothing(self) -> bool:
        return not self.asked and not self.budgets

    def without_budgets(self) -> Plan:
        return replace(self, demands=replace(self.demands, holds=()), budgets=(), charges=())

    def amounts(self, tokens: int, most: Worst | None) -> Amounts:
        """What a call takes that is estimated at so many tokens; `most` where a budget applies."""
        # A call that asks for more than the bucket holds is let in when it is full.
        of_tokens = [min(tokens, bucket.capacity) for bucket in self.demands.buckets[self.requests :]]
        costs = (1,) * self.requests + tuple(of_tokens)
        return Amounts(costs) if most is None else Amounts(costs, most.wanted, most.least)

    def costs(self, requests: int, tokens: int) -> tuple[int, ...]:
        """For each bucket: the tokens where it counts tokens, else the requests."""
        return (requests,) * self.requests + (tokens,) * self.tokens


class Plans:
    """The plans of one tenant's calls, each made when it is first needed. `by_ip` says whether the address
    matters, which takes some work to find."""

    def __init__(self, rules: TenantRules) -> None:
        self._rules = rules
        scopes = {rule.scope for rule in rules.limits}
        self.by_ip = "ip" in scopes
        self._by_model = "model" in scopes
        self._kept: dict[tuple[object, ...], Plan] = {}

    def of(self, caller: Caller, client_ip: str, model: str, now: float) -> Plan:
        """At `now`, in seconds since 1970. `client_ip` may be left out unless `by_ip`."""
        key_id = caller.api_key_id or caller.security_key_id
        key = (caller.user_id, key_id, client_ip, model if self._by_model else "")
        plan = self._kept.get(key)
        if plan is None or not plan.start <= now < plan.end:
            if len(self._kept) >= MOST_PLANS:
                self._kept.clear()
            plan = self._kept[key] = _plan(self._rules, _subjects(caller, client_ip, model), now)
        return plan


def _subjects(caller: Caller, client_ip: str, model: str) -> dict[str, SubjectId | None]:
    """Whom each scope means."""
    return {
        "tenant": caller.tenant_id,
        "user": caller.user_id,
        "key": caller.api_key_id or caller.security_key_id,
        "ip": client_ip,
        "model": model,
    }


def _plan(rules: TenantRules, subjects: dict[str, SubjectId | None], now: float) -> Plan:
    asked: dict[str, list[Asked]] = {"requests": [], "tokens": [], "concurrent calls": []}
    for rule in rules.limits:
        subject = subjects[rule.scope]
        if _applies(rule, subject):
            for each in demands_of(rule, subject):
                asked[each.counts].append(each)
    budgets = tuple(rule for rule in rules.budgets if _applies(rule, subjects[rule.scope]))
    windows = [rule.window(datetime.fromtimestamp(now, UTC)) for rule in budgets]
    charges = tuple(
        Charge.of(rule, f"{rule.scope}:{subjects[rule.scope]}", start)
        for rule, (start, _) in zip(budgets, windows, strict=True)
    )
    inorder = tuple(each for same in asked.values() for each in same)
    demands = Demands(
        tuple(each.demand for each in inorder if isinstance(each.demand, Bucket)),
        tuple(each.demand for each in inorder if isinstance(each.demand, Lease)),
        tuple(charge.hold(rule.amount_nano_usd) for charge, rule in zip(charges, budgets, strict=True)),
    )
    return Plan(
        inorder,
        demands,
        len(asked["requests"]),
        len(asked["tokens"]),
        budgets,
        charges,
        start=max((start.timestamp() for start, _ in windows), default=0.0),
        end=min((end.timestamp() for _, end in windows), default=math.inf),
    )


def _applies(rule: LimitRule | BudgetRule, subject: SubjectId | None) -> bool:
    return subject is not None and rule.subject_id in (None, subject)


def demands_of(rule: LimitRule, subject: SubjectId | None) -> Iterator[Asked]:
    """What a limit demands for one subject: a key, a user, …"""
    where = f"{rule.id.hex}:{subject}"
    requests = [(rule.requests_per_second, 1), (rule.requests_per_minute, 60)]
    rates = [("requests", limit, period) for limit, period in requests if limit is not None]
    if rule.tokens_per_minute is not None:
        rates.append(("tokens", rule.tokens_per_minute, 60))
    names = [f"{counts[0]}{period}" for counts, _, period in rates]
    for name, (counts, limit, period) in zip(names, rates, strict=True):
        capacity = 1 if counts == "requests" and rule.queue_seconds is not None else limit
        shelf = f"{where}:{'+'.join(names)}"
        yield Asked(Bucket(f"{where}:{name}", capacity, limit, period, shelf=shelf), rule, counts)
    if rule.concurrent is not None:
        yield Asked(Lease(f"{where}:c", rule.concurrent), rule, "concurrent calls")


def token_cost(call: Call) -> int:
    """Tokens to reserve: the input's estimate, and the output that is asked for within bounds. Raises
    InvalidBody."""
    wanted = DEFAULT_OUTPUT_TOKENS if call.endpoint != "embeddings" else 0
    for name in _OUTPUT_MEMBERS:
        raw = call.fields.get(name)
        if raw is not None and bytes(raw).isdigit():
            wanted = member(call.fields, name)
    return call.input_tokens_estimate + min(wanted, MAX_OUTPUT_TOKENS)


def headers(plan: Plan, grant: Grant) -> list[Header]:
    """`x-ratelimit-{limit,remaining,reset}-{requests,tokens}` of the fullest bucket of each kind.

    Source: OpenAI's guide "Rate limits", 2026-11: resets are durations such as `1s`, `6m0s`, `20ms`.
    """
    buckets, units, requests = grant.demands.buckets, grant.units, plan.requests
    told: list[Header] = []
    if plan.requests:
        told += _told("requests", _fullest(buckets[:requests], units[:requests]))
    if plan.tokens:
        told += _told("tokens", _fullest(buckets[requests:], units[requests:]))
    return told


def standing(plan: Plan, states: Sequence[State], but: str) -> list[Header]:
    """The same from how the plan's demands stand, but for one kind."""
    parts = {
        "requests": states[: plan.requests],
        "tokens": states[plan.requests : plan.requests + plan.tokens],
    }
    told: list[Header] = []
    for counts, part in parts.items():
        levels = [state for state in part if isinstance(state, Level)]
        if levels and counts != but:
            told += _told(counts, min(levels, key=lambda level: level.remaining / level.limit))
    return told


def _fullest(buckets: Sequence[Bucket], units: Sequence[float]) -> Level:
    parts = [there / bucket.whole for bucket, there in zip(buckets, units, strict=True)]
    least = parts.index(min(parts))
    return level(buckets[least], units[least])


_TOLD = {
    counts: tuple(f"x-ratelimit-{what}-{counts}".encode() for what in ("limit", "remaining", "reset"))
    for counts in ("requests", "tokens")
}


def _told(counts: str, level: Level) -> list[Header]:
    limit, remaining, reset = _TOLD[counts]
    return [
        (limit, b"%d" % level.limit),
        (remaining, b"%d" % max(0, level.remaining)),
        (reset, duration(level.full_seconds)),
    ]


def _exceeded(asked: Asked, retry_after_seconds: float) -> list[Header]:
    if not isinstance(asked.demand, Bucket):
        return []
    return _told(asked.counts, Level(asked.demand.limit, 0, retry_after_seconds))


def duration(seconds: float) -> bytes:
    """`20ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return b"%dms" % math.ceil(seconds * 1000)
    minutes, rest = divmod(seconds, 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".")
    return (f"{minutes:.0f}m{text}s" if minutes else f"{text}s").encode()


def refused(asked: Sequence[Asked], refusal: Refusal) -> RateLimited:
    """The exception that tells the refusal; without a known wait a second is as good as any."""
    wait = refusal.retry_after_seconds
    return RateLimited(asked[refusal.index], 1.0 if wait is None else wait)


def share(demands: Demands, replicas: int) -> Demands:
    """One replica's part of every limit; it has none of a budget."""
    buckets = [
        replace(bucket, limit=max(1, bucket.limit // replicas), capacity=max(1, bucket.capacity // replicas))
        for bucket in demands.buckets
    ]
    leases = [replace(lease, limit=max(1, lease.limit // replicas)) for lease in demands.leases]
    return Demands(tuple(buckets), tuple(leases))
