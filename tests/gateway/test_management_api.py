"""What every endpoint of the management API has in common: who it lets in, what it reads, how it refuses."""

from __future__ import annotations

import json

import httpx
import pytest
from django.test import Client
from drf_spectacular.validation import validate_schema

from accounts.api.resource import REQUESTS_PER_MINUTE
from accounts.models import Membership, Tenant, User
from accounts.tenancy import operator_scope
from gateway.urls import MANAGED
from tests.accounts.conftest import acme, alice, bob, charlie, globex
from tests.managing import Cast, cast, client, error, made
from tests.server import Gateway

__all__ = ["acme", "alice", "bob", "charlie", "globex"]
LIMIT = {"scope": "model", "name": "m", "concurrent": 1}


@pytest.fixture(scope="module")
def people(session_gateway: Gateway) -> Cast:
    return cast(session_gateway, "common")


# Who is let in


@pytest.fixture
def browser(db: None) -> Client:
    return Client(enforce_csrf_checks=True)


def test_it_lets_somebody_in_who_signed_in(
    browser: Client, acme: Tenant, alice: User, globex: Tenant
) -> None:
    browser.force_login(alice)
    listed = browser.get("/api/tenants/").json()["results"]
    assert [row["slug"] for row in listed] == ["acme"]


def test_it_changes_nothing_without_the_csrf_token(browser: Client, alice: User) -> None:
    browser.force_login(alice)
    refused = browser.post("/api/limits/", LIMIT, content_type="application/json")
    assert refused.status_code == 403
    assert "CSRF" in refused.json()["error"]["message"]
    browser.get("/accounts/")
    token = browser.cookies["csrftoken"].value
    headers = {"x-csrftoken": token}
    answer = browser.post("/api/limits/", LIMIT, content_type="application/json", headers=headers)
    assert answer.status_code == 201, answer.content


def test_it_asks_a_member_of_several_tenants_which_is_meant(
    browser: Client, alice: User, globex: Tenant, charlie: User
) -> None:
    with operator_scope():
        Membership.objects.create(tenant=globex, user=alice, role="viewer")
    browser.force_login(alice)
    assert browser.get("/api/limits/").json()["error"]["param"] == "tenant"
    assert browser.get("/api/limits/?tenant=acme").status_code == 200
    assert browser.get("/api/security-keys/?tenant=globex").status_code == 200
    browser.get("/accounts/")
    headers = {"x-csrftoken": browser.cookies["csrftoken"].value}
    refused = browser.post("/api/limits/?tenant=globex", LIMIT, "application/json", headers=headers)
    assert refused.status_code == 403
    absent = browser.get("/api/limits/?tenant=absent")
    assert (absent.status_code, absent.json()["error"]["message"]) == (404, "No such tenant.")


def test_it_lets_an_operator_in_who_signed_in(browser: Client, acme: Tenant, globex: Tenant) -> None:
    browser.force_login(User.objects.create_superuser("root"))
    slugs = {row["slug"] for row in browser.get("/api/tenants/").json()["results"]}
    assert {"acme", "globex"} <= slugs
    assert [row["slug"] for row in browser.get("/api/tenants/?tenant=acme").json()["results"]] == ["acme"]


def test_it_lets_nobody_in_who_is_no_member(browser: Client) -> None:
    browser.force_login(User.objects.create_user("nobody", "nobody@acme.test"))
    assert browser.get("/api/limits/").status_code == 403


def test_it_prefers_the_key_to_the_session(browser: Client, alice: User) -> None:
    browser.force_login(alice)
    answer = browser.get("/api/limits/", headers={"authorization": "Bearer nobody"})
    assert answer.status_code == 401


# What it reads


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b"\xff", b'{"scope": NaN}', b'{"name": "\\ud800"}', b"[" * 100_000, b'{"a":' * 100_000],
    ids=["half", "empty", "no text", "NaN", "half a pair", "deep list", "deep object"],
)
def test_it_refuses_a_body_that_is_no_json(people: Cast, body: bytes) -> None:
    answer = people.owner.post("limits/", content=body, headers={"content-type": "application/json"})
    assert error(answer, 400)["type"] == "invalid_request_error"


def test_it_refuses_a_body_of_another_type(people: Cast) -> None:
    assert error(people.owner.post("limits/", data={"scope": "key"}), 415)


def test_it_refuses_a_body_that_is_too_large(people: Cast) -> None:
    body = json.dumps({"name": "x" * 2**20}).encode()
    answer = people.owner.post("limits/", content=body, headers={"content-type": "application/json"})
    assert error(answer, 413)["code"] == "request_too_large"


# How it answers


@pytest.mark.parametrize("path", [f"{each.resource}{end}" for each in MANAGED for end in ("/", "")])
def test_it_answers_with_and_without_a_slash(people: Cast, path: str) -> None:
    answer = people.operator.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("each", MANAGED, ids=lambda each: each.resource)
def test_it_names_the_methods_that_there_are(people: Cast, each: type) -> None:
    answer = people.operator.put(f"{each.resource}/", json={})  # type: ignore[attr-defined]
    assert error(answer, 405)["code"] == "method_not_allowed"
    allowed = {"GET", "HEAD", *(["POST"] if hasattr(each, "create") else [])}
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("path", ["", "nowhere/", "limits/x/y/"])
def test_it_answers_404_in_openais_shape(people: Cast, path: str) -> None:
    assert error(people.owner.get(path), 404)["code"] == "not_found"


def test_it_slows_down_who_asks_too_often(people: Cast) -> None:
    key = made(people.owner.post("api-keys/", json={"name": "hasty"}))
    hasty = client(people.gateway, key["secret"])
    answers = (hasty.post("limits/", json={}) for _ in range(REQUESTS_PER_MINUTE + 1))
    refused = next(answer for answer in answers if answer.status_code != 400)
    assert error(refused, 429)["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert people.owner.get("limits/").status_code == 200


# What it tells of itself


def test_it_has_a_schema_that_is_one(people: Cast) -> None:
    answer = httpx.get(f"{people.gateway.url}/api/schema/", trust_env=False)
    schema = answer.json()
    validate_schema(schema)  # type: ignore[no-untyped-call]
    assert schema["openapi"].startswith("3.1")
    for each in MANAGED:
        assert f"/api/{each.resource}/" in schema["paths"]
    operations = [one for path in schema["paths"].values() for one in path.values() if "responses" in one]
    assert all("default" in one["responses"] for one in operations)


def test_it_has_pages_to_read_that_fetch_nothing_from_elsewhere(people: Cast) -> None:
    page = httpx.get(f"{people.gateway.url}/api/docs/", trust_env=False).text
    script = httpx.get(f"{people.gateway.url}/api/docs/?script", trust_env=False).text
    assert "http://" not in page.replace(people.gateway.url, "")
    assert "https://" not in page
    assert "https://" not in script
    style = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui.css"
    assert style in page
    assert httpx.get(f"{people.gateway.url}{style}", trust_env=False).status_code == 200
