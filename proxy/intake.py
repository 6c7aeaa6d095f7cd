"""A request up to the point where it is known who calls: its one credential, its bounded body.

A credential in a header or the query is checked before a byte of the body is read. Only where there is none
the body is read first, for it may hold the `security_key` of the older paths.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from proxy.http import Request

MAX_PROCESS_BYTES = 512 * 1024 * 1024
MAX_UNAUTHENTICATED_BYTES = 32 * 1024 * 1024

# A body without this word carries no credential, whatever its type.
BODY_CREDENTIAL = b"security_key"

_CREDENTIAL_HEADERS = (b"x-api-key", b"x-security-key")


class NoCredential(Exception):
    """The request carries no credential."""


class TwoCredentials(Exception):
    """The request carries two credentials that differ."""


class TooMuchAtOnce(Exception):
    """Bodies being held pass MAX_PROCESS_BYTES, or one address's without a credential its share."""


def header_credential(request: Request) -> str | None:
    """The one credential outside the body, None when there is none. Raises TwoCredentials."""
    found = {value for value in _offered(request) if value}
    if len(found) > 1:
        raise TwoCredentials
    return found.pop() if found else None


def _offered(request: Request) -> Iterator[str]:
    for name, value in request.header_list:
        if name == b"authorization":
            scheme, _, token = value.decode("latin-1").partition(" ")
            yield token.strip() if scheme.lower() == "bearer" else value.decode("latin-1")
        elif name in _CREDENTIAL_HEADERS:
            yield value.decode("latin-1").strip()
    yield from request.query_values("security_key")


def is_bearer(request: Request, credential: str) -> bool:
    """Whether the credential came as a bearer, and not as a security key."""
    given = request.header(b"authorization").partition(" ")
    return given[0].lower() == "bearer" and given[2].strip() == credential


def one_credential(outside: str | None, inside: str | None) -> str | None:
    """The credential of a request whose body was read, None when it has none. Raises TwoCredentials."""
    if outside and inside and outside != inside:
        raise TwoCredentials
    return outside or inside


@dataclass(slots=True)
class Holding:
    """One request's share of what is held."""

    held: Held
    address: str
    size: int = 0

    def grow(self, size: int) -> None:
        """Its body has come to so many bytes. Raises TooMuchAtOnce."""
        if size > self.size:
            self.held.take(self.address, size - self.size)
            self.size = size

    def release(self) -> None:
        """It is in memory no more."""
        self.held.give_back(self.address, self.size)
        self.size = 0


class Held:
    """How many bytes of bodies this process holds, and each address without a credential."""

    def __init__(self) -> None:
        self._total = 0
        self._unauthenticated: dict[str, int] = {}

    @contextmanager
    def hold(self, request: Request, limit: int, *, authenticated: bool) -> Iterator[Holding]:
        """While the body is in memory. One of unknown length counts as it comes. Raises TooMuchAtOnce."""
        declared = request.headers.get(b"content-length", b"")
        holding = Holding(self, "" if authenticated else request.client_ip)
        holding.grow(min(int(declared), limit) if declared.isdigit() else 0)
        try:
            yield holding
        finally:
            holding.release()

    def take(self, address: str, size: int) -> None:
        """So many bytes more. Raises TooMuchAtOnce."""
        if self._total + size > MAX_PROCESS_BYTES:
            raise TooMuchAtOnce
        if address and self._unauthenticated.get(address, 0) + size > MAX_UNAUTHENTICATED_BYTES:
            raise TooMuchAtOnce
        self._add(address, size)

    def give_back(self, address: str, size: int) -> None:
        """So many bytes that were taken are held no more."""
        self._add(address, -size)

    def _add(self, address: str, size: int) -> None:
        self._total += size
        if not address:
            return
        held = self._unauthenticated.get(address, 0) + size
        if held > 0:
            self._unauthenticated[address] = held
        else:
            self._unauthenticated.pop(address, None)
