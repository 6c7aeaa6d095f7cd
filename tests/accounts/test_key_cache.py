"""Who a key lets in, and that the cache never knows it better than the database for long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from django.utils import timezone

from accounts import changes, keys
from accounts.database import DatabaseUnavailable
from accounts.keys import InvalidCredential, KeyCache
from accounts.models import ApiKey, Membership, SecurityKey, Tenant, User
from accounts.tenancy import operator_scope
from tests.accounts.scopes import as_operator, database_away

pytestmark = pytest.mark.usefixtures("database_threads")


@dataclass
class Clock:
    """Unix seconds that pass when the test says so."""

    now: float = field(default_factory=lambda: timezone.now().timestamp())

    def __call__(self) -> float:
        return self.now


@dataclass
class Lookups:
    """Counts the lookups, and holds back what they found while `gate` is closed."""

    digests: list[str] = field(default_factory=list)
    found: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    gate: threading.Event = field(default_factory=threading.Event)

    async def another(self) -> None:
        """Returns when one more lookup has found what it will."""
        assert await asyncio.to_thread(self.found.acquire, timeout=5)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> Iterator[KeyCache]:
    """As a serving process has it."""
    cache = KeyCache(clock)
    changes.subscribe(cache.clear)
    yield cache
    changes.unsubscribe(cache.clear)


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> Lookups:
    """Watches the real lookup."""
    seen, find = Lookups(), keys.find
    seen.gate.set()

    def watched(digest: str, now: datetime) -> Any:
        seen.digests.append(digest)
        found = find(digest, now)
        seen.found.release()
        seen.gate.wait(10)
        return found

    monkeypatch.setattr(keys, "find", watched)
    return seen


@pytest.fixture
def key(acme: Tenant, alice: User) -> ApiKey:
    with operator_scope():
        return keys.make_api_key(acme, alice, "ci", "sk-alice", allowed_models=["gpt-*"])[0]


@pytest.fixture
def security_key(acme: Tenant) -> SecurityKey:
    with operator_scope():
        return keys.make_security_key(acme, "main", "acme-shared")[0]


async def refused(cache: KeyCache, secret: str) -> bool:
    try:
        await cache.authenticate(secret)
    except InvalidCredential:
        return True
    return False


async def test_it_knows_whom_an_api_key_belongs_to(
    cache: KeyCache, key: ApiKey, acme: Tenant, alice: User
) -> None:
    for _ in range(2):
        caller = await cache.authenticate("sk-alice")
        assert (caller.tenant_id, caller.tenant_slug, caller.user_id) == (acme.id, "acme", alice.id)
        assert (caller.api_key_id, caller.security_key_id) == (key.id, None)
        assert caller.allowed_models == ("gpt-*",)


async def test_it_knows_whom_a_security_key_belongs_to(
    cache: KeyCache, security_key: SecurityKey, acme: Tenant
) -> None:
    caller = await cache.authenticate("acme-shared")
    assert (caller.tenant_id, caller.user_id, caller.api_key_id) == (acme.id, None, None)
    assert caller.security_key_id == security_key.id
    assert caller.may_use("anything")


@pytest.mark.parametrize("secret", ["sk-alicf", "sk-alic", "sk-alice2", "SK-ALICE", "acme", "", "a b"])
async def test_it_refuses_what_is_no_key(
    cache: KeyCache, key: ApiKey, security_key: SecurityKey, secret: str
) -> None:
    assert await refused(cache, secret)


LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

SHUT_OUT: dict[str, Callable[[ApiKey], object]] = {
    "the key is revoked": lambda key: key.revoke(),
    "the key has expired": lambda key: ApiKey.objects.update(expires_at=LONG_AGO),
    "the key is deleted": lambda key: key.delete(),
    "its user is inactive": lambda key: User.objects.update(is_active=False),
    "its user is deleted": lambda key: User.objects.all().delete(),
    "its user is no longer a member": lambda key: Membership.objects.all().delete(),
    "its tenant is inactive": lambda key: Tenant.objects.update(active=False),
    "its tenant is deleted": lambda key: Tenant.objects.all().delete(),
}


@pytest.mark.parametrize("shut_out", SHUT_OUT.values(), ids=SHUT_OUT)
async def test_it_refuses_at_once_when(
    cache: KeyCache, key: ApiKey, shut_out: Callable[[ApiKey], object]
) -> None:
    await cache.authenticate("sk-alice")
    await as_operator(shut_out, key)
    assert await refused(cache, "sk-alice")


@pytest.mark.parametrize(
    "shut_out", [lambda key: key.revoke(), lambda key: Tenant.objects.update(active=False)]
)
async def test_it_refuses_a_security_key_at_once(
    cache: KeyCache, security_key: SecurityKey, shut_out: Callable[[SecurityKey], object]
) -> None:
    await cache.authenticate("acme-shared")
    await as_operator(shut_out, security_key)
    assert await refused(cache, "acme-shared")


async def test_it_lets_bob_in_when_alice_leaves(
    cache: KeyCache, key: ApiKey, acme: Tenant, alice: User, bob: User
) -> None:
    await as_operator(keys.make_api_key, acme, bob, "bob", "sk-bob")
    await as_operator(lambda: Membership.objects.of(acme).filter(user=alice).delete())
    assert await refused(cache, "sk-alice")
    assert (await cache.authenticate("sk-bob")).user_id == bob.id


async def test_it_lets_in_a_key_that_was_refused_before_it_was_made(
    cache: KeyCache, acme: Tenant, alice: User
) -> None:
    assert await refused(cache, "sk-later")
    await as_operator(keys.make_api_key, acme, alice, "later", "sk-later")
    assert (await cache.authenticate("sk-later")).user_id == alice.id


async def test_it_refuses_a_cached_key_from_the_moment_it_expires(
    cache: KeyCache, clock: Clock, key: ApiKey
) -> None:
    expires_at = datetime.fromtimestamp(clock.now + 30, UTC)
    await as_operator(lambda: ApiKey.objects.update(expires_at=expires_at))
    clock.now += 29
    await cache.authenticate("sk-alice")
    clock.now += 1
    assert await refused(cache, "sk-alice")


async def test_it_asks_the_database_once_a_minute(
    cache: KeyCache, clock: Clock, key: ApiKey, lookups: Lookups
) -> None:
    for seconds, asked in ((0, 1), (0, 1), (59, 1), (1, 2), (59, 2)):
        clock.now += seconds
        await cache.authenticate("sk-alice")
        assert len(lookups.digests) == asked


async def test_it_remembers_refusals_as_long(cache: KeyCache, clock: Clock, lookups: Lookups) -> None:
    for seconds, asked in ((0, 1), (59, 1), (1, 2)):
        clock.now += seconds
        assert await refused(cache, "sk-nobody")
        assert len(lookups.digests) == asked


async def test_it_asks_nobody_about_bad_syntax(cache: KeyCache, lookups: Lookups) -> None:
    assert await refused(cache, "two words")
    assert lookups.digests == []


async def test_it_looks_a_key_up_once_for_all_who_wait(
    cache: KeyCache, key: ApiKey, lookups: Lookups
) -> None:
    callers = await asyncio.gather(*(cache.authenticate("sk-alice") for _ in range(50)))
    assert len(set(callers)) == 1
    assert lookups.digests == [keys.digest("sk-alice")]


async def test_it_goes_on_for_the_others_when_the_first_leaves(
    cache: KeyCache, key: ApiKey, lookups: Lookups
) -> None:
    lookups.gate.clear()
    first, second = (asyncio.create_task(cache.authenticate("sk-alice")) for _ in range(2))
    await lookups.another()
    first.cancel()
    lookups.gate.set()
    assert (await second).api_key_id == key.id
    assert first.cancelled()
    assert len(lookups.digests) == 1


async def test_it_does_not_keep_what_was_found_before_a_change(
    cache: KeyCache, key: ApiKey, lookups: Lookups
) -> None:
    lookups.gate.clear()
    early = asyncio.create_task(cache.authenticate("sk-alice"))
    await lookups.another()
    await as_operator(key.revoke)
    late = asyncio.create_task(refused(cache, "sk-alice"))
    await lookups.another()  # it asked anew, and did not join the early one
    lookups.gate.set()
    await early
    assert await late
    assert await refused(cache, "sk-alice")


async def test_it_keeps_no_more_than_its_size(
    cache: KeyCache, acme: Tenant, alice: User, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "CACHE_SIZE", 2)
    secrets = ["sk-one", "sk-two", "sk-three"]
    for secret in secrets:
        await as_operator(keys.make_api_key, acme, alice, secret, secret)
    for secret in [*secrets, "sk-three", "sk-two", "sk-one"]:
        await cache.authenticate(secret)
    asked = [*secrets, "sk-one"]
    assert lookups.digests == [keys.digest(secret) for secret in asked]


async def test_it_does_not_forget_keys_for_refusals(
    cache: KeyCache, key: ApiKey, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "CACHE_SIZE", 2)
    await cache.authenticate("sk-alice")
    for number in range(5):
        assert await refused(cache, f"sk-guess-{number}")
    await cache.authenticate("sk-alice")
    assert lookups.digests.count(keys.digest("sk-alice")) == 1


async def test_it_does_not_call_a_key_invalid_when_the_database_is_away(cache: KeyCache, key: ApiKey) -> None:
    async with database_away():
        with pytest.raises(DatabaseUnavailable):
            await cache.authenticate("sk-alice")
    assert (await cache.authenticate("sk-alice")).api_key_id == key.id


async def test_it_lets_known_keys_in_while_the_database_is_away(cache: KeyCache, key: ApiKey) -> None:
    await cache.authenticate("sk-alice")
    async with database_away():
        assert (await cache.authenticate("sk-alice")).api_key_id == key.id


async def test_it_gives_up_on_a_database_that_hangs(
    cache: KeyCache, key: ApiKey, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "LOOKUP_SECONDS", 0.05)
    lookups.gate.clear()
    with pytest.raises(DatabaseUnavailable):
        await cache.authenticate("sk-alice")
    lookups.gate.set()
