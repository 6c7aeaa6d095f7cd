"""Identifiers that sort by the time they were made."""

import time
import uuid

from accounts.ids import uuid7
from tests.deadline import until


def test_it_makes_version_7_identifiers_of_now() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7()
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= after


def test_it_makes_each_only_once() -> None:
    assert len({uuid7() for _ in range(1000)}) == 1000


def test_it_sorts_them_by_time() -> None:
    first = uuid7()
    until(lambda: uuid7().int >> 80 > first.int >> 80, what="the next millisecond")
    assert first < uuid7()
