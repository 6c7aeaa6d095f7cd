"""What a query string asks for."""

from __future__ import annotations

import pytest

from proxy.query import InvalidQuery, Query
from threads.pages import Page

WORDS = ("a.b", "c")


@pytest.mark.parametrize(
    ("raw", "page"),
    [
        (b"", Page(20, None, "desc")),
        (b"limit=1&order=asc&after=msg_1", Page(1, "msg_1", "asc")),
        (b"limit=100&order=desc", Page(100, None, "desc")),
        (b"limit=&after=&order=", Page(20, None, "desc")),
        (b"limit=5&limit=6", Page(5, None, "desc")),
    ],
)
def test_it_tells_which_part_of_a_list(raw: bytes, page: Page) -> None:
    assert Query(raw).page() == page


def test_a_list_may_begin_with_the_oldest() -> None:
    assert Query(b"").page("asc").order == "asc"


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"limit=0", "limit"),
        (b"limit=101", "limit"),
        (b"limit=ten", "limit"),
        (b"limit=-1", "limit"),
        (b"limit=1.0", "limit"),
        (b"limit=+1", "limit"),
        ("limit=٣".encode(), "limit"),
        (b"limit=" + b"9" * 5000, "limit"),
        (b"order=up", "order"),
        (b"order=ASC", "order"),
    ],
)
def test_it_refuses_what_no_list_has(raw: bytes, param: str) -> None:
    with pytest.raises(InvalidQuery) as refused:
        Query(raw).page()
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", False),
        (b"stream=true", True),
        (b"stream=True", True),
        (b"stream=1", True),
        (b"stream=false", False),
        (b"stream=0", False),
    ],
)
def test_it_tells_yes_from_no(raw: bytes, said: bool) -> None:
    assert Query(raw).boolean("stream") is said


def test_it_refuses_what_is_neither() -> None:
    with pytest.raises(InvalidQuery, match="'stream' must be true or false"):
        Query(b"stream=maybe").boolean("stream")


@pytest.mark.parametrize(
    "raw", [b"include=a.b&include=c", b"include[]=a.b&include[]=c", b"include%5B0%5D=a.b&include%5B1%5D=c"]
)
def test_it_reads_a_list_however_it_is_written(raw: bytes) -> None:
    assert Query(raw).several("include", WORDS) == {"a.b", "c"}


@pytest.mark.parametrize("raw", [b"include=d", b"include[]=a.b,c", b"include[]=a.b&include[]=A.B"])
def test_it_refuses_a_word_that_it_does_not_know(raw: bytes) -> None:
    with pytest.raises(InvalidQuery) as refused:
        Query(raw).several("include", WORDS)
    assert refused.value.param == "include"


def test_it_reads_a_mapping() -> None:
    raw = b"metadata[team]=red&metadata%5Bb%20c%5D=d%3De&metadata[team]=blue&model=m&other[x]=y"
    assert Query(raw).mapping("metadata") == {"team": "red", "b c": "d=e"}


def test_it_refuses_a_mapping_without_a_key() -> None:
    with pytest.raises(InvalidQuery) as refused:
        Query(b"metadata=red").mapping("metadata")
    assert refused.value.param == "metadata"


def test_it_takes_bytes_that_are_no_text() -> None:
    assert Query(b"model=%ff%fe").string("model") == "\ufffd\ufffd"
