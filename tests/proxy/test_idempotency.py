"""A call that is repeated under one Idempotency-Key is made and paid once, unless another try may help."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from tests.cable import Cable
from tests.conftest import StartGateway
from tests.deadline import until
from tests.server import Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Say something."}]
REPLAY = "x-tollgate-idempotent-replay"
ORIGINAL = "x-tollgate-original-request-id"


@pytest.fixture
def key() -> str:
    return f"order {uuid4()}"


def call(
    person: Person, key: str, model: str = "gpt-test", path: str = CHAT, stream: bool = False
) -> httpx.Response:
    document = {"model": model, "messages": MESSAGES, "input": "x", "prompt": "x", "stream": stream}
    return person.http.post(path, json=document, headers={"idempotency-key": key})


def code_of(response: httpx.Response) -> str:
    return str(response.json()["error"]["code"])


def keys_of(gateway: Gateway, response: httpx.Response) -> int:
    id_ = UUID(response.headers["x-request-id"])
    return len(gateway.query("SELECT digest FROM proxy_idempotencykey WHERE call_id = %s", id_))


def assert_replayed(gateway: Gateway, first: httpx.Response, again: httpx.Response) -> None:
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["content-type"] == first.headers["content-type"]
    assert REPLAY not in first.headers
    assert again.headers[REPLAY] == "true"
    assert again.headers[ORIGINAL] == first.headers["x-request-id"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert gateway.usage("id = %s", UUID(again.headers["x-request-id"])) == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses"])
def test_it_gives_the_same_answer_again(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream, key: str, path: str, stream: bool
) -> None:
    first = call(alice, key, path=path, stream=stream)
    assert first.status_code == 200
    again = call(alice, key, path=path.removeprefix("/v1") + "/", stream=stream)
    assert_replayed(gateway, first, again)
    assert len(upstream.calls()) == 1
    assert gateway.usage_of(first.headers["x-request-id"])["status"] == "completed"


def test_it_gives_embeddings_again(gateway: Gateway, alice: Person, key: str) -> None:
    first = call(alice, key, path="/v1/embeddings")
    assert_replayed(gateway, first, call(alice, key, path="/v1/embeddings"))


def test_it_knows_a_form_whatever_its_boundary(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream, key: str
) -> None:
    def transcribe(boundary: str, sound: bytes = b"RIFF") -> httpx.Response:
        return alice.http.post(
            "/v1/audio/transcriptions",
            data={"model": "whisper-test"},
            files={"file": ("a.wav", sound)},
            headers={"idempotency-key": key, "content-type": f"multipart/form-data; boundary={boundary}"},
        )

    first = transcribe("one")
    assert first.status_code == 200
    assert_replayed(gateway, first, transcribe("another"))
    assert code_of(transcribe("another", b"RIFX")) == "idempotency_mismatch"
    assert len(upstream.calls()) == 1


def test_a_call_without_the_header_leaves_no_key(gateway: Gateway, alice: Person) -> None:
    response = alice.http.post(CHAT, json={"model": "gpt-test", "messages": MESSAGES})
    assert keys_of(gateway, response) == 0


def test_it_replays_a_stream_to_the_sdk(alice: Person, upstream: ScriptedUpstream, key: str) -> None:
    def said() -> str:
        chunks = alice.sdk.chat.completions.create(
            model="gpt-test",
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
            extra_headers={"Idempotency-Key": key},
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    assert said() == said() != ""
    assert len(upstream.calls()) == 1


@pytest.mark.parametrize("bad", ["", "x" * 256, "schlüssel".encode(), b"tab\there"])
def test_it_refuses_a_key_that_is_none_by_name(alice: Person, bad: str | bytes) -> None:
    headers = {"idempotency-key": bad}
    response = alice.http.post(CHAT, json={"model": "gpt-test", "messages": MESSAGES}, headers=headers)  # type: ignore[arg-type]
    assert (response.status_code, code_of(response)) == (400, "invalid_idempotency_key")
    assert response.json()["error"]["param"] == "Idempotency-Key"


def test_it_refuses_two_keys(alice: Person) -> None:
    headers = [("idempotency-key", "one"), ("idempotency-key", "two")]
    response = alice.http.post(CHAT, json={"model": "gpt-test", "messages": MESSAGES}, headers=headers)
    assert (response.status_code, code_of(response)) == (400, "invalid_idempotency_key")


def test_it_takes_the_longest_key(gateway: Gateway, alice: Person, key: str) -> None:
    longest = key.ljust(255, "~")
    assert_replayed(gateway, call(alice, longest), call(alice, longest))


def test_another_body_or_path_under_the_key_is_422(
    alice: Person, upstream: ScriptedUpstream, key: str
) -> None:
    call(alice, key)
    for response in (call(alice, key, model="gpt-other"), call(alice, key, path="/v1/completions")):
        assert (response.status_code, code_of(response)) == (422, "idempotency_mismatch")
    assert len(upstream.calls()) == 1


def test_the_key_is_the_callers_own(
    gateway: Gateway, alice: Person, bob: Person, charlie: Person, upstream: ScriptedUpstream, key: str
) -> None:
    firsts = [call(person, key) for person in (alice, bob, charlie)]
    assert all(first.status_code == 200 and REPLAY not in first.headers for first in firsts)
    assert len({first.json()["id"] for first in firsts}) == len(upstream.calls()) == 3
    assert_replayed(gateway, firsts[2], call(charlie, key))


def test_it_is_409_while_the_call_runs(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream, key: str
) -> None:
    model = f"gpt-test+delay=1500+tag={uuid4().hex}"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(call, alice, key, model)
        upstream.call(model)
        response = call(alice, key, model)
        assert (response.status_code, code_of(response)) == (409, "idempotency_in_progress")
        assert response.headers["retry-after"] == "1"
        assert_replayed(gateway, first.result(), call(alice, key, model))


def test_of_equal_calls_at_once_one_is_made(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream, key: str
) -> None:
    model = f"gpt-test+delay=300+tag={uuid4().hex}"
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: call(alice, key, model), range(8)))
    statuses = sorted(response.status_code for response in responses)
    assert statuses == [200] + [409] * 7
    assert {code_of(response) for response in responses if response.status_code == 409} == {
        "idempotency_in_progress"
    }
    assert len(upstream.calls(model)) == 1
    assert len(gateway.usage("model = %s", model)) == 1
    assert gateway.query("SELECT id FROM proxy_opencall WHERE model = %s", model) == []


@pytest.mark.parametrize("stream", [False, True])
def test_an_upstreams_refusal_is_kept(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream, key: str, stream: bool
) -> None:
    first = call(alice, key, "gpt-test+status=400", stream=stream)
    assert first.status_code == 400
    assert_replayed(gateway, first, call(alice, key, "gpt-test+status=400", stream=stream))
    assert len(upstream.calls()) == 1


@pytest.mark.parametrize("options", ["status=500", "status=429", "status=409", "refuse"])
def test_a_refusal_that_another_try_may_mend_frees_the_key(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream, key: str, options: str
) -> None:
    model = f"gpt-retried-{uuid4().hex}"
    upstream.behave(model, options)
    first = call(alice, key, model)
    assert first.status_code >= 400
    assert keys_of(gateway, first) == 0
    upstream.behave(model, "words=3")
    again = call(alice, key, model)
    assert again.status_code == 200
    assert REPLAY not in again.headers


def test_a_truncated_stream_frees_the_key(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream, key: str
) -> None:
    model = f"gpt-retried-{uuid4().hex}"
    upstream.behave(model, "cut=3")
    assert "[DONE]" not in call(alice, key, model, stream=True).text
    upstream.behave(model, "words=3")
    assert "[DONE]" in call(alice, key, model, stream=True).text


def test_a_client_that_leaves_frees_the_key(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream, key: str
) -> None:
    model = f"gpt-retried-{uuid4().hex}"
    upstream.behave(model, "hang_after=2")
    document = {"model": model, "messages": MESSAGES, "input": "x", "prompt": "x", "stream": True}
    with alice.http.stream("POST", CHAT, json=document, headers={"idempotency-key": key}) as response:
        next(response.iter_raw())
    assert gateway.usage_of(response.headers["x-request-id"])["status"] == "cancelled"
    upstream.behave(model, "words=3")
    assert "[DONE]" in call(alice, key, model, stream=True).text


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_too_large_is_not_kept_and_not_paid_twice(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream, key: str, stream: bool
) -> None:
    first = call(alice, key, "gpt-test+huge=300000", stream=stream)
    assert (first.status_code, len(first.content) > 2**20) == (200, True)
    again = call(alice, key, "gpt-test+huge=300000", stream=stream)
    assert (again.status_code, code_of(again)) == (409, "idempotency_answer_too_large")
    assert again.headers["x-should-retry"] == "false"
    assert len(upstream.calls()) == 1


def test_an_answer_just_below_the_bound_is_kept(gateway: Gateway, alice: Person, key: str) -> None:
    first = call(alice, key, "gpt-test+huge=190000", stream=True)
    assert 900_000 < len(first.content) < 2**20
    assert_replayed(gateway, first, call(alice, key, "gpt-test+huge=190000", stream=True))


def test_answers_and_keys_are_not_legible_in_the_database(gateway: Gateway, alice: Person, key: str) -> None:
    first = call(alice, key)
    id_ = UUID(first.headers["x-request-id"])
    (row,) = gateway.query("SELECT * FROM proxy_idempotencykey WHERE call_id = %s", id_)
    assert first.json()["choices"][0]["message"]["content"].encode() not in row["sealed_answer"]
    assert key not in json.dumps(row, default=str)


def test_a_key_is_free_after_its_time(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream, key: str
) -> None:
    first = call(alice, key)
    over = datetime.now(UTC) - timedelta(seconds=1)
    moment = over if gateway.database_url else over.strftime("%Y-%m-%d %H:%M:%S.%f")
    id_ = UUID(first.headers["x-request-id"])
    gateway.query("UPDATE proxy_idempotencykey SET expires_at = %s WHERE call_id = %s", moment, id_)
    again = call(alice, key)
    assert again.status_code == 200
    assert REPLAY not in again.headers
    assert len(upstream.calls()) == 2


def test_housekeeping_removes_expired_keys_and_no_others(start_gateway: StartGateway, key: str) -> None:
    gateway = start_gateway()
    alice = gateway.people["alice"]
    old, new = call(alice, key), call(alice, key + "2")
    over = datetime.now(UTC) - timedelta(seconds=1)
    moment = over if gateway.database_url else over.strftime("%Y-%m-%d %H:%M:%S.%f")
    id_ = UUID(old.headers["x-request-id"])
    gateway.query("UPDATE proxy_idempotencykey SET expires_at = %s WHERE call_id = %s", moment, id_)
    gateway.restart()
    until(lambda: keys_of(gateway, old) == 0, seconds=40, what="the expired key to be removed")
    assert keys_of(gateway, new) == 1


@pytest.mark.timeout(120)
def test_a_killed_server_frees_the_key_when_its_call_is_settled(
    start_gateway: StartGateway, upstream: ScriptedUpstream, key: str
) -> None:
    gateway = start_gateway()
    alice = gateway.people["alice"]
    model = f"gpt-retried-{uuid4().hex}"
    upstream.behave(model, "hang")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(call, alice, key, model)
        upstream.call(model)
        gateway.kill9()
        assert isinstance(first.exception(), httpx.TransportError)
    upstream.behave(model, "words=3")
    gateway.start()
    assert code_of(call(alice, key, model)) == "idempotency_in_progress"
    until(lambda: gateway.open_calls() == 0, seconds=60, what="the orphan to be settled")
    again = call(alice, key, model)
    assert again.status_code == 200
    assert_replayed(gateway, again, call(alice, key, model))
    assert [row["status"] for row in gateway.usage("model = %s", model)] == ["lost", "completed"]


@pytest.mark.postgres
@pytest.mark.timeout(120)
def test_an_answer_settled_on_disk_is_kept_once_the_database_is_back(
    start_gateway: StartGateway, postgres_url: str, key: str
) -> None:
    with Cable(postgres_url) as cable:
        gateway = start_gateway(cable)
        alice, model = gateway.people["alice"], "gpt-test+pace=100+words=20"
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(call, alice, key, model, stream=True)
            until(lambda: gateway.open_calls() == 1, what="the call to be under way")
            cable.cut()
            assert "[DONE]" in first.result().text
        assert code_of(call(alice, key, model, stream=True)) == "database_unavailable"
        cable.plug()
        until(lambda: gateway.open_calls() == 0, seconds=30, what="the record to come in")
        assert_replayed(gateway, first.result(), call(alice, key, model, stream=True))


def test_a_kept_answer_outlives_the_server(start_gateway: StartGateway, key: str) -> None:
    gateway = start_gateway()
    alice = gateway.people["alice"]
    first = call(alice, key, stream=True)
    gateway.kill9()
    gateway.start()
    assert_replayed(gateway, first, call(alice, key, stream=True))
