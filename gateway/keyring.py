"""What the installation keeps from everyone: its secret key, and the keys that are derived from it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import secrets
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.environment import EnvironmentMistake


def kept_secret_key(folder: Path) -> str:
    """The key in `folder`/secret_key; made on the first start, readable by its owner alone.

    Written aside and linked into place, so that processes starting together agree on one key and
    none reads half of it.
    """
    path = folder / "secret_key"
    if not path.exists():
        descriptor, aside = tempfile.mkstemp(dir=folder)  # mode 0600
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(64))
        try:
            os.link(aside, path)
        except FileExistsError:
            pass  # another process was first: its key holds
        finally:
            Path(aside).unlink()
    return path.read_text().strip()


def derive(secret_key: str, label: str) -> bytes:
    """32 bytes that only `secret_key` and `label` together give (HKDF, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=label.encode()).derive(secret_key.encode())


def encryption_keys(given: list[str], secret_key: str) -> dict[str, bytes]:
    """Key id (8 hex digits) → 32 bytes. The first one seals, every one unseals.

    `given` are "id:base64" pairs. The key derived from the secret key comes last, so that what was
    sealed before keys were given can still be read.
    """
    keys = dict(_pair(word) for word in given)
    derived = derive(secret_key, "tollgate: encryption of upstream keys")
    keys.setdefault(hashlib.sha256(derived).hexdigest()[:8], derived)
    return keys


def _pair(word: str) -> tuple[str, bytes]:
    name, _, encoded = word.partition(":")
    try:
        key = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        key = b""
    if not re.fullmatch(r"[0-9a-f]{8}", name) or len(key) != 32:
        raise EnvironmentMistake(
            "ENCRYPTION_KEYS must be pairs parted by commas: 8 hex digits, a colon, 32 bytes in base64."
        )
    return name, key
