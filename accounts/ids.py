"""Identifiers that sort by the time they were made."""

import os
import time
import uuid

_VERSION_7 = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_BITS = ~((0xF << 76) | (0b11 << 62))


def uuid7() -> uuid.UUID:
    """A UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    return uuid.UUID(int=(milliseconds << 80) | (random & _RANDOM_BITS) | _VERSION_7 | _VARIANT)


def created_at(id_: uuid.UUID) -> int:
    """When a UUIDv7 was made, in Unix seconds."""
    return (id_.int >> 80) // 1000
