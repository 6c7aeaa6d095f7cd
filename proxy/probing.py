"""Asks an upstream whether it answers, for an operator who wants to know; never on a call's behalf.

Nothing that is told repeats the upstream's address, what is sent there, or what it says.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from proxy.addresses import NotSendable
from proxy.discovery import FAILURES, TIMEOUT_SECONDS, LinkLocal, Unlisted, ask, names_in
from proxy.models import Upstream
from proxy.routing import Target, target_of
from proxy.sealing import SealBroken

DEMO = "demo"


@dataclass(frozen=True, slots=True)
class Probe:
    """What was found. `well`: it can be called, as far as that shows. `names`: the models that it lists."""

    reachable: bool
    well: bool
    message: str
    status: int | None = None
    milliseconds: int | None = None
    names: tuple[str, ...] = ()


def probe(upstream: Upstream) -> Probe:
    """Asks now, and waits for TIMEOUT_SECONDS at most: not to be called in a transaction, nor on a loop."""
    if upstream.dialect == Upstream.Dialect.DEMO:
        return Probe(True, True, "It is built in, and always answers.", names=(DEMO,))
    try:
        target = target_of(upstream)
    except (SealBroken, NotSendable):
        return Probe(False, False, "Its secrets cannot be opened: set them again.")
    return asyncio.run(_ask(target))


async def _ask(target: Target) -> Probe:
    """A server of OpenAI's dialect for its models. The others list none, and are only looked for."""
    lists = target.dialect == Upstream.Dialect.OPENAI
    began = time.perf_counter()
    try:
        status, body = await ask(target.base_url + ("/models" if lists else ""), dict(target.headers))
    except FAILURES as error:
        return Probe(False, False, _failure(error))
    milliseconds = round((time.perf_counter() - began) * 1000)
    if not lists:
        return _found(target, status, milliseconds)
    if status != httpx.codes.OK:
        return Probe(True, False, _refusal(target, status), status, milliseconds)
    try:
        names = names_in(body)
    except Unlisted:
        told = "It answers, but not with a list of models. Is the address an API's?"
        return Probe(True, False, told, status, milliseconds)
    models = "1 model" if len(names) == 1 else f"{len(names)} models"
    return Probe(True, True, f"It answers, and lists {models}.", status, milliseconds, names)


def _found(target: Target, status: int, milliseconds: int) -> Probe:
    """One that has nothing to be asked for: what it says of a GET tells whether somebody is there."""
    well = status < 500 and status not in (401, 403, 429) and not 300 <= status < 400
    told = "It answers. Its dialect has no list of models." if well else _refusal(target, status)
    return Probe(True, well, told, status, milliseconds)


def _refusal(target: Target, status: int) -> str:
    match status:
        case 401 | 403 if any(name == "authorization" for name, _ in target.headers):
            return "It answers, and refuses the key."
        case 401 | 403:
            return "It answers, and wants a key."
        case 404 | 405:
            return "It answers, and has no list of models there. Does the address lack /v1 at its end?"
        case 429:
            return "It answers, and takes no more requests for now."
    if 300 <= status < 400:
        return "It answers with a redirect, which is not followed: give the address that it leads to."
    if status >= 500:
        return f"It answers, and is in trouble: status {status}."
    return f"It answers with status {status}."


def _failure(error: Exception) -> str:
    chain = list(_causes(error))
    if isinstance(error, LinkLocal):
        return "Its address is link-local, and never called."
    if isinstance(error, Unlisted):
        return "It answers with more than a list of models could be."
    if any(isinstance(each, socket.gaierror) for each in chain):
        return "No such host is known."
    if any(isinstance(each, TimeoutError | httpx.TimeoutException) for each in chain):
        return f"It does not answer within {TIMEOUT_SECONDS:.0f} seconds."
    if any(isinstance(each, ssl.SSLError) for each in chain):
        return "There is no safe connection to it: its certificate is not trusted, or it speaks no TLS."
    if isinstance(error, httpx.InvalidURL | UnicodeError):
        return "Its address cannot be called."
    if isinstance(error, httpx.ConnectError | OSError):
        return "Nothing takes a connection there."
    return "Something answers there, and not as a web server does."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
