"""What an operator may write as the address of an upstream, and to be sent there with each call."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit


class NotSendable(ValueError):
    """The sentence says what is wrong with it, and never repeats it: it may be a key."""


class InvalidAddress(ValueError):
    """The sentence says what is wrong with it, and never repeats it: it may bear a password."""


def check_base_url(text: str) -> str:
    """`text` without a slash at its end, such as https://api.openai.com/v1. Raises `InvalidAddress`.

    Loopback and private addresses are an operator's business. Link-local ones are refused: clouds hand
    out credentials there. A name that resolves to one is refused when the connection is made.
    """
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018  # raises when it is not a number up to 65535
    except ValueError:
        raise InvalidAddress("is not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidAddress("must be a URL such as https://api.openai.com/v1")
    if parts.username is not None or parts.query or parts.fragment:
        raise InvalidAddress("must be a URL without user, query or fragment; the key has its own field")
    if any(character.isspace() or not character.isprintable() for character in text) or len(text) > 500:
        raise InvalidAddress("must be a URL of at most 500 characters, without spaces")
    if is_link_local(parts.hostname):
        raise InvalidAddress("must not be a link-local address")
    return text.rstrip("/")


def check_header(text: str) -> str:
    """`text`, where it can be the word of a header: a key, an account's name. Raises `NotSendable`."""
    if not re.fullmatch(r"[!-~]+", text):
        raise NotSendable("must be printable ASCII characters without spaces")
    return text


def is_link_local(host: str) -> bool:
    """Whether `host` is a link-local IP address, or an IPv6 one around it; a name is not."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_link_local)
