"""Calls as they start, stream and end, on every process, for whoever watches on this one.

A process makes reports only for those who want them (`Telling`), and wants them only for those who watch
there (`Watching`). What is wanted is said again every ASK_SECONDS and forgotten after FORGET_SECONDS, so that
nobody has to say that they have left. In a gateway that nobody watches, nothing is said at all.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from uuid import uuid4

import msgspec
from django.conf import settings

from accounts import changes
from accounts.errors import ApiError
from gateway.live_names import KnownNames
from gateway.live_post import Post, RedisPost, Told, Wanted
from gateway.live_rights import Guard
from gateway.live_view import Batch, View, Viewer
from proxy.asgi import PLANE, Plane
from proxy.live import Sight
from proxy.live_reports import Report, Reporter

TELL_SECONDS = 0.25
SHORTEST_SECONDS = 0.05
STILL_SECONDS = 2.0
ASK_SECONDS = 2.0
FORGET_SECONDS = 3 * ASK_SECONDS
MOST_WANTED = 1_000
MOST_VIEWERS = 500
# How long a view is kept that somebody asks for now and then, and how long a first look waits for reports.
KEPT_SECONDS = 10.0
LOOK_SECONDS = 0.6


@dataclass(slots=True)
class _Want:
    """Of one process, for one sight."""

    until: float
    anew: bool
    last: Report | None = None

    def is_news(self, report: Report) -> bool:
        """Whether there is anything to say, or nothing was said for STILL_SECONDS."""
        last = self.last
        if last is None or report.ended or report.told_at - last.told_at > STILL_SECONDS:
            return True
        return msgspec.structs.replace(report, told_at=last.told_at) != last


class Telling:
    """What this process tells of its calls, and whom."""

    def __init__(self, plane: Plane, here: str, post: Post, watching: Watching) -> None:
        self._plane = plane
        self._here = here
        self._post = post
        self._watching = watching
        self._wants: dict[tuple[str, Sight], _Want] = {}
        self._stirred = asyncio.Event()

    def asked(self, wanted: Wanted) -> None:
        """A process, perhaps this one, says what it wants."""
        until = time.monotonic() + FORGET_SECONDS
        for name in wanted.sights:
            with suppress(ValueError):
                key = wanted.process, Sight.called(name)
                want = self._wants.get(key)
                if want is not None:
                    want.until, want.anew = until, want.anew or wanted.anew
                elif len(self._wants) < MOST_WANTED:
                    want = self._wants[key] = _Want(until, anew=True)
                if want is not None and want.anew:
                    self._stirred.set()

    async def run(self) -> None:
        """For ever: reports while somebody watches."""
        while True:
            await self._stirred.wait()
            reporter = Reporter(self._plane.relay.live)
            while self._still_wanted():
                self._stirred.clear()
                self._report(reporter)
                await asyncio.sleep(SHORTEST_SECONDS)
                with suppress(TimeoutError):
                    async with asyncio.timeout(TELL_SECONDS - SHORTEST_SECONDS):
                        await self._stirred.wait()
            self._stirred.clear()

    def _still_wanted(self) -> bool:
        now = time.monotonic()
        for key in [key for key, want in self._wants.items() if want.until < now]:
            del self._wants[key]
        return bool(self._wants)

    def _report(self, reporter: Reporter) -> None:
        """One round: to each process, in one piece, what it wants and has not been told."""
        reporter.look(self._plane.relay.running.tickets(), {sight for _, sight in self._wants})
        report = lru_cache(reporter.report)
        told: dict[str, dict[str, Report]] = {}
        for (process, sight), want in self._wants.items():
            made = report(sight, with_history=want.anew)
            if want.anew or want.is_news(made):
                told.setdefault(process, {})[sight.name] = made
                want.last, want.anew = msgspec.structs.replace(made, ended=[]), False
        for process, reports in told.items():
            if process == self._here:
                self._watching.hear(Told(self._here, reports))
            else:
                self._post.tell(process, Told(self._here, reports))


@dataclass(slots=True)
class _Watched:
    """A view, who has it before them, and until when it is kept without."""

    began: float
    view: View = field(default_factory=View)
    viewers: set[Viewer] = field(default_factory=set)
    until: float = 0.0

    def stir(self) -> None:
        for viewer in self.viewers:
            viewer.news.set()


class Watching:
    """Who watches on this process, and what they see."""

    def __init__(self, plane: Plane, here: str, post: Post) -> None:
        self.telling = Telling(plane, here, post, self)
        self._here = here
        self._post = post
        self._names = KnownNames()
        self._watched: dict[Sight, _Watched] = {}

    def join(self, sight: Sight) -> Viewer:
        """Somebody watches from now on, until they `leave`. Raises ApiError where too many do."""
        if sum(len(watched.viewers) for watched in self._watched.values()) >= MOST_VIEWERS:
            raise ApiError(
                503,
                "Too many people are watching. Try again later.",
                code="too_many_viewers",
                headers=((b"retry-after", b"60"),),
            )
        watched = self._watched.get(sight)
        if watched is None:
            watched = self._watched[sight] = _Watched(time.monotonic())
            self._ask([sight], anew=True)
        viewer = Viewer(sight, watched.view)
        watched.viewers.add(viewer)
        viewer.news.set()
        return viewer

    def leave(self, viewer: Viewer) -> None:
        watched = self._watched[viewer.sight]
        watched.viewers.discard(viewer)
        watched.until = time.monotonic() + KEPT_SECONDS

    async def batch(self, viewer: Viewer) -> Batch:
        """What there is to show by now."""
        for _ in range(2):  # more may come while the names of the first are asked for
            if not await self._names.learn(*viewer.unseen()):
                break
        return viewer.batch(self._names, time.monotonic(), everywhere=not self._post.away)

    async def look(self, sight: Sight) -> Batch:
        """How things stand, for somebody who only looks now and then. Raises ApiError."""
        viewer = self.join(sight)
        try:
            wait = self._watched[sight].began + LOOK_SECONDS - time.monotonic()
            await asyncio.sleep(max(0.0, wait))
            return await self.batch(viewer)
        finally:
            self.leave(viewer)

    def hear(self, told: Told) -> None:
        """What a process tells of sights that are watched here, or were."""
        for name, report in told.reports.items():
            watched = self._watched.get(Sight.called(name))
            if watched is not None:
                watched.view.hear(told.process, report, time.monotonic())
                watched.stir()

    async def run(self) -> None:
        """For ever: has those forgotten that nobody watches, and asks for the others again."""
        changes.subscribe(self._names.clear)
        try:
            while True:
                await asyncio.sleep(ASK_SECONDS)
                self._forget()
                self._ask(list(self._watched), anew=False)
        finally:
            changes.unsubscribe(self._names.clear)

    def _ask(self, sights: list[Sight], *, anew: bool) -> None:
        if sights:
            wanted = Wanted(self._here, [sight.name for sight in sights], anew)
            self.telling.asked(wanted)
            self._post.ask(wanted)

    def _forget(self) -> None:
        now = time.monotonic()
        for sight, watched in list(self._watched.items()):
            if not watched.viewers and watched.until < now:
                del self._watched[sight]
            elif watched.view.forget_silent(now):
                watched.stir()


class LivePlane:
    """Of one process."""

    def __init__(self, plane: Plane) -> None:
        here = uuid4().hex
        self._post = RedisPost(settings.REDIS_URL, here) if settings.REDIS_URL else Post()
        self.watching = Watching(plane, here, self._post)
        self.guard = Guard()

    async def run(self) -> None:
        """For ever, from when the plane has started."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.guard.run())
            tasks.create_task(self.watching.run())
            tasks.create_task(self.watching.telling.run())
            tasks.create_task(self._post.run(self.watching.telling.asked, self.watching.hear))


LIVE = LivePlane(PLANE)
