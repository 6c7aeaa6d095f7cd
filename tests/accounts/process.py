"""A process that lets keys in and out, for tests of what several of them agree on.

python -m tests.accounts.process serve SECRET     # "in" and "out" on stdout, whenever it changes
python -m tests.accounts.process make SECRET
python -m tests.accounts.process revoke SECRET
"""

from __future__ import annotations

import asyncio
import sys

import django
from django.core.management import call_command

django.setup()

from accounts import changes, keys  # noqa: E402
from accounts.keys import InvalidCredential, KeyCache  # noqa: E402
from accounts.models import SecurityKey, Tenant  # noqa: E402
from accounts.tenancy import operator_scope  # noqa: E402

PAUSE_SECONDS = 0.01


def make(secret: str) -> None:
    call_command("migrate", verbosity=0)
    with operator_scope():
        keys.make_security_key(Tenant.objects.create(slug="acme"), "main", secret)


def revoke(secret: str) -> None:
    with operator_scope():
        SecurityKey.objects.get(digest=keys.digest(secret)).revoke()


def serve(secret: str) -> None:
    asyncio.run(_serve(secret))


async def _serve(secret: str) -> None:
    cache = KeyCache()
    changes.subscribe(cache.clear)
    watching = asyncio.create_task(changes.watch())
    before = ""
    while not watching.done():
        now = await _state(cache, secret)
        if now != before:
            print(now, flush=True)
        before = now
        await asyncio.sleep(PAUSE_SECONDS)
    watching.result()


async def _state(cache: KeyCache, secret: str) -> str:
    try:
        await cache.authenticate(secret)
    except InvalidCredential:
        return "out"
    return "in"


if __name__ == "__main__":
    {"serve": serve, "make": make, "revoke": revoke}[sys.argv[1]](sys.argv[2])
