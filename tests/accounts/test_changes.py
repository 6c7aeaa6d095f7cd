"""Which changes are announced, and how a process hears of those that another makes."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
import redis
from django.db import transaction
from django.db.models import F
from pytest_django import Settings

from accounts import changes, database, keys
from accounts.changes import Installation
from accounts.models import ApiKey, Membership, SecurityKey, Tenant, User
from accounts.tenancy import operator_scope
from tests.accounts.scopes import database_away
from tests.deadline import until
from tests.services import REDIS_OPTIONS, free_port, private_folder, redis_answers, redis_binary, running

NEVER_SECONDS = 3600.0


def generation() -> int:
    return Installation.current().generation


WRITES: dict[str, Callable[[Tenant, User], object]] = {
    "a row is made": lambda acme, alice: keys.make_security_key(acme, "second"),
    "a row is saved": lambda acme, alice: acme.save(),
    "a row is saved in part": lambda acme, alice: acme.save(update_fields=["name"]),
    "a row is deleted": lambda acme, alice: SecurityKey.objects.get().delete(),
    "a key is revoked": lambda acme, alice: SecurityKey.objects.get().revoke(),
    "rows are updated": lambda acme, alice: SecurityKey.objects.of(acme).update(name="other"),
    "rows are deleted": lambda acme, alice: SecurityKey.objects.of(acme).delete(),
    "rows are made together": lambda acme, alice: SecurityKey.objects.bulk_create(
        [SecurityKey(tenant=acme, name=name, prefix="", digest=name) for name in ("x", "y")]
    ),
    "rows are saved together": lambda acme, alice: SecurityKey.objects.bulk_update(
        [SecurityKey.objects.get()], ["name"]
    ),
    "a row is made unless it is there": lambda acme, alice: Tenant.objects.get_or_create(slug="new"),
    "a row is made or updated": lambda acme, alice: Tenant.objects.update_or_create(
        slug="acme", defaults={"active": False}
    ),
    "a user is shut out": lambda acme, alice: User.objects.filter(id=alice.id).update(is_active=False),
    "a user is saved": lambda acme, alice: alice.save(),
    "a user is deleted": lambda acme, alice: alice.delete(),
    "a member leaves": lambda acme, alice: Membership.objects.of(acme).filter(user=alice).delete(),
    "a tenant is deleted": lambda acme, alice: acme.delete(),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_it_announces_when(write: Callable[[Tenant, User], object], acme: Tenant, alice: User) -> None:
    with operator_scope():
        keys.make_security_key(acme, "main")
        before = generation()
        write(acme, alice)
        assert generation() > before


def test_it_announces_nothing_when_rows_are_read(acme: Tenant, alice: User) -> None:
    with operator_scope():
        before = generation()
        ApiKey.objects.of(acme).exists()
        Tenant.objects.get_or_create(slug="acme")
        assert generation() == before


def test_it_tells_this_process_on_commit_and_not_before(transactional_db: None, heard: list[str]) -> None:
    with operator_scope():
        Tenant.objects.create(slug="acme")
        assert heard == []
    assert heard == ["changed"]


def test_it_tells_nobody_of_what_was_rolled_back(transactional_db: None, heard: list[str]) -> None:
    before = generation()
    with operator_scope():
        Tenant.objects.create(slug="acme")
        transaction.set_rollback(True)
    assert heard == []
    assert generation() == before


def test_it_stops_telling_who_unsubscribed(transactional_db: None) -> None:
    heard: list[str] = []

    def listener() -> None:
        heard.append("changed")

    changes.subscribe(listener)
    changes.unsubscribe(listener)
    with operator_scope():
        Tenant.objects.create(slug="acme")
    assert heard == []


def test_it_makes_the_installation_again_where_it_was_flushed(transactional_db: None) -> None:
    Installation.objects.all().delete()
    first = Installation.current()
    assert Installation.current() == first


# From process to process


def change_elsewhere() -> None:
    """What another process leaves in the database when it has changed something."""
    Installation.objects.update(generation=F("generation") + 1)


@asynccontextmanager
async def watching() -> AsyncIterator[None]:
    """This process watches, as one that serves does."""
    task = asyncio.create_task(changes.watch())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until_heard(heard: list[str], times: int) -> None:
    await asyncio.to_thread(until, lambda: len(heard) >= times, what="a change")


async def until_told(client: redis.Redis, channel: str, state: str, heard: list[str], times: int) -> None:
    """Tells of the state, which counts once, until it is heard: on a busy machine a subscription may be lost
    and made again meanwhile."""

    def told() -> bool:
        client.publish(channel, state)
        return len(heard) >= times

    await asyncio.to_thread(until, told, what="a change")
    assert len(heard) == times


@contextmanager
def redis_on(port: int) -> Iterator[redis.Redis]:
    """A Redis of the test's own, which is gone afterwards."""
    url = f"redis://127.0.0.1:{port}"
    with private_folder() as folder:
        command: list[Path | str] = [redis_binary(), "--port", str(port), "--dir", folder, *REDIS_OPTIONS]
        with running(command, folder, user=None, stop=signal.SIGTERM), redis.Redis.from_url(url) as client:
            until(lambda: redis_answers(url), what="Redis")
            yield client


@pytest.fixture
def unpolled(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first look at the database, Redis alone tells of changes."""
    monkeypatch.setattr(changes, "POLL_SECONDS", NEVER_SECONDS)
    monkeypatch.setattr(changes, "REDIS_PAUSE_SECONDS", 0.05)


@pytest.mark.usefixtures("database_threads")
async def test_it_hears_within_a_second_of_what_another_process_changed(heard: list[str]) -> None:
    async with watching():
        await until_heard(heard, 1)
        began = time.monotonic()
        await database.run(change_elsewhere)
        await until_heard(heard, 2)
    assert time.monotonic() - began < 1


@pytest.mark.usefixtures("database_threads")
async def test_it_hears_nothing_when_nothing_changes(
    heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "POLL_SECONDS", 0.001)
    async with watching():
        await until_heard(heard, 1)
        for _ in range(20):
            await database.run(Installation.current)
    assert heard == ["changed"]


@pytest.mark.usefixtures("database_threads")
async def test_it_goes_on_listening_after_the_database_was_away(
    heard: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "POLL_SECONDS", 0.01)
    async with watching():
        await until_heard(heard, 1)
        async with database_away():
            await asyncio.to_thread(until, lambda: "does not answer" in caplog.text)
        await database.run(change_elsewhere)
        await until_heard(heard, 2)
    assert caplog.text.count("does not answer") == 1


@pytest.mark.redis
@pytest.mark.usefixtures("database_threads", "unpolled")
async def test_it_hears_through_redis(heard: list[str], redis_url: str) -> None:
    installation = await database.run(Installation.current)
    async with watching():
        await until_heard(heard, 1)
        with redis.Redis.from_url(redis_url) as client:
            await until_told(client, installation.channel, "another state", heard, 2)


@pytest.mark.redis
def test_it_tells_through_redis(transactional_db: None, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client, client.pubsub(ignore_subscribe_messages=True) as messages:
        messages.subscribe(Installation.current().channel)
        messages.get_message(timeout=5)  # that it is subscribed
        with operator_scope():
            Tenant.objects.create(slug="acme")
        message = messages.get_message(timeout=5)
    assert message["data"] == str(Installation.current()).encode()


@pytest.mark.redis
@pytest.mark.usefixtures("database_threads", "unpolled")
async def test_it_subscribes_again_when_redis_comes_back(heard: list[str], settings: Settings) -> None:
    port = free_port()
    settings.REDIS_URL = f"redis://127.0.0.1:{port}"
    installation = await database.run(Installation.current)
    async with watching():
        await until_heard(heard, 1)
        for times in (2, 3):
            with redis_on(port) as client:
                await until_told(client, installation.channel, f"state {times}", heard, times)


def test_it_does_not_wait_for_a_redis_that_is_silent(
    transactional_db: None, settings: Settings, heard: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.REDIS_URL = f"redis://:hush@127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        for number in range(5):
            with operator_scope():
                Tenant.objects.create(slug=f"tenant-{number}")
        assert time.monotonic() - began < 1
    assert len(heard) == 5
    assert caplog.text.count("other processes poll for it") == 1
    assert "hush" not in caplog.text
