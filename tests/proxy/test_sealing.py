from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import sealing

CONTEXT = b"|https://api.example.test/v1"
OLD, NEW = ("00000001", b"o" * 32), ("a1b2c3d4", b"n" * 32)


@pytest.fixture(autouse=True)
def _keys(settings):
    settings.ENCRYPTION_KEYS = dict([NEW, OLD])


def test_it_opens_what_it_sealed():
    assert sealing.unseal(sealing.seal("sk-clé-🔑", CONTEXT), CONTEXT) == "sk-clé-🔑"


def test_it_hides_the_plaintext_and_never_repeats_itself():
    first, second = sealing.seal("sk-secret", CONTEXT), sealing.seal("sk-secret", CONTEXT)
    assert b"sk-secret" not in first
    assert first != second


def test_it_writes_version_key_id_nonce_and_ciphertext():
    sealed = sealing.seal("abc", CONTEXT)
    assert sealed[:5] == b"\x01\xa1\xb2\xc3\xd4"
    assert len(sealed) == 1 + 4 + 12 + 3 + 16


def test_it_refuses_another_context():
    sealed = sealing.seal("sk-secret", CONTEXT)
    with pytest.raises(sealing.SealBroken, match="another tenant or address"):
        sealing.unseal(sealed, b"|https://evil.example.test/v1")


def test_it_opens_what_an_older_key_sealed(settings):
    settings.ENCRYPTION_KEYS = dict([OLD])
    sealed = sealing.seal("sk-secret", CONTEXT)
    settings.ENCRYPTION_KEYS = dict([NEW, OLD])
    assert sealing.unseal(sealed, CONTEXT) == "sk-secret"


def test_it_names_the_key_that_is_missing(settings):
    sealed = sealing.seal("sk-secret", CONTEXT)
    settings.ENCRYPTION_KEYS = dict([OLD])
    with pytest.raises(sealing.SealBroken, match="a1b2c3d4"):
        sealing.unseal(sealed, CONTEXT)


@pytest.mark.parametrize("position", range(1 + 4 + 12 + 9 + 16))
def test_it_refuses_any_altered_byte(position):
    sealed = bytearray(sealing.seal("sk-secret", CONTEXT))
    sealed[position] ^= 1
    with pytest.raises(sealing.SealBroken):
        sealing.unseal(bytes(sealed), CONTEXT)


@given(st.binary(max_size=64))
def test_it_refuses_bytes_that_it_never_sealed(garbage):
    with pytest.raises(sealing.SealBroken):
        sealing.unseal(garbage, CONTEXT)


def test_it_never_says_the_secret_it_could_not_open():
    with pytest.raises(sealing.SealBroken) as caught:
        sealing.unseal(sealing.seal("sk-secret", CONTEXT), b"other")
    assert "sk-secret" not in repr(caught.value)


def test_it_binds_an_upstream_to_its_tenant_and_address():
    ours = SimpleNamespace(tenant_id=None, base_url="https://a.test/v1")
    theirs = SimpleNamespace(tenant_id="018f", base_url="https://a.test/v1")
    assert sealing.upstream_context(ours) == b"|https://a.test/v1"
    assert sealing.upstream_context(theirs) == b"018f|https://a.test/v1"
