"""Live calls over real sockets: who is shown which, how soon, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.conftest import StartGateway
from tests.deadline import until
from tests.managing import ROLES, key_of, tenant_of_roles
from tests.server import BOOTSTRAP_API_KEY, Gateway
from tests.watching import Batch, SignedIn, Watch, named, signed_in, watching

CHAT = "/v1/chat/completions"
SHOWN_SECONDS = 1.0
CLOSED_SECONDS = 2.0
SIGNED_OUT, FORBIDDEN = 4401, 4403
PACED = "gpt-test+words=200+pace=50"


@pytest.fixture(scope="module")
def tenant(session_gateway: Gateway) -> str:
    """A tenant with one member of each role, beside another one. Its keys may call twice a second."""
    document = tenant_of_roles("live")
    limits = [{"scope": "key", "name": "admin", "requests_per_minute": 1}]
    session_gateway.configure({"tenants": [{**document, "limits": limits}, tenant_of_roles("live-other")]})
    return "live"


@pytest.fixture(scope="module")
def people(session_gateway: Gateway, tenant: str) -> dict[str, SignedIn]:
    """Everybody of the tenant, the owner of the other one, and an operator, each signed in."""
    names = [f"{role}@{tenant}.test" for role in ROLES]
    found = signed_in(session_gateway, *names, f"owner@{tenant}-other.test")
    (operator,) = signed_in(session_gateway, "who operates live", superuser=True)
    return dict(zip((*ROLES, "outsider"), found, strict=True)) | {"operator": operator}


def headers(tenant: str, role: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key_of(tenant, role)}"}


@contextmanager
def calling(gateway: Gateway, tenant: str, role: str, model: str) -> Iterator[None]:
    """While a stream is read that this member asked for."""
    body = {"model": model, "stream": True, "messages": []}
    with httpx.stream("POST", f"{gateway.url}{CHAT}", json=body, headers=headers(tenant, role)) as stream:
        assert stream.status_code == 200
        yield


def call(gateway: Gateway, tenant: str, role: str, model: str) -> int:
    body = {"model": model, "messages": []}
    return httpx.post(f"{gateway.url}{CHAT}", json=body, headers=headers(tenant, role)).status_code


def test_a_call_is_shown_as_it_starts_streams_and_ends(
    gateway: Gateway, tenant: str, people: dict[str, SignedIn]
) -> None:
    model = f"{PACED}+tag=shown"
    with watching(people["owner"]) as watch:
        watch.hear()
        began = time.monotonic()
        with calling(gateway, tenant, "member", model):
            shown = watch.begun(model)
            assert time.monotonic() - began < SHOWN_SECONDS
            growing = [watch.until(lambda batch: named_running(batch, shown["id"])) for _ in range(4)]
        over = watch.over(model)
    assert shown | {"age_ms": 0} == {
        "id": shown["id"],
        "tenant": tenant,
        "user": f"member@{tenant}.test",
        "key": "member",
        "endpoint": "chat.completions",
        "model": model,
        "stream": True,
        "age_ms": 0,
    }
    assert 0 <= shown["age_ms"] < 1000 * SHOWN_SECONDS
    tokens = [named_running(batch, shown["id"])[0][2] for batch in growing]
    assert tokens == sorted(tokens)
    assert 0 < tokens[0] < tokens[-1]
    assert 0 < named_running(growing[-1], shown["id"])[0][3] < 40
    assert growing[-1]["tokens_per_second"] > 0
    assert (over["id"], over["status"], over["error_code"]) == (shown["id"], "cancelled", "client_left")
    record = gateway.usage_of(over["id"])
    assert (over["duration_ms"], over["output_tokens"]) == (
        record["duration_milliseconds"],
        record["output_tokens"],
    )


def named_running(batch: Batch, call_id: str) -> list[list[Any]]:
    return [row for row in batch["running"] if row[0] == call_id]


def test_everybody_sees_what_the_permission_table_gives_them(
    gateway: Gateway, tenant: str, people: dict[str, SignedIn]
) -> None:
    own, others, elsewhere = (f"gpt-test+tag={name}" for name in ("own", "others", "elsewhere"))
    with ExitStack() as stack:
        watches = {name: stack.enter_context(watching(person)) for name, person in people.items()}
        named_tenant = SignedIn(gateway, people["operator"].session_key, tenant)
        watches["operator of it"] = stack.enter_context(watching(named_tenant))
        for watch in watches.values():
            watch.hear()
        assert call(gateway, tenant, "member", own) == 200
        assert call(gateway, tenant, "owner", others) == 200
        assert call(gateway, f"{tenant}-other", "owner", elsewhere) == 200
        last = {"member": own, "outsider": elsewhere, "operator": elsewhere}
        seen = {name: shown(watch, last.get(name, others)) for name, watch in watches.items()}
    every = {own, others, elsewhere}
    assert seen["operator"] & every == every
    assert seen["outsider"] & every == {elsewhere}
    assert seen["member"] & every == {own}
    for name in ("owner", "admin", "viewer", "operator of it"):
        assert seen[name] & every == {own, others}, name


def shown(watch: Watch, last: str) -> set[str]:
    """All models that were shown until this one was, and in the batch after it."""
    if last not in watch.seen():
        watch.over(last)
    return watch.seen()


def test_refusals_are_shown_with_their_reason(
    gateway: Gateway, tenant: str, people: dict[str, SignedIn]
) -> None:
    model = "gpt-test+tag=refused"
    with watching(people["viewer"]) as viewer, watching(people["operator"]) as operator:
        statuses = {call(gateway, tenant, "admin", model) for _ in range(2)}
        unknown = httpx.post(f"{gateway.url}{CHAT}", headers={"authorization": "Bearer sk-no"}, json={})
        assert (statuses, unknown.status_code) == ({200, 429}, 401)
        batch = viewer.until(
            lambda batch: [row for row in named(batch["ended"], model) if row["status"] == "refused"]
        )
        row = next(row for row in named(batch["ended"], model) if row["status"] == "refused")
        assert (row["status_code"], row["error_code"]) == (429, "rate_limit_exceeded")
        assert (row["limit"], row["key"]) == ("1 requests per minute and key", "admin")
        assert batch["refused_last_minute"] >= 1
        nobodys = operator.until(
            lambda batch: [
                row
                for row in batch["ended"]
                if (row["error_code"], row["endpoint"]) == ("invalid_api_key", CHAT)
            ]
        )
        rows = [row for row in nobodys["ended"] if row["error_code"] == "invalid_api_key"]
        assert {(row["tenant"], row["user"], row["model"]) for row in rows} == {("", "", "")}
        assert "invalid_api_key" not in {
            row["error_code"] for batch in viewer.batches for row in batch["ended"]
        }


def test_asking_tells_the_same(gateway: Gateway, tenant: str, people: dict[str, SignedIn]) -> None:
    running, done = f"{PACED}+tag=asked", "gpt-test+tag=asked"
    assert call(gateway, tenant, "member", done) == 200
    with calling(gateway, tenant, "member", running):
        assert people["member"].ask().headers["cache-control"] == "no-store"
        batch = until(lambda: running_in(people["member"].ask().json(), running), seconds=SHOWN_SECONDS)
        assert named_running(batch, named(batch["begun"], running)[0]["id"])
        assert named(batch["ended"], done)
        assert not named(people["outsider"].ask().json()["begun"], running)
    again = people["member"].ask().json()
    assert named(again["ended"], done), "who asks is told all of it each time"


def running_in(batch: Batch, model: str) -> Batch | None:
    return batch if named(batch["begun"], model) else None


@pytest.mark.parametrize("origin", ["https://elsewhere.test", "null", None])
def test_pages_of_other_origins_do_not_watch(people: dict[str, SignedIn], origin: str | None) -> None:
    with pytest.raises(InvalidStatus) as refusal, watching(people["owner"], origin=origin):
        pass
    assert refusal.value.response.status_code == 403
    assert b"origin_not_allowed" in refusal.value.response.body


def test_who_has_no_right_gets_an_answer_and_no_connection(
    gateway: Gateway, tenant: str, people: dict[str, SignedIn]
) -> None:
    (stranger,) = signed_in(gateway, "a member of nothing")
    refused = {
        SignedIn(gateway, "no session"): (401, "not_signed_in"),
        stranger: (403, None),
        SignedIn(gateway, people["owner"].session_key, f"{tenant}-other"): (404, None),
        SignedIn(gateway, people["operator"].session_key, "nowhere"): (404, None),
    }
    for person, (status, code) in refused.items():
        with pytest.raises(InvalidStatus) as refusal, watching(person):
            pass
        answer = person.ask()
        assert refusal.value.response.status_code == answer.status_code == status
        assert answer.json()["error"]["code"] == code
    key = {"authorization": f"Bearer {key_of(tenant, 'owner')}"}
    events = f"{gateway.url}/dashboard/live/events"
    assert httpx.get(events, headers=key).status_code == 401, "a key is no session"
    assert httpx.post(events, headers={"cookie": people["owner"].cookie}).status_code == 405


def api(gateway: Gateway, method: str, path: str, **options: object) -> None:
    headers = {"authorization": f"Bearer {BOOTSTRAP_API_KEY}"}
    answer = httpx.request(method, f"{gateway.url}/api/{path}", headers=headers, **options)  # type: ignore[arg-type]
    assert answer.status_code < 300, answer.text


def membership_of(gateway: Gateway, tenant: str, role: str) -> str:
    headers = {"authorization": f"Bearer {key_of(tenant, 'owner')}"}
    found = httpx.get(f"{gateway.url}/api/members/?role={role}", headers=headers).json()["results"]
    return str(found[0]["id"])


def sign_out(gateway: Gateway, tenant: str, person: SignedIn) -> None:
    gateway.query("DELETE FROM django_session WHERE session_key = %s", person.session_key)


def remove_member(gateway: Gateway, tenant: str, person: SignedIn) -> None:
    api(gateway, "DELETE", f"members/{membership_of(gateway, tenant, 'admin')}/")


def change_role(gateway: Gateway, tenant: str, person: SignedIn) -> None:
    api(gateway, "PATCH", f"members/{membership_of(gateway, tenant, 'admin')}/", json={"role": "member"})


def deactivate_user(gateway: Gateway, tenant: str, person: SignedIn) -> None:
    code = f"User.objects.filter(username='admin@{tenant}.test').update(is_active=False)"
    gateway.manage("shell", "--no-imports", "-c", f"from accounts.models import User\n{code}")


def deactivate_tenant(gateway: Gateway, tenant: str, person: SignedIn) -> None:
    rows = gateway.query("SELECT id FROM accounts_tenant WHERE slug = %s", tenant)
    api(gateway, "PATCH", f"tenants/{rows[0]['id']}/", json={"active": False})


WAYS: dict[Callable[[Gateway, str, SignedIn], None], int] = {
    sign_out: SIGNED_OUT,
    remove_member: FORBIDDEN,
    change_role: 1012,  # connect again, and see what is left
    deactivate_user: SIGNED_OUT,
    deactivate_tenant: FORBIDDEN,
}


def slug_of(way: Callable[[Gateway, str, SignedIn], None]) -> str:
    return f"live-{way.__name__}".replace("_", "-")


@pytest.fixture(scope="module")
def pairs(session_gateway: Gateway) -> dict[str, list[SignedIn]]:
    """For each way to take a right away a tenant of its own: its admin and its owner, signed in."""
    slugs = [slug_of(way) for way in WAYS]
    session_gateway.configure({"tenants": [tenant_of_roles(slug) for slug in slugs]})
    names = [f"{role}@{slug}.test" for slug in slugs for role in ("admin", "owner")]
    found = iter(signed_in(session_gateway, *names))
    return {slug: [next(found), next(found)] for slug in slugs}


@pytest.mark.parametrize("way", WAYS, ids=slug_of)
def test_it_ends_when_the_right_is_taken_away(
    gateway: Gateway, pairs: dict[str, list[SignedIn]], way: Callable[[Gateway, str, SignedIn], None]
) -> None:
    slug = slug_of(way)
    person, owner = pairs[slug]
    with watching(person) as watch, watching(owner) as other:
        watch.hear()
        other.hear()
        way(gateway, slug, person)
        taken_at = time.monotonic()
        assert watch.closed() == WAYS[way]
        assert time.monotonic() - taken_at < CLOSED_SECONDS
        if way is not deactivate_tenant:
            assert call(gateway, slug, "owner", "gpt-test+tag=on") == 200
            assert other.over("gpt-test+tag=on"), "nobody else is cut off"


def test_a_viewer_who_does_not_read_holds_nobody_up(
    gateway: Gateway, tenant: str, people: dict[str, SignedIn]
) -> None:
    with watching(people["owner"]), watching(people["owner"]) as reader:
        reader.hear()
        for number in range(3):
            assert call(gateway, tenant, "member", f"gpt-test+tag=held{number}") == 200
        assert reader.over("gpt-test+tag=held2")


@pytest.mark.postgres
@pytest.mark.redis
@pytest.mark.slow
def test_it_is_shown_on_every_replica(gateway: Gateway, tenant: str, people: dict[str, SignedIn]) -> None:
    """Also what ended before the other one was there to ask."""
    environment = {name: value for name, value in gateway.environment.items() if name != "PORT"}
    before, model = "gpt-test+tag=before", f"{PACED}+tag=replica"
    assert call(gateway, tenant, "member", before) == 200
    with Gateway(gateway.folder, environment) as other, ExitStack() as stack:
        here = stack.enter_context(watching(people["owner"]))
        there = stack.enter_context(watching(people["owner"], gateway=other))
        assert there.over(before)["user"] == f"member@{tenant}.test"
        for caller, watches in ((gateway, (here, there)), (other, (there, here))):
            each = f"{model}{caller.port}"
            began = time.monotonic()
            with calling(caller, tenant, "member", each):
                for watch in watches:
                    assert watch.begun(each)
                assert time.monotonic() - began < SHOWN_SECONDS
                assert there.hear()["everywhere"]
            for watch in watches:
                assert watch.over(each)["status"] == "cancelled"
        other.stop()
        assert there.closed() == 1012


def test_without_redis_it_shows_what_its_own_process_has(start_gateway: StartGateway) -> None:
    gateway = start_gateway(REDIS_URL="redis://127.0.0.1:1")
    (owner,) = signed_in(gateway, "alice@acme.test")
    with watching(owner) as watch:
        assert not watch.hear()["everywhere"]
        assert gateway.people["bob"].http.post(CHAT, json={"model": "demo", "messages": []}).is_success
        assert watch.over("demo")["user"] == "bob@acme.test"
