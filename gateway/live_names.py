"""What users and keys are called, for those who watch calls: asked for once, and anew when a row changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from uuid import UUID

from accounts import database
from accounts.actors import names_of
from accounts.models import ApiKey, SecurityKey
from accounts.tenancy import operator_scope
from proxy.live import Ended
from proxy.live_reports import UnderWay

MOST = 10_000
# Who watches would rather see a call without its caller's name than wait.
LEARN_SECONDS = 0.5

Named = dict[int | UUID, str]


class KnownNames:
    """Of one process."""

    def __init__(self) -> None:
        self._names: Named = {}

    def clear(self) -> None:
        """Rows changed. From any thread."""
        self._names = {}

    async def learn(self, running: Iterable[UnderWay], ended: Iterable[Ended]) -> bool:
        """Whether there was any to ask for. While the database is away, they are not known."""
        names = self._names
        calls: list[UnderWay | Ended] = [*running, *ended]
        users = {call.user_id for call in calls if call.user_id is not None} - names.keys()
        keys = {call.key_id for call in calls if call.key_id is not None} - names.keys()
        if not users and not keys:
            return False
        if len(names) > MOST:
            names.clear()
        with suppress(database.DatabaseUnavailable, TimeoutError):
            async with asyncio.timeout(LEARN_SECONDS):
                names.update(await database.run(_find, users, keys))
        return True

    def user(self, id: int | None) -> str:
        return "" if id is None else self._names.get(id, "")

    def key(self, id: UUID | None) -> str:
        return "" if id is None else self._names.get(id, "")


def _find(users: set[int], keys: set[UUID]) -> Named:
    """A database job. What is gone has no name."""
    found: Named = dict.fromkeys([*users, *keys], "")
    for id_, name in names_of(users).items():
        found[id_] = name
    with operator_scope():
        for kind in (ApiKey, SecurityKey):
            found.update(kind.objects.filter(id__in=keys).values_list("id", "name"))
    return found
