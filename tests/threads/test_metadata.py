"""What may be put on what is stored."""

from __future__ import annotations

import pytest

from threads.metadata import InvalidMetadata, check_metadata


@pytest.mark.parametrize(
    "given",
    [{}, {"a": ""}, {"k" * 64: "v" * 512}, {str(number): "é" for number in range(16)}, {"": "🙂"}],
)
def test_it_takes_pairs_of_strings(given: dict[str, str]) -> None:
    assert check_metadata(given) == given


def test_it_takes_null_for_none() -> None:
    assert check_metadata(None) == {}


@pytest.mark.parametrize(
    "given",
    [
        [],
        "text",
        1,
        {"a": 1},
        {"a": None},
        {"a": {}},
        {"k" * 65: ""},
        {"a": "v" * 513},
        {str(number): "" for number in range(17)},
        {"a": "\0"},
        {"\0": "a"},
        {"a": "\ud800"},
    ],
)
def test_it_refuses_anything_else(given: object) -> None:
    with pytest.raises(InvalidMetadata, match="'metadata'"):
        check_metadata(given)
