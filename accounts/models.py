"""Who may call and how much: users, tenants, memberships, the two kinds of credential, limits, budgets; and
who changed what.

Invariant: a row with a `tenant` is reached through `.of(tenant)`; on Postgres the database holds
this too (accounts/tenancy.py). Changes to rows that the data plane caches are announced to every
process in the transaction that makes them (accounts/changes.py).
"""

from __future__ import annotations

import ipaddress
import uuid
import zoneinfo
from collections.abc import Collection
from datetime import datetime
from typing import Any, ClassVar, TypeVar

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Lower, Now
from django.utils import timezone

from accounts.changes import AnnouncedModel, AnnouncedQuerySet, Installation
from accounts.ids import uuid7
from accounts.windows import window_start

__all__ = [
    "ApiKey",
    "AuditEntry",
    "Budget",
    "Credential",
    "Installation",
    "Limit",
    "Membership",
    "Owned",
    "SecurityKey",
    "Spend",
    "Tenant",
    "User",
]

# Redis counts in doubles, which are exact up to 2 ** 53: room for what is spent and what is held.
LARGEST_BUDGET_NANO_USD = 4 * 10**15
LARGEST_LIMIT = 10**9
LONGEST_QUEUE_SECONDS = 600
LONGEST_RETENTION_DAYS = 36_500
_COUNT = (MinValueValidator(1), MaxValueValidator(LARGEST_LIMIT))

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

    def named(self, names: Collection[str]) -> dict[str, User]:
        """Those who are called so: by user name, or by e-mail address in whatever case."""
        addresses = {name.lower() for name in names}
        people = self.annotate(address=Lower("email")).filter(
            models.Q(username__in=names) | models.Q(address__in=addresses)
        )
        found: dict[str, User] = {}
        for user in people.order_by("id"):
            for name in names:
                if user.username == name or (user.email and user.email.lower() == name.lower()):
                    found.setdefault(name, user)
        return found


class User(AnnouncedModel, AbstractUser):
    """A person who signs in, or on whose behalf a program calls."""

    objects: ClassVar[UserManager] = UserManager()

    class Meta(AbstractUser.Meta):
        swappable = "AUTH_USER_MODEL"
        constraints = (
            models.UniqueConstraint(
                Lower("email"),
                condition=~models.Q(email=""),
                name="one_email",
                violation_error_message="Another user has this e-mail address.",
            ),
        )


class Tenant(AnnouncedModel):
    """A team. Everything it owns carries its id, and nobody else can tell that it exists."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=200)
    timezone = models.CharField(max_length=64, default="UTC", validators=[check_time_zone])
    public = models.BooleanField(default=False, help_text="Callers without any key act as this tenant.")
    system_prompt = models.TextField(blank=True, help_text="Prepended to every chat as one system message.")
    retention_days = models.PositiveIntegerField(
        null=True,
        blank=True,
        default=30,
        validators=[MinValueValidator(1), MaxValueValidator(LONGEST_RETENTION_DAYS)],
        help_text="How long stored responses and idle conversations are kept; empty: for ever.",
    )
    retention_applied = models.PositiveIntegerField(
        null=True, default=30, editable=False, help_text="What holds for what is stored already."
    )
    continue_dropped = models.BooleanField(
        default=False, help_text="A stored response goes on when its client hangs up."
    )
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
        verbose_name = "member"
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
    playground = models.BooleanField(default=False, editable=False, help_text="The playground makes it anew.")
    old_digest = models.CharField(max_length=64, null=True, unique=True, editable=False)
    old_until = models.DateTimeField(
        null=True, editable=False, help_text="How long the secret before this one works."
    )

    class Meta:
        verbose_name = "API key"
        constraints = (
            models.UniqueConstraint(fields=["tenant", "name"], name="one_api_key_name"),
            models.UniqueConstraint(
                fields=["tenant", "user"],
                condition=models.Q(playground=True, revoked_at=None),
                name="one_playground_key",
            ),
        )

    def clean(self) -> None:
        """Refuses a key for somebody who is not a member: it would never be let in."""
        if not Membership.objects.of(self.tenant_id).filter(user_id=self.user_id).exists():
            raise ValidationError("The user is not a member of the tenant.")


def kept_name(scope: str, name: str) -> str:
    """The name of the one that a limit or budget of this scope is for, as it is kept; "" is each of them.

    Raises ValidationError for a name that nobody and nothing of that scope can have.
    """
    if not name:
        return ""
    if scope == "tenant":
        raise ValidationError("The tenant itself needs no name.")
    if scope == "ip":
        return _kept_address(name)
    if scope == "model" and "*" in name:
        raise ValidationError("One model's exact name is wanted, without *.")
    return name.lower() if scope == "user" and "@" in name else name


def _kept_address(text: str) -> str:
    """In the one way to write it; an IPv4 address is one even where IPv6 carries it."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValidationError("One IP address is wanted, such as 203.0.113.7.") from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


class Scoped(Owned):
    """What holds for each one of a scope (user, key, …), or for the one that has this name."""

    scope: str
    name = models.CharField(
        max_length=254,
        blank=True,
        help_text="A user's e-mail address, a key's or model's name, an IP; empty: each.",
    )

    class Meta:
        abstract = True

    def __str__(self) -> str:
        if self.scope == "tenant":
            return "the tenant"
        return f"{self.scope} {self.name}" if self.name else f"each {self.scope}"

    def clean(self) -> None:
        """Refuses the name of somebody who is not there: nobody would be held to it."""
        self.name = kept_name(self.scope, self.name)
        if self.name and self._state.adding and not self._is_there():
            raise ValidationError(f"The tenant has no {self.scope} of this name.")

    def _is_there(self) -> bool:
        if self.scope == "user":
            user = User.objects.named([self.name]).get(self.name)
            return Membership.objects.of(self.tenant_id).filter(user=user).exists()
        if self.scope == "key":
            tables = (ApiKey.objects, SecurityKey.objects)
            return any(keys.of(self.tenant_id).filter(name=self.name).exists() for keys in tables)
        return True


class Limit(Scoped):
    """How many calls and tokens, and how many calls at once. A null is no limit."""

    class Scope(models.TextChoices):
        TENANT = "tenant"
        USER = "user"
        KEY = "key"
        IP = "ip", "IP address"
        MODEL = "model"

    class WhenExceeded(models.TextChoices):
        REJECT = "reject"
        QUEUE = "queue"

    scope = models.CharField(max_length=8, choices=Scope.choices)
    requests_per_second = models.PositiveIntegerField(null=True, blank=True, validators=_COUNT)
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True, validators=_COUNT)
    tokens_per_minute = models.PositiveIntegerField(null=True, blank=True, validators=_COUNT)
    concurrent = models.PositiveIntegerField(null=True, blank=True, validators=_COUNT)
    when_exceeded = models.CharField(max_length=8, choices=WhenExceeded.choices, default=WhenExceeded.REJECT)
    queue_seconds = models.PositiveSmallIntegerField(
        default=30,
        validators=[MinValueValidator(1), MaxValueValidator(LONGEST_QUEUE_SECONDS)],
        help_text="How long a call waits for its turn at most, where it queues.",
    )

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["tenant", "scope", "name"], name="one_limit"),
            models.CheckConstraint(
                condition=models.Q(requests_per_second__isnull=False)
                | models.Q(requests_per_minute__isnull=False)
                | models.Q(tokens_per_minute__isnull=False)
                | models.Q(concurrent__isnull=False),
                name="limit_of_something",
                violation_error_message="Give at least one number: a limit of nothing limits nothing.",
            ),
            models.CheckConstraint(
                condition=models.Q(
                    requests_per_second__range=(1, LARGEST_LIMIT),
                    requests_per_minute__range=(1, LARGEST_LIMIT),
                    tokens_per_minute__range=(1, LARGEST_LIMIT),
                    concurrent__range=(1, LARGEST_LIMIT),
                    queue_seconds__range=(1, LONGEST_QUEUE_SECONDS),
                ),
                name="limit_is_positive",
            ),
        )


class Budget(Scoped):
    """How much may be spent in a day, a week, a month of the tenant's time zone, or in total."""

    class Scope(models.TextChoices):
        TENANT = "tenant"
        USER = "user"
        KEY = "key"

    class Period(models.TextChoices):
        DAY = "day"
        WEEK = "week"
        MONTH = "month"
        TOTAL = "total"

    scope = models.CharField(max_length=8, choices=Scope.choices)
    amount_nano_usd = models.BigIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(LARGEST_BUDGET_NANO_USD)]
    )
    period = models.CharField(max_length=8, choices=Period.choices)
    allow_unpriced = models.BooleanField(
        default=False, help_text="Let calls through whose cost nobody can tell: models without a price."
    )

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["tenant", "scope", "name", "period"], name="one_budget"),
            models.CheckConstraint(
                condition=models.Q(amount_nano_usd__range=(1, LARGEST_BUDGET_NANO_USD)),
                name="budget_is_positive",
            ),
        )

    def __str__(self) -> str:
        return f"{super().__str__()}, {self.period}"

    def window_start(self, now: datetime, timezone: str) -> datetime:
        """When the window began that `now` is in, in the tenant's time zone; given in UTC."""
        return window_start(self.period, now, timezone)


class SpendQuerySet(models.QuerySet["Spend"]):
    """What tenants spend; no data plane caches it, so that nothing is announced."""

    def of(self, tenant: Tenant | uuid.UUID) -> SpendQuerySet:
        """What this tenant does."""
        return self.filter(tenant=tenant)


class Spend(models.Model):
    """What one subject of a budget, such as "key:<id>", has spent in one window. Written by settlements.

    The database does not check its two references: a call that ends after its budget is gone must
    not fail the settlements that are written with it.
    """

    id = models.BigAutoField(primary_key=True)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", db_constraint=False)
    budget = models.ForeignKey(
        Budget, on_delete=models.CASCADE, related_name="spends", db_constraint=False, db_index=False
    )
    subject = models.CharField(max_length=255)
    window_start = models.DateTimeField()
    amount_nano_usd = models.BigIntegerField(default=0)

    objects: ClassVar[models.Manager[Any]] = SpendQuerySet.as_manager()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["budget", "subject", "window_start"], name="one_spend"),
        )

    @property
    def subject_id(self) -> uuid.UUID | int:
        """The id of the tenant, user or key that spent it."""
        scope, _, name = self.subject.partition(":")
        return int(name) if scope == Budget.Scope.USER else uuid.UUID(name)


class AuditQuerySet(models.QuerySet["AuditEntry"]):
    """Entries, which are added and then stay as they are."""

    def of(self, tenant: Tenant | uuid.UUID) -> AuditQuerySet:
        """What concerns this tenant."""
        return self.filter(tenant_id=tenant.id if isinstance(tenant, Tenant) else tenant)

    def update(self, **values: Any) -> int:
        raise NotAltered

    def delete(self) -> tuple[int, dict[str, int]]:
        raise NotAltered

    delete.queryset_only = True  # type: ignore[attr-defined]  # never `AuditEntry.objects.delete()`


class NotAltered(Exception):
    """An entry of the audit log is never altered, and never deleted."""


class AuditEntry(models.Model):
    """Somebody changed something, or read what others said (accounts/audit.py). It outlives both.

    `tenant_id` is null for what is no tenant's, such as an upstream; no tenant sees that. On PostgreSQL the
    database itself refuses to alter a row.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant_id = models.UUIDField(null=True)
    actor_id = models.BigIntegerField(null=True)
    actor = models.CharField(max_length=254)
    via = models.CharField(max_length=8)
    api_key_id = models.UUIDField(null=True)
    action = models.CharField(max_length=32)
    resource = models.CharField(max_length=32)
    object_id = models.CharField(max_length=64)
    object_name = models.CharField(max_length=300)
    fields = models.JSONField(default=list)
    reason = models.CharField(max_length=500, blank=True)
    request_id = models.UUIDField(null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar[models.Manager[Any]] = AuditQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "audit entries"
        indexes = (models.Index(fields=["tenant_id", "id"], name="audit_tenant"),)

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {self.resource} {self.object_name}"

    def save(self, *args: Any, **options: Any) -> None:
        if not self._state.adding:
            raise NotAltered
        super().save(*args, **options)

    def delete(self, *args: Any, **options: Any) -> tuple[int, dict[str, int]]:
        raise NotAltered
