"""What a caller is told when something is wrong, and that nothing leaks with it."""

import json
import socket
from typing import Any

import httpx
import pytest

from tests.proxy.test_odd_clients import read_until
from tests.server import UPSTREAM_API_KEY, Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

CHAT = "/v1/chat/completions"
RELAYED = (
    CHAT,
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
)
GOOD = {"model": "gpt-test", "messages": []}


def refused(response: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """The error object of a refusal, which has OpenAI's shape."""
    error: dict[str, Any] = response.json()["error"]
    assert response.status_code == status, response.text
    assert sorted(error) == ["code", "message", "param", "type"]
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    assert error["code"] is None or isinstance(error["code"], str)
    assert "x-request-id" in response.headers
    if code is not None:
        assert error["code"] == code
    return error


@pytest.mark.parametrize("path", [*RELAYED, "/v1/models"])
def test_no_key_is_401(gateway: Gateway, path: str) -> None:
    if path == "/v1/models":
        refused(httpx.get(gateway.url + path), 401, "missing_api_key")
    elif "audio" in path:
        files = {"file": ("a.wav", b"RIFF")}
        refused(httpx.post(gateway.url + path, files=files, data={"model": "m"}), 401, "missing_api_key")
    else:
        body = {**GOOD, "input": "a", "prompt": "a"}
        refused(httpx.post(gateway.url + path, json=body), 401, "missing_api_key")


@pytest.mark.parametrize("key", ["sk-unknown", "x", "with space", "a" * 513, "Basic abc", "\x80"])
def test_an_unknown_key_is_401(gateway: Gateway, key: str) -> None:
    headers = {b"authorization": f"Bearer {key}".encode("latin-1")}
    refused(httpx.post(gateway.url + CHAT, json=GOOD, headers=headers), 401, "invalid_api_key")


@pytest.mark.parametrize("form", ["bearer", "x-api-key", "x-security-key", "query", "body"])
@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings", "/v1/responses"])
def test_every_form_of_credential_works_on_every_path(
    gateway: Gateway, alice: Person, form: str, path: str
) -> None:
    body: dict[str, Any] = {**GOOD, "input": "a"}
    headers = {"bearer": {"authorization": f"Bearer {alice.api_key}"}}.get(form, {form: alice.security_key})
    query = {"security_key": alice.security_key} if form == "query" else {}
    if form in ("query", "body"):
        headers = {}
    if form == "body":
        body["security_key"] = alice.security_key
    assert httpx.post(gateway.url + path, json=body, headers=headers, params=query).status_code == 200


def test_a_credential_may_come_in_a_form(gateway: Gateway, alice: Person) -> None:
    data = {"model": "whisper-test", "security_key": alice.security_key}
    response = httpx.post(
        f"{gateway.url}/v1/audio/transcriptions", files={"file": ("a.wav", b"RIFF")}, data=data
    )
    assert response.status_code == 200


def test_two_different_credentials_are_400(alice: Person, bob: Person) -> None:
    response = alice.http.post(CHAT, json=GOOD, headers={"x-api-key": bob.api_key})
    refused(response, 400, "ambiguous_credentials")
    refused(alice.http.post(CHAT, json={**GOOD, "security_key": "other"}), 400, "ambiguous_credentials")
    assert alice.http.post(CHAT, json=GOOD, headers={"x-api-key": alice.api_key}).status_code == 200


def test_two_different_credentials_in_the_query_are_400(gateway: Gateway, alice: Person) -> None:
    url = f"{gateway.url}{CHAT}?security_key={alice.security_key}&security_key="
    refused(httpx.post(f"{url}another", json=GOOD), 400, "ambiguous_credentials")
    assert httpx.post(url + alice.security_key, json=GOOD).status_code == 200


def test_a_model_that_the_key_is_not_for_is_403(gateway: Gateway) -> None:
    (owner,) = gateway.tenant("narrow")
    key = {
        "name": "narrow",
        "user": "owner@narrow.test",
        "secret": "sk-narrow-key-0123",
        "models": ["gpt-4*"],
    }
    gateway.configure({"tenants": [{"slug": "narrow", "name": "Narrow", "api_keys": [key]}]})
    headers = {"authorization": "Bearer sk-narrow-key-0123"}
    refused(httpx.post(gateway.url + CHAT, json=GOOD, headers=headers), 403, "model_not_allowed")
    allowed = httpx.post(gateway.url + CHAT, json={**GOOD, "model": "gpt-4o"}, headers=headers)
    assert allowed.status_code == 200
    assert owner.http.post(CHAT, json=GOOD).status_code == 200


@pytest.mark.parametrize("path", RELAYED)
def test_a_wrong_method_is_405_and_says_which_is_right(alice: Person, path: str) -> None:
    response = alice.http.put(path)
    refused(response, 405, "method_not_allowed")
    assert "POST" in response.headers["allow"].split(", ")
    assert alice.http.post("/v1/models").headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"{", "truncated"),
        (b"[]", "object"),
        (b'"text"', "object"),
        (b"", "truncated"),
        (b'{"model":NaN}', "byte 9"),
        (b'{"model":"\xff"}', "byte 10"),
        (b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", "64"),
        (b'{"a":"' + b"[" * 100 + b'","messages":[],"model":5}', "'model'"),
        (b'{"messages":[]}', "'model'"),
        (b'{"model":"gpt-test"}', "'messages'"),
        (b'{"model":"gpt-test","messages":{}}', "'messages'"),
        (b'{"model":"gpt-test","messages":[],"stream":"yes"}', "'stream'"),
        (b'{"model":"a\\u0000b","messages":[]}', "'model'"),
    ],
)
def test_a_bad_body_is_400_and_says_where(alice: Person, body: bytes, place: str) -> None:
    assert place in refused(alice.http.post(CHAT, content=body), 400)["message"]


def test_a_body_that_is_too_large_is_413_before_it_is_read(gateway: Gateway, alice: Person) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {alice.api_key}\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(f"{head}content-length: 99999999\r\n\r\n".encode() + b"{")
        assert b" 413 " in connection.recv(4096)
    refused(alice.http.post(CHAT, content=b'{"a":"' + b"x" * 9_000_000 + b'"}'), 413, "request_too_large")


def test_a_body_is_told_how_large_it_may_be(gateway: Gateway, alice: Person) -> None:
    large = refused(alice.http.post(CHAT, content=b'{"a":"' + b"x" * 9_000_000 + b'"}'), 413)
    assert str(8 * 1024 * 1024) in large["message"]
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {alice.api_key}\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(f"{head}content-length: 99999999\r\n\r\n".encode() + b"{")
        assert str(32 * 1024 * 1024).encode() in read_until(connection, b" bytes.")
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        image = b'{"model":"gpt-test","messages":[{"url":"data:image/png;base64,' + b"A" * 33_554_432
        connection.sendall(b"%x\r\n" % len(image) + image)
        assert str(32 * 1024 * 1024).encode() in read_until(connection, b" bytes.")


def test_images_may_make_a_body_larger(alice: Person) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9_000_000}}
    body = {"model": "gpt-test", "messages": [{"role": "user", "content": [image]}]}
    assert alice.http.post(CHAT, json=body).status_code == 200


def test_headers_that_are_too_large_are_413(alice: Person) -> None:
    refused(alice.http.post(CHAT, json=GOOD, headers={"x-large": "a" * 17_000}), 413, "headers_too_large")


@pytest.mark.parametrize("status", [400, 404, 409, 422])
def test_an_upstreams_own_refusal_passes_through(alice: Person, status: int) -> None:
    error = refused(alice.http.post(CHAT, json={**GOOD, "model": f"gpt-test+status={status}"}), status)
    assert error["message"]


@pytest.mark.parametrize("shape", ["openai", "detail", "integer_code", "text", "empty", "leaky"])
@pytest.mark.parametrize("status", [400, 401, 500])
def test_every_shape_of_error_becomes_openais(
    gateway: Gateway, alice: Person, upstream: ScriptedUpstream, shape: str, status: int
) -> None:
    model = f"gpt-test+status={status}+error={shape}+tag=shape"
    response = alice.http.post(CHAT, json={**GOOD, "model": model})
    refused(response, status if status == 400 else 502)
    assert UPSTREAM_API_KEY not in response.text
    assert upstream.url not in response.text
    assert f"127.0.0.1:{upstream.port}" not in response.text
    record = gateway.usage_of(response.headers["x-request-id"])
    assert (record["status"], record["input_tokens"], record["output_tokens"]) == ("failed", 0, 0)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ("refuse", 502),
        ("garbage", 502),
        ("status=302+location=http://127.0.0.1:1/", 502),
        ("encoding=gzip", 502),
    ],
)
def test_an_upstream_that_answers_no_answer_is_502(alice: Person, options: str, status: int) -> None:
    for stream in (False, True):
        response = alice.http.post(CHAT, json={**GOOD, "model": f"gpt-test+{options}", "stream": stream})
        refused(response, status)


def test_no_secret_and_no_prompt_is_in_the_log(gateway: Gateway, alice: Person) -> None:
    prompt = "canary-of-a-prompt"
    for model in ("gpt-test", "gpt-test+status=500+error=leaky", "gpt-test+garbage", "no route here"):
        alice.http.post(CHAT, json={"model": model, "messages": [{"role": "user", "content": prompt}]})
    alice.http.post(CHAT, content=b'{"model": "' + prompt.encode())
    log = gateway.log()
    for secret in (prompt, alice.api_key, alice.security_key, UPSTREAM_API_KEY):
        assert secret not in log
    assert all(json.loads(line) for line in log.splitlines() if line.startswith("{"))


def test_an_unknown_path_is_404_in_openais_shape(alice: Person) -> None:
    response = alice.http.get("/v1/no/such/path")
    assert response.status_code == 404
    assert sorted(response.json()["error"]) == [
        "code",
        "message",
        "param",
        "type",
    ]
