"""Tenants, members and the audit log through the management API."""

from __future__ import annotations

from itertools import count

import pytest

from tests.managing import Cast, cast, error, made, results
from tests.server import Gateway

NUMBERS = count(1)


@pytest.fixture(scope="module")
def people(session_gateway: Gateway) -> Cast:
    return cast(session_gateway, "teams")


def slug() -> str:
    return f"team-{next(NUMBERS)}"


def test_it_makes_and_deletes_a_tenant(people: Cast) -> None:
    wanted = slug()
    tenant = made(people.operator.post("tenants/", json={"slug": wanted, "timezone": "Europe/Paris"}))
    assert (tenant["name"], tenant["timezone"], tenant["active"]) == (wanted, "Europe/Paris", True)
    assert people.operator.delete(f"tenants/{tenant['id']}/").status_code == 204
    assert error(people.operator.get(f"tenants/{tenant['id']}/"), 404)["message"] == "No such tenant."


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "slug"),
        ({"slug": "teams"}, "slug"),
        ({"slug": "with space"}, "slug"),
        ({"slug": "ok", "timezone": "Mars/Olympus"}, "timezone"),
        ({"slug": "ok", "retention_days": 0}, "retention_days"),
        ({"slug": "ok", "retention_applied": 3}, "retention_applied"),
    ],
)
def test_it_refuses_a_tenant_that_cannot_be_meant(people: Cast, body: object, param: str) -> None:
    assert error(people.operator.post("tenants/", json=body), 400)["param"] == param


def own(people: Cast) -> str:
    [tenant] = results(people.owner.get("tenants/"))
    return f"tenants/{tenant['id']}/"


def test_it_lets_an_owner_change_their_tenant_and_not_what_operators_decide(people: Cast) -> None:
    changed = people.owner.patch(own(people), json={"name": "Teams Incorporated", "retention_days": None})
    assert (changed.json()["name"], changed.json()["retention_days"]) == ("Teams Incorporated", None)
    for name, value in (("slug", "other"), ("public", True), ("active", False)):
        assert error(people.owner.patch(own(people), json={name: value}), 403)["param"] == name
    assert people.owner.get(own(people)).json() == changed.json()


def test_it_makes_a_member_who_can_call_at_once(people: Cast) -> None:
    member = made(people.admin.post("members/", json={"email": "Dora@teams.test", "role": "member"}))
    assert (member["email"], member["role"], member["tenant"]) == ("dora@teams.test", "member", "teams")
    assert made(people.admin.post("api-keys/", json={"name": "dora", "user": "dora@teams.test"}))
    path = f"members/{member['id']}/"
    assert people.owner.patch(path, json={"role": "viewer"}).json()["role"] == "viewer"
    assert people.owner.delete(path).status_code == 204


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"role": "member"}, "email"),
        ({"email": "x"}, "email"),
        ({"email": 5}, "email"),
        ({"email": "owner@teams.test"}, None),
        ({"email": "new@teams.test", "role": "operator"}, "role"),
    ],
)
def test_it_refuses_a_member_that_cannot_be_meant(people: Cast, body: object, param: str | None) -> None:
    assert error(people.owner.post("members/", json=body), 400)["param"] == param


def test_it_lets_nobody_give_or_take_a_role_above_their_own(people: Cast) -> None:
    owner, admin = (
        results(people.owner.get("members/", params={"role": role}))[0] for role in ("owner", "admin")
    )
    assert people.admin.post("members/", json={"email": "x@teams.test", "role": "owner"}).status_code == 403
    assert people.admin.patch(f"members/{admin['id']}/", json={"role": "owner"}).status_code == 403
    assert people.admin.patch(f"members/{owner['id']}/", json={"role": "viewer"}).status_code == 403
    assert people.admin.delete(f"members/{owner['id']}/").status_code == 403
    emails = [row["email"] for row in results(people.owner.get("members/"))]
    assert "x@teams.test" not in emails


def test_it_keeps_the_last_owner(people: Cast) -> None:
    [owner] = results(people.owner.get("members/", params={"role": "owner"}))
    assert people.owner.delete(f"members/{owner['id']}/").status_code == 409
    assert people.owner.patch(f"members/{owner['id']}/", json={"role": "admin"}).status_code == 409


def test_it_shows_a_member_themselves_alone(people: Cast) -> None:
    assert [row["email"] for row in results(people.member.get("members/"))] == ["member@teams.test"]


# The audit log


def entries(people: Cast, id_: str) -> list[tuple[str, str, list[str]]]:
    """Who did what to an object, oldest first: name, action, fields."""
    rows = results(people.owner.get("audit/", params={"object_id": id_}))
    return [(row["actor"], row["action"], row["fields"]) for row in reversed(rows)]


def test_it_writes_down_who_changed_which_fields(people: Cast) -> None:
    body = {"scope": "model", "name": "noted", "concurrent": 1}
    answer = people.admin.post("limits/", json=body)
    limit = made(answer)
    path = f"limits/{limit['id']}/"
    people.owner.patch(path, json={"concurrent": 2, "when_exceeded": "reject"})
    people.owner.patch(path, json={"concurrent": 2})
    people.operator.delete(path)
    operator = results(people.operator.get("members/", params={"tenant": "default"}))[0]["email"]
    assert entries(people, limit["id"]) == [
        ("admin@teams.test", "create", ["concurrent", "name", "scope"]),
        ("owner@teams.test", "update", ["concurrent"]),
        (operator, "delete", []),
    ]
    created = results(people.owner.get("audit/", params={"object_id": limit["id"]}))[-1]
    assert created["request_id"] == answer.headers["x-request-id"]
    assert (created["resource"], created["object_name"], created["via"]) == ("limits", "model noted", "key")


def test_it_writes_nothing_down_of_what_was_refused(people: Cast) -> None:
    before = results(people.owner.get("audit/", params={"limit": "1"}))
    people.owner.post("limits/", json={"scope": "key"})
    people.member.post("limits/", json={"scope": "key", "concurrent": 1})
    assert results(people.owner.get("audit/", params={"limit": "1"})) == before


def test_it_lists_the_audit_log_newest_first_in_parts(people: Cast) -> None:
    for number in range(3):
        made(people.owner.post("limits/", json={"scope": "model", "name": f"a{number}", "concurrent": 1}))
    first = people.owner.get("audit/", params={"limit": 2, "action": "create"})
    names = [row["object_name"] for row in results(first)]
    assert names == ["model a2", "model a1"]
    rest = results(people.owner.get(first.json()["next"]))
    assert rest[0]["object_name"] == "model a0"


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "PUT", "OPTIONS"])
def test_it_lets_nobody_write_to_the_audit_log(people: Cast, method: str) -> None:
    id_ = results(people.owner.get("audit/"))[0]["id"]
    answer = people.operator.request(method, f"audit/{id_}/", json={"actor": "nobody"})
    assert error(answer, 405)["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "GET, HEAD"
