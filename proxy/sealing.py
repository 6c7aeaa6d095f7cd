"""Secrets, and answers, at rest: AES-256-GCM, under keys that are not in the database.

A sealed secret opens only in the context it was sealed for (an upstream's tenant and address): one copied to
another row, or left on a row whose address somebody changed, does not.

    version (1 byte, 1) · key id (4 bytes) · nonce (12 bytes) · ciphertext and tag
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from proxy.models import Upstream

_VERSION = b"\x01"
_ID_BYTES = 4
_NONCE_BYTES = 12
_HEAD_BYTES = len(_VERSION) + _ID_BYTES


class SealBroken(Exception):
    """The secret cannot be opened: its key is gone, it was changed, or it belongs elsewhere."""


def seal(plaintext: str, context: bytes) -> bytes:
    """`plaintext` under the first of settings.ENCRYPTION_KEYS."""
    return seal_bytes(plaintext.encode(), context)


def seal_bytes(plaintext: bytes, context: bytes) -> bytes:
    """As `seal`, for what is no text."""
    key_id, key = next(iter(settings.ENCRYPTION_KEYS.items()))
    head, nonce = _VERSION + bytes.fromhex(key_id), os.urandom(_NONCE_BYTES)
    return head + nonce + AESGCM(key).encrypt(nonce, plaintext, head + context)


def unseal(sealed: bytes, context: bytes) -> str:
    """What was sealed. Raises SealBroken."""
    try:
        return unseal_bytes(sealed, context).decode()
    except UnicodeDecodeError:
        raise SealBroken("what was sealed is no text") from None


def unseal_bytes(sealed: bytes, context: bytes) -> bytes:
    """As `unseal`, for what is no text. Raises SealBroken."""
    head, rest = sealed[:_HEAD_BYTES], sealed[_HEAD_BYTES:]
    key = settings.ENCRYPTION_KEYS.get(head[len(_VERSION) :].hex())
    if key is None or not head.startswith(_VERSION):
        raise SealBroken("no such encryption key")
    try:
        return AESGCM(key).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], head + context)
    except (InvalidTag, ValueError):
        raise SealBroken("the sealed secret does not open here") from None


def upstream_context(upstream: Upstream) -> bytes:
    """What an upstream's key is bound to."""
    return f"{upstream.tenant_id or ''}|{upstream.base_url}".encode()
