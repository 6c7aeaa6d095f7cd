"""A month of a team's calls, made up: what the pictures of docs/screenshots show. For `manage.py shell`."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

from accounts.models import ApiKey, Tenant
from accounts.tenancy import operator_scope
from proxy import rollups
from tests import recording
from tests.made_models import MODELS

DAYS = 30
CALLS_A_DAY = 60


def make() -> None:
    """A month of calls of the team's, on record and added up."""
    chance = random.Random(7)
    with operator_scope():
        tenant = Tenant.objects.get(slug="acme")
        keys = list(ApiKey.objects.of(tenant))
    now = datetime.now(UTC)
    calls = [_call(tenant, chance.choice(keys), now, chance) for _ in range(DAYS * CALLS_A_DAY)]
    recording.settle(*calls)
    while rollups.roll_up():
        pass


def _call(tenant: Tenant, key: ApiKey, now: datetime, chance: random.Random) -> dict[str, object]:
    """Most of them by day, and more of them lately."""
    days = DAYS * (1 - chance.random() ** 0.6)
    at = (now - timedelta(days=days)).replace(hour=min(23, max(0, round(chance.gauss(14, 3)))))
    name, costs_in, costs_out, _ = chance.choices(MODELS, [share for *_, share in MODELS])[0]
    put_in, put_out = round(chance.lognormvariate(7, 0.8)), round(chance.lognormvariate(6, 0.7))
    status, code = chance.choices((("completed", 200), ("failed", 429), ("cancelled", None)), (94, 3, 3))[0]
    first = round(chance.lognormvariate(5.6, 0.4))
    at = min(at, now - timedelta(minutes=2))
    return recording.record(
        tenant.pk,
        at,
        id=UUID(int=round(at.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | chance.getrandbits(62)),
        user_id=key.user_id,
        api_key_id=key.pk,
        model=name,
        upstream_model=name,
        stream=chance.random() < 0.8,
        status=status,
        status_code=code,
        error_code="rate_limit_exceeded" if status == "failed" else "",
        input_tokens=put_in,
        output_tokens=put_out,
        cost_nano_usd=round(put_in * float(costs_in) * 1000 + put_out * float(costs_out) * 1000),
        first_byte_milliseconds=first,
        duration_milliseconds=first + put_out * 18,
    )
