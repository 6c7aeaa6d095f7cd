"""The paths of "chatgpt-proxy", asked as its clients ask: a `security_key` in the body, query or form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from proxy.endpoints import older_pages
from proxy.endpoints.older_calls import Plain
from tests.conftest import StartGateway
from tests.server import UPSTREAM_API_KEY, Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

HELLO = [{"role": "user", "content": "What is this?"}]
PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
LINK = {"type": "image_url", "image_url": {"url": "https://h/i.png"}}
Document = dict[str, Any]


@pytest.fixture
def key(gateway: Gateway) -> str:
    return gateway.people["alice"].security_key


@pytest.fixture
def http(gateway: Gateway) -> Iterator[httpx.Client]:
    """A client that sends no headers of its own."""
    with httpx.Client(base_url=gateway.url, timeout=30, trust_env=False) as client:
        yield client


def sent(upstream: ScriptedUpstream) -> Document:
    return upstream.calls()[-1].document


def test_openai_answers_a_chat(
    http: httpx.Client, key: str, upstream: ScriptedUpstream, gateway: Gateway
) -> None:
    asked = {"model": "gpt-test", "messages": HELLO, "temperature": 0.5, "timeout": 5}
    answer = http.post("/openai", json={"security_key": key, **asked})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["object"] == "chat.completion"
    assert answer.text.startswith('{\n  "')
    assert sent(upstream) == {"model": "gpt-test", "messages": HELLO, "temperature": 0.5}
    assert gateway.usage_of(answer.headers["x-request-id"])["status"] == "completed"


@pytest.mark.parametrize(
    ("messages", "image", "expected"),
    [
        (
            HELLO,
            {"base64": "AAAA"},
            [{**HELLO[0], "content": [{"type": "text", "text": "What is this?"}, PNG]}],
        ),
        (
            [{"role": "assistant", "content": "x"}],
            {"url": "https://h/i.png"},
            [{"role": "assistant", "content": "x"}, {"role": "user", "content": [LINK]}],
        ),
        (None, {"url": "https://h/i.png", "base64": "AAAA"}, [{"role": "user", "content": [LINK]}]),
        (
            [{"role": "user", "content": [{"type": "text", "text": "One"}]}],
            {"url": "https://h/i.png"},
            [{"role": "user", "content": [{"type": "text", "text": "One"}, LINK]}],
        ),
        (
            [{"role": "user", "content": None}],
            {"url": "https://h/i.png"},
            [{"role": "user", "content": [LINK]}],
        ),
        (HELLO, "", HELLO),
    ],
)
def test_openai_puts_the_image_into_the_last_message(
    http: httpx.Client,
    key: str,
    upstream: ScriptedUpstream,
    messages: list[Document] | None,
    image: Any,
    expected: list[Document],
) -> None:
    asked = {"security_key": key, "model": "gpt-test", "image": image}
    if messages is not None:
        asked["messages"] = messages
    assert http.post("/openai", json=asked).status_code == 200
    assert sent(upstream) == {"model": "gpt-test", "messages": expected}


@pytest.mark.parametrize(
    ("members", "status", "text"),
    [
        ({"stream": True}, 400, "Streaming is not supported on this endpoint"),
        ({"image": {}}, 400, "Invalid image payload"),
        ({"image": {"path": "/etc"}}, 400, "Invalid image payload"),
        ({"security_key": "wrong"}, 403, "Forbidden"),
        ({"security_key": "wrong", "stream": True}, 403, "Forbidden"),
        ({"security_key": "wrong", "image": {}}, 403, "Forbidden"),
        ({"security_key": ""}, 403, "Forbidden"),
        ({"security_key": None}, 403, "Forbidden"),
    ],
)
def test_openai_refuses_in_plain_text(
    http: httpx.Client, key: str, members: Document, status: int, text: str
) -> None:
    asked = {"security_key": key, "model": "gpt-test", "messages": HELLO, **members}
    answer = http.post("/openai", json=asked)
    assert (answer.status_code, answer.text) == (status, text)
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["access-control-allow-origin"] == "*"


def test_bad_json_is_the_clients_mistake(http: httpx.Client) -> None:
    answer = http.post("/openai", content=b'{"security_key": ')
    assert answer.status_code == 400


def test_a_number_that_no_program_can_hold_is_the_clients_mistake(http: httpx.Client, key: str) -> None:
    for path, member in (("/openai", "image"), ("/chatgpt", "temperature")):
        body = f'{{"security_key":"{key}","model":"demo","prompt":"Hi","messages":[],"{member}":1e999}}'
        assert http.post(path, content=body).status_code == 400


def test_an_upstreams_refusal_comes_as_json(http: httpx.Client, key: str) -> None:
    asked = {"security_key": key, "model": "gpt-test+status=400", "messages": HELLO}
    answer = http.post("/openai", json=asked)
    assert answer.status_code == 400
    assert answer.json()["error"].keys() >= {"message", "type", "param", "code"}
    away = http.post("/openai", json={**asked, "model": "gpt-test+refuse"})
    assert (away.status_code, away.json()["error"]["param"]) == (502, None)
    prompt = {"security_key": key, "model": "gpt-test+status=400", "prompt": "Hi"}
    refused = http.post("/chatgpt", json=prompt)
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_caller_may_bring_an_account(http: httpx.Client, key: str, upstream: ScriptedUpstream) -> None:
    account = {"openai_api_key": "sk-callers-own", "project": "proj_1", "organization": "org-1"}
    asked = {"security_key": key, "model": "gpt-test", "messages": HELLO}
    http.post("/openai", json={**asked, **account})
    call = upstream.calls()[-1]
    assert call.headers["authorization"] == "Bearer sk-callers-own"
    assert (call.headers["openai-project"], call.headers["openai-organization"]) == ("proj_1", "org-1")
    assert not account.keys() & call.document.keys()
    http.post("/openai", json=asked)
    assert upstream.calls()[-1].headers["authorization"] == f"Bearer {UPSTREAM_API_KEY}"


def test_what_its_own_key_is_refused_is_told_to_the_caller(http: httpx.Client, key: str) -> None:
    asked = {"security_key": key, "model": "gpt-test+status=401", "messages": HELLO}
    assert http.post("/openai", json={**asked, "openai_api_key": "sk-mine"}).status_code == 401
    assert http.post("/openai", json=asked).status_code == 502


def test_an_operator_may_forbid_accounts_of_callers(
    gateway: Gateway, http: httpx.Client, key: str, upstream: ScriptedUpstream
) -> None:
    own = {"name": "house", "base_url": upstream.url, "api_key": "sk-house", "takes_caller_keys": False}
    gateway.configure(
        {"upstreams": [own], "models": [{"name": "house-only", "routes": [{"upstream": "house"}]}]}
    )
    asked = {"security_key": key, "model": "house-only", "messages": HELLO, "openai_api_key": "sk-mine"}
    answer = http.post("/openai", json=asked)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "openai_api_key"


def test_a_key_that_cannot_be_a_header_is_refused(http: httpx.Client, key: str) -> None:
    asked = {"security_key": key, "model": "gpt-test", "messages": HELLO, "openai_api_key": "a\r\nb: c"}
    assert http.post("/openai", json=asked).status_code == 400


# Responses


def test_openai2_answers_and_keeps_the_response(http: httpx.Client, key: str) -> None:
    asked = {"security_key": key, "model": "gpt-test", "input": "hi"}
    made = http.post("/openai2", json=asked).json()
    assert made["object"] == "response"
    assert made["output_text"] == made["output"][0]["content"][0]["text"]
    query = {"security_key": key}
    path = f"/openai2/{made['id']}"
    assert http.get(path, params=query).json() == made
    listed = http.get(f"{path}/input_items", params=query).json()
    (item,) = listed["data"]
    assert (item["role"], item["content"]) == ("user", [{"type": "input_text", "text": "hi"}])
    assert listed == {
        "object": "list",
        "data": [item],
        "first_id": item["id"],
        "last_id": item["id"],
        "has_more": False,
    }
    cancelled = http.post(f"{path}/cancel", json=query)
    assert (cancelled.status_code, cancelled.json()["error"]["type"]) == (400, "invalid_request_error")
    assert http.delete(path, params=query).json() == {"id": made["id"], "object": "response", "deleted": True}
    assert http.get(path, params=query).status_code == 404


def test_openai2_cancels_what_runs_in_the_background(
    http: httpx.Client, key: str, upstream: ScriptedUpstream
) -> None:
    asked = {"security_key": key, "model": "gpt-test+hang+tag=older", "input": "hi", "background": True}
    path = f"/openai2/{http.post('/openai2', json=asked).json()['id']}"
    for body in (b"", b"{}", b'{"security_key": "wrong"}'):
        refused = http.post(f"{path}/cancel", content=body)
        assert (refused.status_code, refused.text) == (403, "Forbidden")
    cancelled = http.post(f"{path}/cancel", json={"security_key": key})
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert cancelled.text.startswith('{\n  "')
    assert http.get(path, params={"security_key": key}).json()["status"] == "cancelled"


def test_openai2_streams_data_without_the_names_of_events(http: httpx.Client, key: str) -> None:
    answer = http.post(
        "/openai2", json={"security_key": key, "model": "gpt-test", "input": "hi", "stream": True}
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [event for event in answer.text.split("\n\n") if event]
    assert all(event.startswith("data: ") for event in events)
    assert events[-1] == "data: [DONE]"
    told = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert (told[0]["type"], told[-1]["type"]) == ("response.created", "response.completed")


def test_openai2_never_makes_a_broken_stream_look_whole(http: httpx.Client, key: str) -> None:
    asked = {"security_key": key, "model": "gpt-test+cut=3", "input": "hi", "stream": True}
    answer = http.post("/openai2", json=asked)
    assert "[DONE]" not in answer.text
    assert '"error"' in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/openai2/", 400, "Missing response_id"),
        ("DELETE", "/openai2/", 400, "Missing response_id"),
        ("GET", "/openai2/resp_0", 403, "Forbidden"),
        ("PUT", "/openai2/resp_0", 404, "Not Found"),
        ("GET", "/openai", 404, "Not Found"),
        ("GET", "/chatgpt", 404, "Not Found"),
    ],
)
def test_it_refuses_paths_in_plain_text(
    http: httpx.Client, method: str, path: str, status: int, text: str
) -> None:
    answer = http.request(method, path)
    assert (answer.status_code, answer.text) == (status, text)
    assert answer.headers["access-control-allow-origin"] == "*"


def test_a_response_of_another_tenant_is_not_there(http: httpx.Client, gateway: Gateway, key: str) -> None:
    made = http.post("/openai2", json={"security_key": key, "model": "gpt-test", "input": "hi"}).json()
    query = {"security_key": gateway.people["charlie"].security_key}
    assert http.get(f"/openai2/{made['id']}", params=query).status_code == 404
    assert http.delete(f"/openai2/{made['id']}", params=query).status_code == 404


# The others


def test_chatgpt_answers_a_prompt(http: httpx.Client, key: str, upstream: ScriptedUpstream) -> None:
    asked = {"security_key": key, "prompt": "Hi", "model": "gpt-test", "temperature": 0.2}
    answer = http.post("/chatgpt", json=asked).json()
    assert answer.keys() == {"role", "id", "parentMessageId", "text", "detail"}
    assert answer["role"] == "assistant"
    assert answer["detail"]["object"] == "chat.completion"
    assert answer["text"] == answer["detail"]["choices"][0]["message"]["content"]
    assert sent(upstream) == {
        "model": "gpt-test",
        "messages": [
            {"role": "system", "content": "You are an AI assistant."},
            {"role": "user", "content": "Hi"},
        ],
        "temperature": 0.2,
        "top_p": 1,
        "presence_penalty": 1,
    }


def test_chatgpt_has_a_model_of_its_own(http: httpx.Client, key: str, upstream: ScriptedUpstream) -> None:
    http.post("/chatgpt", json={"security_key": key, "prompt": "Hi"})
    assert sent(upstream)["model"] == "gpt-4o-mini"


@pytest.mark.parametrize(
    "members",
    [{"prompt": None}, {"prompt": 1}, {"model": 1}, {"temperature": 3}, {"top_p": 2}, {"security_key": 1}],
)
def test_chatgpt_refuses_what_is_of_the_wrong_type(http: httpx.Client, key: str, members: Document) -> None:
    answer = http.post("/chatgpt", json={"security_key": key, "prompt": "Hi", **members})
    assert (answer.status_code, answer.text) == (400, "Bad Request")


def test_chatgpt_needs_a_key(http: httpx.Client) -> None:
    without = http.post("/chatgpt", json={"prompt": "Hi"})
    assert (without.status_code, without.text) == (400, "Bad Request")
    wrong = http.post("/chatgpt", json={"prompt": "Hi", "security_key": "wrong"})
    assert (wrong.status_code, wrong.text) == (403, "Forbidden")


def test_embeddings_have_a_model_of_their_own(
    http: httpx.Client, key: str, upstream: ScriptedUpstream
) -> None:
    account = {"openai_api_key": "sk-mine", "project": "p", "organization": "o", "timeout": 5}
    asked = {"security_key": key, "input": "Hi", "dimensions": 8}
    answer = http.post("/embeddings", json={**asked, **account})
    assert answer.json()["data"][0]["object"] == "embedding"
    assert sent(upstream) == {"model": "text-embedding-3-large", "input": "Hi", "dimensions": 8}


def test_embeddings_refuse_a_wrong_key_as_whoever_asks_expects(http: httpx.Client) -> None:
    asked = {"model": "gpt-test", "input": "Hi"}
    older = http.post("/embeddings", json={**asked, "security_key": "wrong"})
    assert (older.status_code, older.text) == (403, "Forbidden")
    openai = http.post("/v1/embeddings", json=asked, headers={"authorization": "Bearer wrong"})
    assert openai.json()["error"]["code"] == "invalid_api_key"
    assert http.post("/embeddings", json=asked).status_code == 401


def transcribe(http: httpx.Client, data: dict[str, str], name: str = "recording") -> httpx.Response:
    files = {name: ("a.wav", b"RIFF", "audio/wav")}
    return http.post("/openai/audio/transcriptions", data=data, files=files)


def test_a_sound_may_be_in_any_field(http: httpx.Client, key: str, upstream: ScriptedUpstream) -> None:
    own = {"openai_api_key": "sk-mine", "project": "", "organization": ""}
    answer = transcribe(http, {"security_key": key, "language": "de", **own})
    assert "text" in answer.json()
    call = upstream.calls()[-1]
    assert call.fields == {"model": "whisper-1", "language": "de"}
    assert b'name="file"; filename="a.wav"' in call.body
    assert b"RIFF" in call.body
    assert call.headers["authorization"] == "Bearer sk-mine"


def test_of_several_sounds_the_last_is_heard(
    http: httpx.Client, key: str, upstream: ScriptedUpstream
) -> None:
    fields = [("security_key", (None, key)), ("model", (None, "gpt-test"))]
    fields += [("timestamp_granularities[]", (None, name)) for name in ("word", "segment")]
    sounds = [("one", ("1.wav", b"first", "audio/wav")), ("two", ("2.wav", b"second", "audio/wav"))]
    assert http.post("/openai/audio/transcriptions", files=[*fields, *sounds]).status_code == 200
    body = upstream.calls()[-1].body
    assert b"second" in body
    assert b"first" not in body
    assert body.count(b'name="timestamp_granularities[]"') == 2


@pytest.mark.parametrize("form", ["text", "srt", "vtt"])
def test_a_transcription_as_text_is_text(http: httpx.Client, key: str, form: str) -> None:
    answer = transcribe(http, {"security_key": key, "response_format": form})
    assert answer.headers["content-type"].startswith("text/plain")
    assert not answer.text.startswith('"')


def test_a_transcription_needs_a_form_a_file_and_a_key(http: httpx.Client, key: str) -> None:
    path = "/openai/audio/transcriptions"
    no_form = http.post(path, json={"security_key": key})
    assert (no_form.status_code, no_form.text) == (400, "Content-Type must be multipart/form-data")
    no_file = http.post(path, files={"security_key": (None, key)})
    assert (no_file.status_code, no_file.text) == (400, "No audio file uploaded")
    wrong = http.post(path, files={"security_key": (None, "wrong")})
    assert (wrong.status_code, wrong.text) == (403, "Forbidden")


# The pages


def test_the_pages_share_one_clock_and_one_token(start_gateway: StartGateway) -> None:
    gateway = start_gateway(ACCESS_TOKEN="a-token", DEFAULT_MODEL="gpt-test")
    with httpx.Client(base_url=gateway.url, timeout=30, trust_env=False) as http:
        assert http.get("/log").text == "Forbidden"
        assert http.get("/log", params={"access_token": "wrong"}).status_code == 403
        assert http.get("/health").status_code == 403
        answer = http.get("/health", params={"access_token": "a-token"})
        assert answer.json().keys() == {"role", "id", "parentMessageId", "text", "detail"}
        record = gateway.usage_of(answer.headers["x-request-id"])
        assert (record["status"], record["api_key_id"]) == ("completed", None)
        for path in ("/health", "/health2", "/log", "/log_errors"):
            early = http.get(path, params={"access_token": "a-token"})
            assert (early.status_code, early.text) == (429, "Too Many Requests")
            assert 1 <= int(early.headers["retry-after"]) <= 10


@pytest.mark.parametrize("path", older_pages.PAGES)
def test_no_key_stands_in_for_the_token(gateway: Gateway, alice: Person, path: str) -> None:
    before = len(gateway.usage())
    for params in ({}, {"access_token": "wrong"}):
        answer = alice.http.get(path, params=params)
        assert (answer.status_code, answer.text) == (403, "Forbidden")
    assert len(gateway.usage()) == before


@pytest.mark.parametrize("path", older_pages.PAGES)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_the_pages_are_only_got(gateway: Gateway, path: str, method: str) -> None:
    answer = httpx.request(method, gateway.url + path, trust_env=False)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


def test_one_page_is_let_through_in_ten_seconds() -> None:
    clock = older_pages.Clock()
    clock.take(100.0)
    for early in (100.0, 109.9):
        with pytest.raises(Plain) as caught:
            clock.take(early)
        assert caught.value.status == 429
    clock.take(110.0)


def test_a_page_of_the_log_shows_no_content_and_no_markup(start_gateway: StartGateway) -> None:
    gateway = start_gateway(ACCESS_TOKEN="a-token")
    gateway.people["alice"].http.post(
        "/openai",
        json={"model": "gpt-test+tag=<script>", "messages": [{"role": "user", "content": "canary-words"}]},
    )
    page = httpx.get(f"{gateway.url}/log", params={"access_token": "a-token"})
    assert page.headers["content-type"].startswith("text/html")
    assert "request count: 1" in page.text
    assert "max prompt tokens: 11" in page.text
    assert "&lt;script&gt;" in page.text
    assert "<script>" not in page.text
    assert "canary-words" not in page.text


def test_a_page_of_the_log_shows_the_content_of_tenants_that_the_operator_named(
    start_gateway: StartGateway,
) -> None:
    gateway = start_gateway(ACCESS_TOKEN="a-token", CONTENT_LOGGING="acme")
    alice, charlie = gateway.people["alice"], gateway.people["charlie"]
    said = [{"role": "user", "content": "<b>canary\u202e\n2026-01-01T00:00:00.000 request count: 0"}]
    alice.http.post("/v1/chat/completions", json={"model": "gpt-test", "messages": said})
    alice.http.post("/v1/responses", json={"model": "gpt-test", "input": "x" * 9000, "stream": True})
    alice.http.post(
        "/v1/chat/completions", json={"model": "gpt-oss-20b+leaks", "messages": said, "stream": True}
    )
    charlie.http.post("/v1/chat/completions", json={"model": "gpt-test", "messages": said})
    page = httpx.get(f"{gateway.url}/log", params={"access_token": "a-token"})
    lines = page.text.splitlines()
    assert [line.count("canary") for line in lines if line.startswith("  asked: ")] == [1, 0, 1]
    assert "<b>" not in page.text
    assert "\u202e" not in page.text
    assert not any(line.startswith("2026-01-01") for line in lines)
    answered = [line for line in lines if line.startswith("  answered: ")]
    assert [line.count("w1 w2 w3 w4 w5") for line in answered] == [1, 1, 1]
    assert all(len(line) < 4100 for line in lines)
    assert "control tokens taken out, by upstream: openai 3" in lines
    assert "canary" not in gateway.log()


def test_the_pages_are_closed_without_a_token(http: httpx.Client) -> None:
    assert http.get("/log", params={"access_token": ""}).text == "Forbidden"
    assert http.get("/log_errors").status_code == 403
