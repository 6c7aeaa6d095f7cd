"""Keys through the management API: the secret is shown once, and nobody gets more rights by one."""

from __future__ import annotations

import re
from itertools import count

import httpx
import pytest

from tests.deadline import until
from tests.managing import Cast, cast, client, error, made, results
from tests.server import Gateway

SECRET = re.compile("sk-[0-9A-Za-z]{58}")
NUMBERS = count(1)


@pytest.fixture(scope="module")
def people(session_gateway: Gateway) -> Cast:
    return cast(session_gateway, "keyed")


def name() -> str:
    return f"key {next(NUMBERS)}"


def models(people: Cast, secret: str) -> int:
    """The status of a call by that key."""
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.get(f"{people.gateway.url}/v1/models", headers=headers, trust_env=False).status_code


def stops(people: Cast, secret: str) -> None:
    until(lambda: models(people, secret) == 401, seconds=1, what="the key to be refused")


@pytest.mark.parametrize("kind", ["api-keys", "security-keys"])
def test_it_shows_the_secret_of_a_new_key_once(people: Cast, kind: str) -> None:
    answer = people.owner.post(f"{kind}/", json={"name": name()})
    key = made(answer)
    secret = key["secret"]
    assert SECRET.fullmatch(secret)
    assert secret.startswith(key["prefix"])
    assert answer.headers["cache-control"] == "no-store"
    assert models(people, secret) == 200
    for path in (f"{kind}/{key['id']}/", f"{kind}/", "audit/"):
        shown = people.owner.get(path)
        assert shown.status_code == 200
        assert secret not in shown.text
        assert "digest" not in shown.text
    assert "secret" not in people.owner.get(f"{kind}/{key['id']}/").json()
    assert secret not in people.gateway.log()


def test_it_keeps_secrets_out_of_the_database(people: Cast) -> None:
    secret = made(people.owner.post("api-keys/", json={"name": name()}))["secret"]
    for table in ("accounts_apikey", "accounts_auditentry"):
        rows = people.gateway.query(f"SELECT * FROM {table}")
        assert rows
        assert secret not in str(rows)


@pytest.mark.parametrize("kind", ["api-keys", "security-keys"])
def test_it_revokes_a_key_everywhere_within_a_second(people: Cast, kind: str) -> None:
    key = made(people.owner.post(f"{kind}/", json={"name": name()}))
    assert models(people, key["secret"]) == 200
    revoked = people.owner.post(f"{kind}/{key['id']}/revoke/")
    assert (revoked.status_code, revoked.json()["revoked_at"] is None) == (200, False)
    stops(people, key["secret"])
    again = people.owner.post(f"{kind}/{key['id']}/revoke/").json()
    assert again["revoked_at"] == revoked.json()["revoked_at"]
    listed = results(people.owner.get(f"{kind}/", params={"revoked": "true"}))
    assert key["id"] in [row["id"] for row in listed]


def test_it_makes_a_key_of_what_is_asked_for(people: Cast) -> None:
    body = {
        "name": name(),
        "user": "MEMBER@keyed.test",
        "models": ["gpt-*"],
        "expires_at": "2999-01-01T00:00:00Z",
    }
    key = made(people.owner.post("api-keys/", json=body))
    assert (key["tenant"], key["user"], key["models"]) == ("keyed", "member@keyed.test", ["gpt-*"])
    assert key["expires_at"].startswith("2999-01-01")
    assert key["id"] in [row["id"] for row in results(people.member.get("api-keys/"))]


def test_it_makes_a_key_of_the_makers_own(people: Cast) -> None:
    assert made(people.admin.post("api-keys/", json={"name": name()}))["user"] == "admin@keyed.test"


def test_it_makes_an_owners_key_for_an_operator_who_names_a_tenant(people: Cast) -> None:
    key = made(people.operator.post("api-keys/", json={"name": name(), "tenant": "keyed"}))
    assert (key["tenant"], key["user"]) == ("keyed", "owner@keyed.test")


def test_it_makes_an_operators_key_in_the_tenant_of_the_one_they_came_with(people: Cast) -> None:
    assert made(people.operator.post("api-keys/", json={"name": name()}))["tenant"] == "default"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": "n", "user": "nobody@keyed.test"}, "user"),
        ({"name": "n", "user": "owner@keyed-other.test"}, "user"),
        ({"name": "n", "models": "gpt-*"}, "models"),
        ({"name": "n", "models": [""]}, "models.0"),
        ({"name": "n", "expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "n", "expires_at": "soon"}, "expires_at"),
        ({"name": "n", "secret": "sk-mine"}, "secret"),
        ({"name": "n", "digest": "d"}, "digest"),
    ],
)
def test_it_refuses_a_key_that_cannot_be_meant(people: Cast, body: object, param: str) -> None:
    assert error(people.owner.post("api-keys/", json=body), 400)["param"] == param


def test_it_says_the_same_of_a_stranger_and_of_somebody_from_another_tenant(people: Cast) -> None:
    told = [
        error(people.owner.post("api-keys/", json={"name": "n", "user": user}), 400)
        for user in ("nobody@keyed.test", "owner@keyed-other.test")
    ]
    assert told[0] == told[1]


def test_it_makes_no_second_key_of_a_name(people: Cast) -> None:
    body = {"name": name()}
    made(people.owner.post("api-keys/", json=body))
    assert "already exists" in error(people.owner.post("api-keys/", json=body), 400)["message"]


def test_it_gives_nobody_the_key_of_somebody_who_may_do_more(people: Cast) -> None:
    theirs = {"name": name(), "user": "owner@keyed.test"}
    assert people.admin.post("api-keys/", json=theirs).status_code == 403
    key = made(people.owner.post("api-keys/", json=theirs))
    assert people.admin.post(f"api-keys/{key['id']}/rotate/").status_code == 403
    made(people.owner.post("members/", json={"email": "admin@keyed-other.test", "role": "member"}))
    assert made(people.owner.post("api-keys/", json={"name": name(), "user": "admin@keyed-other.test"}))


def test_it_makes_nobody_an_operator(people: Cast) -> None:
    """An operator who is a member of a tenant has rights that its owner cannot give away."""
    operator = results(people.operator.get("members/", params={"tenant": "default"}))[0]["email"]
    [row] = people.gateway.query("SELECT id FROM accounts_user WHERE username = %s", operator)
    people.gateway.manage("shell", "-c", JOIN.format(user=row["id"]))
    told = people.owner.post("api-keys/", json={"name": name(), "user": operator})
    assert told.status_code == 403


JOIN = """
from accounts.models import Membership, Tenant
from accounts.tenancy import operator_scope
with operator_scope():
    Membership.objects.create(tenant=Tenant.objects.get(slug="keyed"), user_id={user}, role="viewer")
"""


def test_it_changes_what_a_key_may_do_and_not_whose_it_is(people: Cast) -> None:
    key = made(people.owner.post("api-keys/", json={"name": name()}))
    path = f"api-keys/{key['id']}/"
    changed = people.owner.patch(path, json={"models": ["o3"], "expires_at": "2999-01-01T00:00:00Z"}).json()
    assert changed["models"] == ["o3"]
    assert error(people.owner.patch(path, json={"user": "member@keyed.test"}), 400)["param"] == "user"
    assert error(people.owner.patch(path, json={"name": "other"}), 400)["param"] == "name"


def test_it_rotates_a_key_with_an_overlap(people: Cast) -> None:
    key = made(people.owner.post("api-keys/", json={"name": name(), "models": ["gpt-*"]}))
    answer = people.owner.post(f"api-keys/{key['id']}/rotate/", json={"overlap_seconds": 3600})
    rotated = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert (rotated["id"], rotated["models"]) == (key["id"], ["gpt-*"])
    assert rotated["secret"] != key["secret"]
    assert [models(people, each["secret"]) for each in (key, rotated)] == [200, 200]
    people.owner.post(f"api-keys/{key['id']}/revoke/")
    stops(people, key["secret"])
    stops(people, rotated["secret"])
    assert error(people.owner.post(f"api-keys/{key['id']}/rotate/"), 409)


def test_it_rotates_a_key_at_once_where_no_overlap_is_asked_for(people: Cast) -> None:
    key = made(people.owner.post("api-keys/", json={"name": name()}))
    rotated = people.owner.post(f"api-keys/{key['id']}/rotate/").json()
    stops(people, key["secret"])
    assert models(people, rotated["secret"]) == 200


@pytest.mark.parametrize("seconds", [-1, 10**9, "x", None])
def test_it_refuses_an_overlap_that_cannot_be_meant(people: Cast, seconds: object) -> None:
    key = made(people.owner.post("api-keys/", json={"name": name()}))
    told = error(people.owner.post(f"api-keys/{key['id']}/rotate/", json={"overlap_seconds": seconds}), 400)
    assert told["param"] == "overlap_seconds"


def test_it_finds_the_keys_of_a_user(people: Cast) -> None:
    key = made(people.owner.post("api-keys/", json={"name": name(), "user": "viewer@keyed.test"}))
    listed = results(people.owner.get("api-keys/", params={"user": "viewer@keyed.test"}))
    assert key["id"] in [row["id"] for row in listed]
    assert {row["user"] for row in listed} == {"viewer@keyed.test"}
    assert results(people.owner.get("api-keys/", params={"user": "owner@keyed-other.test"})) == []


def test_it_lets_a_shared_key_manage_nothing(people: Cast) -> None:
    shared = client(people.gateway, "tests-keyed-security-key")
    assert error(shared.get("limits/"), 403)["type"] == "permission_error"


def test_it_refuses_a_key_that_has_been_revoked(people: Cast) -> None:
    key = made(people.owner.post("api-keys/", json={"name": name()}))
    theirs = client(people.gateway, key["secret"])
    assert theirs.get("limits/").status_code == 200
    people.owner.post(f"api-keys/{key['id']}/revoke/")
    assert error(theirs.get("limits/"), 401)["code"] == "invalid_api_key"
