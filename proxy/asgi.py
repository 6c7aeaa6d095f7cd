"""START HERE: the relay's route table, one line a path.

The relay is raw ASGI beside Django (docs/decisions/0001). Every path answers with and without `/v1`, and with
a slash at its end; never a redirect. What a call goes through is proxy/relay.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import suppress
from uuid import UUID

from django.conf import settings

from accounts import changes, database
from accounts.ids import uuid7
from accounts.keys import KeyCache
from accounts.limits import Demands, LimiterUnavailable, State
from accounts.redis_limits import RedisLimiter
from proxy import background_turn, chat_turn, compact_turn, errors, response_turn
from proxy.background import Runner
from proxy.endpoints import (
    audio,
    chat,
    conversations,
    embeddings,
    limits,
    models,
    older_paths,
    responses,
    stored_completions,
    stored_responses,
)
from proxy.endpoints.endpoint import Endpoint, audio_endpoint
from proxy.endpoints.visit import NO_METHODS, Paths, visit
from proxy.event_log import EventLog, MemoryEventLog
from proxy.following import Following
from proxy.heartbeat import Heartbeat, count_living
from proxy.http import MAX_HEADER_BYTES, ClientLeft, Header, Receive, Reply, Request, Scope, Send
from proxy.intake import Held
from proxy.ledger import Ledger, spool_file
from proxy.limiting import Limits
from proxy.models import Worker
from proxy.older_replies import FORBIDDEN
from proxy.redis_event_log import RedisEventLog
from proxy.relay import Relay
from proxy.routing import Routing
from proxy.upstream import Upstreams

POSTS: dict[str, Endpoint] = {
    "/chat/completions": Endpoint(chat.parse_chat, take=chat_turn.take),
    "/completions": Endpoint(chat.parse_completions),
    "/embeddings": Endpoint(embeddings.parse),
    "/responses": Endpoint(responses.parse, take=background_turn.take),
    "/responses/input_tokens": Endpoint(responses.parse_count, take=response_turn.take_count),
    "/responses/compact": Endpoint(responses.parse_compact, take=compact_turn.take),
    "/audio/transcriptions": audio_endpoint(audio.parse_transcription),
    "/audio/translations": audio_endpoint(audio.parse_translation),
}
# What is stored; each {…} stands for an id.
STORED = Paths(
    {
        "/responses/{id}": {"GET": stored_responses.retrieve, "DELETE": stored_responses.delete},
        "/responses/{id}/cancel": {"POST": stored_responses.cancel},
        "/responses/{id}/input_items": {"GET": stored_responses.list_input_items},
        "/conversations": {"POST": conversations.create},
        "/conversations/{id}": {
            "GET": conversations.retrieve,
            "POST": conversations.update,
            "DELETE": conversations.delete,
        },
        "/conversations/{id}/items": {"GET": conversations.list_items, "POST": conversations.add_items},
        "/conversations/{id}/items/{item_id}": {
            "GET": conversations.retrieve_item,
            "DELETE": conversations.delete_item,
        },
        "/chat/completions": {"GET": stored_completions.list_completions},
        "/chat/completions/{id}": {
            "GET": stored_completions.retrieve,
            "POST": stored_completions.update,
            "DELETE": stored_completions.delete,
        },
        "/chat/completions/{id}/messages": {"GET": stored_completions.list_messages},
    }
)
MODELS = "/models"
# How long a stop waits for calls that were told to end.
SETTLE_SECONDS = 5.0
STATES_SECONDS = 0.5
LIMITS = "/limits"

logger = logging.getLogger(__name__)


def route(path: str) -> str:
    """The path without `/v1` and without a slash at its end."""
    path = path.removesuffix("/")
    return path[3:] if path.startswith("/v1/") else path


def claims(path: str) -> bool:
    """Whether the relay answers this path; else it is Django's."""
    bare = route(path)
    if bare in POSTS or bare in (MODELS, LIMITS) or bare.startswith(MODELS + "/"):
        return True
    return older_paths.reply_at(bare) is not None or STORED.find(bare)[0] is not NO_METHODS


class Plane:
    """The relay of this process, from `start` to `stop`. `kind` as in Worker."""

    relay: Relay
    heartbeat: Heartbeat
    runner: Runner
    tasks: list[asyncio.Task[None]]
    loop: asyncio.AbstractEventLoop | None = None  # while it runs

    def __init__(self, kind: str) -> None:
        self.kind = kind

    async def start(self) -> None:
        """Makes what calls need, on the running loop, and begins the heartbeat."""
        worker_id: UUID = uuid7()
        keys, routing, limiting = KeyCache(), Routing(), await _limits()
        for cached in (keys, routing.table, limiting.rules):
            changes.subscribe(cached.clear)
        ledger = Ledger(spool_file(settings.DATA_DIR, worker_id))
        self.heartbeat = Heartbeat(worker_id, self.kind, ledger, routing.report)
        log = await _event_log()
        following = Following(log, lambda: self.heartbeat.steady)
        self.relay = Relay(keys, routing, Upstreams(), limiting, ledger, Held(), log, following, worker_id)
        self.runner = Runner(self.relay, gives_way=self.kind == Worker.WEB)
        await self.heartbeat.begin()
        jobs = {"heartbeat": self.heartbeat.run()}
        self.tasks = [asyncio.create_task(job, name=name) for name, job in jobs.items()]
        self.loop = asyncio.get_running_loop()

    def states(self, demands: Demands) -> list[State] | None:
        """How limits stand, for whoever asks on a thread that is not the loop's. None: nobody can tell."""
        if self.loop is None:
            return None
        asked = asyncio.run_coroutine_threadsafe(self.relay.limits.states(demands), self.loop)
        try:
            return asked.result(STATES_SECONDS)
        except (TimeoutError, LimiterUnavailable):
            asked.cancel()
            return None

    def wake(self) -> None:
        """A response waits to be made."""
        if hasattr(self, "relay"):
            self.relay.queued.set()

    async def stop(self) -> None:
        """Lets calls that were told to end be settled, and writes what is pending; from here on this worker
        has nothing open."""
        self.loop = None
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await self.relay.running.ended()
        for task in self.tasks:
            task.cancel()
        await self.relay.ledger.close()
        await self.relay.limits.close()
        await self.heartbeat.end()
        await self.relay.upstreams.close()
        await self.relay.counter.close()
        await self.relay.log.close()


async def _limits() -> Limits:
    if not settings.REDIS_URL:
        return Limits(None, count_living)
    installation = await database.run(changes.Installation.current)
    return Limits(RedisLimiter(settings.REDIS_URL, str(installation.id)), count_living)


async def _event_log() -> EventLog:
    if not settings.REDIS_URL:
        return MemoryEventLog()
    installation = await database.run(changes.Installation.current)
    return RedisEventLog(settings.REDIS_URL, str(installation.id))


PLANE = Plane(Worker.WEB)
start = PLANE.start
stop = PLANE.stop


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers one request on a path that `claims` is true of."""
    request = Request(scope, receive, settings.TRUSTED_PROXIES)
    bare = route(request.path)
    reply = (older_paths.reply_at(bare) or Reply)(request, send, CORS)
    await told(_answer(bare, request, reply), request, reply)


async def told(answer: Awaitable[None], request: Request, reply: Reply) -> None:
    """Awaits the answer; the client is told what went wrong before a call was admitted."""
    try:
        await answer
    except ClientLeft:
        return
    except Exception as error:
        await refuse(error, request, reply)


async def _answer(bare: str, request: Request, reply: Reply) -> None:
    if request.method == "OPTIONS":
        wanted = request.headers.get(b"access-control-request-headers", b"*, authorization")
        allowed = (b"access-control-allow-headers", wanted)
        return await reply.whole(204, b"text/plain", b"", (*_PREFLIGHT, allowed))
    if request.header_bytes > MAX_HEADER_BYTES:
        raise errors.HeadersTooLarge
    endpoint = POSTS.get(bare)
    if endpoint is not None and request.method == "POST":
        return await PLANE.relay.answer(endpoint, request, reply)
    if bare == LIMITS:
        return await limits.answer(PLANE.relay, request, reply)
    if bare == MODELS or bare.startswith(MODELS + "/"):
        return await models.answer(PLANE.relay, bare.removeprefix(MODELS).removeprefix("/"), request, reply)
    if older_paths.reply_at(bare) is not None:
        return await older_paths.answer(PLANE.relay, bare, request, reply)
    methods, ids = STORED.find(bare)
    if endpoint is not None and ids:  # /responses/compact is nobody's id
        methods = NO_METHODS
    if request.method not in methods:
        raise errors.WrongMethod(request.method, (*methods, "POST") if endpoint else tuple(methods))
    await visit(PLANE.relay, methods[request.method], ids, request, reply)


async def refuse(error: Exception, request: Request, reply: Reply) -> None:
    """What went wrong before the call was admitted. The outer edge: a mistake of ours is logged."""
    refusal = errors.refusal(error)
    fields = {"request_id": str(request.id), "status_code": refusal.status, "error_code": refusal.code}
    logger.info("refused", extra={"fields": fields})
    if reply.status is not None:
        return
    if older_paths.is_older_embeddings(error, request):
        await reply.whole(*FORBIDDEN)
    else:
        await reply.refuse(refusal)


_EXPOSED = (
    *("x-request-id", "openai-processing-ms", "retry-after", "retry-after-ms", "x-should-retry"),
    *(
        f"x-ratelimit-{what}-{of}"
        for of in ("requests", "tokens")
        for what in ("limit", "remaining", "reset")
    ),
    *("x-tollgate-output-cap", "x-tollgate-idempotent-replay", "x-tollgate-original-request-id"),
    *("x-gptoss-thread-id", "x-gptoss-user-id"),
)
CORS: tuple[Header, ...] = (
    (b"access-control-allow-origin", settings.CORS_ORIGIN.encode()),
    (b"access-control-expose-headers", ", ".join(_EXPOSED).encode()),
)
_PREFLIGHT: tuple[Header, ...] = (
    (b"access-control-allow-methods", b"GET, POST, DELETE, OPTIONS"),
    (b"access-control-max-age", b"86400"),
)
