"""Histograms that are numbers."""

from __future__ import annotations

from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from proxy.histogram import LONGEST_MILLISECONDS, RELATIVE_ERROR, SLOTS, counts, histogram, percentiles

durations = st.lists(st.integers(0, LONGEST_MILLISECONDS - 1), min_size=1, max_size=60)


@given(durations, st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]))
def test_it_reads_a_percentile_within_its_error(values: list[int], share: float) -> None:
    [read] = percentiles(sum(map(histogram, values)), share)
    exact = sorted(values)[ceil(len(values) * share) - 1]
    assert read is not None
    assert abs(read - exact) <= RELATIVE_ERROR * exact


@given(durations, durations)
def test_it_is_added_like_any_number(some: list[int], others: list[int]) -> None:
    both = sum(map(histogram, some)) + sum(map(histogram, others))
    assert both == sum(map(histogram, some + others))
    assert sum(counts(both)) == len(some) + len(others)


def test_it_knows_no_percentile_of_nothing() -> None:
    assert percentiles(0, 0.5, 0.99) == (None, None)


def test_it_reads_what_took_longer_than_a_day_as_a_day() -> None:
    assert percentiles(histogram(2**31 - 1), 0.5) == (LONGEST_MILLISECONDS,)
    assert len(counts(histogram(2**31 - 1))) == SLOTS


def test_it_keeps_slots_apart_up_to_a_million_million() -> None:
    most = (10**12 - 1) * histogram(1000) + histogram(1) * 7
    assert [count for count in counts(most) if count] == [7, 10**12 - 1]
