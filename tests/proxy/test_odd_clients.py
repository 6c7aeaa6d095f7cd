"""Clients that do what nobody would: each gets its answer, holds up nobody else, and is counted once."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from proxy import http
from proxy.call import InvalidBody
from proxy.endpoints import responses
from proxy.http import Reply, Request
from tests.conftest import StartGateway
from tests.deadline import until
from tests.server import Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

CHAT = "/v1/chat/completions"


@contextmanager
def connected(gateway: Gateway) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        yield connection


def chat_body(model: str, **more: object) -> bytes:
    return json.dumps({"model": model, "messages": [], **more}).encode()


def head(person: Person, *headers: str, version: str = "1.1", path: str = CHAT) -> bytes:
    lines = [f"POST {path} HTTP/{version}", "host: x", f"authorization: Bearer {person.api_key}", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    """What comes up to `mark`, or to the connection's end."""
    data = b""
    while mark not in data and (piece := connection.recv(65536)):
        data += piece
    return data


def counted(gateway: Gateway, model: str, count: int = 1) -> list[str]:
    """How the calls for that model ended, once there are so many."""
    rows = until(lambda: gateway.usage("model = %s", model)[count - 1 :], what="the records")
    assert len(rows) == 1
    until(lambda: not gateway.query("SELECT 1 FROM proxy_opencall WHERE model = %s", model), what="none open")
    return [row["status"] for row in gateway.usage("model = %s", model)]


def test_a_body_in_chunks_is_read(gateway: Gateway, alice: Person) -> None:
    model = "gpt-test+tag=chunks"
    body = chat_body(model)
    with connected(gateway) as connection:
        connection.sendall(head(alice, "transfer-encoding: chunked"))
        for start in range(0, len(body), 7):
            connection.sendall(chunk(body[start : start + 7]))
        connection.sendall(chunk(b""))
        assert read_until(connection, b"usage").startswith(b"HTTP/1.1 200")
    assert counted(gateway, model) == ["completed"]


def test_chunked_calls_hold_no_more_than_their_bytes(gateway: Gateway, alice: Person) -> None:
    """Seventeen small bodies of unknown length are far from a process's whole budget."""
    model = "gpt-test+delay=1500+tag=many"
    body = chunk(chat_body(model)) + chunk(b"")
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(gateway)) for _ in range(18)]
        for connection in connections:
            connection.sendall(head(alice, "transfer-encoding: chunked") + body)
        for connection in connections:
            assert read_until(connection, b"usage").startswith(b"HTTP/1.1 200")


def test_chunked_calls_without_a_header_of_a_key_do_not_shut_out_their_address(
    gateway: Gateway, alice: Person
) -> None:
    model = "gpt-test+delay=500+tag=inside"
    body = chunk(chat_body(model, security_key=alice.security_key)) + chunk(b"")
    plain = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(gateway)) for _ in range(3)]
        for connection in connections:
            connection.sendall(plain + body)
            time.sleep(0.1)
        for connection in connections:
            assert read_until(connection, b"usage").startswith(b"HTTP/1.1 200")


def test_it_says_to_continue_where_a_client_waits_for_that(gateway: Gateway, alice: Person) -> None:
    body = chat_body("gpt-test")
    with connected(gateway) as connection:
        connection.sendall(head(alice, f"content-length: {len(body)}", "expect: 100-continue"))
        assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert read_until(connection, b"usage").startswith(b"HTTP/1.1 200")


def test_a_client_with_a_bad_key_is_not_told_to_continue(gateway: Gateway) -> None:
    start = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-no\r\n"
    with connected(gateway) as connection:
        connection.sendall(f"{start}content-length: 1000\r\nexpect: 100-continue\r\n\r\n".encode())
        assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 401")


def test_calls_sent_ahead_are_answered_in_their_order(gateway: Gateway, alice: Person) -> None:
    models = [f"gpt-test+tag=ahead{number}" for number in range(3)]
    bodies = [chat_body(model, stream=number == 1) for number, model in enumerate(models)]
    with connected(gateway) as connection:
        connection.sendall(b"".join(head(alice, f"content-length: {len(body)}") + body for body in bodies))
        data = read_until(connection, models[2].encode())
    places = [data.index(model.encode()) for model in models]
    assert places == sorted(places)
    assert [counted(gateway, model) for model in models] == [["completed"]] * 3


def test_an_http_1_0_client_gets_its_answer(gateway: Gateway, alice: Person) -> None:
    body = chat_body("gpt-test")
    with connected(gateway) as connection:
        connection.sendall(head(alice, f"content-length: {len(body)}", version="1.0") + body)
        answer = read_until(connection, b"\x00")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"transfer-encoding" not in answer
    json.loads(answer.partition(b"\r\n\r\n")[2])


def test_a_client_that_says_it_sends_no_more_is_counted_once(gateway: Gateway, alice: Person) -> None:
    model = "gpt-test+delay=300+tag=half"
    body = chat_body(model)
    with connected(gateway) as connection:
        connection.sendall(head(alice, f"content-length: {len(body)}") + body)
        connection.shutdown(socket.SHUT_WR)
        read_until(connection, b"usage")
    assert len(counted(gateway, model)) == 1


@pytest.mark.parametrize("path", [CHAT, "/v1/models"])
def test_head_is_refused_without_a_body(gateway: Gateway, alice: Person, path: str) -> None:
    response = alice.http.head(path)
    assert (response.status_code, response.content) == (405, b"")
    assert alice.http.get("/v1/models").status_code == 200


def test_a_preflight_with_odd_bytes_is_no_fault_of_ours(gateway: Gateway) -> None:
    with connected(gateway) as connection:
        line = b"access-control-request-headers: x\x01\xff\r\n"
        connection.sendall(b"OPTIONS /v1/models HTTP/1.1\r\nhost: x\r\n" + line + b"\r\n")
        answer = read_until(connection, b"\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 204", b"HTTP/1.1 400"))
    assert "Traceback" not in gateway.log()


@pytest.mark.parametrize(
    "body",
    [
        b'{"security_key":"x","a":' + b"[" * 65 + b'"' + b'\\"' * 100_000,
        b'{"security_key":"x","a":"' + b"data:" * 1_500_000 + b';base64,"}',
    ],
)
def test_no_body_takes_long_to_look_at(gateway: Gateway, body: bytes) -> None:
    """Its reader runs before the key in it is known to be good."""
    began = time.monotonic()
    response = httpx.post(f"{gateway.url}{CHAT}", content=body, trust_env=False, timeout=30)
    assert response.status_code in (400, 401)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("model", ["demo", "gpt-test"])
@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses"])
@pytest.mark.parametrize(
    "members",
    [
        '"stream_options":5,"stream":true',
        '"stream_options":{"include_usage":5},"stream":true',
        '"stream":1',
        '"n":1e999',
        '"input":1e999,"messages":[1e999]',
        '"messages":[5],"input":5,"prompt":5',
        '"messages":[{"role":5,"content":{"a":1}}],"input":{"a":1},"prompt":{"a":1}',
        '"messages":[{"role":"user","content":[5]}],"input":[{"content":5}],"prompt":[[5]]',
        '"messages":[null],"input":[null],"prompt":null',
        '"instructions":1e999,"input":"x","messages":[]',
        '"include":5,"input":"x","messages":[]',
        '"include":[1e999],"input":"x","messages":[]',
        '"messages":[],"input":[],"prompt":"","encoding_format":5',
        '"dimensions":1e9,"max_tokens":1e9,"input":"x","messages":[]',
        '"dimensions":-1,"max_tokens":-1,"input":"x","messages":[]',
        '"dimensions":"x","max_tokens":"x","input":"x","messages":[]',
        '"max_completion_tokens":1e300,"input":"x","messages":[]',
    ],
)
def test_a_body_of_odd_types_is_refused_or_answered(
    alice: Person, model: str, path: str, members: str
) -> None:
    body = f'{{"model":"{model}",{members}}}'
    response = alice.http.post(path, content=body)
    assert response.status_code in (200, 400), response.text


TOO_LARGE = ["1e999", '{"a":[1e999]}', "1" * 5000]
STORED = [("/v1/conversations", "metadata"), ("/v1/responses/input_tokens", "conversation")]
RESPONSES = [("/v1/responses", name) for name in ("metadata", "conversation")]
COMPACTED = [("/v1/responses/compact", name) for name in ("conversation", "tools", "include", "top_logprobs")]


@pytest.mark.parametrize("value", TOO_LARGE, ids=["1e999", "inside", "digits"])
@pytest.mark.parametrize(("path", "name"), [*STORED, *RESPONSES, *COMPACTED])
def test_a_number_that_no_program_can_hold_is_told_by_its_member(
    alice: Person, path: str, name: str, value: str
) -> None:
    response = alice.http.post(path, content=f'{{"model":"demo","input":"hi","{name}":{value}}}')
    assert (response.status_code, response.json()["error"]["param"]) == (400, name)


@pytest.mark.parametrize("half", [r"\ud800", r"\ud83dx", r"\\\udbff\ud83d\ude00"])
def test_half_of_a_surrogate_pair_is_told_as_that(alice: Person, half: str) -> None:
    for closing in ('"}', '", "user": "x"}'):
        response = alice.http.post(CHAT, content=f'{{"model":"demo","messages":[],"a":"{half}{closing}')
        message = response.json()["error"]["message"]
        assert response.status_code == 400
        assert message.startswith("The body is not valid JSON: half of a surrogate pair (byte ")


@pytest.mark.parametrize("whole", [r"\ud83d\ude00", r"\\ud800"])
def test_what_is_no_half_of_a_pair_is_not_told_as_one(alice: Person, whole: str) -> None:
    cut_off = f'{{"model":"demo","messages":[],"user":"{whole}"'
    message = alice.http.post(CHAT, content=cut_off).json()["error"]["message"]
    assert message == "The body is not valid JSON: Input data was truncated."
    assert alice.http.post(CHAT, content=cut_off + "}").status_code == 200


def patient(start_gateway: StartGateway, **seconds: float) -> Gateway:
    """A server whose upstream has these timeouts, in seconds."""
    gateway = start_gateway()
    for name, value in seconds.items():
        gateway.query(f"UPDATE proxy_upstream SET {name}_timeout_seconds = %s WHERE name = 'openai'", value)
    gateway.restart()
    return gateway


@pytest.mark.parametrize("stream", [False, True])
def test_a_body_that_takes_all_the_time_of_its_call_is_504(start_gateway: StartGateway, stream: bool) -> None:
    gateway = patient(start_gateway, total=0.5)
    model = "gpt-test+delay=2000"
    body = chat_body(model, stream=stream)
    with connected(gateway) as connection:
        connection.sendall(head(gateway.people["alice"], f"content-length: {len(body)}") + body[:10])
        time.sleep(1)
        connection.sendall(body[10:])
        answer = read_until(connection, b'"code"')
    assert answer.startswith(b"HTTP/1.1 504")
    assert counted(gateway, model) == ["truncated"]


def test_a_client_that_does_not_read_holds_no_upstream(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    gateway = patient(start_gateway, idle=0.5)
    model = "gpt-test+huge=1000000+words=50"
    body = chat_body(model, stream=True)
    with connected(gateway) as connection:
        connection.sendall(head(gateway.people["alice"], f"content-length: {len(body)}") + body)
        assert counted(gateway, model) == ["truncated"]
        assert upstream.ended(model, seconds=3).ending == "left"


def test_the_end_of_an_answer_waits_for_no_client_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "SEND_SECONDS", 0.05)

    async def never(*_: Any) -> Any:
        await asyncio.Event().wait()

    async def send_last() -> None:
        request = Request({"method": "POST", "path": CHAT, "headers": []}, never)
        async with asyncio.timeout(5):
            await http.Last(200, b"application/json", b"{}").send(Reply(request, never))

    asyncio.run(send_last())


def test_an_upstream_that_never_begins_stands_in_the_record(start_gateway: StartGateway) -> None:
    gateway = patient(start_gateway, first_byte=0.5)
    response = gateway.people["alice"].http.post(CHAT, content=chat_body("gpt-test+hang"))
    assert response.status_code == 504
    attempts = gateway.usage_of(response.headers["x-request-id"])["attempts"]
    assert attempts == [{"upstream": "openai", "outcome": "Silent"}]


def test_instructions_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(InvalidBody):
        responses.parse(b'{"model":"m","input":"x","instructions":1e999}', "application/json")
