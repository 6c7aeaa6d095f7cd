"""Vectors from one form to the other."""

import base64
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call import Fields
from proxy.embeddings import to_base64, to_floats, transcode_embeddings
from proxy.passage import Garbled

VECTOR = [0.25, -1.5, 1e-7]
PACKED = base64.b64encode(struct.pack("<3f", *VECTOR)).decode()


def document(*embeddings: object) -> Fields:
    data = [{"object": "embedding", "index": n, "embedding": each} for n, each in enumerate(embeddings)]
    return msgspec.json.decode(msgspec.json.encode({"object": "list", "data": data}), type=Fields)


def embeddings(fields: Fields) -> list[object]:
    return [item["embedding"] for item in msgspec.json.decode(fields["data"])]


def test_it_packs_floats() -> None:
    assert embeddings(transcode_embeddings(document(VECTOR, VECTOR), "base64")) == [PACKED, PACKED]


def test_it_unpacks_base64() -> None:
    (vector,) = embeddings(transcode_embeddings(document(PACKED), "float"))
    assert vector == pytest.approx(VECTOR)


@pytest.mark.parametrize(("embedding", "wanted"), [(VECTOR, "float"), (PACKED, "base64")])
def test_what_fits_is_left_alone(embedding: object, wanted: str) -> None:
    given_document = document(embedding)
    assert transcode_embeddings(given_document, wanted) is given_document


@pytest.mark.parametrize("embedding", ["not base64!", "QQ==", None, {"a": 1}, ["x"]])
def test_what_is_no_vector_is_garbled(embedding: object) -> None:
    with pytest.raises(Garbled):
        transcode_embeddings(
            document(embedding, PACKED), "base64" if not isinstance(embedding, str) else "float"
        )


def packed(number: float) -> str:
    return base64.b64encode(struct.pack("<f", number)).decode()


@pytest.mark.parametrize(
    ("embedding", "wanted"),
    [(packed(float("nan")), "float"), (packed(float("inf")), "float"), ([1e300], "base64")],
)
def test_a_number_that_is_not_finite_is_garbled(embedding: object, wanted: str) -> None:
    with pytest.raises(Garbled):
        transcode_embeddings(document(embedding), wanted)


def test_an_endless_nesting_is_garbled() -> None:
    nested = msgspec.Raw(b'[{"embedding": ' + b"[" * 5000 + b"]" * 5000 + b"}]")
    with pytest.raises(Garbled):
        transcode_embeddings({"data": nested}, "base64")


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_both_ways_come_back_to_the_same_numbers(vector: list[float]) -> None:
    assert to_base64(to_floats(to_base64(vector))) == to_base64(vector)
