"""`/health`, `/health2`, `/log` and `/log_errors`, as "chatgpt-proxy" has them: one of them each ten seconds,
for whoever knows ACCESS_TOKEN."""

from __future__ import annotations

import hmac
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime
from html import escape

import msgspec
from django.conf import settings

from accounts import database, keys
from accounts.keys import Caller, InvalidCredential
from proxy.counts import HARMONY_TOKENS
from proxy.endpoints import chat
from proxy.endpoints.older_calls import CHAT_MODEL, INSTRUCTIONS, Plain
from proxy.errors import WrongMethod
from proxy.http import Reply, Request
from proxy.intake import NoCredential, header_credential
from proxy.recent import RECENT, Entry
from proxy.relay import Relay
from proxy.turns import Turn

SECONDS_BETWEEN = 10.0
DEFAULT_TENANT = "default"
_HTML = b"text/html; charset=utf-8"
# It is an operator's page: no scripts, nothing from elsewhere.
_SAFE = ((b"content-security-policy", b"default-src 'none'"), (b"cache-control", b"no-store"))

Page = Callable[[Relay, Request, Reply], Awaitable[None]]


class Clock:
    """When one of these pages was last let through, whichever it was."""

    def __init__(self) -> None:
        self._last: float | None = None

    def take(self, now: float) -> None:
        """Raises Plain within SECONDS_BETWEEN of the last time."""
        left = 0.0 if self._last is None else self._last + SECONDS_BETWEEN - now
        if left > 0:
            raise Plain(429, "Too Many Requests", headers=((b"retry-after", b"%d" % math.ceil(left)),))
        self._last = now


CLOCK = Clock()


async def answer(relay: Relay, path: str, request: Request, reply: Reply) -> None:
    """Raises WrongMethod; NoCredential without the token, whatever key there is; and what a call raises."""
    if request.method != "GET":
        raise WrongMethod(request.method, ("GET",))
    if not _has_token(request):
        raise NoCredential
    await PAGES[path](relay, request, reply)


async def health(relay: Relay, request: Request, reply: Reply) -> None:
    """A real chat, through everything that a chat goes through."""
    said = [
        {"role": "system", "content": INSTRUCTIONS},
        {"role": "user", "content": "Who are you?"},
    ]
    await _chat(relay, request, reply, said)


async def health2(relay: Relay, request: Request, reply: Reply) -> None:
    """Another one, answered as it is."""
    await _chat(relay, request, reply, [{"role": "user", "content": "What is the meaning of life?"}])


async def _chat(relay: Relay, request: Request, reply: Reply, said: list[dict[str, str]]) -> None:
    caller = await _caller(relay, request)
    CLOCK.take(time.monotonic())
    body = {"model": settings.DEFAULT_MODEL or CHAT_MODEL, "messages": said, "max_tokens": 1000}
    call, _ = chat.parse_chat(msgspec.json.encode(body), "application/json")
    await relay.perform(Turn(call), caller, request, reply)


async def _caller(relay: Relay, request: Request) -> Caller:
    """Who pays: whoever brings a key, else the first tenant."""
    if header_credential(request) is not None:
        return await relay.caller(request)
    try:
        return await database.run(keys.of_tenant, DEFAULT_TENANT)
    except InvalidCredential:
        raise NoCredential from None


def _has_token(request: Request) -> bool:
    given = request.query("access_token").encode()
    return settings.ACCESS_TOKEN is not None and hmac.compare_digest(given, settings.ACCESS_TOKEN.encode())


async def log(relay: Relay, request: Request, reply: Reply) -> None:
    """Numbers of this process, and its last calls, the newest first."""
    await _show(relay, request, reply, "Calls", RECENT.calls)


async def log_errors(relay: Relay, request: Request, reply: Reply) -> None:
    """The same with the last calls that failed."""
    await _show(relay, request, reply, "Calls that failed", RECENT.errors)


async def _show(relay: Relay, request: Request, reply: Reply, title: str, entries: Iterable[Entry]) -> None:
    CLOCK.take(time.monotonic())
    RECENT.forget(datetime.now(UTC))
    lines = [*_metrics(relay.running.most_at_once), "", f"{title}:"]
    for entry in reversed([*entries]):
        lines += _lines(entry)
    text = "\n".join(map(escape, lines))
    page = f"<!doctype html><html lang=en><title>{title}</title><pre>{text}</pre></html>\n"
    await reply.whole(200, _HTML, page.encode(), _SAFE)


def _metrics(most_at_once: int) -> list[str]:
    taken_out = ", ".join(f"{name} {number}" for name, number in HARMONY_TOKENS.by_label.items())
    average = RECENT.total_milliseconds / RECENT.count if RECENT.count else 0.0
    return [
        f"request count: {RECENT.count}",
        f"total request time: {RECENT.total_milliseconds / 1000:.3f} s",
        f"average request time: {average / 1000:.3f} s",
        f"max request time: {RECENT.longest_milliseconds / 1000:.3f} s",
        f"max parallel requests: {most_at_once}",
        f"max prompt tokens: {RECENT.most_tokens.get('input_tokens', 0)}",
        f"max cached tokens: {RECENT.most_tokens.get('cached_input_tokens', 0)}",
        f"max completion tokens: {RECENT.most_tokens.get('output_tokens', 0)}",
        f"error count: {RECENT.error_count}",
        f"control tokens taken out, by upstream: {taken_out or 0}",
    ]


def _lines(entry: Entry) -> Iterator[str]:
    """A call in a line; and, where it was heard, what was asked and answered, in one line each."""
    told = " ".join(f"{name}={value}" for name, value in entry.fields.items() if value not in (None, ""))
    yield f"{entry.at.isoformat(timespec='milliseconds')} {told}"
    if entry.said is not None:
        yield f"  asked: {entry.said.asked!r}"
        yield f"  answered: {entry.said.answered!r}"


PAGES: dict[str, Page] = {
    "/health": health,
    "/health2": health2,
    "/log": log,
    "/log_errors": log_errors,
}
