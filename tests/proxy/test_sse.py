"""Cutting bytes into events: every cut of the same bytes yields the same events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import sse

LINE_ENDS = (b"\n", b"\r\n", b"\r")
LINES = (
    b"data: {}",
    b"",
    b": comment",
    b"",
    b"event: named",
    b"data:without a space",
    b"data: second line",
    b"",
    "data: a\u2028b\u0085c".encode(),
    b"",
    b"",
)
DATA = [b"{}", b"without a space\nsecond line", "a\u2028b\u0085c".encode()]


def data_of(pieces: list[bytes]) -> list[bytes]:
    splitter = sse.Splitter()
    events = [event for piece in pieces for event in sse.split(splitter.feed(piece))]
    events += sse.split(splitter.rest())
    return [sse.data(event) for event in events if sse.data(event)]


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_it_reads_the_same_events_at_every_cut(line_end: bytes) -> None:
    stream = line_end.join(LINES)
    for first in range(len(stream)):
        for second in range(first, len(stream), 7):
            assert data_of([stream[:first], stream[first:second], stream[second:]]) == DATA


@pytest.mark.parametrize("line_end", LINE_ENDS)
def test_it_reads_the_same_events_byte_by_byte(line_end: bytes) -> None:
    assert data_of([bytes([byte]) for byte in line_end.join(LINES)]) == DATA


def test_it_gives_out_only_whole_events() -> None:
    splitter = sse.Splitter()
    assert splitter.feed(b"data: a\n\ndata: b\n") == b"data: a\n\n"
    assert splitter.feed(b"\n") == b"data: b\n\n"
    assert splitter.rest() == b""


@pytest.mark.parametrize("cut", range(8))
def test_it_leaves_out_a_byte_order_mark_before_the_first_event(cut: int) -> None:
    splitter = sse.Splitter()
    stream = b"\xef\xbb\xbfdata: a\n\ndata: \xef\xbb\xbf\n\n"
    out = splitter.feed(stream[:cut]) + splitter.feed(stream[cut:])
    assert out == b"data: a\n\ndata: \xef\xbb\xbf\n\n"


def test_it_keeps_what_ended_without_a_blank_line() -> None:
    splitter = sse.Splitter()
    assert splitter.feed(b"data: a") == b""
    assert splitter.rest() == b"data: a"


def test_it_refuses_an_event_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    splitter = sse.Splitter()
    splitter.feed(b"x" * 90)
    with pytest.raises(sse.OversizedEvent):
        splitter.feed(b"x" * 90)


def test_it_reads_an_event_that_arrives_in_many_pieces_in_linear_time() -> None:
    splitter = sse.Splitter()
    out = b"".join(splitter.feed(b"x" * 1000) for _ in range(1000))
    assert out == b""
    assert len(splitter.rest()) == 1_000_000


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r", b"data: ", b":", b"\r\n"])), st.integers(0, 200))
def test_no_byte_is_lost_or_made_up(tokens: list[bytes], cut: int) -> None:
    stream = b"".join(tokens)
    splitter = sse.Splitter()
    out = splitter.feed(stream[:cut]) + splitter.feed(stream[cut:]) + splitter.rest()
    assert out == stream


def test_it_names_an_event_by_its_last_event_field() -> None:
    assert sse.name(b"event: a\nevent: b\ndata: x\n\n") == b"b"
    assert sse.name(b"data: x\n\n") == b""


def test_what_it_encodes_it_reads() -> None:
    event = sse.encode(b'{"a":1}', b"named")
    assert (sse.name(event), sse.data(event)) == (b"named", b'{"a":1}')
