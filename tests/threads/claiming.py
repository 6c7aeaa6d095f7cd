"""A process that claims responses, for tests of what several of them do at once.

python -m tests.threads.claiming make NUMBER     # so many queued responses
python -m tests.threads.claiming claim           # "ready", and at a line on stdin the ids that it got
"""

from __future__ import annotations

import sys

import django
from django.core.management import call_command

django.setup()

from accounts.ids import uuid7  # noqa: E402
from accounts.models import Tenant  # noqa: E402
from accounts.tenancy import operator_scope  # noqa: E402
from tests.threads.turns import queued  # noqa: E402
from threads import responses  # noqa: E402


def make(number: str) -> None:
    call_command("migrate", verbosity=0)
    with operator_scope():
        tenant = Tenant.objects.create(slug="acme")
    for _ in range(int(number)):
        responses.begin(tenant.id, queued(tenant))


def claim() -> None:
    worker_id = uuid7()
    print("ready", flush=True)
    sys.stdin.readline()
    while (response := responses.claim(worker_id)) is not None:
        print(response.id, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2])
    else:
        claim()
