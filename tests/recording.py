"""Usage records of the tests' own making, put on record as settlements are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from accounts.ids import uuid7
from proxy import ledger

MOMENT = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)


def record(tenant_id: UUID, started_at: datetime = MOMENT, **columns: object) -> ledger.Row:
    """A call that went well; UUIDs among `columns` are given as they are."""
    made: ledger.Row = {
        "id": uuid7(),
        "tenant_id": tenant_id,
        "user_id": None,
        "api_key_id": None,
        "security_key_id": None,
        "endpoint": "chat.completions",
        "model": "gpt-test",
        "stream": False,
        "started_at": ledger.timestamp(started_at),
        "budgets": [],
        "status": "completed",
        "status_code": 200,
        "error_code": "",
        "upstream": "openai",
        "upstream_model": "gpt-test",
        "attempts": [],
        "input_tokens": 10,
        "cached_input_tokens": None,
        "output_tokens": 5,
        "reasoning_tokens": None,
        "audio_milliseconds": None,
        "estimated": False,
        "cost_nano_usd": 1000,
        "first_byte_milliseconds": 200,
        "duration_milliseconds": 1000,
        "ended_at": ledger.timestamp(started_at + timedelta(seconds=1)),
        **columns,
    }
    return {name: value.hex if isinstance(value, UUID) else value for name, value in made.items()}


def settle(*records: ledger.Row) -> None:
    ledger.write_settled(list(records))
