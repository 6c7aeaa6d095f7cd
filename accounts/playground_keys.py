"""The key that the playground calls with: one for each user and tenant, made anew every few minutes.

Its secret is nowhere but in the memory of a page. When it is made anew the one before lives out its time,
so that two windows do not take turns; of three, one makes itself another. The row stays: it is what usage
records, limits and budgets know the user's playground by.

Invariant: it lets nobody in but while the permission table lets them use the playground (accounts/keys.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import count

from django.utils import timezone

from accounts import audit, keys
from accounts.actors import called
from accounts.changes import announced
from accounts.models import ApiKey, Tenant, User
from accounts.tenancy import operator_scope

LIFETIME = timedelta(minutes=15)
_LONGEST_CALLED = 80


def renew(user: User, tenant: Tenant) -> tuple[ApiKey, str]:
    """The user's key in that tenant with a new secret, for LIFETIME. Whoever calls this asks if they may."""
    with operator_scope(), announced():  # which one transaction at a time does
        key = _present(user, tenant)
        is_new = key is None
        if key is None:
            key = ApiKey(tenant=tenant, user=user, name=_free_name(user, tenant), playground=True)
        now = timezone.now()
        goes_on = key.expires_at is not None and key.expires_at > now
        key.old_digest, key.old_until = (key.digest, key.expires_at) if goes_on else (None, None)
        key.expires_at = now + LIFETIME
        secret = keys.set_secret(key, None)
        key.save()
        if is_new:
            who = audit.Who(user.pk, called(user), "session")
            audit.record(who, audit.change("create", "api-keys", key, tenant.id))
    return key, secret


def end(user: User) -> None:
    """Has none of the user's secrets let anybody in any more, in any tenant: they sign out."""
    now = timezone.now()
    with operator_scope():
        theirs = ApiKey.objects.filter(user=user, playground=True, expires_at__gt=now)
        if theirs.exists():  # a change of nothing would be announced too
            theirs.update(expires_at=now, old_digest=None, old_until=None)


def _present(user: User, tenant: Tenant) -> ApiKey | None:
    found: ApiKey | None = (
        ApiKey.objects.of(tenant).filter(user=user, playground=True, revoked_at=None).first()
    )
    return found


def _free_name(user: User, tenant: Tenant) -> str:
    taken = ApiKey.objects.of(tenant)
    return next(name for name in _names(user) if not taken.filter(name=name).exists())


def _names(user: User) -> Iterator[str]:
    name = f"Playground ({called(user)[:_LONGEST_CALLED]})"
    yield name
    for number in count(2):
        yield f"{name} {number}"
