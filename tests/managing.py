"""The people of the management API's tests: one of every role in two tenants, and an operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from tests.server import BOOTSTRAP_API_KEY, Gateway

ROLES = ("owner", "admin", "member", "viewer")


@dataclass(frozen=True)
class Cast:
    """A client for each role in `tenant`, for an operator, and for the owner of another tenant."""

    tenant: str
    operator: httpx.Client
    owner: httpx.Client
    admin: httpx.Client
    member: httpx.Client
    viewer: httpx.Client
    outsider: httpx.Client
    gateway: Gateway

    def by(self, role: str) -> httpx.Client:
        client = getattr(self, role)
        assert isinstance(client, httpx.Client)
        return client


def key_of(tenant: str, name: str) -> str:
    return f"sk-tests-{tenant}-{name}-key"


def tenant_of_roles(slug: str) -> dict[str, object]:
    """A configuration file's entry for a tenant with one member of each role, each with a key."""
    return {
        "slug": slug,
        "members": [{"email": f"{role}@{slug}.test", "role": role} for role in ROLES],
        "api_keys": [
            {"name": role, "user": f"{role}@{slug}.test", "secret": key_of(slug, role)} for role in ROLES
        ],
        "security_keys": [{"name": "main", "secret": f"tests-{slug}-security-key"}],
    }


def client(gateway: Gateway, secret: str) -> httpx.Client:
    made = httpx.Client(
        base_url=f"{gateway.url}/api/",
        headers={"authorization": f"Bearer {secret}"},
        timeout=30,
        trust_env=False,
    )
    return gateway.closing.enter_context(made)


def cast(gateway: Gateway, slug: str) -> Cast:
    """Makes the tenants `slug` and `slug`-other."""
    other = f"{slug}-other"
    gateway.configure({"tenants": [tenant_of_roles(slug), tenant_of_roles(other)]})
    people = {role: client(gateway, key_of(slug, role)) for role in ROLES}
    first = client(gateway, BOOTSTRAP_API_KEY)
    key = made(first.post("api-keys/", json={"name": f"operator of {slug}"}))  # each may ask so often
    return Cast(
        tenant=slug,
        operator=client(gateway, key["secret"]),
        outsider=client(gateway, key_of(other, "owner")),
        gateway=gateway,
        **people,
    )


def error(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error of an answer that has this status, and OpenAI's shape."""
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert told.keys() == {"error"}
    found: dict[str, Any] = told["error"]
    assert found.keys() == {"message", "type", "param", "code"}
    return found


def made(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    row: dict[str, Any] = answer.json()
    return row


def results(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["results"]
    return rows
