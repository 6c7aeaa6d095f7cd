"""Who may call: users, tenants, memberships, and the two kinds of credential.

Invariant: a row with a `tenant` is reached through `.of(tenant)`; on Postgres the database holds
this too (accounts/tenancy.py). Changes to rows that the data plane caches are announced to every
process in the transaction that makes them (accounts/changes.py).
"""

from __future__ import annotations

import uuid
import zoneinfo
from typing import Any, ClassVar, TypeVar

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Lower, Now
from django.utils import timezone

from accounts.changes import AnnouncedModel, AnnouncedQuerySet, Installation
from accounts.ids import uuid7

__all__ = ["ApiKey", "Credential", "Installation", "Membership", "Owned", "SecurityKey", "Tenant", "User"]

Row = TypeVar("Row", bound=models.Model)


def check_time_zone(name: str) -> None:
    if name not in zoneinfo.available_timezones():
        raise ValidationError(f"{name!r} is not an IANA time zone, such as Europe/Paris or UTC.")


def check_patterns(patterns: object) -> None:
    if not isinstance(patterns, list) or not all(
        isinstance(pattern, str) and pattern for pattern in patterns
    ):
        raise ValidationError('Give a list of model names, such as ["gpt-*", "text-embedding-3-small"].')


class UserManager(DjangoUserManager["User"].from_queryset(AnnouncedQuerySet)):  # type: ignore[misc]
    """Django's, announcing what it changes."""

    use_in_migrations = False


class User(AnnouncedModel, AbstractUser):
    """A person who signs in, or on whose behalf a program calls."""

    objects: ClassVar[UserManager] = UserManager()

    class Meta(AbstractUser.Meta):
        swappable = "AUTH_USER_MODEL"
        constraints = (
            models.UniqueConstraint(Lower("email"), condition=~models.Q(email=""), name="one_email"),
        )


class Tenant(AnnouncedModel):
    """A team. Everything it owns carries its id, and nobody else can tell that it exists."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=200)
    timezone = models.CharField(max_length=64, default="UTC", validators=[check_time_zone])
    public = models.BooleanField(default=False, help_text="Callers without any key act as this tenant.")
    system_prompt = models.TextField(blank=True, help_text="Prepended to every chat as one system message.")
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.slug


class OwnedQuerySet(AnnouncedQuerySet[Row]):
    """Rows that belong to tenants."""

    def of(self, tenant: Tenant | uuid.UUID) -> OwnedQuerySet[Row]:
        """Those of this tenant."""
        return self.filter(tenant=tenant)


class Owned(AnnouncedModel):
    """A row that belongs to one tenant, for ever."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar[models.Manager[Any]] = OwnedQuerySet.as_manager()

    class Meta:
        abstract = True


class Membership(Owned):
    """A user's role in a tenant."""

    class Role(models.TextChoices):
        OWNER = "owner"
        ADMIN = "admin"
        MEMBER = "member"
        VIEWER = "viewer"

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["tenant", "user"], name="one_membership"),)

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"


class Credential(Owned):
    """A secret that was shown once; what is kept is its HMAC and the prefix people know it by."""

    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def revoke(self) -> None:
        """From the commit on, every replica refuses it within a second."""
        self.revoked_at = self.revoked_at or timezone.now()
        self.save(update_fields=["revoked_at"])


class SecurityKey(Credential):
    """A tenant's shared secret."""

    class Meta:
        constraints = (models.UniqueConstraint(fields=["tenant", "name"], name="one_security_key_name"),)


class ApiKey(Credential):
    """A user's key, for some models or all, until it expires or is revoked."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    allowed_models = models.JSONField(
        default=list,
        blank=True,
        validators=[check_patterns],
        help_text='Patterns such as ["gpt-*"]; empty: every model.',
    )
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["tenant", "name"], name="one_api_key_name"),)

    def clean(self) -> None:
        """Refuses a key for somebody who is not a member: it would never be let in."""
        if not Membership.objects.of(self.tenant_id).filter(user_id=self.user_id).exists():
            raise ValidationError("The user is not a member of the tenant.")
