"""Upstreams that answer what nobody would write: every answer is told in OpenAI's shape, and counted once."""

import gzip
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import uuid4

import httpx
import pytest

from proxy import sse
from proxy.passage import ChatPassage
from tests.server import Gateway, Person, Row
from tests.upstreams.scripted import ScriptedUpstream

CHAT = "/v1/chat/completions"
MODEL_THERE = "/models/secret-path.gguf"
KEY = "sk-odd-upstream-canary"
MESSAGES = [{"role": "user", "content": "Say something."}]


class OddUpstream:
    """Answers every request with the bytes `answer`, as they are, then closes the connection; where
    `stays` it says nothing more instead, until it is `left`."""

    def __init__(self) -> None:
        self.answer = b""
        self.stays = False
        self.requests = 0
        self.left = threading.Event()
        odd = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                odd.requests += 1
                read_request(self.request.recv)
                self.request.sendall(odd.answer)
                if odd.stays:
                    self.request.settimeout(30)
                    with suppress(ConnectionError):
                        self.request.recv(1)
                    odd.left.set()

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def clear(self) -> None:
        self.answer, self.stays, self.requests = b"", False, 0
        self.left.clear()

    def json(self, body: str, status: str = "200 OK", headers: str = "") -> None:
        self.raw(body.encode(), "application/json", status, headers)

    def raw(self, body: bytes, content_type: str, status: str = "200 OK", headers: str = "") -> None:
        """An answer with its length."""
        head = (
            f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{headers}"
        )
        self.answer = head.encode("latin-1") + b"connection: close\r\n\r\n" + body

    def events(self, *events: str, rest: str = "") -> None:
        """A stream that ends when its connection does, cleanly."""
        body = "".join(f"{event}\n\n" for event in events) + rest
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        self.answer = (head + body).encode()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def read_request(receive: Callable[[int], bytes]) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        data += receive(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while len(body) < int(lengths[0]):
        body += receive(65536)


@pytest.fixture(scope="module")
def module_odd(session_gateway: Gateway) -> Iterator[OddUpstream]:
    upstream = OddUpstream()
    session_gateway.configure(
        {
            "upstreams": [
                {"name": "odd", "dialect": "openai", "base_url": f"http://{upstream.host}/v1", "api_key": KEY}
            ],
            "models": [{"name": "odd", "routes": [{"upstream": "odd", "model": MODEL_THERE}]}],
        }
    )
    yield upstream
    upstream.close()


@pytest.fixture
def odd(module_odd: OddUpstream) -> OddUpstream:
    module_odd.clear()
    return module_odd


def call(person: Person, path: str = CHAT, **more: object) -> httpx.Response:
    return person.http.post(path, json={"model": "odd", "messages": MESSAGES, "input": "x", **more})


def transcribe(person: Person) -> httpx.Response:
    return person.http.post(
        "/v1/audio/transcriptions", data={"model": "odd"}, files={"file": ("a.mp3", b"x" * 1600)}
    )


def record_of(gateway: Gateway, response: httpx.Response) -> Row:
    record = gateway.usage_of(response.headers["x-request-id"])
    assert gateway.query("SELECT id FROM proxy_opencall WHERE id = %s", record["id"]) == []
    return record


def code_of(response: httpx.Response) -> str | None:
    """The code of the error that is the answer, or the last event, but for the end of a Response."""
    lines = response.text.strip().split("\n")
    told = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")] or lines[-1:]
    document = json.loads(told[-1])
    code: str | None = (document.get("response") or document)["error"]["code"]
    return code


CHUNK = (
    '{"id":"a","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"x"}}]'
)
DELTA = f"data: {CHUNK}}}"


@pytest.mark.parametrize(
    "body",
    [
        '{"choices":{"timings":1}}',
        '{"choices":[{"timings":1},5]}',
        '{"choices":[],"usage":{"prompt_tokens":1e999}}',
        '{"choices":[],"usage":{"prompt_tokens":%s}}' % ("9" * 5000),
        '{"choices":[],"usage":' + '{"a":' * 4000 + "1" + "}" * 4000 + "}",
        "[]",
        "5",
        "",
        '{"choices":[]',
        "\ufeff{}",
        "{}",
    ],
)
def test_an_answer_that_makes_no_sense_is_502(
    gateway: Gateway, alice: Person, odd: OddUpstream, body: str
) -> None:
    odd.json(body)
    response = call(alice)
    assert (response.status_code, code_of(response)) == (502, "upstream_malformed")
    assert record_of(gateway, response)["status"] == "failed"


@pytest.mark.parametrize(
    "usage", ["[]", '"many"', "5", '{"prompt_tokens":"5"}', '{"prompt_tokens":-1}', '{"prompt_tokens":1e30}']
)
def test_usage_that_makes_no_sense_is_estimated(
    gateway: Gateway, alice: Person, odd: OddUpstream, usage: str
) -> None:
    odd.json('{"id":5,"choices":[{"finish_reason":"stop"}],"usage":' + usage + "}")
    response = call(alice)
    assert response.status_code == 200
    assert record_of(gateway, response)["estimated"] is True


WORDS = "word " * 400
SAID = f'{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"{WORDS}"}}}}]'


@pytest.mark.parametrize("usage", ["", ',"usage":null', ',"usage":{"prompt_tokens":7}'])
def test_what_is_said_and_not_counted_is_estimated(
    gateway: Gateway, alice: Person, odd: OddUpstream, usage: str
) -> None:
    odd.json(f"{SAID}{usage}}}")
    record = record_of(gateway, call(alice))
    assert (record["status"], record["output_tokens"], record["estimated"]) == ("completed", 500, True)
    if "7" in usage:
        assert record["input_tokens"] == 7


def test_a_response_that_is_not_counted_tells_the_same_as_the_record(
    gateway: Gateway, alice: Person, odd: OddUpstream
) -> None:
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": WORDS}]}
    odd.json(json.dumps({"object": "response", "status": "completed", "output": [item]}))
    response = call(alice, "/v1/responses")
    assert response.json()["usage"]["output_tokens"] == record_of(gateway, response)["output_tokens"] == 500


@pytest.mark.parametrize("counted", [True, False])
def test_a_stream_that_is_answered_in_one_piece_is_counted(
    gateway: Gateway, alice: Person, odd: OddUpstream, counted: bool
) -> None:
    usage = ',"usage":{"prompt_tokens":7,"completion_tokens":3}' if counted else ""
    odd.json(f"{SAID}{usage}}}")
    response = call(alice, stream=True)
    assert (response.status_code, code_of(response)) == (502, "upstream_malformed")
    record = record_of(gateway, response)
    assert (record["output_tokens"], record["estimated"]) == ((3, False) if counted else (500, True))


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_encoded_is_asked_for_once(
    gateway: Gateway, alice: Person, odd: OddUpstream, stream: bool
) -> None:
    odd.raw(gzip.compress(b'{"choices":[]}'), "application/json", headers="content-encoding: gzip\r\n")
    response = call(alice, stream=stream)
    assert (response.status_code, code_of(response)) == (502, "upstream_malformed")
    assert odd.requests == 1
    assert record_of(gateway, response)["estimated"] is True


def test_no_error_in_a_stream_tells_of_the_upstream(
    gateway: Gateway, alice: Person, odd: OddUpstream
) -> None:
    odd.events(
        DELTA,
        f'data: {{"object":"error","message":"at http://{odd.host}/v1 with {KEY}"}}',
        "data: [DONE]",
    )
    response = call(alice, stream=True)
    assert odd.host not in response.text
    assert KEY not in response.text
    assert "[DONE]" not in response.text
    assert record_of(gateway, response)["status"] != "completed"


def test_what_came_before_nonsense_in_one_packet_is_passed_on(
    gateway: Gateway, alice: Person, odd: OddUpstream
) -> None:
    odd.events(DELTA, DELTA, "data: nonsense")
    response = call(alice, stream=True)
    assert response.text.count('"content":"x"') == 2
    assert code_of(response) == "upstream_malformed"


@pytest.mark.parametrize(
    "event",
    [
        'data: {"id":"a","model":"m","choices":{"timings":1}}',
        'data: {"id":"a","model":"m","choices":[],"usage":{"prompt_tokens":1e999}}',
        'data: {"id":"a","model":"m","error":[1e999]}',
        "data: []",
        "data: [DONE",
        "data: nonsense",
    ],
)
def test_an_event_that_makes_no_sense_ends_the_stream(
    gateway: Gateway, alice: Person, odd: OddUpstream, event: str
) -> None:
    odd.events(DELTA, event, "data: [DONE]")
    response = call(alice, stream=True)
    assert code_of(response) == "upstream_malformed"
    assert "[DONE]" not in response.text
    assert record_of(gateway, response)["status"] == "failed"


@pytest.mark.parametrize(
    "error", ['"all is lost"', "[[[1]]]", "5", "true", '{"message":{"a":1},"code":[1],"type":5,"param":{}}']
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_of_any_shape_is_told(
    gateway: Gateway, alice: Person, odd: OddUpstream, error: str, stream: bool
) -> None:
    document = f'{{"error":{error}}}'
    odd.events(DELTA, f"data: {document}") if stream else odd.json(document, "400 Bad Request")
    response = call(alice, stream=stream)
    assert response.status_code == (200 if stream else 400)
    assert code_of(response) in (None, "upstream_error")
    assert record_of(gateway, response)["status"] == "failed"


RESPONSES = "/v1/responses"


@pytest.mark.parametrize(
    "event",
    [
        '{"type":"response.created","sequence_number":0,"response":[]}',
        '{"type":"response.created","sequence_number":0,"response":null}',
        '{"type":"response.created","response":{"usage":{"input_tokens":1e999}}}',
        '{"type":1e999,"response":{}}',
        '{"type":"error","error":1e999}',
        '{"type":"response.output_item.added","item":{"id":1e999}}',
    ],
)
def test_a_response_event_that_makes_no_sense_ends_the_stream(
    gateway: Gateway, alice: Person, odd: OddUpstream, event: str
) -> None:
    odd.events(f"data: {event}")
    response = call(alice, RESPONSES, stream=True)
    assert code_of(response) == "upstream_malformed"
    assert record_of(gateway, response)["status"] == "failed"


@pytest.mark.parametrize("cut", [1, 6, 30, 60])
def test_half_an_event_at_a_clean_end_never_reaches_the_client(
    gateway: Gateway, alice: Person, odd: OddUpstream, cut: int
) -> None:
    last = CHUNK.replace('{"content":"x"}', "{}")[:-2] + ',"finish_reason":"stop"}]}'
    odd.events(DELTA, DELTA, rest=f"data: {last}"[:-cut])
    response = call(alice, stream=True)
    assert code_of(response) == "upstream_truncated"
    assert "[DONE]" not in response.text
    for line in response.text.split("\n"):
        if line:
            json.loads(line.removeprefix("data: "))
    assert record_of(gateway, response)["status"] == "truncated"


def test_numbers_for_ids_are_not_taken_for_each_others_beginning() -> None:
    passage = ChatPassage("ours", "m", shows_usage=False)
    event = 'data: {"id":%d,"model":"m","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
    for number in (1, 12):
        passed = passage.feed((event % number).encode())
        assert json.loads(passed.removeprefix(b"data: "))["id"] == "ours"


def test_a_large_event_in_small_pieces_takes_no_longer_than_its_bytes_do() -> None:
    event = b"data: " + b"x" * (16 << 20) + b"\n\n"
    splitter = sse.Splitter()
    began = time.monotonic()
    for start in range(0, len(event), 1024):
        passed = splitter.feed(event[start : start + 1024])
    assert passed == event
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "retry_after", ["\xb2", "\xff", "1\r\n x-injected: yes", "9" * 5000, "-1", "soon\x01"]
)
@pytest.mark.parametrize("status", ["429 Too Many Requests", "409 Conflict"])
def test_a_header_that_makes_no_sense_is_not_passed_on(
    gateway: Gateway, alice: Person, odd: OddUpstream, retry_after: str, status: str
) -> None:
    odd.json('{"error":{"message":"Wait."}}', status, f"retry-after: {retry_after}\r\n")
    response = call(alice)
    assert response.status_code in (int(status[:3]), 502)
    assert response.json()["error"]["code"] != "internal_error"
    assert "x-injected" not in response.headers
    assert record_of(gateway, response)["status"] == "failed"


@pytest.mark.parametrize("content_type", ["text/\xff", "text/html", "text/plain; a=\xff", "x" * 3000])
def test_a_content_type_that_makes_no_sense_is_not_passed_on(
    gateway: Gateway, alice: Person, odd: OddUpstream, content_type: str
) -> None:
    odd.raw(b"Hello.", content_type)
    response = transcribe(alice)
    print(response.status_code, response.headers["content-type"], response.text)
    assert response.status_code != 500
    record_of(gateway, response)


@pytest.mark.parametrize("duration", ["-5", "1e30", '"1e30"', '"nan"', "[]", "true", "1e999", "null", '"5"'])
def test_a_duration_that_makes_no_sense_is_not_believed(
    gateway: Gateway, alice: Person, odd: OddUpstream, duration: str
) -> None:
    odd.json(f'{{"text":"Hello.","duration":{duration}}}')
    response = transcribe(alice)
    record = record_of(gateway, response)
    assert record["audio_milliseconds"] in (100, 5000)


def test_nothing_of_the_upstream_is_in_any_member_of_an_error(
    gateway: Gateway, alice: Person, odd: OddUpstream
) -> None:
    host = odd.host.partition(":")[0]
    said = f"{KEY} at http://{odd.host}/v1 on {host} for {MODEL_THERE}"
    error = json.dumps({"error": {"message": said, "type": said, "param": said, "code": said}})
    for status in ("400 Bad Request", "404 Not Found", "429 Too Many Requests"):
        odd.json(error, status)
        seen = call(alice).text
        odd.events(f"data: {error}")
        seen += call(alice, stream=True).text + call(alice, RESPONSES, stream=True).text
        for secret in (KEY, odd.host, host, "secret-path"):
            assert secret not in seen
            assert secret == host or secret not in gateway.log()
    rows = gateway.usage("model = 'odd' AND error_code LIKE '%%canary%%'")
    assert rows == []


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 999 What\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n{}",
        b"HTTP/1.1 500 No\r\ncontent-length: 50\r\n\r\n{}",
        b"HTTP/1.1 429 No\r\ntransfer-encoding: chunked\r\n\r\nzz",
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_http_that_makes_no_sense_is_502(
    gateway: Gateway, alice: Person, odd: OddUpstream, answer: bytes, stream: bool
) -> None:
    odd.answer = answer
    response = call(alice, stream=stream)
    assert response.status_code in (502, 429)
    assert code_of(response) != "internal_error"
    assert record_of(gateway, response)["status"] in ("failed", "truncated")
    assert "169.254" not in gateway.log()


def test_an_answer_that_cannot_be_kept_is_not_on_record_as_one(
    gateway: Gateway, alice: Person, odd: OddUpstream
) -> None:
    odd.json('{"id":"a","object":"chat.completion","model":"m","choices":[{"index":0}]}')
    headers = {"idempotency-key": f"odd {uuid4()}", "x-gptoss-thread-id": "new"}
    document = {"model": "odd", "messages": MESSAGES}
    response = alice.http.post(CHAT, json=document, headers=headers)
    assert (response.status_code, code_of(response)) == (500, "internal_error")
    record = record_of(gateway, response)
    assert (record["status"], record["status_code"]) == ("failed", 500)
    statement = "SELECT digest FROM proxy_idempotencykey WHERE call_id = %s"
    assert gateway.query(statement, record["id"]) == []


@pytest.mark.parametrize("body", [b"{", b"5\r\n{"])
def test_a_refusal_whose_body_never_ends_is_tried_elsewhere(
    gateway: Gateway, alice: Person, odd: OddUpstream, body: bytes
) -> None:
    length = b"transfer-encoding: chunked" if b"\r\n" in body else b"content-length: 50"
    odd.answer = b"HTTP/1.1 503 No\r\n%b\r\n\r\n%b" % (length, body)
    odd.stays = True
    routes = [{"upstream": "odd", "priority": 1}, {"upstream": "demo", "priority": 2}]
    gateway.configure({"models": [{"name": "odd-or-demo", "routes": routes}]})
    began = time.monotonic()
    response = call(alice, model="odd-or-demo")
    assert response.status_code == 200
    assert time.monotonic() - began < 8
    outcomes = [attempt["outcome"] for attempt in record_of(gateway, response)["attempts"]]
    assert outcomes == ["503", "200"]


def test_an_upstream_that_refused_is_let_go_before_another_has_answered(
    gateway: Gateway, alice: Person, odd: OddUpstream, upstream: ScriptedUpstream
) -> None:
    odd.answer = b"HTTP/1.1 503 No\r\ncontent-length: 50\r\n\r\n{"
    odd.stays = True
    other = "gpt-test+delay=3000+tag=after-odd"
    routes = [{"upstream": "odd", "priority": 1}, {"upstream": "openai", "model": other, "priority": 2}]
    gateway.configure({"models": [{"name": "odd-or-slow", "routes": routes}]})
    with ThreadPoolExecutor(1) as threads:
        response = threads.submit(call, alice, model="odd-or-slow")
        asked = upstream.call(other)
        assert odd.left.wait(2)
        assert asked.ending == "open"
        assert response.result(20).status_code == 200


def test_a_refusal_cut_short_is_tried_elsewhere(gateway: Gateway, alice: Person, odd: OddUpstream) -> None:
    odd.answer = b"HTTP/1.1 503 No\r\ncontent-length: 50\r\n\r\n{"
    routes = [{"upstream": "odd", "priority": 1}, {"upstream": "demo", "priority": 2}]
    gateway.configure({"models": [{"name": "cut-or-demo", "routes": routes}]})
    assert call(alice, model="cut-or-demo").status_code == 200


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".test"])
def test_a_name_that_no_server_can_have_is_502(gateway: Gateway, alice: Person, host: str) -> None:
    name = f"unnameable-{len(host)}"
    upstreams: list[object] = [{"name": name, "dialect": "openai", "base_url": f"http://{host}/v1"}]
    gateway.configure({"upstreams": upstreams, "models": [{"name": name, "routes": [{"upstream": name}]}]})
    response = call(alice, model=name)
    assert (response.status_code, code_of(response)) == (502, "upstream_unreachable")
