"""The calls of a time, as the ledger's two indexes have them: a tenant's by when they were admitted, those of
all tenants by when they came in, which is what their ids say."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q

from accounts.reading import BY_ARRIVAL, first_id

BY_ADMISSION = ("started_at", "id")
# A call is admitted after it came in; one in the background waited for its turn before.
LONGEST_WAIT = timedelta(days=7)
_TICK = timedelta(milliseconds=1)  # of an id's clock


def between(order: tuple[str, ...], since: datetime | None, before: datetime | None) -> Q:
    """The calls that were admitted then, so that the index that is in this order finds them."""
    condition = Q()
    if since is not None:
        condition &= Q(started_at__gte=since)
    if before is not None:
        condition &= Q(started_at__lt=before)
    if order == BY_ARRIVAL:
        condition &= Q() if since is None else Q(id__gte=first_id(since - LONGEST_WAIT))
        condition &= Q() if before is None else Q(id__lt=first_id(before + _TICK))
    return condition
