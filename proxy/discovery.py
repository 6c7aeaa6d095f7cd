"""The names of models that an upstream lists itself (`GET {base_url}/models`).

A list is kept for five minutes, and beyond that for as long as a newer one cannot be had. Callers that ask
for the same list at the same time wait for one request, whichever of them leaves meanwhile. Whatever goes
wrong is logged and answered with what is known: nobody's call fails because of it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

import httpx
import msgspec

from proxy.addresses import is_link_local

FRESH_SECONDS = 300.0
RETRY_SECONDS = 10.0
TIMEOUT_SECONDS = 3.0
MAX_BYTES = 2 * 1024 * 1024
MAX_NAMES = 5_000
MAX_NAME_LENGTH = 200
_MAX_LISTS = 1_000
_PATH_STARTS = ("/", ".", "~")
_FILE_ENDS = (".gguf", ".bin", ".safetensors", ".pt")

logger = logging.getLogger(__name__)

Key = tuple[UUID, str]


class Unlisted(Exception):
    """The upstream did not answer with a list of models; the message says what instead."""


class LinkLocal(Unlisted):
    """The upstream's address is one that is never called."""

    def __init__(self) -> None:
        super().__init__("its address is link-local")


# UnicodeError: a host or a header that cannot be written as bytes.
FAILURES = (Unlisted, httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError)


class _Listing(msgspec.Struct):
    data: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    names: tuple[str, ...]
    until: float


class Catalogue:
    """What upstreams list, as far as is known; `clock` tells seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[Key, _Known] = {}
        self._asking: dict[Key, asyncio.Task[_Known]] = {}

    async def names(self, upstream_id: UUID, base_url: str, headers: Mapping[str, str]) -> list[str]:
        """The upstream's own names for its models; none when they were never to be had."""
        key = (upstream_id, base_url)
        known = self._known.get(key)
        if known is None or known.until <= self._clock():
            known = await asyncio.shield(self._ask_once(key, headers))
        return list(known.names)

    def _ask_once(self, key: Key, headers: Mapping[str, str]) -> asyncio.Task[_Known]:
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._ask(key, headers))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return task

    async def _ask(self, key: Key, headers: Mapping[str, str]) -> _Known:
        upstream_id, base_url = key
        try:
            names, keep_seconds = await _fetch(base_url, headers), FRESH_SECONDS
        except FAILURES as error:
            reason = str(error) if isinstance(error, Unlisted) else type(error).__name__
            logger.warning("Upstream %s did not list its models: %s.", upstream_id, reason)
            stale = self._known.get(key)
            names, keep_seconds = stale.names if stale else (), RETRY_SECONDS
        known = self._known[key] = _Known(names, self._clock() + keep_seconds)
        while len(self._known) > _MAX_LISTS:
            del self._known[next(iter(self._known))]
        return known


_catalogue = Catalogue()


async def discover(upstream_id: UUID, base_url: str, headers: Mapping[str, str]) -> list[str]:
    """The upstream's own names for its models; [] when they were never to be had. Raises nothing."""
    return await _catalogue.names(upstream_id, base_url, headers)


async def _fetch(base_url: str, headers: Mapping[str, str]) -> tuple[str, ...]:
    """Raises FAILURES."""
    status, body = await ask(f"{base_url}/models", headers)
    if status != httpx.codes.OK:
        raise Unlisted(f"status {status}")
    return names_in(body)


async def ask(address: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """The status that the address answers with, and the body where it is 200. Raises FAILURES."""
    url = httpx.URL(address)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await _check_host(url.host)
        # Not compressed: a small answer could unpack to a very large one.
        sent = {**headers, "accept": "application/json", "accept-encoding": "identity"}
        async with (
            httpx.AsyncClient(verify=_certificates(), trust_env=False, timeout=TIMEOUT_SECONDS) as client,
            client.stream("GET", url, headers=sent) as response,
        ):
            body = await _body(response) if response.status_code == httpx.codes.OK else b""
            return response.status_code, body


async def _check_host(host: str) -> None:
    """Clouds hand out credentials at link-local addresses; what a name stands for counts too."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None)
    if is_link_local(host) or any(is_link_local(str(address[0])) for *_, address in found):
        raise LinkLocal


@cache
def _certificates() -> ssl.SSLContext:
    """The machine's, as for calls. Reading them takes long enough to do it once."""
    return ssl.create_default_context()


async def _body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > MAX_BYTES:
            raise Unlisted(f"more than {MAX_BYTES} bytes")
    return bytes(body)


def names_in(body: bytes) -> tuple[str, ...]:
    """The names in a `/models` answer that can be ours, in its order, each once. Raises Unlisted."""
    try:
        rows = msgspec.json.decode(body, type=_Listing).data or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unlisted("not a list of models") from None
    ids = (row.get("id") for row in rows if isinstance(row, dict))
    names = dict.fromkeys(id_ for id_ in ids if isinstance(id_, str) and is_name(id_))
    return tuple(names)[:MAX_NAMES]


def is_name(text: str) -> bool:
    """Whether it can be a model's name: short, printable, and not a path on somebody's disk."""
    if not 0 < len(text) <= MAX_NAME_LENGTH or not text.isprintable():
        return False
    looks_like_path = text.startswith(_PATH_STARTS) or "\\" in text or ".." in text
    return not looks_like_path and not text.lower().endswith(_FILE_ENDS)
