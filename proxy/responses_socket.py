"""Responses over WebSocket: turn after turn on one connection, each a call like any other.

Invariant: one turn is under way at a time, in a task of its own; further ones wait in order. A connection
ends for one `Goodbye`, whichever comes first:
  - its client left                        the turn under way is cancelled, as over HTTP
  - its key was revoked, or expired        the same, and the client is told
  - it is open for LIFETIME_SECONDS        the turn under way ends first
  - the server stops                       the same, within DRAIN_SECONDS
What waits then is not answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from channels.consumer import get_handler_name
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from accounts import changes
from accounts.database import DatabaseUnavailable
from accounts.errors import ApiError
from accounts.keys import Caller, InvalidCredential
from proxy import errors, frames
from proxy.asgi import CORS, PLANE, told
from proxy.call import Call, InvalidBody
from proxy.endpoints import responses
from proxy.endpoints.endpoint import Endpoint
from proxy.event_log import EventLog
from proxy.http import MAX_HEADER_BYTES, SEND_SECONDS, Header, Message, Receive, Reply, Request, Scope, Send
from proxy.intake import NoCredential, TooMuchAtOnce, header_credential, one_credential
from proxy.memory import Memory
from proxy.response_turn import take_locally
from proxy.turns import Turn
from proxy.warm_up import warm_up

logger = logging.getLogger(__name__)

LIFETIME_SECONDS = 3600.0
MAX_WAITING = 16
# How long a key that expired may keep a connection on which nothing happens.
RECHECK_SECONDS = 60.0
RETRY_SECONDS = 1.0

# Close codes (IANA, WebSocket Close Code Number Registry): the SDKs connect again after these, and after no
# code of the private range, where a refusal is 4000 and its HTTP status.
GOING_AWAY, INTERNAL_ERROR, SERVICE_RESTART = 1001, 1011, 1012
_PRIVATE = 4000

# A browser cannot send headers; OpenAI's Realtime API takes its key as a subprotocol of this form, and the
# client has to offer another one beside it that the server can agree to (OpenAI, "Realtime API with
# WebSocket", 2026-11).
_KEY_PROTOCOL = "openai-insecure-api-key."
_PROTOCOL = "responses"

# Codex sends members of a request over HTTP in its events, and says in this header that it does
# (openai/codex, codex-rs/codex-api/src/common.rs, 2026-11).
_BETA_HEADER, _BETA = b"openai-beta", b"responses_websockets="
_OF_BETA = ("stream", "stream_options")

# Headers of a handshake that would say something of each turn.
_OF_ONE_REQUEST = frozenset({b"content-length", b"idempotency-key"})


@dataclass(frozen=True, slots=True)
class Goodbye:
    """Why a connection is closed: the code, and the error that its client gets before."""

    code: int
    error: ApiError | None = None


_LEFT = Goodbye(0)
_RESTARTING = Goodbye(SERVICE_RESTART)
_BROKEN = Goodbye(INTERNAL_ERROR)
_TOO_OLD = Goodbye(
    GOING_AWAY,
    ApiError(
        400,
        "A connection lasts 60 minutes; open a new one.",
        code="websocket_connection_limit_reached",
    ),
)


def denial(scope: Scope, send: Send) -> Send:
    """Sends an HTTP answer in place of a WebSocket; where the server has no way to, it only refuses one."""

    async def pass_on(message: Message) -> None:
        if "websocket.http.response" in (scope.get("extensions") or {}):
            await send({**message, "type": f"websocket.{message['type']}"})
        elif message["type"] == "http.response.start":
            await send({"type": "websocket.close", "code": _PRIVATE + message["status"]})

    return pass_on


async def no_such_socket(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuses a WebSocket on a path that has none."""
    await receive()  # websocket.connect
    request = Request({**scope, "method": "GET"}, receive)
    refusal = ApiError(404, "There is no WebSocket here.", code="not_found")
    await Reply(request, denial(scope, send), CORS).whole(404, b"application/json", refusal.body())


class ResponsesSocket(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels has no types
    """One connection, from its handshake on."""

    def __init__(self, lifetime_seconds: float = LIFETIME_SECONDS) -> None:
        super().__init__()
        self._lifetime_seconds = lifetime_seconds
        self._session: Session | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Cancelled, it is the end of the time that the server has to stop: that is told, not raised."""
        try:
            await super().__call__(scope, receive, send)
        except asyncio.CancelledError:
            if self._session is not None:
                await self._session.break_off()

    async def dispatch(self, message: Message) -> None:
        """Without a visit to a thread before each message: nothing here uses a database connection."""
        await getattr(self, get_handler_name(message))(message)

    async def connect(self) -> None:
        """Accepts whom a key lets in; anybody else gets an HTTP answer."""
        request = Request({**self.scope, "method": "GET"}, _never, settings.TRUSTED_PROXIES)
        reply = Reply(request, denial(self.scope, self.base_send), CORS)
        await told(self._open(request), request, reply)

    async def _open(self, request: Request) -> None:
        if request.header_bytes > MAX_HEADER_BYTES:
            raise errors.HeadersTooLarge
        _check_origin(request.header(b"origin"))
        offered = self.scope["subprotocols"]
        credential = header_credential(request)
        for protocol in offered:
            if protocol.startswith(_KEY_PROTOCOL):
                credential = one_credential(credential, protocol.removeprefix(_KEY_PROTOCOL))
        caller = await PLANE.relay.whose(credential, request)
        if caller.api_key_id is None and caller.security_key_id is None:
            credential = None  # It was none, whatever was sent: the tenant is public.
        session = Session(self, credential)
        with suppress(OSError):  # the client did not wait for it
            await self.accept(_PROTOCOL if _PROTOCOL in offered else None)
            session.begin(self._lifetime_seconds)
            self._session = session

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Called with each message, one after the other."""
        if self._session is not None:
            await self._session.take(text_data)

    async def disconnect(self, code: int) -> None:
        """The client left, or the server stops. Returns when the turn under way has ended."""
        if self._session is not None:
            await self._session.close(code)


def _check_origin(origin: str) -> None:
    """CORS does not apply to WebSockets: any page may ask for one, and its browser says which."""
    if origin and settings.CORS_ORIGIN not in ("*", origin):
        raise ApiError(403, "Pages of this origin may not connect.", code="origin_not_allowed")


async def _never() -> Message:
    """In place of a body that there is not."""
    never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    return await never


class _Outlet:
    """Where the answer of a turn goes: its events become messages, a refusal becomes one."""

    def __init__(self, say: Callable[[str], Awaitable[None]]) -> None:
        self.status = 0
        self.ended = False
        self._headers: list[Header] = []
        self._say = say

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self._headers = message["status"], message["headers"]
            return
        body = message["body"]
        if self.status != 200:
            await self._say(frames.error_event(self.status, body, self._headers))
        else:
            for said in frames.messages(body):
                await self._say(said)
        self.ended = not message.get("more_body", False)


class Session:
    """An open connection: the turns that it takes, until it is over."""

    def __init__(self, socket: ResponsesSocket, credential: str | None) -> None:
        self._socket = socket
        self._credential = credential
        self._scope = _turn_scope(socket.scope, credential)
        self._endpoint = Endpoint(self._parse, take=self._take)
        self._tolerated = _OF_BETA if _is_beta(socket.scope) else ()
        self._memory = Memory(PLANE.relay.held)
        self._waiting: deque[bytes] = deque()
        self._stirred = asyncio.Event()
        self._left = asyncio.Event()
        self._goodbye: Goodbye | None = None
        self._turn_id: UUID | None = None

    async def check_key(self) -> Caller:
        """Who calls. Raises InvalidCredential, NoCredential, DatabaseUnavailable."""
        if self._credential is None:
            return await PLANE.relay.without_credential()
        return await PLANE.relay.keys.authenticate(self._credential)

    def begin(self, lifetime_seconds: float) -> None:
        """It is open: takes turns from now on."""
        self._serving = asyncio.create_task(self._serve(lifetime_seconds))

    async def take(self, event: str | None) -> None:
        """One more event of the client's, answered when those before it are; None for one that is no text."""
        if self._goodbye is not None:
            return
        try:
            if event is None:
                raise InvalidBody("An event is a text message.")
            body = event.encode()
            if frames.is_notice(body):
                return
            if len(self._waiting) == MAX_WAITING:
                message = (
                    f"{MAX_WAITING} events wait for the response under way; send more when it has ended."
                )
                raise ApiError(429, message, code="too_many_events", headers=((b"retry-after", b"1"),))
            PLANE.relay.held.take("", len(body))
        except (ApiError, InvalidBody, TooMuchAtOnce) as error:
            refusal = errors.to_api_error(error)
            await self._say(frames.error_event(refusal.status, refusal.body(), refusal.headers))
        else:
            self._waiting.append(body)
            self._stirred.set()

    async def close(self, code: int) -> None:
        """Ends it when its turn has ended where the server stops, else at once."""
        if code == SERVICE_RESTART:
            self._end(_RESTARTING)
        else:
            self._leave(_LEFT)
        await asyncio.wait([self._serving])

    async def break_off(self) -> None:
        """Ends it now: its client hears that the server stops."""
        self._serving.cancel()
        await asyncio.wait([self._serving])

    def _end(self, goodbye: Goodbye) -> None:
        """What comes first is what counts."""
        self._goodbye = self._goodbye or goodbye
        self._stirred.set()

    def _leave(self, goodbye: Goodbye) -> None:
        """As `_end`, without waiting for the turn under way."""
        self._end(goodbye)
        self._left.set()

    async def _serve(self, lifetime_seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(lifetime_seconds, self._end, _TOO_OLD)
        guard = asyncio.create_task(self._watch_key())
        try:
            while (event := await self._next()) is not None:
                await self._answer(event)
        except asyncio.CancelledError:
            self._end(_RESTARTING)
        finally:
            timer.cancel()
            guard.cancel()
            PLANE.relay.held.give_back("", sum(map(len, self._waiting)))
            self._memory.forget()
        await self._part()

    async def _next(self) -> bytes | None:
        """The next event; None when it is over."""
        while self._goodbye is None:
            if self._waiting:
                event = self._waiting.popleft()
                PLANE.relay.held.give_back("", len(event))  # the call holds it now
                return event
            self._stirred.clear()
            await self._stirred.wait()
        return None

    async def _answer(self, event: bytes) -> None:
        """One turn, in a task of its own."""
        turn = asyncio.create_task(self._turn(event))
        try:
            await asyncio.wait([turn])
        finally:
            if turn.cancel():  # it has not ended: the server stops
                await asyncio.wait([turn])
        if not turn.cancelled() and (error := turn.exception()) is not None:
            logger.error("A turn failed in a way that nobody expected.", exc_info=error)
            self._end(_BROKEN)

    async def _turn(self, event: bytes) -> None:
        outlet = _Outlet(self._say)
        request = Request(self._scope, self._body(event), settings.TRUSTED_PROXIES)
        reply = Reply(request, outlet)
        self._turn_id = request.id
        await told(self._reply(event, request, reply), request, reply)
        if self._memory.is_named_in(event):  # still, so nothing whole went on from it
            self._memory.forget()
        if outlet.status == 401:
            self._end(Goodbye(_PRIVATE + 401))
        elif not (outlet.ended or self._left.is_set()):
            self._end(_BROKEN)

    async def _reply(self, event: bytes, request: Request, reply: Reply) -> None:
        if not frames.is_warm_up(event):
            return await PLANE.relay.answer(self._endpoint, request, reply)
        caller = await self.check_key()
        call, _ = await self._endpoint.understand(event, "")
        await warm_up(PLANE.relay, call, caller, request, reply, self._memory)

    def _body(self, event: bytes) -> Receive:
        """What a request over HTTP would receive: its body, and in the end that the client has left."""
        bodies = [event]

        async def receive() -> Message:
            if bodies:
                return {"type": "http.request", "body": bodies.pop()}
            await self._left.wait()
            return {"type": "http.disconnect"}

        return receive

    def _parse(self, event: bytes, content_type: str) -> tuple[Call, str | None]:
        return responses.parse(frames.create_body(event, self._tolerated), content_type)

    async def _take(self, call: Call, caller: Caller, request: Request, log: EventLog) -> Turn:
        return await take_locally(call, caller, log, self._memory)

    async def _watch_key(self) -> None:
        """Ends it when the key does not let its client in any more: within a second of its revocation."""
        changed, loop = asyncio.Event(), asyncio.get_running_loop()

        def listener() -> None:
            loop.call_soon_threadsafe(changed.set)

        changes.subscribe(listener)
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(RECHECK_SECONDS):
                        await changed.wait()
                changed.clear()
                await self._recheck()
        except (InvalidCredential, NoCredential) as error:
            self._leave(Goodbye(_PRIVATE + 401, errors.to_api_error(error)))
            if self._turn_id is not None:  # also one that would go on without its client
                PLANE.relay.running.cancel(self._turn_id)
        finally:
            changes.unsubscribe(listener)

    async def _recheck(self) -> None:
        """As `check_key`, until the database can tell."""
        while True:
            try:
                await self.check_key()
            except DatabaseUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _say(self, text: str) -> None:
        """One message, if there is somebody to read it; waits for a client that is slow to."""
        if self._left.is_set():
            return
        try:
            await self._socket.send(text_data=text)
        except OSError:  # uvicorn's word for a connection that is gone
            self._leave(_LEFT)

    async def _part(self) -> None:
        """The last words."""
        goodbye = self._goodbye
        assert goodbye is not None  # which is why it is over
        if goodbye is _LEFT:
            return
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(SEND_SECONDS):
                if goodbye.error is not None:
                    error = goodbye.error
                    await self._socket.send(text_data=frames.error_event(error.status, error.body()))
                await self._socket.close(goodbye.code)


def _turn_scope(handshake: Scope, credential: str | None) -> Scope:
    """As what each turn comes: a request with the handshake's headers, and the key that was not in them."""
    headers = [(name, value) for name, value in handshake["headers"] if name not in _OF_ONE_REQUEST]
    if credential is not None:
        headers.append((b"authorization", b"Bearer " + credential.encode("latin-1")))
    return {**handshake, "type": "http", "method": "POST", "headers": headers}


def _is_beta(handshake: Scope) -> bool:
    return any(name == _BETA_HEADER and _BETA in value for name, value in handshake["headers"])
