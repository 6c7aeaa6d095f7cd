"""Reading usage from any answer, and pricing it."""

import pytest

from proxy.usage import Price, Usage, cost_nano_usd, estimate_input, read

PRICE = Price(input=150_000_000, cached_input=75_000_000, output=600_000_000, minute=None)


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}, Usage(9, None, 4)),
        ({"prompt_tokens": 9, "completion_tokens": 0}, Usage(9, None, 0)),
        ({"prompt_tokens": 9, "total_tokens": 9}, Usage(9, None, 0)),
        (
            {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 0}},
            Usage(9, 0, 4),
        ),
        (
            {
                "input_tokens": 9,
                "output_tokens": 4,
                "input_tokens_details": {"cached_tokens": 3},
                "output_tokens_details": {"reasoning_tokens": 2},
            },
            Usage(9, 3, 4, 2),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 5}, Usage(9, 5, 4)),
        ({"type": "duration", "seconds": 12}, Usage(audio_milliseconds=12_000)),
        ({"prompt_tokens": 9.0, "completion_tokens": 4.0}, Usage(9, None, 4)),
        ({"prompt_tokens": 9, "prompt_tokens_details": None}, Usage(9)),
    ],
)
def test_it_reads_every_shape(reported: dict[str, object], usage: Usage) -> None:
    assert read(reported) == usage


@pytest.mark.parametrize(
    "reported",
    [None, {}, [], "9", {"prompt_tokens": None}, {"prompt_tokens": -1}, {"prompt_tokens": True}, {"x": 1}],
)
def test_what_makes_no_sense_is_not_zero_but_unknown(reported: object) -> None:
    assert read(reported) is None


def test_cost_is_exact_and_rounded_once() -> None:
    assert cost_nano_usd(Usage(1000, 400, 500), PRICE) == 600 * 150 + 400 * 75 + 500 * 600
    assert cost_nano_usd(Usage(1, 0, 0), Price(499_999, None, None, None)) == 0
    assert cost_nano_usd(Usage(1, 0, 0), Price(500_000, None, None, None)) == 1


def test_cached_tokens_cost_the_full_price_where_they_have_none_of_their_own() -> None:
    assert cost_nano_usd(Usage(10, 10, 0), Price(1_000_000, None, None, None)) == 10


@pytest.mark.parametrize(
    ("usage", "price"),
    [
        (Usage(1, None, 1), None),
        (Usage(1, None, 1), Price(1, None, None, None)),
        (Usage(), PRICE),
        (Usage(audio_milliseconds=1000), PRICE),
    ],
)
def test_an_unknown_price_is_not_free(usage: Usage, price: Price | None) -> None:
    assert cost_nano_usd(usage, price) is None


def test_sound_costs_by_the_minute() -> None:
    assert cost_nano_usd(Usage(audio_milliseconds=90_000), Price(None, None, None, 6_000_000)) == 9_000_000


def test_an_inline_image_is_not_counted_by_its_bytes() -> None:
    text = b'{"text":"' + b"a" * 400 + b'"}'
    image = b'{"url":"data:image/png;base64,' + b"A" * 1_000_000 + b'"}'
    assert estimate_input(text) == 103
    assert 1000 <= estimate_input(image) < 1010
