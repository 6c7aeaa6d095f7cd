"""A tenant's own prompt, and a tenant that serves everybody."""

from datetime import UTC, datetime

import httpx
import msgspec
import pytest

from proxy.call import InvalidBody
from proxy.endpoints import chat, responses
from proxy.prompts import render, with_system_prompt
from tests.conftest import StartGateway
from tests.deadline import until
from tests.server import Gateway
from tests.upstreams.scripted import ScriptedUpstream

CHAT = "/v1/chat/completions"
NOW = datetime(2026, 11, 21, 6, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Today is {now:%Y-%m-%d}.", "Today is 2026-11-21."),
        ("{now} and {now:%H}", "2026-11-21 06:30 and 06"),
        ("{other} {} { now }", "{other} {} { now }"),
    ],
)
def test_it_fills_in_the_time_and_nothing_else(prompt: str, text: str) -> None:
    assert render(prompt, NOW) == text


@pytest.mark.parametrize("messages", [b"[]", b"[ ]", b'[{"role":"user","content":"[1]"}]'])
def test_it_stands_before_all_messages(messages: bytes) -> None:
    call, _ = chat.parse_chat(b'{"model":"m","messages":' + messages + b"}", "")
    sent = msgspec.json.decode(with_system_prompt(call, 'Be "kind".').fields["messages"])
    assert sent == [{"role": "system", "content": 'Be "kind".'}, *msgspec.json.decode(messages)]


@pytest.mark.parametrize(("given", "sent"), [(None, "P"), ("I", "P\n\nI"), ("", "P")])
def test_it_begins_the_instructions_of_a_response(given: str | None, sent: str) -> None:
    call, _ = responses.parse(msgspec.json.encode({"model": "m", "input": "x", "instructions": given}), "")
    assert msgspec.json.decode(with_system_prompt(call, "P").fields["instructions"]) == sent


def test_instructions_that_are_no_text_are_refused() -> None:
    with pytest.raises(InvalidBody):
        responses.parse(b'{"model":"m","instructions":5}', "")


def test_it_goes_upstream_for_its_tenant_alone(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    (owner,) = gateway.tenant("prompted")
    document = {
        "slug": "prompted",
        "name": "Prompted",
        "system_prompt": "Year {now:%Y}.",
        "timezone": "Asia/Tokyo",
    }
    gateway.configure({"tenants": [document]})
    owner.http.post(CHAT, json={"model": "gpt-test", "messages": []})
    gateway.people["alice"].http.post(CHAT, json={"model": "gpt-test", "messages": []})
    prompted, plain = upstream.calls("gpt-test")
    assert prompted.document["messages"][0]["content"].startswith("Year 20")
    assert plain.document["messages"] == []


def test_a_public_tenant_serves_callers_without_a_key(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    body = {"model": "gpt-test", "messages": []}
    assert httpx.post(gateway.url + CHAT, json=body).status_code == 401
    gateway.configure({"tenants": [{"slug": "open", "name": "Open", "public": True}]})
    response = until(lambda: _ok(httpx.post(gateway.url + CHAT, json=body)), what="the public tenant")
    record = gateway.usage_of(response.headers["x-request-id"])
    assert (record["api_key_id"], record["user_id"], record["security_key_id"]) == (None, None, None)
    assert httpx.get(gateway.url + "/v1/models").status_code == 200
    wrong = httpx.post(gateway.url + CHAT, json=body, headers={"x-api-key": "sk-unknown"})
    assert wrong.status_code == 401


def _ok(response: httpx.Response) -> httpx.Response | None:
    return response if response.status_code == 200 else None
