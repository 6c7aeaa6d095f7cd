"""The playground's page and its key: who gets them, for which tenant, and for how long the key works."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.cache import caches
from django.test import Client

from accounts import keys, playground_keys
from accounts.actors import NotManaging, actor_of_key
from accounts.models import ApiKey, AuditEntry, Membership, Tenant, User
from accounts.permissions import Reach, Role, reach
from accounts.tenancy import operator_scope
from gateway.playground import KEYS_PER_MINUTE
from tests.accounts.conftest import acme, alice, bob, charlie, globex, member

__all__ = ["acme", "alice", "bob", "charlie", "globex"]
BROWSER = {"accept": "text/html"}


@pytest.fixture(autouse=True)
def counters() -> Iterator[None]:
    """How often who asked is kept in this process."""
    yield
    caches["process"].clear()


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def secret_of(client: Client, tenant: str = "") -> str:
    answer = client.post(f"/playground/key/?tenant={tenant}")
    assert answer.status_code == 200, answer.content
    assert "no-store" in answer["cache-control"]
    secret: str = answer.json()["secret"]
    return secret


def caller_of(secret: str, now: datetime | None = None) -> keys.Caller | None:
    found = keys.find(keys.digest(secret), now or datetime.now(UTC))
    return None if isinstance(found, keys.Refused) else found.caller


def user_in(role: Role, tenant: Tenant) -> User:
    if role is not Role.OPERATOR:
        return member(tenant, f"some-{role}", Membership.Role(role))
    with operator_scope():
        made: User = User.objects.create_superuser("some-operator")
    return made


def audited() -> list[Any]:
    with operator_scope():
        return list(AuditEntry.objects.order_by("id"))


# Who may


@pytest.mark.parametrize("role", Role)
def test_it_lets_each_role_in_as_the_permission_table_says(acme: Tenant, role: Role) -> None:
    client = signed_in(user_in(role, acme))
    shown, made = client.get("/playground/", headers=BROWSER), client.post("/playground/key/")
    may = reach(role, "playground", "use") is not Reach.NONE
    assert (shown.status_code, made.status_code) == ((200, 200) if may else (403, 403))
    if may:
        caller = caller_of(made.json()["secret"])
        assert caller is not None
        assert caller.tenant_id == acme.id
    else:
        assert made.json()["error"]["type"] == "permission_error"
        assert b"call models" in shown.content


def test_it_asks_who_somebody_is(db: None) -> None:
    shown = Client().get("/playground/?tenant=acme", headers=BROWSER)
    assert shown.status_code == 302
    assert shown["location"].endswith("?next=/playground/%3Ftenant%3Dacme")
    refused = Client().post("/playground/key/")
    assert refused.status_code == 401
    assert refused.json()["error"].keys() == {"message", "type", "param", "code"}


def test_it_makes_no_key_without_the_csrf_token(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    assert client.post("/playground/key/").status_code == 403
    assert client.get("/playground/key/").status_code == 405
    with operator_scope():
        assert not ApiKey.objects.filter(playground=True).exists()
    page = client.get("/playground/", headers=BROWSER)
    token = page.context["data"]["csrf_token"]
    assert client.post("/playground/key/", headers={"x-csrftoken": token}).status_code == 200


def test_it_acts_in_the_tenant_that_is_named_among_ones_own(
    acme: Tenant, globex: Tenant, alice: User, charlie: User
) -> None:
    client = signed_in(alice)
    other, absent = (client.post(f"/playground/key/?tenant={slug}") for slug in ("globex", "absent"))
    assert (other.status_code, other.content) == (404, absent.content)
    assert client.get("/playground/?tenant=globex", headers=BROWSER).status_code == 404
    with operator_scope():
        Membership.objects.create(tenant=globex, user=alice, role=Membership.Role.MEMBER)
    callers = [caller_of(secret_of(client, slug)) for slug in ("", "acme", "globex")]
    assert [caller and caller.tenant_slug for caller in callers] == ["acme", "acme", "globex"]
    assert {caller and caller.user_id for caller in callers} == {alice.pk}
    page = client.get("/playground/?tenant=globex", headers=BROWSER)
    assert [tenant.slug for tenant in page.context["tenants"]] == ["acme", "globex"]
    assert page.context["data"]["tenant"] == "globex"


def test_it_lets_an_operator_act_in_any_tenant(acme: Tenant, globex: Tenant) -> None:
    client = signed_in(user_in(Role.OPERATOR, acme))
    callers = [caller_of(secret_of(client, slug)) for slug in ("", "globex")]
    first = min(acme, globex, key=lambda tenant: tenant.id)
    assert [caller and caller.tenant_slug for caller in callers] == [first.slug, "globex"]
    with operator_scope():
        User.objects.filter(username="some-operator").update(is_superuser=False)
    refused = client.post("/playground/key/")
    assert (refused.status_code, "member of no tenant" in refused.json()["error"]["message"]) == (403, True)


# What the key is


def test_it_keeps_one_key_for_a_user_and_tenant(acme: Tenant, alice: User, bob: User) -> None:
    client = signed_in(alice)
    first = client.post("/playground/key/").json()
    second = client.post("/playground/key/").json()
    assert first["id"] == second["id"]
    assert first["secret"] != second["secret"]
    hers = caller_of(second["secret"])
    assert hers is not None
    assert str(hers.api_key_id) == first["id"]
    his = caller_of(secret_of(signed_in(bob)))
    assert his is not None
    assert his.api_key_id != hers.api_key_id
    with operator_scope():
        names = set(ApiKey.objects.filter(playground=True).values_list("name", flat=True))
    assert names == {"Playground (alice@acme.test)", "Playground (bob@acme.test)"}
    made = [(entry.action, entry.resource, entry.via) for entry in audited()]
    assert made == [("create", "api-keys", "session")] * 2


def test_it_takes_a_name_that_no_other_key_has(acme: Tenant, alice: User) -> None:
    with operator_scope():
        keys.make_api_key(acme, alice, "Playground (alice@acme.test)")
        key, _ = playground_keys.renew(alice, acme)
    assert key.name == "Playground (alice@acme.test) 2"


def test_it_works_for_minutes_and_the_one_before_for_its_own(acme: Tenant, alice: User) -> None:
    client = signed_in(alice)
    first, second = secret_of(client), secret_of(client)
    assert caller_of(first)
    third = secret_of(client)
    assert [bool(caller_of(secret)) for secret in (first, second, third)] == [False, True, True]
    later = datetime.now(UTC) + playground_keys.LIFETIME + timedelta(seconds=1)
    assert [caller_of(secret, later) for secret in (second, third)] == [None, None]


def test_it_does_not_bring_a_revoked_key_back(acme: Tenant, alice: User) -> None:
    client = signed_in(alice)
    first = client.post("/playground/key/").json()
    with operator_scope():
        ApiKey.objects.get(id=first["id"]).revoke()
    second = client.post("/playground/key/").json()
    assert second["id"] != first["id"]
    assert caller_of(first["secret"]) is None
    assert caller_of(second["secret"])


def test_it_manages_nothing(acme: Tenant, alice: User) -> None:
    secret = secret_of(signed_in(alice))
    with pytest.raises(NotManaging):
        actor_of_key(secret)
    refused = Client().get("/api/api-keys/", headers={"authorization": f"Bearer {secret}"})
    assert refused.status_code == 403


def test_it_is_marked_in_the_management_api_and_made_anew_by_nobody_else(acme: Tenant, alice: User) -> None:
    client = signed_in(alice)
    id_ = client.post("/playground/key/").json()["id"]
    [row] = client.get("/api/api-keys/?playground=true").json()["results"]
    assert (row["id"], row["playground"]) == (id_, True)
    json = "application/json"
    assert client.post(f"/api/api-keys/{id_}/rotate/", {}, content_type=json).status_code == 409
    for_ever = client.patch(f"/api/api-keys/{id_}/", {"expires_at": None}, content_type=json)
    assert (for_ever.status_code, for_ever.json()["error"]["param"]) == (400, "expires_at")
    narrower = client.patch(f"/api/api-keys/{id_}/", {"models": ["demo"]}, content_type=json)
    assert narrower.status_code == 200
    caller = caller_of(secret_of(client))
    assert caller is not None
    assert caller.allowed_models == ("demo",)


# When it ends


def test_it_ends_with_signing_out_everywhere(acme: Tenant, alice: User, bob: User) -> None:
    here, there = signed_in(alice), signed_in(bob)
    secrets, his = [secret_of(here), secret_of(here)], secret_of(there)
    assert here.post("/accounts/logout/").status_code == 302
    assert [caller_of(secret) for secret in secrets] == [None, None]
    assert caller_of(his)
    assert here.post("/playground/key/").status_code == 401


@pytest.mark.parametrize("loss", ["membership", "role", "user", "tenant"])
def test_it_ends_with_the_right_to_it(acme: Tenant, bob: User, loss: str) -> None:
    client = signed_in(bob)
    secret = secret_of(client)
    assert caller_of(secret)
    with operator_scope():
        membership = Membership.objects.of(acme).filter(user=bob)
        if loss == "membership":
            membership.delete()
        elif loss == "role":
            membership.update(role=Membership.Role.VIEWER)
        elif loss == "user":
            User.objects.filter(id=bob.pk).update(is_active=False)
        else:
            Tenant.objects.update(active=False)
    assert caller_of(secret) is None
    assert client.post("/playground/key/").status_code in (401, 403)


def test_it_does_not_make_keys_without_end(acme: Tenant, alice: User) -> None:
    client = signed_in(alice)
    for _ in range(KEYS_PER_MINUTE):
        secret_of(client)
    refused = client.post("/playground/key/")
    assert (refused.status_code, refused["retry-after"]) == (429, "60")
