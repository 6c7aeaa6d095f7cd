"""From a model's name to where it may go, and what is remembered of where it went."""

from __future__ import annotations

import time

from accounts.ids import uuid7
from proxy.routing import Pattern, Table


def test_a_name_that_almost_fits_a_pattern_takes_no_time() -> None:
    pattern = Pattern("a*" * 12 + "b", ())
    table = Table({}, (pattern,), {})
    began = time.monotonic()
    for length in range(100, 200):
        assert table.candidates("a" * length, uuid7()) == []
    assert time.monotonic() - began < 1
    assert pattern.fits("a" * 12 + "b")
