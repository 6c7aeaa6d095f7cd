"""What the pages of the log show, and until when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from proxy.content import Said
from proxy.recent import KEPT, SAID_FOR, Entry, Recent

NOW = datetime(2026, 11, 1, tzinfo=UTC)
FIELDS = {"duration_milliseconds": 1}


def test_it_forgets_what_was_said_and_not_that_there_was_a_call() -> None:
    recent = Recent()
    recent.note(Entry(NOW, FIELDS, Said("Hi", "there")), whole=False)
    recent.note(Entry(NOW + SAID_FOR, FIELDS, Said("Hi", "again")), whole=True)
    assert [entry.said is None for entry in recent.calls] == [False, False]
    recent.note(Entry(NOW + SAID_FOR + timedelta(seconds=1), FIELDS, Said("And", "so")), whole=True)
    assert [entry.said is None for entry in recent.calls] == [True, False, False]
    assert [entry.said is None for entry in recent.errors] == [True]
    assert recent.count == 3


def test_it_keeps_the_last_calls() -> None:
    recent = Recent()
    for number in range(KEPT + 5):
        recent.note(Entry(NOW, {**FIELDS, "number": number}, None), whole=True)
    assert [entry.fields["number"] for entry in recent.calls] == list(range(5, KEPT + 5))
