"""Writes proxy/prices.json from the package genai-prices: `make prices`. For developers; nothing imports it.

OpenAI's own standard prices of today, by exact name, for the endpoints there are. Where a price depends on
the length of the prompt it is the one that short prompts have.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import msgspec
from genai_prices.data import providers
from genai_prices.types import ClauseEquals, ClauseOr, ModelInfo, TieredPrices

PRICE_LIST = Path(__file__).with_name("prices.json")
_NANO = 1_000_000_000
_MINUTES = 60
# No endpoint here takes or makes sound in sessions, images or speech; a chat with sound has rates that a
# row cannot tell apart; names of tuned models are their owners'; who runs gpt-oss says what it costs.
_LEFT_OUT = ("realtime", "live", "image", "tts", "-audio", "ft:", ".ft-", "gpt-oss")
# Rates beside those of a row. Fees for tools and for writing to the cache are not in a row's reach.
_OTHER_RATES = {"cache_write_mtok", "web_searches_kcount", "storage_searches_kcount", "input_audio_hours"}
_RATES = {
    "input_mtok": "input",
    "cache_read_mtok": "cached_input",
    "output_mtok": "output",
    "audio_hours": "minute",
}


class UnknownRate(Exception):
    """The package prices something that this list has no word for: look at it, then extend `_OTHER_RATES`."""


def head(at: datetime) -> dict[str, str]:
    """What the list says of itself."""
    return {
        "source": "https://github.com/pydantic/genai-prices, provider openai",
        "version": version("genai-prices"),
        "date": at.date().isoformat(),
        "unit": "nano-dollars per million tokens; minute: nano-dollars per minute of audio",
    }


def prices(at: datetime) -> dict[str, dict[str, int]]:
    """What holds at `at`, by name. Raises UnknownRate."""
    models = next(provider.models for provider in providers if provider.id == "openai")
    listed = [(name, _prices(model, at)) for model in models for name in _names(model)]
    return {name: found for name, found in sorted(listed, key=lambda each: each[0]) if found}


def _prices(model: ModelInfo, at: datetime) -> dict[str, int]:
    rates = {name: rate for name, rate in vars(model.get_prices(at)).items() if rate is not None}
    if "transcribe" in model.id and "input_audio_mtok" in rates:
        rates["input_mtok"] = rates.pop("input_audio_mtok")  # What a transcription is given is sound.
    if not _RATES.keys() & rates.keys():
        return {}
    if unknown := rates.keys() - _RATES.keys() - _OTHER_RATES:
        raise UnknownRate(f"{model.id}: {', '.join(sorted(unknown))}")
    return {ours: _nano(rates[theirs], ours) for theirs, ours in _RATES.items() if theirs in rates}


def _names(model: ModelInfo) -> set[str]:
    """The names that mean this model and no other. Patterns for dated names cannot be listed."""
    clauses = model.match.or_ if isinstance(model.match, ClauseOr) else [model.match]
    exact = {clause.equals for clause in clauses if isinstance(clause, ClauseEquals)}
    names = exact | ({model.id} if model.is_match(model.id) else set())
    return {name for name in names if not any(word in name for word in _LEFT_OUT)}


def _nano(dollars: Decimal | TieredPrices, name: str) -> int:
    """Raises ValueError for what is no whole number of nano-dollars."""
    base = dollars.base if isinstance(dollars, TieredPrices) else dollars
    nano = base * _NANO / (_MINUTES if name == "minute" else 1)
    if nano != int(nano):
        raise ValueError(f"{base} as {name} is finer than a nano-dollar")
    return int(nano)


def write() -> None:
    """Writes the file, a model to a line, and says how many there are."""
    now = datetime.now(UTC)
    rows = [msgspec.json.encode({"model": name, **found}).decode() for name, found in prices(now).items()]
    about = [f'  "{name}": "{text}",' for name, text in head(now).items()]
    listed = ",\n".join(f"    {row}" for row in rows)
    PRICE_LIST.write_text("\n".join(["{", *about, '  "prices": [', listed, "  ]", "}", ""]))
    sys.stdout.write(f"{PRICE_LIST.name}: {len(rows)} models\n")


if __name__ == "__main__":
    write()
