"""Upstreams and the routes to them; prices; the ledger.

`OpenCall` is a call in flight, `UsageRecord` one that ended: a call is in exactly one of the two
from the moment it is admitted. `IdempotencyKey` is a name that a caller gave to a call.
`Worker` is the heartbeat by which a dead process is known. `UsageTail` to `UsageZone` are the rollups of the
ledger (proxy/rollups.py).
"""

from __future__ import annotations

import uuid
from typing import Any, ClassVar, TypeVar

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models.functions import Now

from accounts.changes import AnnouncedModel, AnnouncedQuerySet
from accounts.ids import uuid7
from accounts.models import Tenant
from proxy.reasoning import EFFORTS

Row = TypeVar("Row", bound=models.Model)


class Upstream(AnnouncedModel):
    """Somebody else's server, and how to call it. Rows are the operators', never a caller's."""

    class Dialect(models.TextChoices):
        OPENAI = "openai"
        CHATKIT = "chatkit"
        AI_SDK = "ai_sdk"
        DEMO = "demo"

    class Responses(models.TextChoices):
        AUTO = "auto"
        NATIVE = "native"
        CHAT = "chat"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.SlugField(unique=True)
    tenant = models.ForeignKey(
        Tenant,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="+",
        help_text="Only for this tenant.",
    )
    dialect = models.CharField(max_length=16, choices=Dialect.choices, default=Dialect.OPENAI)
    base_url = models.CharField(max_length=500, blank=True, help_text="Such as https://api.openai.com/v1")
    sealed_api_key = models.BinaryField(null=True, blank=True, editable=False)
    sealed_headers = models.BinaryField(null=True, blank=True, editable=False)
    sealed_cookies = models.BinaryField(null=True, blank=True, editable=False)
    organization = models.CharField(max_length=100, blank=True)
    project = models.CharField(max_length=100, blank=True)
    responses = models.CharField(max_length=8, choices=Responses.choices, default=Responses.AUTO)
    takes_caller_keys = models.BooleanField(
        default=True, help_text="Whether a caller may bring an OpenAI key of their own (older paths)."
    )
    repeats_reasoning = models.BooleanField(
        default=False, help_text="gpt-oss: give `reasoning_content` once more as `reasoning`."
    )
    session_prefix = models.CharField(
        max_length=64, blank=True, help_text="ai_sdk: what the ids of its chats begin with."
    )
    connect_timeout_seconds = models.FloatField(default=5, validators=[MinValueValidator(0.1)])
    first_byte_timeout_seconds = models.FloatField(default=600, validators=[MinValueValidator(0.1)])
    idle_timeout_seconds = models.FloatField(default=120, validators=[MinValueValidator(0.1)])
    total_timeout_seconds = models.FloatField(default=900, validators=[MinValueValidator(0.1)])
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return self.name


class ModelQuerySet(AnnouncedQuerySet["Model"]):
    """Models, which are no tenant's; but some lead nowhere for one."""

    def of(self, tenant: Tenant | uuid.UUID) -> ModelQuerySet:
        """Those that lead somewhere for this tenant."""
        theirs = models.Q(upstream__tenant=None) | models.Q(upstream__tenant=tenant)
        routes = Route.objects.filter(theirs, model=models.OuterRef("pk"), upstream__enabled=True)
        return self.filter(models.Exists(routes))


class Model(AnnouncedModel):
    """A name that callers ask for; `*` in it stands for any characters."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=200, unique=True)
    reasoning_effort = models.CharField(
        max_length=8,
        blank=True,
        choices=[(effort, effort) for effort in EFFORTS],
        help_text="Where a caller names none. A model that has one is treated as gpt-oss is.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects: ClassVar[models.Manager[Any]] = ModelQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name


class Route(AnnouncedModel):
    """Where calls for a model may go. Lower `priority` first; `weight` shares among equals."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="routes")
    upstream = models.ForeignKey(Upstream, on_delete=models.CASCADE, related_name="routes")
    upstream_model = models.CharField(
        max_length=200, blank=True, help_text="Its name there; empty: the same."
    )
    priority = models.PositiveSmallIntegerField(default=1)
    weight = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["model", "upstream", "upstream_model"], name="one_route"),
        )

    def __str__(self) -> str:
        return f"{self.model} → {self.upstream}"


class Price(AnnouncedModel):
    """What a model costs from a moment on, in nano-dollars per million tokens or per audio minute."""

    class Source(models.TextChoices):
        OPERATOR = "operator"
        LIST = "list"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    model_name = models.CharField(max_length=200, help_text="The public name, exactly.")
    source = models.CharField(max_length=8, choices=Source.choices, default=Source.OPERATOR)
    input_nano_usd_per_million = models.BigIntegerField(
        null=True, blank=True, validators=[MinValueValidator(0)]
    )
    cached_input_nano_usd_per_million = models.BigIntegerField(
        null=True, blank=True, validators=[MinValueValidator(0)]
    )
    output_nano_usd_per_million = models.BigIntegerField(
        null=True, blank=True, validators=[MinValueValidator(0)]
    )
    nano_usd_per_minute = models.BigIntegerField(null=True, blank=True, validators=[MinValueValidator(0)])
    effective_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["model_name", "source", "effective_at"], name="one_price"),
        )

    def __str__(self) -> str:
        return f"{self.model_name} from {self.effective_at:%Y-%m-%d}"


class Worker(models.Model):
    """A process that settles calls. Its heartbeat gone, its open calls are the reaper's.

    A `worker` makes what runs in the background, and nothing else; while one lives, no `web` does.
    """

    WEB = "web"
    BACKGROUND = "worker"
    MAKE_CALLS = (WEB, BACKGROUND)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=8, default="web")
    seen_at = models.DateTimeField(db_default=Now())
    health = models.JSONField(default=dict, help_text="How upstreams do, as it sees it (proxy/health.py).")


class CallQuerySet(models.QuerySet[Row]):
    """Calls, which no process caches."""

    def of(self, tenant: Tenant | uuid.UUID) -> CallQuerySet[Row]:
        """Those of this tenant."""
        return self.filter(tenant_id=tenant.id if isinstance(tenant, Tenant) else tenant)


class CallRow(models.Model):
    """What is known of a call when it is admitted."""

    id = models.UUIDField(primary_key=True, editable=False)
    tenant_id = models.UUIDField()
    user_id = models.BigIntegerField(null=True)
    api_key_id = models.UUIDField(null=True)
    security_key_id = models.UUIDField(null=True)
    endpoint = models.CharField(max_length=32)
    model = models.CharField(max_length=200)
    stream = models.BooleanField()
    started_at = models.DateTimeField()
    budgets = models.JSONField(
        default=list, help_text="What its cost counts against: budget, subject, window."
    )

    objects: ClassVar[models.Manager[Any]] = CallQuerySet.as_manager()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return str(self.id)


class OpenCall(CallRow):
    """A call in flight: written before the upstream hears of it, removed by its settlement."""

    worker_id = models.UUIDField()
    input_tokens_estimate = models.BigIntegerField()

    class Meta:
        indexes = (models.Index(fields=["worker_id"], name="open_call_worker"),)


class UsageRecord(CallRow):
    """A call that ended: append-only, one for every admitted call, however it ended.

    Token counts are the upstream's own unless `estimated`; null where there is none to know.
    `cost_nano_usd` is null when no price is known: unpriced, which is not free.
    """

    class Status(models.TextChoices):
        COMPLETED = "completed"
        FAILED = "failed"
        TRUNCATED = "truncated"
        CANCELLED = "cancelled"
        LOST = "lost"

    status = models.CharField(max_length=10, choices=Status.choices)
    status_code = models.PositiveSmallIntegerField(null=True)
    error_code = models.CharField(max_length=64, blank=True)
    upstream = models.CharField(max_length=50, blank=True)
    upstream_model = models.CharField(max_length=200, blank=True)
    attempts = models.JSONField(default=list)
    input_tokens = models.BigIntegerField(null=True)
    cached_input_tokens = models.BigIntegerField(null=True)
    output_tokens = models.BigIntegerField(null=True)
    reasoning_tokens = models.BigIntegerField(null=True)
    audio_milliseconds = models.BigIntegerField(null=True)
    estimated = models.BooleanField()
    cost_nano_usd = models.BigIntegerField(null=True)
    first_byte_milliseconds = models.IntegerField(null=True)
    duration_milliseconds = models.IntegerField()
    ended_at = models.DateTimeField()

    class Meta:
        # The latest calls are always more than PostgreSQL expects, so that it may take either of them for a
        # tenant's: with the tenant in both, neither has the rows of all others read.
        indexes = (
            models.Index(fields=["tenant_id", "started_at", "id"], name="usage_by_tenant"),
            models.Index(fields=["started_at", "tenant_id"], name="usage_by_time"),
        )


class IdempotencyKey(models.Model):
    """A name that a caller gave to a call, so that repeating it does nothing twice (proxy/idempotency.py)."""

    class State(models.TextChoices):
        RUNNING = "running"
        KEPT = "kept"
        TOO_LARGE = "too_large"

    digest = models.CharField(max_length=64, primary_key=True, help_text="Of tenant, owner and name.")
    tenant_id = models.UUIDField()
    call_id = models.UUIDField(unique=True)
    body_digest = models.CharField(max_length=64)
    state = models.CharField(max_length=10, choices=State.choices, default=State.RUNNING)
    sealed_answer = models.BinaryField(null=True)
    expires_at = models.DateTimeField(db_index=True)


class HistogramField(models.Field):  # type: ignore[type-arg]
    """A histogram (proxy/histogram.py): an integer of any length, which PostgreSQL adds up by itself."""

    def db_type(self, connection: Any) -> str:
        return "numeric" if connection.vendor == "postgresql" else "text"


class UsageTail(models.Model):
    """A usage record that the rollups do not hold yet: added by the statement that adds the record."""

    id = models.UUIDField(primary_key=True, editable=False)
    tenant_id = models.UUIDField()


class UsageSeries(models.Model):
    """What some calls have in common; the id is a digest of the rest."""

    id = models.UUIDField(primary_key=True, editable=False)
    tenant_id = models.UUIDField(db_index=True)
    user_id = models.BigIntegerField(null=True)
    api_key_id = models.UUIDField(null=True)
    security_key_id = models.UUIDField(null=True)
    endpoint = models.CharField(max_length=32)
    model = models.CharField(max_length=200)
    upstream = models.CharField(max_length=50)
    status = models.CharField(max_length=10)
    error_code = models.CharField(max_length=64)

    objects: ClassVar[models.Manager[Any]] = CallQuerySet.as_manager()


class UsageSum(models.Model):
    """What the calls of one series came to that were admitted in some stretch of time.

    `failed` are those that ended as nobody wished: failed, truncated or lost.
    `cost_nano_usd` is of the calls that have a price, `unpriced` counts the others. The histograms are of
    calls that completed.
    """

    tenant_id = models.UUIDField()
    series_id = models.UUIDField()
    start_at = models.DateTimeField()
    calls = models.BigIntegerField()
    failed = models.BigIntegerField()
    cancelled = models.BigIntegerField()
    input_tokens = models.BigIntegerField()
    cached_input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    reasoning_tokens = models.BigIntegerField()
    audio_milliseconds = models.BigIntegerField()
    cost_nano_usd = models.BigIntegerField()
    unpriced = models.BigIntegerField()
    estimated = models.BigIntegerField()
    durations = HistogramField()
    first_bytes = HistogramField()

    class Meta:
        abstract = True


class UsageQuarter(UsageSum):
    """In a quarter of an hour, which begins at :00, :15, :30 or :45: midnight in every time zone is one's
    start."""

    pk = models.CompositePrimaryKey("tenant_id", "start_at", "series_id")

    class Meta:
        indexes = (
            models.Index(fields=["start_at"], name="usage_quarter_start"),
            models.Index(fields=["series_id", "start_at"], name="usage_quarter_series"),
        )


class UsageSpan(UsageSum):
    """In a day or month of a time zone: UTC, and the tenant's own. A `total` is a day of all series
    together."""

    class Unit(models.TextChoices):
        DAY = "day"
        MONTH = "month"
        TOTAL = "total"

    pk = models.CompositePrimaryKey("tenant_id", "unit", "zone", "start_at", "series_id")
    unit = models.CharField(max_length=5, choices=Unit.choices)
    zone = models.CharField(max_length=64)

    class Meta:
        indexes = (
            models.Index(fields=["unit", "zone", "start_at"], name="usage_span_start"),
            models.Index(fields=["series_id", "unit", "zone", "start_at"], name="usage_span_series"),
        )


class UsageZone(models.Model):
    """The time zone in whose days and months a tenant's calls are summed, beside UTC's."""

    tenant_id = models.UUIDField(primary_key=True)
    zone = models.CharField(max_length=64)
