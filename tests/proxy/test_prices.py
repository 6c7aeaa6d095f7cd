"""The price list, and the rows that it becomes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, time
from typing import Any

import pytest

from accounts.tenancy import operator_scope
from proxy import price_list
from proxy.models import Price
from proxy.prices import ListPrice, load_price_list, seed_prices


@pytest.fixture
def operator(db: None) -> Iterator[None]:
    with operator_scope():
        Price.objects.all().delete()
        yield


def listed(name: str) -> ListPrice:
    return next(each for each in load_price_list().prices if each.model == name)


def rows(name: str) -> list[dict[str, Any]]:
    return [dict(row) for row in Price.objects.filter(model_name=name).order_by("source").values()]


def test_it_lists_text_embedding_and_audio_models() -> None:
    assert listed("gpt-4o-mini") == ListPrice(
        "gpt-4o-mini", input=150_000_000, cached_input=75_000_000, output=600_000_000
    )
    assert listed("text-embedding-3-small") == ListPrice("text-embedding-3-small", input=20_000_000)
    assert listed("whisper-1") == ListPrice("whisper-1", minute=6_000_000)


def test_it_lists_the_price_of_sound_for_what_transcribes() -> None:
    assert listed("gpt-4o-transcribe").input == 6_000_000_000


def test_it_lists_what_short_prompts_cost() -> None:
    assert listed("gpt-5.4").input == 2_500_000_000


def test_it_lists_today_s_price_of_a_model_that_became_cheaper() -> None:
    assert listed("o3").input == 2_000_000_000


def test_it_lists_each_name_once_and_no_price_below_nothing() -> None:
    prices = load_price_list().prices
    numbers = [(each.input, each.cached_input, each.output, each.minute) for each in prices]
    assert len({each.model for each in prices}) == len(prices) > 100
    assert all(number is None or number > 0 for each in numbers for number in each)
    assert all(each.input is not None or each.minute is not None for each in prices)


@pytest.mark.parametrize("word", ["realtime", "image", "tts", "audio", "gpt-oss", "ft:"])
def test_it_lists_nothing_that_a_row_would_price_wrongly(word: str) -> None:
    assert not [each.model for each in load_price_list().prices if word in each.model]


def test_it_is_what_the_package_says_for_its_date() -> None:
    made = load_price_list()
    at = datetime.combine(made.date, time(), UTC)
    assert made.version == price_list.head(at)["version"]
    written = {name: ListPrice(name, **found) for name, found in price_list.prices(at).items()}
    assert written == {each.model: each for each in made.prices}


def test_it_is_read_without_the_package() -> None:
    program = (
        "import sys, django; django.setup(); import proxy.prices; sys.exit('genai_prices' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_it_seeds_a_row_for_each_name(operator: None) -> None:
    made = load_price_list()
    assert seed_prices() == len(made.prices) == Price.objects.filter(source="list").count()
    (row,) = rows("gpt-4o-mini")
    assert (row["input_nano_usd_per_million"], row["cached_input_nano_usd_per_million"]) == (
        150_000_000,
        75_000_000,
    )
    assert (row["output_nano_usd_per_million"], row["nano_usd_per_minute"]) == (600_000_000, None)
    assert (row["source"], row["effective_at"].date()) == ("list", made.date)


def test_it_seeds_once(operator: None) -> None:
    seed_prices()
    assert seed_prices() == 0


def test_it_leaves_an_operator_s_price_alone(operator: None) -> None:
    Price.objects.create(model_name="gpt-4o-mini", input_nano_usd_per_million=1)
    before = rows("gpt-4o-mini")
    assert seed_prices() == len(load_price_list().prices) - 1
    assert rows("gpt-4o-mini") == before
