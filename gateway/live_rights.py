"""Who may watch which calls: somebody who signed in, as the permission table has it for `usage`; how long.

Invariant: whose right is gone is shown nothing more within two seconds. What takes it away is a changed row
(a user, a membership, a tenant), which every process hears of within one, or the end of the session, which is
looked for every second.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from django.contrib import auth
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.http import HttpRequest

from accounts import changes, database
from accounts.api.authentication import no_such, signed_in
from accounts.api.parts import by_id
from accounts.errors import ApiError
from accounts.models import Tenant, User
from accounts.permissions import Reach, reach
from accounts.tenancy import operator_scope
from gateway.live_view import Viewer
from gateway.sign_in.requirement import SENTENCE, is_wanting
from proxy.live import Sight

SESSION_SECONDS = 1.0
RECHECK_SECONDS = 30.0  # for what is announced to nobody, such as a second factor that is taken away
HANDS = 2  # jobs at a time, so that the calls have threads too
# IANA, WebSocket Close Code Number Registry: 1012 asks to connect again. The others are of the private range.
CHANGED, SIGNED_OUT, FORBIDDEN = 1012, 4401, 4403


class Pass(NamedTuple):
    """By which session somebody watches, and the tenant that they named, or ""."""

    session_key: str
    tenant: str


_Shown = tuple[Pass, Sight]


def sight_of(held: Pass) -> Sight:
    """Whose calls they may see. Raises ApiError. A database job."""
    request = HttpRequest()
    request.session = SessionStore(held.session_key)
    user = auth.get_user(request)
    if not isinstance(user, User):
        raise ApiError(401, "Sign in to watch calls.", code="not_signed_in")
    if is_wanting(user, request.session):
        raise ApiError(403, SENTENCE)
    actor = signed_in(user, held.tenant)
    how_far = reach(actor.role, "usage", "read")
    if how_far is Reach.NONE:
        raise ApiError(403, "You may not see calls.")
    if how_far is Reach.OWN:
        return Sight(actor.tenant_id, actor.user_id)
    if actor.tenant_id is None and held.tenant:
        return Sight(_tenant_called(held.tenant).pk)
    return Sight(actor.tenant_id)


def _tenant_called(name: str) -> Tenant:
    with operator_scope():
        found = Tenant.objects.filter(slug=name).first() or by_id(Tenant.objects.all(), name)
    if not isinstance(found, Tenant):
        raise no_such("tenant")
    return found


class Guard:
    """Ends what viewers of this process may see no more."""

    def __init__(self) -> None:
        self._held: dict[Viewer, Pass] = {}
        self._unchecked: set[Viewer] = set()
        self._checked_all_at = 0.0
        self._changed = asyncio.Event()

    def watch(self, viewer: Viewer, held: Pass) -> None:
        """From now on, until it is `forgotten`."""
        self._held[viewer] = held
        self._unchecked.add(viewer)  # for what changed while it was let in

    def forget(self, viewer: Viewer) -> None:
        self._held.pop(viewer, None)
        self._unchecked.discard(viewer)

    async def run(self) -> None:
        """For ever. While the database is away, nothing can be taken from anybody."""
        loop = asyncio.get_running_loop()

        def listener() -> None:
            loop.call_soon_threadsafe(self._changed.set)

        changes.subscribe(listener)
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(SESSION_SECONDS):
                        await self._changed.wait()
                with suppress(database.DatabaseUnavailable):
                    await self._look()
        finally:
            changes.unsubscribe(listener)

    async def _look(self) -> None:
        """At all sessions; at the rights of all where rows changed, else of those who have just come.

        Raises DatabaseUnavailable; what was not looked at is the next time.
        """
        now = time.monotonic()
        if self._changed.is_set() or now - self._checked_all_at > RECHECK_SECONDS:
            self._checked_all_at = now
            self._changed.clear()  # a change that comes meanwhile is another one
            self._unchecked.update(self._held)
        if self._held:
            await self._end_sessions()
            shown = list({(self._held[viewer], viewer.sight) for viewer in self._unchecked})
            await asyncio.gather(*(self._check(shown[hand::HANDS]) for hand in range(HANDS)))

    async def _end_sessions(self) -> None:
        ended = await database.run(_ended, {held.session_key for held in self._held.values()})
        for viewer in [viewer for viewer, held in self._held.items() if held.session_key in ended]:
            self._end(viewer, SIGNED_OUT)

    async def _check(self, shown: list[_Shown]) -> None:
        """Each of them once, however many watch by it."""
        codes = await database.run(_codes, shown)
        for viewer in list(self._unchecked):
            each = self._held[viewer], viewer.sight
            if each in codes:
                self._unchecked.discard(viewer)
                if (code := codes[each]) is not None:
                    self._end(viewer, code)

    def _end(self, viewer: Viewer, code: int) -> None:
        self.forget(viewer)
        viewer.end(code)


def _ended(session_keys: set[str]) -> set[str]:
    """Which of these sessions are over. A database job."""
    there = Session.objects.filter(session_key__in=session_keys, expire_date__gt=datetime.now(UTC))
    return session_keys - set(there.values_list("session_key", flat=True))


def _codes(shown: list[_Shown]) -> dict[_Shown, int | None]:
    """What to close the connections with of those who are shown this; None where they may see it. A database
    job."""
    return {(held, sight): _code(held, sight) for held, sight in shown}


def _code(held: Pass, sight: Sight) -> int | None:
    try:
        return None if sight_of(held) == sight else CHANGED
    except ApiError as error:
        return SIGNED_OUT if error.status == 401 else FORBIDDEN
