"""What an operator may write as the address of an upstream, and to be sent there with each call."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_HEADER_VALUE = re.compile(r"[ -~]{0,4000}")
_COOKIE_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]{0,4000}")  # RFC 6265, section 4.1.1
# What the gateway writes itself, or the connection.
_NOT_OPERATORS = frozenset(
    {"host", "content-type", "content-length", "accept-encoding", "transfer-encoding", "connection"}
    | {"cookie", "upgrade", "te", "trailer", "expect"}
)


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
    if not parts.hostname.isascii():
        raise InvalidAddress("must name its server in ASCII, an international name as xn--…")
    if is_link_local(parts.hostname):
        raise InvalidAddress("must not be a link-local address")
    return text.rstrip("/")


def check_header(text: str) -> str:
    """`text`, where it can be the word of a header: a key, an account's name. Raises `NotSendable`."""
    if not re.fullmatch(r"[!-~]+", text):
        raise NotSendable("must be printable ASCII characters without spaces")
    return text


def headers_in(text: str) -> tuple[tuple[str, str], ...]:
    """The headers that an operator adds, `Name: value` a line. Raises `NotSendable`."""
    headers = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, value = line.partition(":")
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value.strip()):
            raise NotSendable("must be lines such as 'X-Name: value', in printable ASCII")
        if name.lower() in _NOT_OPERATORS:
            raise NotSendable(f"must not set {name.lower()}")
        headers.append((name.lower(), value.strip()))
    return tuple(headers)


def cookies_in(text: str) -> tuple[tuple[str, str], ...]:
    """The cookies that an operator adds, `name=value` a line. Raises `NotSendable`."""
    cookies = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, value = line.partition("=")
        if not _HEADER_NAME.fullmatch(name) or not _COOKIE_VALUE.fullmatch(value):
            raise NotSendable("must be lines such as 'name=value', in printable ASCII without ; and ,")
        cookies.append((name, value))
    return tuple(cookies)


def is_link_local(host: str) -> bool:
    """Whether `host` is a link-local IP address, or an IPv6 one around it; a name is not."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_link_local)
