"""Responses as the relay would keep them, one turn each."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import Tenant
from threads import history, responses
from threads.history import NOTHING, NewItem, Past
from threads.responses import Begun, Finished, Status


def message(text: str, role: str = "user") -> NewItem:
    data = {"type": "message", "role": role, "content": text}
    return NewItem("message", json.dumps(data).encode(), role=role, text=text)


def begun(tenant: Tenant, *input: NewItem, past: Past = NOTHING, **more: Any) -> Begun:
    response_id = more.pop("id", None) or uuid7()
    body = {"id": f"resp_{response_id.hex}", "status": more.get("status", "in_progress"), "error": None}
    values: dict[str, Any] = {
        "id": response_id,
        "model": "demo",
        "body": json.dumps(body).encode(),
        "created_at": timezone.now(),
        "retention_days": tenant.retention_days,
        "past": past,
        "input": input,
        "worker_id": uuid7(),
    }
    return Begun(**values | more)


def finished(*output: NewItem, status: str = Status.COMPLETED) -> Finished:
    return Finished(status, json.dumps({"status": status}).encode(), output)


def turn(tenant: Tenant, asked: str, *, past: Past = NOTHING, **more: Any) -> UUID:
    """A response to `asked`, which answers "re: …"; its id."""
    begin = begun(tenant, message(asked), past=past, **more)
    responses.record(tenant.id, begin, finished(message(f"re: {asked}", "assistant")))
    return begin.id


def next_turn(tenant: Tenant, previous: UUID, asked: str, **more: Any) -> UUID:
    return turn(tenant, asked, past=history.past_of_response(tenant.id, previous), **more)


def said(past: Past) -> list[str]:
    """What was said so far, oldest first."""
    return [json.loads(item.data)["content"] for item in past.items]


def said_before(tenant: Tenant, response: UUID) -> list[str]:
    return said(history.past_of_response(tenant.id, response))


def queued(tenant: Tenant, asked: str = "hello", **more: Any) -> Begun:
    """One that waits for a worker."""
    values: dict[str, Any] = {
        "status": Status.QUEUED,
        "background": True,
        "request": b"{}",
        "worker_id": None,
    }
    return begun(tenant, message(asked), **values | more)
