"""Made-up usage, as much as is wanted: to see and to measure how pages do with millions of calls."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from uuid import UUID

from django.db import connection

from accounts import keys
from accounts.models import ApiKey, Budget, Membership, Tenant, User
from accounts.money import NANO
from accounts.tenancy import operator_scope
from proxy import ledger, rollups
from proxy.models import UsageQuarter, UsageRecord
from proxy.partitions import make_partitions

GROUP = 5000
USERS, KEYS = 5, 2  # of each tenant, and of each user
ZONES = ("Europe/Paris", "UTC", "America/New_York", "Asia/Kolkata", "Australia/Sydney")
# Name, upstream, endpoint, how often, nano-dollars per input and output token; none: unpriced.
MODELS: tuple[tuple[str, str, str, int, tuple[int, int] | None], ...] = (
    ("gpt-4o-mini", "openai", "chat.completions", 40, (150, 600)),
    ("gpt-4o", "openai", "responses", 15, (2500, 10_000)),
    ("gpt-oss-20b", "gpt-oss", "chat.completions", 20, None),
    ("gpt-oss-120b", "gpt-oss", "responses", 5, None),
    ("text-embedding-3-small", "openai", "embeddings", 20, (20, 0)),
)
# Status, status code, error code, how many in a thousand.
ENDINGS: tuple[tuple[str, int | None, str, int], ...] = (
    ("completed", 200, "", 960),
    ("cancelled", None, "client_left", 15),
    ("failed", 502, "upstream_unreachable", 8),
    ("failed", 504, "upstream_timeout", 8),
    ("failed", 429, "rate_limit_exceeded", 5),
    ("truncated", 200, "upstream_stopped", 3),
    ("lost", None, "worker_lost", 1),
)


class NotEmpty(Exception):
    """There are calls on record that somebody made."""


@dataclass(frozen=True, slots=True)
class Cast:
    """A tenant that was made up; who calls there, users with their keys; and its budgets with their
    windows."""

    tenant_id: UUID
    callers: tuple[tuple[int, UUID], ...]
    budgets: tuple[tuple[Budget, datetime], ...]

    def charges(self, at: datetime, key_id: UUID) -> list[dict[str, str]]:
        """What a call of that moment counts against."""
        subjects = {"tenant": self.tenant_id, "key": key_id}
        return [
            {
                "budget": budget.pk.hex,
                "subject": f"{budget.scope}:{subjects[budget.scope]}",
                "window_start": f"{start:%Y-%m-%d %H:%M:%S}",
            }
            for budget, start in self.budgets
            if at >= start
        ]


def check_empty() -> None:
    """Raises NotEmpty."""
    with operator_scope():
        if UsageRecord.objects.exists() or UsageQuarter.objects.exists():
            raise NotEmpty


def make_cast(number: int, now: datetime) -> Cast:
    """Makes the tenant `seeded-<number>` with its people, keys and budgets, where it is not there yet."""
    slug = f"seeded-{number:02}"
    with operator_scope():
        tenant, made = Tenant.objects.get_or_create(
            slug=slug, defaults={"name": f"Seeded {number}", "timezone": ZONES[(number - 1) % len(ZONES)]}
        )
        if made:
            Budget.objects.create(tenant=tenant, scope="tenant", amount_nano_usd=2000 * NANO, period="month")
            Budget.objects.create(tenant=tenant, scope="key", amount_nano_usd=100 * NANO, period="week")
        for person in range(USERS if made else 0):
            _add_person(tenant, f"user-{person}@{slug}.test", "owner" if person == 0 else "member")
        callers = ApiKey.objects.of(tenant).order_by("id").values_list("user_id", "id")
        budgets = [(each, each.window_start(now, tenant.timezone)) for each in Budget.objects.of(tenant)]
        return Cast(tenant.pk, tuple(callers), tuple(budgets))


def _add_person(tenant: Tenant, name: str, role: str) -> None:
    user, _ = User.objects.get_or_create(username=name, defaults={"email": name})
    Membership.objects.create(tenant=tenant, user=user, role=role)
    for number in range(KEYS):
        keys.make_api_key(tenant, user, f"{name.partition('@')[0]}, key {number + 1}")


def seed(records: int, days: int, casts: Sequence[Cast], now: datetime) -> Iterator[int]:
    """Puts so many calls on record, spread over the days before `now`, and adds them up; yields how many
    there are so far. A third of them is the first tenant's, and the others have fewer and fewer."""
    dice = random.Random(records)
    for month in range(days // 28 + 2):
        make_partitions(now - timedelta(days=28 * month))
    shares = list(accumulate(1 / (place + 2) for place in range(len(casts))))
    made = 0
    while made < records:
        group = min(GROUP, records - made)
        start = now - timedelta(days=days * (1 - made / records))
        step = timedelta(days=days / records)
        ledger.write_settled([_call(dice, start + place * step, casts, shares) for place in range(group)])
        while rollups.roll(GROUP):
            pass
        made += group
        yield made
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM (ANALYZE)")


def _call(dice: random.Random, at: datetime, casts: Sequence[Cast], shares: Sequence[float]) -> ledger.Row:
    cast = dice.choices(casts, cum_weights=shares)[0]
    user_id, key_id = dice.choice(cast.callers)
    model, upstream, endpoint, _, price = dice.choices(MODELS, [each[3] for each in MODELS])[0]
    status, status_code, error_code, _ = dice.choices(ENDINGS, [each[3] for each in ENDINGS])[0]
    inputs, outputs = int(dice.lognormvariate(6, 1)), int(dice.lognormvariate(5, 1))
    outputs = 0 if endpoint == "embeddings" or status == "failed" else outputs
    first = int(dice.lognormvariate(5.5, 0.6))
    took = first + int(dice.lognormvariate(7, 0.9))
    return {
        "id": UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | dice.getrandbits(62)).hex,
        "tenant_id": cast.tenant_id.hex,
        "user_id": user_id,
        "api_key_id": key_id.hex,
        "security_key_id": None,
        "endpoint": endpoint,
        "model": model,
        "stream": dice.random() < 0.6,
        "started_at": ledger.timestamp(at),
        "budgets": cast.charges(at, key_id),
        "status": status,
        "status_code": status_code,
        "error_code": error_code,
        "upstream": upstream,
        "upstream_model": model,
        "attempts": [{"upstream": upstream, "outcome": status_code or status}],
        "input_tokens": inputs,
        "cached_input_tokens": inputs // 3,
        "output_tokens": outputs,
        "reasoning_tokens": outputs // 3 if upstream == "gpt-oss" else 0,
        "audio_milliseconds": None,
        "estimated": status in ("cancelled", "lost"),
        "cost_nano_usd": price and inputs * price[0] + outputs * price[1],
        "first_byte_milliseconds": first if status == "completed" else None,
        "duration_milliseconds": took,
        "ended_at": ledger.timestamp(at + timedelta(milliseconds=took)),
    }
