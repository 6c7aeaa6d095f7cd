"""Secrets at rest."""

import base64

import pytest
from pytest_django import Settings

from proxy.sealing import SealBroken, seal, unseal

CONTEXT = b"tenant|https://api.test/v1"


def test_it_opens_what_it_sealed_and_shows_nothing_of_it() -> None:
    sealed = seal("sk-secret-\u00fc", CONTEXT)
    assert unseal(sealed, CONTEXT) == "sk-secret-\u00fc"
    assert b"secret" not in sealed


def test_the_same_secret_is_sealed_differently_each_time() -> None:
    assert seal("same", CONTEXT) != seal("same", CONTEXT)


def test_it_does_not_open_elsewhere() -> None:
    with pytest.raises(SealBroken):
        unseal(seal("secret", CONTEXT), b"other|https://api.test/v1")


@pytest.mark.parametrize("position", [0, 1, 5, 17, -1])
def test_one_changed_bit_breaks_it(position: int) -> None:
    sealed = bytearray(seal("secret", CONTEXT))
    sealed[position] ^= 1
    with pytest.raises(SealBroken):
        unseal(bytes(sealed), CONTEXT)


@pytest.mark.parametrize("sealed", [b"", b"\x01", b"\x01" + bytes(4), bytes(40)])
def test_what_was_never_sealed_does_not_open(sealed: bytes) -> None:
    with pytest.raises(SealBroken):
        unseal(sealed, CONTEXT)


def test_an_older_key_still_opens_and_the_first_one_seals(settings: Settings) -> None:
    old = {"0000aaaa": base64.b64decode("A" * 43 + "=")}
    settings.ENCRYPTION_KEYS = old
    sealed = seal("secret", CONTEXT)
    settings.ENCRYPTION_KEYS = {"0000bbbb": bytes(range(32)), **old}
    assert unseal(sealed, CONTEXT) == "secret"
    assert seal("secret", CONTEXT)[1:5].hex() == "0000bbbb"
    settings.ENCRYPTION_KEYS = {"0000bbbb": bytes(range(32))}
    with pytest.raises(SealBroken):
        unseal(sealed, CONTEXT)
