"""Control tokens that leaked are taken out, wherever the text was cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.harmony import ANALYSIS, COMMENTARY, FINAL, NameFilter, TextFilter

WHOLE = (
    "<|start|>assistant<|channel|>analysis<|message|>Think 1 < 2.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>It is true: 1 < 2.<|return|>"
)
TEXTS = [
    (WHOLE, [(ANALYSIS, "Think 1 < 2."), (FINAL, "It is true: 1 < 2.")], 8),
    ("Plain <b>text</b> |> and <| more", [(FINAL, "Plain <b>text</b> |> and <| more")], 0),
    ("Hello<|end|>", [(FINAL, "Hello")], 1),
    ("<|channel|>final<|message|>Hello", [(FINAL, "Hello")], 2),
    ("<|channel|>final <|constrain|>json<|message|>{}", [(FINAL, "{}")], 3),
    ("<|channel|>commentary to=functions.look <|constrain|>json<|message|>{}", [(COMMENTARY, "{}")], 3),
    ("One<|channel|>Two, as it was.", [(FINAL, "OneTwo, as it was.")], 1),
    ("One<|start|>user wants\nit", [(FINAL, "Oneuser wants\nit")], 1),
    ("<|message|>Hello", [(FINAL, "Hello")], 1),
    ("a<|reserved_200000|>b<|endoftext|>", [(FINAL, "ab")], 2),
    ("a<|im_start|>b<|reserved_|>", [(FINAL, "a<|im_start|>b<|reserved_|>")], 0),
    ("It ends with <|chan", [(FINAL, "It ends with <|chan")], 0),
    ("It ends with <|channel|>final", [(FINAL, "It ends with ")], 1),
    ("It ends with <|channel|>fin", [(FINAL, "It ends with fin")], 1),
    ("It <|channel|>" + "to=" + "x" * 200 + "<|end|>", [(FINAL, "It to=" + "x" * 200)], 2),
]


def said(pieces: list[str], default: str = FINAL) -> tuple[list[tuple[str, str]], int]:
    """What a text comes to, neighbours of one channel joined, and how many tokens it lost."""
    made = TextFilter(default)
    spoken = [each for piece in pieces for each in made.feed(piece)] + made.rest()
    joined = [
        (channel, "".join(text for _, text in texts))
        for channel, texts in itertools.groupby(spoken, key=lambda each: each[0])
    ]
    return [each for each in joined if each[1]], made.count


@pytest.mark.parametrize(("text", "spoken", "count"), TEXTS)
def test_it_takes_tokens_and_their_headers_out_at_every_cut(
    text: str, spoken: list[tuple[str, str]], count: int
) -> None:
    assert said(list(text)) == (spoken, count)
    for cut in range(len(text)):
        assert said([text[:cut], text[cut:]]) == (spoken, count)


@given(
    st.lists(st.sampled_from(["<|channel|>", "<|message|>", "<|", "|>", "final", "a", " ", "<", "analysis"]))
)
def test_it_reads_the_same_however_it_is_cut(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert said(pieces) == said([text]) == said(list(text))
    assert not any("<|channel|>" in words or "<|message|>" in words for _, words in said(pieces)[0])


@given(st.text(st.characters(exclude_characters="<")), st.integers(1, 9))
def test_it_holds_nothing_back_of_what_cannot_be_a_token(text: str, size: int) -> None:
    made = TextFilter()
    for start in range(0, len(text), size):
        assert made.feed(text[start : start + size]) == [(FINAL, text[start : start + size])]
        assert not made.busy


def test_an_answer_in_the_reasoning_is_the_answer() -> None:
    spoken = [(ANALYSIS, "Hm."), (FINAL, "Yes.")]
    assert said(["Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes."], ANALYSIS) == (spoken, 4)
    assert said(["Hm.<|message|>Hm."], ANALYSIS) == ([(ANALYSIS, "Hm.Hm.")], 1)


@pytest.mark.parametrize(
    ("name", "expected", "count"),
    [
        ("get_weather", "get_weather", 0),
        ("get_weather<|channel|>commentary", "get_weather", 1),
        ("get_weather<|constrain|>json<|message|>", "get_weather", 2),
        ("<|constrain|>look", "look", 1),
        ("look<|", "look", 0),
    ],
)
def test_it_takes_tokens_out_of_a_tools_name_at_every_cut(name: str, expected: str, count: int) -> None:
    for cut in range(len(name) + 1):
        made = NameFilter()
        assert made.feed(name[:cut]) + made.feed(name[cut:]) == expected
        assert made.count == count
