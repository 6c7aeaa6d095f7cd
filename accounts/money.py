"""Dollars as people write them, and the whole nano-dollars in which they are counted."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

NANO = 10**9
_LARGEST = 2**63 - 1


def nano_dollars(text: str) -> int:
    """Dollars as people write them ("0.15") in nano-dollars, exactly. Raises ValueError."""
    try:
        nano = Decimal(text.strip()) * NANO
    except InvalidOperation:
        raise ValueError('must be an amount of dollars, such as "0.15"') from None
    if not nano.is_finite() or nano < 0 or nano > _LARGEST:
        raise ValueError("must be an amount of dollars, from 0 to nine thousand million")
    if nano != nano.to_integral_value():
        raise ValueError("has more than nine decimals, which cannot be counted exactly")
    return int(nano)


def dollars(nano: int) -> str:
    """Nano-dollars for people ("$0.15"): exactly, without zeros that say nothing."""
    return f"${(Decimal(nano) / NANO).normalize():f}"
