"""Ids as clients see them."""

from __future__ import annotations

import pytest

from accounts.ids import uuid7
from threads.item_ids import PREFIXES, new_id, public_id, uuid_of


@pytest.mark.parametrize("type", [*PREFIXES, "future_thing", "", "message\0"])
def test_it_finds_the_key_in_an_id_of_its_own(type: str) -> None:
    key = uuid7()
    assert uuid_of(public_id(type, key)) == key


def test_it_gives_every_type_a_prefix_of_its_own() -> None:
    assert len(set(PREFIXES.values())) == len(PREFIXES)
    assert new_id("message") != new_id("message")


@pytest.mark.parametrize(
    "other",
    [
        "",
        "msg_",
        "msg_1",
        "0" * 32,
        "msg_" + "0" * 31,
        "msg_" + "0" * 33,
        "msg_" + "G" * 32,
        "MSG_" + "0" * 32,
        "msg-" + "0" * 32,
        "file_" + "0" * 32,
        "msg_" + "0" * 32 + "\n",
        "resp_68f722d2d194819e8f8b8a0a6f0c0d5c0a8e9b1c2d3e4f50",
        "chatcmpl-AyPNinnUqUDYo9SAdA52NobMflmj2",
    ],
)
def test_it_knows_no_key_in_any_other(other: str) -> None:
    assert uuid_of(other) is None
