"""What a neighbour finds at the paths of stored objects: nothing, and not even that there is something.

Read from the route table itself, so that a path which nobody asks charlie about fails here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from proxy.asgi import STORED
from tests.server import Person
from tests.upstreams.scripted import ScriptedUpstream
from threads.item_ids import CHAT_COMPLETION, CONVERSATION, RESPONSE, new_id

Document = dict[str, Any]

ITEM: Document = {"type": "message", "role": "user", "content": "A secret."}
# What any of the paths may be sent.
BODY: Document = {"items": [ITEM], "metadata": {"whose": "charlie"}}
UNKNOWN_HEX = new_id("message").removeprefix("msg_")
MALFORMED = (
    "x",
    "0",
    "%20",
    "resp_",
    "resp_zz",
    "conv_1234",
    "chatcmpl-é",
    "msg_%00",
    f"resp_{UNKNOWN_HEX}0",
)
UPSTREAMS = ("resp_upstream1", "chatcmpl-upstream1", "msg_upstream1", "conv_6898e8b2f5f8819")
PATHS = [(path, method) for path, methods in STORED.table.items() for method in methods if "{id}" in path]
# What the paths without an id are, and the test below that charlie is asked about them in.
WITHOUT_ID = {
    ("/conversations", "POST"): "makes one: test_what_one_makes_is_ones_own",
    ("/chat/completions", "GET"): "lists: test_a_list_holds_nothing_of_a_neighbours",
}

each_path = pytest.mark.parametrize(("path", "method"), PATHS, ids=[f"{m} {p}" for p, m in PATHS])


@dataclass(frozen=True)
class Kept:
    """Something that a person has stored: its id, and that of an item in it."""

    id: str
    item_id: str = ""


def response_of(person: Person) -> Kept:
    made = person.http.post("/v1/responses", json={"model": "gpt-test", "input": "A secret."}).json()
    return Kept(made["id"])


def conversation_of(person: Person) -> Kept:
    made = person.http.post("/v1/conversations", json={"items": [ITEM]}).json()
    (item,) = person.http.get(f"/v1/conversations/{made['id']}/items").json()["data"]
    return Kept(made["id"], item["id"])


def completion_of(person: Person) -> Kept:
    body = {"model": "gpt-test", "messages": [{"role": "user", "content": "A secret."}], "store": True}
    return Kept(person.http.post("/v1/chat/completions", json=body).json()["id"])


# How one comes by the objects of a path, what their ids begin with, and what the path is called.
KINDS = {
    "/responses": (response_of, RESPONSE, "response"),
    "/conversations": (conversation_of, CONVERSATION, "conversation"),
    "/chat/completions": (completion_of, CHAT_COMPLETION, "chat completion"),
}


def kind_of(path: str) -> str:
    return path.partition("/{id}")[0]


def ask(person: Person, method: str, path: str, id_: str, item_id: str = "") -> httpx.Response:
    address = path.replace("{id}", id_).replace("{item_id}", item_id or id_)
    return person.http.request(method, f"/v1{address}", json=BODY if method == "POST" else None)


def test_charlie_is_asked_about_every_path() -> None:
    every = {(path, method) for path, methods in STORED.table.items() for method in methods}
    assert every == {*PATHS, *WITHOUT_ID}
    assert {kind_of(path) for path, _ in PATHS} == KINDS.keys()


@each_path
def test_a_neighbours_is_as_if_it_never_was(path: str, method: str, alice: Person, charlie: Person) -> None:
    """Byte by byte: hers, one that nobody has, one that was his, none at all, what an upstream calls it."""
    make, prefix, what = KINDS[kind_of(path)]
    hers, his = make(alice), make(charlie)
    assert ask(charlie, "DELETE", f"{kind_of(path)}/{{id}}", his.id).status_code == 200
    others = [other(alice).id for other, *_ in KINDS.values() if other is not make]
    mistaken = [f"{wrong}{hers.id[-32:]}" for _, wrong, _ in KINDS.values() if wrong != prefix]
    ids = (f"{prefix}{UNKNOWN_HEX}", his.id, hers.id.upper(), *others, *mistaken, *MALFORMED, *UPSTREAMS)
    nothing = ask(charlie, method, path, hers.id, hers.item_id)
    assert nothing.status_code == 404
    assert nothing.json()["error"] == {
        "message": f"No such {what}.",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    for id_ in ids:
        answer = ask(charlie, method, path, id_, his.item_id)
        assert (answer.status_code, answer.content) == (404, nothing.content), id_
        assert apart(answer) == apart(nothing)


@pytest.mark.parametrize("starting_after", ["", "&starting_after=3", "&starting_after=1000"])
def test_a_neighbours_stream_is_as_if_it_never_was(
    starting_after: str, alice: Person, charlie: Person
) -> None:
    body = {"model": "gpt-test", "input": "A secret.", "stream": True}
    streamed = alice.http.post("/v1/responses", json=body).text
    logged = json.loads(streamed.partition("data: ")[2].partition("\n")[0])["response"]["id"]
    answers = {
        (answer.status_code, answer.content)
        for id_ in (logged, response_of(alice).id, f"{RESPONSE}{UNKNOWN_HEX}", *MALFORMED, *UPSTREAMS)
        for answer in [charlie.http.get(f"/v1/responses/{id_}?stream=true{starting_after}")]
    }
    assert len(answers) == 1
    assert answers.pop()[0] == 404


def apart(response: httpx.Response) -> list[tuple[str, str]]:
    """The headers, but for those that no two answers share."""
    own = {"date", "x-request-id", "openai-processing-ms"}
    return [(name, value) for name, value in response.headers.items() if name not in own]


@each_path
def test_a_neighbours_stays_as_it_is(path: str, method: str, alice: Person, charlie: Person) -> None:
    make, *_ = KINDS[kind_of(path)]
    hers = make(alice)
    before = list(seen(alice, path, hers))
    ask(charlie, method, path, hers.id, hers.item_id)
    assert list(seen(alice, path, hers)) == before


def seen(person: Person, path: str, kept: Kept) -> Iterator[bytes]:
    """All that can be read of it."""
    for other, methods in STORED.table.items():
        if "{id}" in other and kind_of(other) == kind_of(path) and "GET" in methods:
            answer = ask(person, "GET", other, kept.id, kept.item_id)
            assert answer.status_code == 200
            yield answer.content


@pytest.mark.parametrize("method", list(STORED.table["/conversations/{id}/items/{item_id}"]))
def test_a_neighbours_item_is_in_no_conversation_of_ones_own(
    method: str, alice: Person, charlie: Person
) -> None:
    hers, his, gone = conversation_of(alice), conversation_of(charlie), conversation_of(charlie)
    assert charlie.http.delete(f"/v1/conversations/{gone.id}").status_code == 200
    path = "/conversations/{id}/items/{item_id}"
    answers = {
        ask(charlie, method, path, his.id, item_id).content
        for item_id in (hers.item_id, gone.item_id, f"msg_{UNKNOWN_HEX}", *MALFORMED, *UPSTREAMS)
    }
    mistaken = ask(charlie, method, path, his.id, his.item_id.replace("msg_", "fc_"))
    assert mistaken.status_code == 404
    assert answers == {mistaken.content}
    assert mistaken.json()["error"]["message"] == "No such item."


@pytest.mark.parametrize("path", [path for path, method in PATHS if method == "GET" and path.endswith("s")])
def test_a_list_does_not_begin_after_a_neighbours(path: str, alice: Person, charlie: Person) -> None:
    make, *_ = KINDS[kind_of(path)]
    his = make(charlie)
    (hers,) = alice.http.get(f"/v1{path}".replace("{id}", make(alice).id)).json()["data"]
    address = f"/v1{path}".replace("{id}", his.id)
    answers = {
        charlie.http.get(address, params={"after": after}).content
        for after in (hers["id"], f"msg_{UNKNOWN_HEX}", "x", *UPSTREAMS)
    }
    assert len(answers) == 1
    assert b"No such item." in answers.pop()


def test_a_list_holds_nothing_of_a_neighbours(alice: Person, charlie: Person) -> None:
    hers, his = completion_of(alice).id, completion_of(charlie).id
    listed = {entry.id for entry in charlie.sdk.chat.completions.list(limit=100)}
    assert his in listed
    assert hers not in listed


def test_what_one_makes_is_ones_own(alice: Person, charlie: Person) -> None:
    hers = conversation_of(alice)
    made = charlie.http.post("/v1/conversations", json={**BODY, "id": hers.id}).json()
    assert made["id"] != hers.id


# What a call goes on from


@pytest.mark.parametrize("path", ["/responses", "/responses/input_tokens", "/responses/compact"])
@pytest.mark.parametrize("member", ["previous_response_id", "conversation", "input"])
def test_a_call_goes_on_from_nothing_of_a_neighbours(
    member: str, path: str, alice: Person, charlie: Person, upstream: ScriptedUpstream
) -> None:
    hers = {"previous_response_id": response_of(alice).id, "conversation": conversation_of(alice).id}
    named = hers.get(member) or conversation_of(alice).item_id
    asked = len(upstream.calls())
    unknown = f"{named[:-32]}{UNKNOWN_HEX}"
    answers = [going_on(charlie, path, member, id_) for id_ in (named, unknown, "x", *UPSTREAMS)]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1
    assert len(upstream.calls()) == asked


def going_on(person: Person, path: str, member: str, id_: str) -> httpx.Response:
    """A call for a Response, or about one, that names what it goes on from."""
    reference = [{"type": "item_reference", "id": id_}]
    body = {"model": "gpt-test", "input": "More.", member: reference if member == "input" else id_}
    return person.http.post(f"/v1{path}", json=body)


def test_a_chat_goes_on_in_no_thread_of_a_neighbours(
    alice: Person, charlie: Person, upstream: ScriptedUpstream
) -> None:
    hers = conversation_of(alice).id
    asked = len(upstream.calls())
    body = {"model": "gpt-test", "messages": [{"role": "user", "content": "More."}]}
    answers = [
        charlie.http.post("/v1/chat/completions", json=body, headers={"x-gptoss-thread-id": id_})
        for id_ in (hers, f"{CONVERSATION}{UNKNOWN_HEX}", "x", *UPSTREAMS)
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1
    assert len(upstream.calls()) == asked
