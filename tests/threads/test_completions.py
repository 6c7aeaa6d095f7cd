"""Chat completions that were stored."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from accounts.ids import uuid7
from accounts.models import Tenant
from accounts.tenancy import tenant_scope
from tests.threads.turns import turn
from threads import completions, responses
from threads.completions import Completed
from threads.errors import NotFound
from threads.models import StoredResponse
from threads.pages import Page


def keep(tenant: Tenant, *, model: str = "demo", metadata: dict[str, str] | None = None, **more: Any) -> UUID:
    key = uuid7()
    body = {
        "id": f"chatcmpl-{key.hex}",
        "object": "chat.completion",
        "metadata": metadata or {},
        "choices": [],
    }
    values: dict[str, Any] = {
        "id": key,
        "model": model,
        "body": json.dumps(body).encode(),
        "messages": [b'{"role":"system","content":"Be brief."}', b'{"role": "user", "content":"Hi"}'],
        "created_at": timezone.now(),
        "retention_days": 30,
        "metadata": metadata or {},
    }
    completions.record(tenant.id, Completed(**values | more))
    return key


def listed(tenant: Tenant, page: Page | None = None, **filters: Any) -> list[UUID]:
    return [row.id for row in completions.completions(tenant.id, page or Page(order="asc"), **filters).data]


def test_it_keeps_what_the_client_got(acme: Tenant) -> None:
    key = keep(acme)
    assert json.loads(completions.get(acme.id, key).body)["id"] == f"chatcmpl-{key.hex}"


def test_it_lists_page_by_page_in_either_order(acme: Tenant) -> None:
    keys = sorted(keep(acme) for _ in range(5))  # those of one millisecond are in no order
    page = completions.completions(acme.id, Page(limit=2, order="asc"))
    assert [row.id for row in page.data] == keys[:2]
    assert (page.last_id, page.has_more) == (f"chatcmpl-{keys[1].hex}", True)
    assert listed(acme, Page(limit=9, after=page.last_id, order="asc")) == keys[2:]
    assert listed(acme, Page(limit=9, after=page.last_id)) == keys[:1]
    assert listed(acme, Page(limit=2)) == keys[:2:-1]


@pytest.mark.parametrize("after", ["chatcmpl-1", "", "resp_" + "0" * 32, "chatcmpl-" + "0" * 31 + "G"])
def test_it_refuses_to_list_after_what_is_no_completion(acme: Tenant, after: str) -> None:
    with pytest.raises(NotFound, match="chat completion"):
        listed(acme, Page(after=after))


def test_it_lists_those_of_a_model(acme: Tenant) -> None:
    keep(acme)
    other = keep(acme, model="other")
    assert listed(acme, model="other") == [other]


def test_it_lists_those_with_all_the_pairs_asked_for(acme: Tenant) -> None:
    pairs = {"topic": "tea", "1": "one", "a.b[0]": 'q"\\é', "a__b": "1"}
    key = keep(acme, metadata=pairs)
    keep(acme, metadata={"topic": "tea"})
    keep(acme, metadata={"topic": "teas", "a__b": "tea"})
    for name, value in list(pairs.items())[1:]:
        assert listed(acme, metadata={name: value}) == [key], name
    assert listed(acme, metadata=pairs) == [key]
    assert len(listed(acme, metadata={"topic": "tea"})) == 2
    assert listed(acme, metadata={"topic": "te"}) == []
    assert listed(acme, metadata={"topic' OR 1=1 --": "tea"}) == []


def test_it_replaces_metadata_in_the_body_too(acme: Tenant) -> None:
    key = keep(acme, metadata={"topic": "tea"})
    completions.update(acme.id, key, {"mood": "calm"})
    kept = completions.get(acme.id, key)
    assert json.loads(kept.body)["metadata"] == kept.metadata == {"mood": "calm"}
    assert list(json.loads(kept.body)) == ["id", "object", "metadata", "choices"]


def test_it_lists_the_messages_that_were_asked_with(acme: Tenant) -> None:
    key = keep(acme)
    page = completions.messages(acme.id, key, Page(limit=1, order="asc"))
    assert [(item.id, item.data) for item in page.data] == [
        (f"chatcmpl-{key.hex}-0", b'{"role":"system","content":"Be brief."}')
    ]
    assert page.has_more
    rest = completions.messages(acme.id, key, Page(after=page.last_id, order="asc"))
    assert [item.data for item in rest.data] == [b'{"role": "user", "content":"Hi"}']
    with pytest.raises(NotFound, match="item"):
        completions.messages(acme.id, key, Page(after="chatcmpl-1-0"))


Ask = Callable[[UUID, UUID], object]

ASKED: dict[str, Ask] = {
    "get": completions.get,
    "update": lambda tenant, key: completions.update(tenant, key, {"taken": "over"}),
    "delete": completions.delete,
    "messages": lambda tenant, key: completions.messages(tenant, key, Page()),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED.keys())
def test_it_is_not_there_for_charlie_nor_after_it_expired(acme: Tenant, globex: Tenant, ask: Ask) -> None:
    key, response = keep(acme), turn(acme, "hello")
    for tenant, wrong in ((globex, key), (acme, uuid7()), (acme, response)):
        with pytest.raises(NotFound, match=r"^chat completion$"):
            ask(tenant.id, wrong)
    assert listed(globex) == []
    assert listed(acme) == [key]
    with tenant_scope(acme.id):
        expired = timezone.now() - timedelta(seconds=1)
        StoredResponse.objects.of(acme).filter(id=key).update(expires_at=expired)
    with pytest.raises(NotFound, match=r"^chat completion$"):
        ask(acme.id, key)
    assert listed(acme) == []


def test_it_is_gone_when_deleted(acme: Tenant) -> None:
    key = keep(acme)
    completions.delete(acme.id, key)
    with pytest.raises(NotFound, match="chat completion"):
        completions.get(acme.id, key)


def test_it_is_no_response(acme: Tenant) -> None:
    key = keep(acme)
    for ask in (responses.get, responses.delete):
        with pytest.raises(NotFound, match=r"^response$"):
            ask(acme.id, key)
