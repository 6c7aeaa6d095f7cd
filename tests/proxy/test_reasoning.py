"""How much a caller wants a model to reason, and whether to see it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from proxy import gpt_oss
from proxy.call import Call, InvalidBody, parse_fields
from proxy.chat_wires import with_effort
from proxy.reasoning import EFFORTS, Asked, asked
from tests.proxy.dialects.transcripts import chat, user


def ask(body: dict[str, Any], effort: str = "", show: str = "", default: str | None = None) -> Asked:
    fields = parse_fields(msgspec.json.encode(body))
    return asked(fields, effort_header=effort, show_header=show, default_effort=default)


@pytest.mark.parametrize(
    ("body", "header", "default", "expected"),
    [
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, "medium", "high", "low"),
        ({"reasoning": {"effort": "high"}, "metadata": {"reasoning_effort": "low"}}, "medium", "low", "high"),
        ({"metadata": {"reasoning_effort": "low"}}, " Medium ", "high", "medium"),
        ({"metadata": {"reasoning_effort": "LOW"}}, "", "high", "low"),
        ({"metadata": {"reasoning_effort": "low"}}, "enormous", "high", "low"),
        ({"metadata": {"reasoning_effort": 5}}, "", "high", "high"),
        ({"reasoning_effort": None, "reasoning": None, "metadata": None}, "", "high", "high"),
        ({}, "", None, None),
    ],
)
def test_it_takes_the_effort_from_the_first_that_names_one(
    body: dict[str, Any], header: str, default: str | None, expected: str | None
) -> None:
    assert ask(body, effort=header, default=default).effort == expected


@pytest.mark.parametrize(
    "body", [{"reasoning_effort": "enormous"}, {"reasoning": {"effort": 5}}, {"reasoning_effort": 5}]
)
def test_it_refuses_an_effort_that_there_is_not(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidBody) as caught:
        ask(body)
    assert caught.value.param == next(iter(body))


@pytest.mark.parametrize("name", ["reasoning", "metadata", "include_reasoning"])
def test_it_names_the_member_with_a_number_that_no_program_can_hold(name: str) -> None:
    with pytest.raises(InvalidBody, match=f"'{name}'"):
        asked({name: msgspec.Raw(b'{"a":1e999}')}, effort_header="", show_header="", default_effort=None)


@pytest.mark.parametrize("given", [b"5", b"[]", b'"low"'])
def test_it_puts_no_effort_into_what_is_no_object(given: bytes) -> None:
    call = Call("responses", "/responses", "any", False, {"reasoning": msgspec.Raw(given)}, 1)
    with pytest.raises(InvalidBody, match="'reasoning' must be an object"):
        with_effort(call, Asked("low", True))


@pytest.mark.parametrize(
    ("body", "header", "shown"),
    [
        ({}, "", True),
        ({"metadata": {"show_reasoning": False}}, "yes", True),
        ({"metadata": {"show_reasoning": True}}, "0", False),
        ({"metadata": {"show_reasoning": False}, "include_reasoning": True}, "", False),
        ({"metadata": {"show_reasoning": "false"}}, "perhaps", False),
        ({"include_reasoning": False}, "", False),
        ({"reasoning": {"exclude": True}}, "", False),
        ({"reasoning": {"exclude": True}, "include_reasoning": True}, "", True),
        ({"reasoning_effort": "none", "include_reasoning": True}, "true", False),
    ],
)
def test_it_shows_reasoning_as_the_first_that_says_so(body: dict[str, Any], header: str, shown: bool) -> None:
    assert ask(body, show=header).shown is shown


def test_it_knows_every_effort_in_three() -> None:
    known = {effort: gpt_oss.effort(Asked(effort, True)) for effort in EFFORTS}
    assert set(known.values()) == {"low", "medium", "high"}
    assert (known["none"], known["minimal"], known["medium"], known["xhigh"]) == (
        "low",
        "low",
        "medium",
        "high",
    )
    assert gpt_oss.effort(Asked(None, True)) == "medium"


def test_it_asks_for_the_effort_under_the_name_that_all_servers_take() -> None:
    call = chat(user(), reasoning={"effort": "xhigh"}, include_reasoning=False, temperature=1)
    fields = gpt_oss.prepare(call, Asked("xhigh", False)).fields
    assert {name: bytes(raw) for name, raw in fields.items() if name != "messages"} == {
        "model": b'"gpt-oss-20b"',
        "temperature": b"1",
        "reasoning_effort": b'"high"',
    }


def test_it_leaves_the_effort_to_the_server_where_nobody_named_one() -> None:
    assert "reasoning_effort" not in gpt_oss.prepare(chat(user()), Asked(None, True)).fields


def test_it_takes_the_reasoning_of_earlier_answers_out() -> None:
    said = {"role": "assistant", "content": "a", "reasoning_content": "b", "reasoning": "c"}
    call = gpt_oss.without_reasoning(chat(user(), said))
    assert msgspec.json.decode(call.fields["messages"]) == [user(), {"role": "assistant", "content": "a"}]
    plain = chat(user())
    assert gpt_oss.without_reasoning(plain) is plain


@pytest.mark.parametrize(
    ("name", "expected"), [("gpt-oss-20b", True), ("openai/GPT-OSS-120b", True), ("gpt-4o", False)]
)
def test_it_knows_the_model_by_its_name(name: str, expected: bool) -> None:
    assert gpt_oss.is_gpt_oss(name) is expected
