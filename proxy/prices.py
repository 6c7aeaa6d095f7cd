"""The price list that comes with the project: from proxy/prices.json to rows.

The file is made at development time by proxy/price_list.py. What an operator says about a name is never
touched; a name without a row is unpriced.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from pathlib import Path

import msgspec

from proxy.models import Price

PRICE_LIST = Path(__file__).with_name("prices.json")


class ListPrice(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model's prices in nano-dollars per million tokens, or per minute of audio."""

    model: str
    input: int | None = None
    cached_input: int | None = None
    output: int | None = None
    minute: int | None = None


class PriceList(msgspec.Struct, frozen=True):
    """The list, with where it is from and since when it holds."""

    source: str
    version: str
    date: date
    unit: str
    prices: tuple[ListPrice, ...]


def load_price_list() -> PriceList:
    """The file that comes with the project."""
    return msgspec.json.decode(PRICE_LIST.read_bytes(), type=PriceList)


def seed_prices() -> int:
    """Gives each listed name that has no row one from the list, and says how many those were."""
    price_list = load_price_list()
    priced = set(Price.objects.values_list("model_name", flat=True))
    effective_at = datetime.combine(price_list.date, time(), UTC)
    rows = [_row(listed, effective_at) for listed in price_list.prices if listed.model not in priced]
    if rows:
        Price.objects.bulk_create(rows)
    return len(rows)


def _row(listed: ListPrice, effective_at: datetime) -> Price:
    return Price(
        model_name=listed.model,
        source=Price.Source.LIST,
        input_nano_usd_per_million=listed.input,
        cached_input_nano_usd_per_million=listed.cached_input,
        output_nano_usd_per_million=listed.output,
        nano_usd_per_minute=listed.minute,
        effective_at=effective_at,
    )
