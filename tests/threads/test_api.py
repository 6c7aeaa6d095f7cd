"""Threads through the management API: found, exported, branched off, deleted, erased, and read by whom."""

from __future__ import annotations

import json
from itertools import count
from typing import Any
from uuid import UUID

import httpx
import pytest

from accounts.ids import uuid7
from tests.managing import Cast, cast, error, key_of, made, results
from tests.server import Gateway

NUMBERS = count(1)


@pytest.fixture(scope="module")
def people(session_gateway: Gateway) -> Cast:
    return cast(session_gateway, "talking")


def said(
    people: Cast, *texts: str, user: str = "", tenant: str = "talking", title: str = "", by: str = "owner"
) -> str:
    """The id of a conversation in which that was said, as the management API has it."""
    headers = {"authorization": f"Bearer {key_of(tenant, by)}"}
    items = [{"type": "message", "role": "user", "content": text} for text in texts]
    body = {"items": items, "metadata": {"topic": title} if title else {}}
    url = f"{people.gateway.url}/v1"
    answer = httpx.post(f"{url}/conversations", headers=headers, json=body, trust_env=False)
    conversation = answer.json()["id"]
    if user:
        call = {"model": "demo", "input": "as who I am", "user": user}
        kept = httpx.post(f"{url}/responses", headers=headers, json=call, trust_env=False, timeout=30)
        assert kept.status_code == 200, kept.text
    return str(UUID(conversation.removeprefix("conv_")))


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def ids(answer: httpx.Response) -> list[str]:
    return [row["id"] for row in results(answer)]


def word() -> str:
    return f"word{uuid7().hex}"


def test_it_lists_threads_newest_first_in_parts(people: Cast) -> None:
    talks = [said(people, "hello") for _ in range(3)]
    first = people.owner.get("threads/", params={"limit": 2, "conversation": "true"})
    assert ids(first) == talks[:0:-1]
    assert ids(people.owner.get(first.json()["next"]))[0] == talks[0]
    row = results(first)[0]
    assert row["conversation_id"] == f"conv_{UUID(talks[-1]).hex}"
    assert row["tenant"] == "talking"


def test_it_finds_those_of_an_end_user_and_of_a_time(people: Cast) -> None:
    user = f"end-user-{next(NUMBERS)}"
    said(people, "hello", user=user)
    [row] = results(people.owner.get("threads/", params={"user": user}))
    assert (row["user"], row["conversation"]) == (user, False)
    later = {"user": user, "created_from": "2999-01-01T00:00:00Z"}
    assert ids(people.owner.get("threads/", params=later)) == []
    earlier = {"user": user, "created_before": "2999-01-01T00:00:00Z"}
    assert ids(people.owner.get("threads/", params=earlier)) == [row["id"]]


def test_it_finds_those_in_which_something_was_said(people: Cast) -> None:
    wanted = word()
    talk = said(people, f"where is {wanted} kept?")
    said(people, f"{wanted} of others", tenant="talking-other")
    assert ids(people.owner.get("threads/", params={"search": wanted})) == [talk]
    assert ids(people.owner.get("threads/", params={"search": word()})) == []


def test_it_shows_what_was_said_to_whom_the_table_lets(people: Cast) -> None:
    talk = said(people, "hello", title="secret plans")
    assert people.admin.get(f"threads/{talk}/").json()["metadata"] == {"topic": "secret plans"}
    seen = people.viewer.get(f"threads/{talk}/")
    assert seen.status_code == 200
    assert not {"title", "metadata"} & seen.json().keys()
    assert "secret plans" not in people.viewer.get("threads/").text
    assert people.viewer.get("threads/", params={"search": "hello"}).status_code == 403


def test_it_lets_a_member_look_after_what_their_own_key_began(people: Cast) -> None:
    wanted = word()
    theirs, mine = said(people, wanted), said(people, wanted, by="member", title="my plans")
    assert ids(people.member.get("threads/")) == [mine]
    assert ids(people.member.get("threads/", params={"search": wanted})) == [mine]
    assert people.member.get(f"threads/{mine}/").json()["metadata"] == {"topic": "my plans"}
    for method, path in (("GET", ""), ("GET", "export/"), ("POST", "branch/"), ("DELETE", "")):
        answer = people.member.request(method, f"threads/{theirs}/{path}", json={"item": "msg_1"})
        assert answer.status_code == 404, answer.text
    assert people.member.get("threads/export/").status_code == 403
    assert people.owner.get(f"threads/{mine}/").status_code == 200
    assert people.member.delete(f"threads/{mine}/").status_code == 204
    assert ids(people.member.get("threads/")) == []


def test_it_tells_whose_key_began_a_thread(people: Cast) -> None:
    url, headers = f"{people.gateway.url}/v1", {"authorization": f"Bearer {key_of('talking', 'admin')}"}
    asked = {"model": "demo", "messages": [{"role": "user", "content": "x"}]}
    thread = {**headers, "x-gptoss-thread-id": "new"}
    chat = httpx.post(f"{url}/chat/completions", headers=thread, json=asked, trust_env=False, timeout=30)
    kept = {"model": "demo", "input": "x"}
    response = httpx.post(f"{url}/responses", headers=headers, json=kept, trust_env=False, timeout=30)
    assert response.status_code == 200
    rows = results(people.admin.get("threads/", params={"mine": "true"}))
    assert [row["conversation"] for row in rows] == [False, True]
    assert rows[1]["conversation_id"] == chat.headers["x-gptoss-thread-id"]
    others = ids(people.admin.get("threads/", params={"mine": "false", "limit": 200}))
    assert others
    assert not set(others) & {row["id"] for row in rows}


def test_it_exports_a_thread_as_lines(people: Cast) -> None:
    talk = said(people, "one", "two\nlines")
    exported = lines(people.admin.get(f"threads/{talk}/export/"))
    assert [line["object"] for line in exported] == ["thread", "thread.item", "thread.item"]
    assert exported[2]["item"]["content"] == "two\nlines"


def test_it_exports_all_of_a_tenant_and_of_no_other(people: Cast) -> None:
    mine, theirs = word(), word()
    said(people, mine)
    said(people, theirs, tenant="talking-other")
    exported = people.owner.get("threads/export/")
    assert lines(exported)
    assert mine in exported.text
    assert theirs not in exported.text


def test_it_has_an_operator_say_why_they_read(people: Cast) -> None:
    talk = said(people, "hello")
    refused = people.operator.get(f"threads/{talk}/export/")
    assert error(refused, 400)["param"] == "reason"
    assert lines(people.operator.get(f"threads/{talk}/export/", params={"reason": "a complaint"}))
    [entry] = results(people.owner.get("audit/", params={"object_id": talk, "action": "export"}))
    assert entry["reason"] == "a complaint"


def test_it_writes_down_who_searched_and_not_for_what(people: Cast) -> None:
    wanted = word()
    people.admin.get("threads/", params={"search": wanted})
    log = people.owner.get("audit/", params={"action": "search"})
    assert results(log)[0]["actor"] == "admin@talking.test"
    assert wanted not in log.text
    assert wanted not in people.gateway.log()


def test_it_branches_from_an_item(people: Cast) -> None:
    talk = said(people, "one", "two", "three")
    items = [line["item"]["id"] for line in lines(people.owner.get(f"threads/{talk}/export/"))[1:]]
    body = {"item": items[1], "title": "another way"}
    new = made(people.owner.post(f"threads/{talk}/branch/", json=body))
    assert (new["title"], new["conversation"]) == ("another way", True)
    copied = lines(people.owner.get(f"threads/{new['id']}/export/"))[1:]
    assert [line["item"]["content"] for line in copied] == ["one", "two"]


@pytest.mark.parametrize("item", ["msg_1", f"msg_{uuid7().hex}", ""])
def test_it_branches_from_no_item_that_is_not_there(people: Cast, item: str) -> None:
    talk = said(people, "one")
    answer = people.owner.post(f"threads/{talk}/branch/", json={"item": item})
    assert error(answer, 404 if item else 400)


def test_it_deletes_a_thread(people: Cast) -> None:
    talk = said(people, "one")
    assert people.owner.delete(f"threads/{talk}/").status_code == 204
    assert error(people.owner.get(f"threads/{talk}/"), 404)["message"] == "No such conversation."
    headers = {"authorization": f"Bearer {key_of('talking', 'owner')}"}
    url = f"{people.gateway.url}/v1/conversations/conv_{UUID(talk).hex}"
    assert httpx.get(url, headers=headers, trust_env=False).status_code == 404


def test_it_erases_everything_of_an_end_user(people: Cast) -> None:
    user = f"leaving-{next(NUMBERS)}"
    said(people, "hello", user=user)
    said(people, "hello", user=user, tenant="talking-other")
    erased = people.owner.post("threads/erase/", json={"user": user}).json()
    assert (erased["threads"], erased["responses"]) == (1, 1)
    assert erased["items"] >= 1
    assert ids(people.owner.get("threads/", params={"user": user})) == []
    assert len(ids(people.outsider.get("threads/", params={"user": user}))) == 1
    [entry] = results(people.owner.get("audit/", params={"action": "erase", "object_id": user}))
    assert entry["actor"] == "owner@talking.test"


@pytest.mark.parametrize("body", [{}, {"user": ""}, {"user": "\0"}, {"user": "x", "all": True}])
def test_it_erases_nobody_without_a_name(people: Cast, body: object) -> None:
    assert error(people.owner.post("threads/erase/", json=body), 400)


def test_it_keeps_an_outsider_out_of_everything(people: Cast) -> None:
    talk, never = said(people, "hello"), str(uuid7())
    asked = [
        ("GET", "threads/{}/", None),
        ("GET", "threads/{}/export/", None),
        ("POST", "threads/{}/branch/", {"item": f"msg_{uuid7().hex}"}),
        ("DELETE", "threads/{}/", None),
    ]
    for method, path, body in asked:
        theirs, nobodys = (
            people.outsider.request(method, path.format(id_), json=body) for id_ in (talk, never)
        )
        assert (theirs.status_code, theirs.content) == (404, nobodys.content)
    absent = people.outsider.get("threads/export/", params={"tenant": "absent"})
    assert people.outsider.get("threads/export/", params={"tenant": "talking"}).content == absent.content
    assert people.owner.get(f"threads/{talk}/").status_code == 200
