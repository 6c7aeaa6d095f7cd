"""The permission table, walked: every endpoint of the management API, as every role, here and elsewhere.

A resource without a sample here fails, and so does an action that the table does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any
from uuid import UUID

import httpx
import pytest

from accounts.ids import uuid7
from accounts.permissions import PERMISSIONS, Reach, Role, reach
from gateway.urls import MANAGED
from tests.managing import Cast, cast, client, key_of, made
from tests.server import Gateway

_NUMBERS = count(1)
_METHODS = {
    "list": "GET",
    "create": "POST",
    "retrieve": "GET",
    "partial_update": "PATCH",
    "destroy": "DELETE",
}
Sample = Callable[[Cast, str], str]


@dataclass(frozen=True)
class Step:
    """One endpoint: the method and path of an action, and the right that it takes."""

    resource: str
    action: str
    method: str
    detail: bool
    path: str
    right: str

    def __str__(self) -> str:
        return f"{self.resource}.{self.action}"


def steps() -> Iterator[Step]:
    for each in MANAGED:
        for action, method in _METHODS.items():
            if hasattr(each, action):
                yield Step(
                    each.resource, action, method, action not in ("list", "create"), "", each.right(action)
                )
        extras: list[Any] = each.get_extra_actions()
        for extra in extras:
            for method, action in extra.mapping.items():
                yield Step(
                    each.resource,
                    action,
                    method.upper(),
                    extra.detail,
                    f"{extra.url_path}/",
                    each.right(action),
                )


def make(resource: str, **body: object) -> Sample:
    """A sample that is made by the API itself."""

    def sample(people: Cast, tenant: str) -> str:
        number = next(_NUMBERS)
        values = {
            name: value.format(n=number, tenant=tenant) if isinstance(value, str) else value
            for name, value in body.items()
        }
        row = made(people.operator.post(f"{resource}/", json=values))
        return str(row["id"])

    return sample


def tenant_itself(people: Cast, tenant: str) -> str:
    found = people.operator.get("tenants/", params={"slug": tenant}).json()["results"]
    return str(found[0]["id"])


def entry(people: Cast, tenant: str) -> str:
    """An audit entry, of something that was just made."""
    id_ = SAMPLES["limits"](people, tenant)
    found = people.operator.get("audit/", params={"object_id": id_}).json()["results"]
    return str(found[0]["id"])


def budget(people: Cast, tenant: str) -> str:
    """For a key of its own: of each name there may be one."""
    key = made(people.operator.post("security-keys/", json={"tenant": tenant, "name": f"b{next(_NUMBERS)}"}))
    body = {"tenant": tenant, "scope": "key", "name": key["name"], "period": "day", "amount_usd": "1"}
    return str(made(people.operator.post("budgets/", json=body))["id"])


def conversation(people: Cast, tenant: str) -> str:
    headers = {"authorization": f"Bearer {key_of(tenant, 'owner')}"}
    url = f"{people.gateway.url}/v1/conversations"
    answer = httpx.post(url, headers=headers, json={}, trust_env=False)
    return str(UUID(answer.json()["id"].removeprefix("conv_")))


def model(people: Cast, tenant: str) -> str:
    """One that only this tenant can use."""
    upstream = made(
        people.operator.post(
            "upstreams/", json={"name": f"walked-{next(_NUMBERS)}", "dialect": "demo", "tenant": tenant}
        )
    )
    row = made(people.operator.post("models/", json={"name": f"walked-{next(_NUMBERS)}"}))
    made(people.operator.post("routes/", json={"model": row["name"], "upstream": upstream["name"]}))
    return str(row["id"])


def route(people: Cast, tenant: str) -> str:
    found = people.operator.get(f"models/{model(people, tenant)}/").json()["routes"]
    return str(found[0]["id"])


def call(people: Cast, tenant: str) -> str:
    """A call of the viewer's that ended."""
    headers = {"authorization": f"Bearer {key_of(tenant, 'viewer')}"}
    url = f"{people.gateway.url}/v1/chat/completions"
    body = {"model": "demo", "messages": [{"role": "user", "content": "x"}]}
    answer = httpx.post(url, headers=headers, json=body, trust_env=False, timeout=30)
    return str(people.gateway.usage_of(answer.headers["x-request-id"])["id"])


def open_call(people: Cast, tenant: str) -> str:
    """A row as that of a call in flight, by a process that lives."""
    id_, gateway = uuid7(), people.gateway
    [owner] = gateway.query("SELECT id FROM accounts_tenant WHERE slug = %s", tenant)
    [worker] = gateway.query("SELECT id FROM proxy_worker WHERE kind = 'web' ORDER BY seen_at DESC LIMIT 1")
    gateway.query(
        "INSERT INTO proxy_opencall (id, tenant_id, endpoint, model, stream, started_at, budgets,"
        " worker_id, input_tokens_estimate) VALUES (%s, %s, 'walked', 'demo', %s, %s, '[]', %s, 1)",
        *(id_, owner["id"], False, "2026-11-21 00:00:00+00:00", worker["id"]),
    )
    return str(id_)


# Each makes a row that belongs to the tenant and to none of the people who ask for it.
SAMPLES: dict[str, Sample] = {
    "tenants": tenant_itself,
    "members": make("members", tenant="{tenant}", email="new{n}@{tenant}.test"),
    "api-keys": make("api-keys", tenant="{tenant}", name="key {n}", user="viewer@{tenant}.test"),
    "security-keys": make("security-keys", tenant="{tenant}", name="key {n}"),
    "limits": make("limits", tenant="{tenant}", scope="model", name="model-{n}", concurrent=1),
    "budgets": budget,
    "upstreams": make("upstreams", name="walked-{n}", dialect="demo", tenant="{tenant}"),
    "models": model,
    "routes": route,
    "prices": make("prices", model="walked-{n}", input_per_million="1"),
    "usage": call,
    "open-calls": open_call,
    "threads": conversation,
    "audit": entry,
}


# What pages ask the table for; tests of their own walk them.
PAGES = {("playground", "use")}

# Rows that are every tenant's.
EVERYBODYS = ("prices",)


@pytest.fixture(scope="module")
def everybody(session_gateway: Gateway) -> Iterator[Cast]:
    yield cast(session_gateway, "walked")
    session_gateway.query("DELETE FROM proxy_opencall WHERE endpoint = 'walked'")


@pytest.fixture(scope="module")
def operators() -> dict[str, httpx.Client]:
    """An operator's key for each resource, since each may ask so often."""
    return {}


@pytest.fixture
def people(everybody: Cast, operators: dict[str, httpx.Client], step: Step) -> Cast:
    if step.resource not in operators:
        key = made(everybody.operator.post("api-keys/", json={"name": f"walks {step.resource}"}))
        operators[step.resource] = client(everybody.gateway, key["secret"])
    return replace(everybody, operator=operators[step.resource])


def ask(caller: httpx.Client, step: Step, id_: str = "") -> httpx.Response:
    path = f"{step.resource}/{f'{id_}/' if step.detail else ''}{step.path}"
    body: dict[str, str] | None = {} if step.method in ("POST", "PATCH") else None
    return caller.request(step.method, path, json=body)


def granted(answer: httpx.Response) -> bool:
    """Whether it went by the permission; the body that is sent says nothing, so that it may be refused."""
    assert answer.status_code < 500, answer.text
    return answer.status_code not in (401, 403, 404)


STEPS = list(steps())
TENANTS_OWN = [step for step in STEPS if step.detail and step.resource not in EVERYBODYS]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("step", STEPS, ids=str)
def test_it_lets_each_role_do_what_the_table_says_in_its_tenant(people: Cast, step: Step, role: Role) -> None:
    far = reach(role, step.resource, step.right)
    id_ = sampled(people, step, people.tenant, role)
    answer = ask(people.by(role), step, id_)
    if far is Reach.NONE:
        assert answer.status_code == 403
    elif far is Reach.OWN and step.detail:
        assert answer.status_code == 404
    else:
        assert granted(answer), answer.text


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("step", TENANTS_OWN, ids=str)
def test_it_knows_nothing_of_another_tenants(people: Cast, step: Step, role: Role) -> None:
    far = reach(role, step.resource, step.right)
    answer = ask(people.by(role), step, sampled(people, step, f"{people.tenant}-other", role))
    never = ask(people.by(role), step, str(uuid7()))
    malformed = ask(people.by(role), step, "1%27")
    if far is Reach.NONE:
        assert (answer.status_code, never.status_code) == (403, 403)
    elif role is Role.OPERATOR:
        assert granted(answer), answer.text
        assert never.status_code == 404
    else:
        assert answer.status_code == 404
        assert answer.content == never.content == malformed.content


@pytest.mark.parametrize(
    ("step", "role"),
    [
        pytest.param(step, role, id=f"{step}-{role}")
        for step in STEPS
        for role in Role
        if step.action == "list"
        and step.resource not in EVERYBODYS
        and role is not Role.OPERATOR
        and reach(role, step.resource, "read") is not Reach.NONE
    ],
)
def test_it_lists_no_row_of_another_tenant(people: Cast, step: Step, role: Role) -> None:
    other = SAMPLES[step.resource](people, f"{people.tenant}-other")
    listed = ask(people.by(role), step).json()["results"]
    assert other not in [row["id"] for row in listed]
    named = people.by(role).get(f"{step.resource}/", params={"tenant": f"{people.tenant}-other"})
    absent = people.by(role).get(f"{step.resource}/", params={"tenant": "absent"})
    assert (named.status_code, named.content) == (404, absent.content)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_it_lets_nobody_do_anything_without_a_credential(people: Cast, step: Step) -> None:
    path = f"{step.resource}/{f'{uuid7()}/' if step.detail else ''}{step.path}"
    for client_headers in ({}, {"authorization": "Bearer nobody"}, {"authorization": "Basic eDp5"}):
        answer = httpx.request(
            step.method, f"{people.gateway.url}/api/{path}", headers=client_headers, trust_env=False
        )
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"


def sampled(people: Cast, step: Step, tenant: str, role: Role) -> str:
    """A row to take that step with; a tenant that will be deleted is one that nobody needs."""
    if not step.detail:
        return ""
    if reach(role, step.resource, step.right) is Reach.NONE:  # and so it does not matter which
        return str(uuid7())
    if (str(step), role) == ("tenants.destroy", Role.OPERATOR):
        return make("tenants", slug="gone-{n}")(people, "")
    return SAMPLES[step.resource](people, tenant)


def test_it_has_a_row_in_the_table_for_every_action_and_none_for_nothing() -> None:
    assert {(step.resource, step.right) for step in STEPS} == set(PERMISSIONS) - PAGES


def test_it_never_lets_a_tenants_people_do_what_an_operator_may_not() -> None:
    for resource, action in PERMISSIONS:
        assert reach(Role.OPERATOR, resource, action) is Reach.ALL
