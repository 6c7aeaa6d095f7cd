"""Embedding vectors in the form that was asked for, whatever form the upstream gave. Pure.

Both official SDKs ask for base64 unless told otherwise, and many servers ignore it (OpenAI API reference,
"Create embeddings", 2026-11). Base64 is of little-endian 32-bit floats.
"""

from __future__ import annotations

import base64
import binascii
import math
import sys
from array import array

import msgspec

from proxy.call import Fields
from proxy.passage import Garbled


def transcode_embeddings(document: Fields, wanted: str) -> Fields:
    """`document` with each embedding as `wanted`, "base64" or "float". One that fits keeps its bytes.

    Raises Garbled.
    """
    quoted = wanted == "base64"
    try:
        items = msgspec.json.decode(document["data"], type=list[Fields])
        if all(bytes(item["embedding"]).startswith(b'"') == quoted for item in items):
            return document
        for item in items:
            item["embedding"] = _transcoded(item["embedding"], quoted)
    except (msgspec.DecodeError, KeyError, binascii.Error, ValueError, RecursionError):
        raise Garbled from None
    return {**document, "data": msgspec.Raw(msgspec.json.encode(items))}


def _transcoded(raw: msgspec.Raw, quoted: bool) -> msgspec.Raw:
    if bytes(raw).startswith(b'"') == quoted:
        return raw
    if quoted:
        return msgspec.Raw(msgspec.json.encode(to_base64(msgspec.json.decode(raw, type=list[float]))))
    return msgspec.Raw(msgspec.json.encode(to_floats(msgspec.json.decode(raw, type=str))))


def to_base64(vector: list[float]) -> str:
    """Little-endian 32-bit floats in base64. Raises ValueError."""
    return base64.b64encode(_little_endian(_finite(array("f", vector))).tobytes()).decode()


def to_floats(text: str) -> list[float]:
    """The numbers of a base64 vector, shortest text first: a 32-bit float needs no more than 9 digits.

    Raises ValueError.
    """
    numbers = array("f")
    numbers.frombytes(base64.b64decode(text, validate=True))
    return [float(f"{number:.9g}") for number in _finite(_little_endian(numbers))]


def _finite(numbers: array[float]) -> array[float]:
    """JSON has no other numbers, and float32 turns those too large for it into infinity."""
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number in a vector is not finite")
    return numbers


def _little_endian(numbers: array[float]) -> array[float]:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
