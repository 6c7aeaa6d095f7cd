"""Makes keys, and tells who a key belongs to.

Invariant: the secret of a key is never kept. What is kept, and what the cache is keyed by, is its
whole HMAC-SHA-256 under the pepper.

Invariant: a fill of the cache that began before a change was heard of is not kept, and nobody who
asks after the change waits for it: `clear` puts new, empty tables in the place of those that the
fills under way write to.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
import time
import uuid
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TypeVar

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet

from accounts import database
from accounts.models import ApiKey, Membership, SecurityKey, Tenant, User
from accounts.permissions import roles_for
from accounts.tenancy import operator_scope

Value = TypeVar("Value")

CACHE_SIZE = 10_000
CACHE_SECONDS = 60.0
LOOKUP_SECONDS = 5.0

_PUBLIC = ""  # in place of a digest: there is no credential
_SYNTAX = re.compile(r"[!-~]{1,512}")
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PUBLIC_CHARACTERS = 9
_SECRET_CHARACTERS = 43  # 62 ** 43 > 2 ** 256
_CHECKSUM_CHARACTERS = 6  # 62 ** 6 > 2 ** 32
_SHOWN_CHARACTERS = len("sk-") + _PUBLIC_CHARACTERS


class InvalidCredential(Exception):
    """Not a key that lets anybody in: unknown, malformed, expired, revoked, or its owner is out.

    It never says which of them.
    """


class UnknownCredential(InvalidCredential):
    """What was never a key of ours. One that was, and is revoked, expired or deleted, is not that."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a checked credential belongs to, and which models it may use; no patterns: every model.

    Without a user or a key it is anybody at all, calling as a public tenant. `system_prompt` is what the
    tenant puts before its chats, with the time in `timezone`; usually "". `retention_days`: how long what is
    stored for it is kept, None is for ever. `continue_dropped`: a stored response goes on without its client.
    """

    tenant_id: uuid.UUID
    tenant_slug: str
    user_id: int | None
    api_key_id: uuid.UUID | None
    security_key_id: uuid.UUID | None
    allowed_models: tuple[str, ...]
    system_prompt: str
    timezone: str
    retention_days: int | None
    continue_dropped: bool

    def may_use(self, model: str) -> bool:
        return not self.allowed_models or any(matches(pattern, model) for pattern in self.allowed_models)


def matches(pattern: str, name: str) -> bool:
    """Whether `name` is `pattern`, where each `*` stands for any characters. Linear in the name's length."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == name
    if not name.startswith(first):
        return False
    *middle, last = rest
    position = len(first)
    for part in middle:
        found = name.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return len(name) - len(last) >= position and name.endswith(last)


def check_syntax(secret: str) -> None:
    """Raises UnknownCredential unless it is 1 to 512 printable ASCII characters, without spaces."""
    if _SYNTAX.fullmatch(secret) is None:
        raise UnknownCredential


def digest(secret: str) -> str:
    """What is kept of a secret: 64 hexadecimal digits that only the pepper's owner can compute."""
    return hmac.digest(settings.KEY_PEPPER, secret.encode(), "sha256").hex()


def new_secret() -> str:
    """`sk-`, nine characters that identify it, 256 random bits, and a CRC-32 of all before, in base 62.

    The checksum lets a scanner for leaked secrets tell ours from what only looks like it.
    """
    public = _base62(secrets.randbelow(62**_PUBLIC_CHARACTERS), _PUBLIC_CHARACTERS)
    body = f"sk-{public}{_base62(secrets.randbits(256), _SECRET_CHARACTERS)}"
    return body + _base62(zlib.crc32(body.encode()), _CHECKSUM_CHARACTERS)


def _base62(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return digits


def is_made_here(secret: str) -> bool:
    """Whether it has the form, and the checksum, of the secrets that are made here."""
    body, checksum = secret[:-_CHECKSUM_CHARACTERS], secret[-_CHECKSUM_CHARACTERS:]
    return (
        len(secret) == _SHOWN_CHARACTERS + _SECRET_CHARACTERS + _CHECKSUM_CHARACTERS
        and secret.startswith("sk-")
        and checksum == _base62(zlib.crc32(body.encode()), _CHECKSUM_CHARACTERS)
    )


def prefix_of(secret: str) -> str:
    """What people may know a key by: of a secret of ours the identifying part, never more than a third."""
    return secret[: min(_SHOWN_CHARACTERS, len(secret) // 3)]


def make_api_key(
    tenant: Tenant,
    user: User,
    name: str,
    secret: str | None = None,
    allowed_models: Iterable[str] = (),
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """The new key and its secret, which nothing can show again.

    Raises InvalidCredential for a secret of bad syntax, and Django's ValidationError when the name or
    the secret is taken or the user is no member.
    """
    key = ApiKey(
        tenant=tenant, user=user, name=name, allowed_models=list(allowed_models), expires_at=expires_at
    )
    return key, _save(key, secret)


def make_security_key(tenant: Tenant, name: str, secret: str | None = None) -> tuple[SecurityKey, str]:
    """As `make_api_key`, for a tenant's shared secret."""
    key = SecurityKey(tenant=tenant, name=name)
    return key, _save(key, secret)


def _save(key: ApiKey | SecurityKey, secret: str | None) -> str:
    secret = set_secret(key, secret)
    key.full_clean(exclude={"user"})  # which a tenant's scope may not read
    key.save(force_insert=True)
    return secret


def set_secret(key: ApiKey | SecurityKey, secret: str | None) -> str:
    """Gives a key this secret, or a new one, without saving it. Raises InvalidCredential."""
    secret = new_secret() if secret is None else secret
    check_syntax(secret)
    key.digest = digest(secret)
    key.prefix = prefix_of(secret)
    return secret


def rotate(key: ApiKey, overlap: timedelta) -> str:
    """Gives a key a new secret; the one that it had works for that long. Its id, limits and rights stay."""
    key.old_digest, key.old_until = (key.digest, datetime.now(UTC) + overlap) if overlap else (None, None)
    secret = set_secret(key, None)
    key.save(update_fields=["digest", "prefix", "old_digest", "old_until"])
    return secret


@dataclass(frozen=True, slots=True)
class _Found:
    caller: Caller
    expires_at: float  # Unix seconds


class Refused(Enum):
    """Why a credential lets nobody in."""

    UNKNOWN = "there is no such key"
    OUT = "it is revoked or expired, or its owner is out"


def find(wanted: str, now: datetime) -> _Found | Refused:
    """Whom the key with this digest lets in at that moment, if anybody. A database job."""
    with operator_scope():
        if wanted == _PUBLIC:
            return _find_public(Tenant.objects.all()) or Refused.OUT
        current, old = Q(digest=wanted), Q(old_digest=wanted, old_until__gt=now)
        found = _find_api_key(now, current | old) or _find_security_key(current)
        if found is not None:
            return found
        was_ours = ApiKey.objects.filter(current | Q(old_digest=wanted)).exists()
        was_ours = was_ours or SecurityKey.objects.filter(current).exists()
        return Refused.OUT if was_ours else Refused.UNKNOWN


def of_tenant(slug: str) -> Caller:
    """The tenant itself, for what an operator has done in its name. Raises InvalidCredential where it is not
    there, or not active. A database job."""
    with operator_scope():
        tenant = Tenant.objects.filter(slug=slug, active=True).first()
        if tenant is None:
            raise InvalidCredential
        return _caller(tenant)


def find_again(
    tenant_id: uuid.UUID, api_key_id: uuid.UUID | None, security_key_id: uuid.UUID | None
) -> Caller | None:
    """Who called by that key, or as the public tenant without one; None if they would not be let in today.
    A database job, for what a caller left to be done later."""
    with operator_scope():
        of_tenant = Q(tenant_id=tenant_id)
        if api_key_id is not None:
            found = _find_api_key(datetime.now(UTC), of_tenant & Q(id=api_key_id))
        elif security_key_id is not None:
            found = _find_security_key(of_tenant & Q(id=security_key_id))
        else:
            found = _find_public(Tenant.objects.filter(id=tenant_id))
    return None if found is None else found.caller


def _find_api_key(now: datetime, wanted: Q) -> _Found | None:
    in_force = Q(expires_at=None) | Q(expires_at__gt=now)
    key = (
        ApiKey.objects.select_related("tenant")
        .filter(wanted, _owner_is_in(), in_force, revoked_at=None)
        .filter(tenant__active=True, user__is_active=True)
        .first()
    )
    if key is None:
        return None
    ends = [moment.timestamp() for moment in (key.expires_at, key.old_until) if moment is not None]
    return _Found(_caller(key.tenant, api_key=key), min(ends, default=float("inf")))


def _owner_is_in() -> Q:
    """Whether a key's user is a member of its tenant; for the playground's, whether they may use that, which
    operators may anywhere."""
    memberships = Membership.objects.filter(tenant=OuterRef("tenant"), user=OuterRef("user"))
    plays = Q(Exists(memberships.filter(role__in=roles_for("playground", "use")))) | Q(
        user__is_superuser=True
    )
    return Q(Exists(memberships), playground=False) | (Q(playground=True) & plays)


def _find_security_key(wanted: Q) -> _Found | None:
    keys = SecurityKey.objects.select_related("tenant")
    key = keys.filter(wanted, revoked_at=None, tenant__active=True).first()
    return None if key is None else _Found(_caller(key.tenant, security_key=key), float("inf"))


def _find_public(tenants: QuerySet[Tenant]) -> _Found | None:
    """As whom those without a credential call: of several public tenants the oldest."""
    tenant = tenants.filter(public=True, active=True).order_by("id").first()
    return None if tenant is None else _Found(_caller(tenant), float("inf"))


def _caller(tenant: Tenant, api_key: ApiKey | None = None, security_key: SecurityKey | None = None) -> Caller:
    return Caller(
        tenant_id=tenant.id,
        tenant_slug=tenant.slug,
        user_id=api_key.user_id if api_key else None,
        api_key_id=api_key.id if api_key else None,
        security_key_id=security_key.id if security_key else None,
        allowed_models=tuple(api_key.allowed_models) if api_key else (),
        system_prompt=tenant.system_prompt,
        timezone=tenant.timezone,
        retention_days=tenant.retention_days,
        continue_dropped=tenant.continue_dropped,
    )


@dataclass(slots=True, repr=False)
class _Tables:
    """What was found since the last change: answers by digest, and the lookups under way."""

    callers: dict[str, _Found] = field(default_factory=dict)
    refusals: dict[str, tuple[float, Refused]] = field(default_factory=dict)
    lookups: dict[str, asyncio.Task[Caller | Refused]] = field(default_factory=dict)


class KeyCache:
    """Who the callers are, without asking the database each time. For one event loop.

    Whoever makes one gives its `clear` to `changes.subscribe`: without that, a revoked key works for
    another minute. `clock` tells Unix seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._tables = _Tables()

    async def authenticate(self, secret: str) -> Caller:
        """Raises InvalidCredential (UnknownCredential for what was never a key of ours), or
        database.DatabaseUnavailable when nobody can tell."""
        check_syntax(secret)
        try:
            return await self._caller(digest(secret))
        except UnknownCredential:
            if is_made_here(secret):
                raise InvalidCredential from None
            raise

    async def public(self) -> Caller:
        """Who calls without a credential. Raises as `authenticate`; InvalidCredential where nobody may."""
        return await self._caller(_PUBLIC)

    async def _caller(self, key: str) -> Caller:
        found = self._tables.callers.get(key)
        if found is not None and self._clock() < found.expires_at:
            return found.caller
        caller = await self._look_up(key)
        if caller is Refused.UNKNOWN:
            raise UnknownCredential
        if isinstance(caller, Refused):
            raise InvalidCredential
        return caller

    def clear(self) -> None:
        """Forgets everything, on whichever thread, lookups under way included."""
        self._tables = _Tables()

    async def _look_up(self, key: str) -> Caller | Refused:
        tables = self._tables
        until, refused = tables.refusals.get(key, (0.0, Refused.UNKNOWN))
        if self._clock() < until:
            return refused
        lookup = tables.lookups.get(key)
        if lookup is None:
            lookup = tables.lookups[key] = asyncio.create_task(self._fill(tables, key))
        return await asyncio.shield(lookup)  # which others may be waiting for

    async def _fill(self, tables: _Tables, key: str) -> Caller | Refused:
        now = self._clock()
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                found = await database.run(find, key, datetime.fromtimestamp(now, UTC))
        except TimeoutError as error:
            raise database.DatabaseUnavailable from error
        finally:
            del tables.lookups[key]
        if isinstance(found, Refused):
            _keep(tables.refusals, key, (now + CACHE_SECONDS, found))
            return found
        _keep(tables.callers, key, _Found(found.caller, min(found.expires_at, now + CACHE_SECONDS)))
        return found.caller


def _keep(table: dict[str, Value], key: str, value: Value) -> None:
    """Adds the entry as the newest; the oldest makes room for it."""
    table.pop(key, None)
    if len(table) >= CACHE_SIZE:
        del table[next(iter(table))]
    table[key] = value
