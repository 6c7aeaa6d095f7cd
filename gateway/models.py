"""What the wiring itself keeps: no tenant's rows, and none that a data plane reads."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class CacheEntry(models.Model):
    """A row of Django's cache (settings.CACHES): failed sign-ins that are counted, codes that are used up.

    In the database they hold for every process, whether there is a Redis or not.
    """

    cache_key = models.CharField(max_length=255, primary_key=True)
    value = models.TextField()
    expires = models.DateTimeField(db_index=True)


class Claims(models.Model):
    """What an identity provider has given to a user, so that the same can be taken away and no more.

    `memberships` are ids: one that is made anew by hand has another.
    """

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    memberships = models.JSONField(default=list)
    operator = models.BooleanField(default=False)
