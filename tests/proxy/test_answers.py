"""What a caller gets, over real sockets, from the scripted upstream through a real server."""

import itertools
import time

import httpx
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionUserMessageParam

from tests.server import UPSTREAM_API_KEY, Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

MESSAGES: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Say something."}]


def chat(person: Person, model: str, path: str = "/v1/chat/completions", **more: object) -> httpx.Response:
    return person.http.post(path, json={"model": model, "messages": MESSAGES, **more})


def events(response: httpx.Response) -> list[str]:
    return [line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: ")]


def test_it_answers_a_chat_and_counts_it(gateway: Gateway, alice: Person) -> None:
    response = chat(alice, "gpt-test")
    document = response.json()
    record = gateway.usage_of(response.headers["x-request-id"])
    assert response.status_code == 200
    assert document["model"] == "gpt-test"
    assert (record["input_tokens"], record["cached_input_tokens"], record["output_tokens"]) == (11, 3, 5)
    assert (record["status"], record["estimated"], record["cost_nano_usd"]) == ("completed", False, None)
    assert (record["model"], record["upstream"], record["endpoint"]) == (
        "gpt-test",
        "openai",
        "chat.completions",
    )
    assert document["usage"]["prompt_tokens"] == 11


def test_it_streams_a_chat_and_counts_it(gateway: Gateway, alice: Person) -> None:
    response = chat(alice, "gpt-test", stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert events(response)[-1] == "[DONE]"
    assert '"usage"' not in response.text
    record = gateway.usage_of(response.headers["x-request-id"])
    assert (record["input_tokens"], record["output_tokens"], record["estimated"]) == (11, 5, False)
    assert record["stream"] is True


def test_the_record_is_there_before_the_client_hears_the_end(gateway: Gateway, alice: Person) -> None:
    response = chat(alice, "gpt-test", stream=True)
    assert (
        len(gateway.usage("id = %s", gateway.usage_of(response.headers["x-request-id"], seconds=0.01)["id"]))
        == 1
    )


def test_it_shows_usage_to_a_client_that_asks(alice: Person) -> None:
    response = chat(alice, "gpt-test", stream=True, stream_options={"include_usage": True})
    assert '"usage":{' in events(response)[-2].replace(" ", "")


def test_it_always_asks_the_upstream_for_usage(alice: Person, upstream: ScriptedUpstream) -> None:
    chat(alice, "gpt-test", stream=True)
    assert upstream.call("gpt-test").document["stream_options"] == {"include_usage": True}


def test_it_gives_its_own_id_model_and_request_id(alice: Person) -> None:
    for stream in (False, True):
        response = chat(alice, "gpt-test+private", stream=stream)
        assert len(response.headers.get_list("x-request-id")) == 1
        assert response.headers["x-request-id"].replace("-", "") in response.text
        assert "/" not in response.text.replace("<|", "") or ".gguf" not in response.text
        for private in ("timings", "token_ids", "kv_transfer_params", ".gguf"):
            assert private not in response.text


@pytest.mark.parametrize(
    "options", ["crlf", "cr", "piece=1", "piece=7", "spaces", "escaped", "comments", "null_first"]
)
def test_it_streams_whatever_the_upstream_writes_like(alice: Person, options: str) -> None:
    plain = alice.sdk.chat.completions.create(model="gpt-test+escaped", messages=MESSAGES)
    stream = alice.sdk.chat.completions.create(
        model=f"gpt-test+escaped+{options}", messages=MESSAGES, stream=True
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text
    assert len(text.split()) == len((plain.choices[0].message.content or "").split())


def test_every_event_arrives_on_its_own(alice: Person) -> None:
    arrivals = []
    body = {"model": "gpt-test+pace=40+words=8", "messages": MESSAGES, "stream": True}
    with alice.http.stream("POST", "/v1/chat/completions", json=body) as response:
        for _ in response.iter_raw():
            arrivals.append(time.monotonic())
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals)]
    assert len(arrivals) >= 9
    assert sum(gap > 0.02 for gap in gaps) >= 7


@pytest.mark.parametrize("prefix", ["/v1", ""])
@pytest.mark.parametrize("slash", ["", "/"])
def test_every_spelling_of_a_path_answers_without_a_redirect(alice: Person, prefix: str, slash: str) -> None:
    assert chat(alice, "gpt-test", path=f"{prefix}/chat/completions{slash}").status_code == 200
    assert alice.http.get(f"{prefix}/models{slash}").status_code == 200


def test_what_the_gateway_consumes_never_goes_upstream(alice: Person, upstream: ScriptedUpstream) -> None:
    response = chat(
        alice,
        "gpt-test",
        store=True,
        metadata={"a": "b"},
        security_key=alice.api_key,
        user="u",
        odd={"kept": 1},
    )
    sent = upstream.call("gpt-test")
    assert response.status_code == 200
    assert sorted(sent.document) == ["messages", "model", "odd", "user"]
    assert sent.headers["authorization"] == f"Bearer {UPSTREAM_API_KEY}"
    assert alice.api_key not in str(sent.headers) + sent.body.decode()


def test_members_it_does_not_know_keep_their_bytes(alice: Person, upstream: ScriptedUpstream) -> None:
    body = b'{"model":"gpt-test","messages":[],"seed":123456789012345678901234567890,"t":1.50e3}'
    alice.http.post("/v1/chat/completions", content=body)
    assert b"123456789012345678901234567890" in upstream.call("gpt-test").body
    assert b"1.50e3" in upstream.call("gpt-test").body


def test_a_preflight_needs_no_key(gateway: Gateway) -> None:
    headers = {"origin": "https://app.test", "access-control-request-method": "POST"}
    response = httpx.options(f"{gateway.url}/v1/chat/completions", headers=headers)
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == "*"
    assert "authorization" in response.headers["access-control-allow-headers"]
    headers = {"origin": "https://app.test", "access-control-request-headers": "x-odd,authorization"}
    response = httpx.options(f"{gateway.url}/v1/models", headers=headers)
    assert response.headers["access-control-allow-headers"] == "x-odd,authorization"


def test_an_answer_may_be_read_by_a_page(alice: Person) -> None:
    response = chat(alice, "gpt-test")
    assert response.headers["access-control-allow-origin"] == "*"
    exposed = set(response.headers["access-control-expose-headers"].split(", "))
    assert {"x-request-id", "retry-after", "retry-after-ms", "x-should-retry"} <= exposed
    assert {"x-ratelimit-remaining-requests", "x-ratelimit-reset-tokens"} <= exposed
    assert "x-tollgate-output-cap" in exposed


def test_it_passes_completions(gateway: Gateway, alice: Person) -> None:
    made = alice.sdk.completions.with_raw_response.create(model="gpt-test", prompt="Once")
    assert made.parse().choices[0].text
    assert gateway.usage_of(made.headers["x-request-id"])["endpoint"] == "completions"
    chunks = list(alice.sdk.completions.create(model="gpt-test", prompt="Once", stream=True))
    assert chunks[-1].choices[0].finish_reason


@pytest.mark.parametrize("ignores", ["", "+ignore_format"])
@pytest.mark.parametrize("encoding", [None, "float", "base64"])
def test_embeddings_come_as_they_were_asked_for(alice: Person, ignores: str, encoding: str | None) -> None:
    body = {
        "model": f"embed{ignores}",
        "input": ["a", "b"],
        **({"encoding_format": encoding} if encoding else {}),
    }
    vectors = [item["embedding"] for item in alice.http.post("/v1/embeddings", json=body).json()["data"]]
    assert all(isinstance(vector, str if encoding == "base64" else list) for vector in vectors)
    sdk = alice.sdk.embeddings.create(model=f"embed{ignores}", input=["a", "b"])
    assert all(isinstance(number, float) for number in sdk.data[0].embedding)


def wave() -> bytes:
    header = b"RIFF" + (36 + 32000).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    form = b"".join(
        n.to_bytes(s, "little") for n, s in ((1, 2), (1, 2), (16000, 4), (32000, 4), (2, 2), (16, 2))
    )
    return header + form + b"data" + (32000).to_bytes(4, "little") + bytes(32000)


@pytest.mark.parametrize("format_", ["json", "srt", "text", "vtt", "verbose_json"])
def test_sound_is_counted_whatever_the_format(gateway: Gateway, alice: Person, format_: str) -> None:
    made = alice.sdk.audio.transcriptions.with_raw_response.create(
        model="whisper-test",
        file=("a.wav", wave()),
        response_format=format_,  # type: ignore[call-overload]
    )
    record = gateway.usage_of(made.headers["x-request-id"])
    assert made.parse()
    assert record["endpoint"] == "audio.transcriptions"
    assert record["audio_milliseconds"] > 0


def test_it_translates_sound(alice: Person) -> None:
    files = {"file": ("a.wav", wave())}
    response = alice.http.post("/v1/audio/translations", files=files, data={"model": "whisper-test"})
    assert response.json()["text"]


def test_it_passes_responses_statelessly(gateway: Gateway, alice: Person, upstream: ScriptedUpstream) -> None:
    made = alice.sdk.responses.with_raw_response.create(model="gpt-test", input="Hello")
    assert made.parse().output_text
    assert made.parse().id.startswith("resp_")
    assert upstream.call("gpt-test").document["store"] is False
    assert gateway.usage_of(made.headers["x-request-id"])["input_tokens"] == 11


def test_it_streams_responses_to_their_end(alice: Person) -> None:
    with alice.sdk.responses.stream(model="gpt-test", input="Hello") as stream:
        types = [event.type for event in stream]
        final = stream.get_final_response()
    assert types[0] == "response.created"
    assert types[-1] == "response.completed"
    assert final.output_text
    assert final.usage is not None
    assert final.usage.input_tokens == 11


@pytest.mark.parametrize("name", ["previous_response_id", "conversation"])
def test_an_upstreams_own_id_is_nothing_here(alice: Person, name: str) -> None:
    response = alice.http.post("/v1/responses", json={"model": "gpt-test", "input": "a", name: "resp_theirs"})
    assert response.status_code == 404


def test_it_lists_the_models_of_the_upstream_and_its_own(alice: Person) -> None:
    names = [model.id for model in alice.sdk.models.list()]
    assert "demo" in names
    assert len(names) > 1
    assert alice.sdk.models.retrieve("demo").id == "demo"
    assert alice.http.get("/v1/models/no-such-model").json()["error"]["code"] == "model_not_found"


def test_the_security_key_works_as_the_sdks_key(gateway: Gateway, alice: Person) -> None:
    with OpenAI(api_key=alice.security_key, base_url=f"{gateway.url}/v1", max_retries=0) as sdk:
        assert sdk.chat.completions.create(model="gpt-test", messages=MESSAGES).id
