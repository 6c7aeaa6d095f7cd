"""How long things took, as one large integer: histograms are added by adding numbers. Pure.

A duration belongs to one of SLOTS slots, which is DIGITS decimal digits of the number: so a database that has
integers of any length adds and sums histograms as it does any number. A slot is a millisecond wide at first,
and from 20 ms on a tenth of where it begins: what is read from one is off by RELATIVE_ERROR at most. What
took a day or longer is in the last one, and read as a day.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from itertools import pairwise

DIGITS = 12  # of a count in one slot: below a million million
RELATIVE_ERROR = 0.05
LONGEST_MILLISECONDS = 24 * 3600 * 1000


def _bounds() -> tuple[int, ...]:
    """Where each slot but the first begins, in milliseconds; the first is for what took none."""
    bounds = [1]
    while bounds[-1] < LONGEST_MILLISECONDS:
        bounds.append(min(max(bounds[-1] + 1, bounds[-1] * 11 // 10), LONGEST_MILLISECONDS))
    return tuple(bounds)


BOUNDS = _bounds()
SLOTS = len(BOUNDS) + 1
READ_AS = (0, *((start + end - 1) / 2 for start, end in pairwise(BOUNDS)), LONGEST_MILLISECONDS)


def histogram(milliseconds: int) -> int:
    """Of one duration."""
    return int(10 ** (DIGITS * bisect_right(BOUNDS, milliseconds)))


def counts(total: int) -> list[int]:
    """How many are in each slot, up to the last that has any."""
    digits = str(total)
    digits = digits.zfill(-(-len(digits) // DIGITS) * DIGITS)
    return [int(digits[end - DIGITS : end]) for end in range(len(digits), 0, -DIGITS)]


@lru_cache(1024)  # a page shows each more than once
def percentiles(total: int, *shares: float) -> tuple[float | None, ...]:
    """The duration in milliseconds that such a share of all did not exceed; None where there are none."""
    slots = counts(total)
    number = sum(slots)
    if not number:
        return tuple(None for _ in shares)
    return tuple(READ_AS[_slot_of(slots, max(1, -int(-number * share // 1)))] for share in shares)


def _slot_of(slots: list[int], rank: int) -> int:
    """Where the one of that rank is, counting from 1."""
    for slot, count in enumerate(slots):
        rank -= count
        if rank <= 0:
            return slot
    return len(slots) - 1
