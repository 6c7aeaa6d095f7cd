import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models
from django.utils import timezone

import accounts.ids
from accounts.tenancy import RowSecurity
from proxy.partitions import CreatePartitioned, make_partitions


def _make_partitions(apps, schema_editor):
    make_partitions(timezone.now())


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("accounts", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Model",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(max_length=200, unique=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="Worker",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("kind", models.CharField(default="web", max_length=8)),
                ("seen_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.CreateModel(
            name="OpenCall",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("tenant_id", models.UUIDField()),
                ("user_id", models.BigIntegerField(null=True)),
                ("api_key_id", models.UUIDField(null=True)),
                ("security_key_id", models.UUIDField(null=True)),
                ("endpoint", models.CharField(max_length=32)),
                ("model", models.CharField(max_length=200)),
                ("stream", models.BooleanField()),
                ("started_at", models.DateTimeField()),
                ("worker_id", models.UUIDField()),
                ("input_tokens_estimate", models.BigIntegerField()),
            ],
            options={
                "indexes": [models.Index(fields=["worker_id"], name="open_call_worker")],
            },
        ),
        migrations.CreateModel(
            name="Price",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("model_name", models.CharField(help_text="The public name, exactly.", max_length=200)),
                (
                    "source",
                    models.CharField(
                        choices=[("operator", "Operator"), ("list", "List")], default="operator", max_length=8
                    ),
                ),
                (
                    "input_nano_usd_per_million",
                    models.BigIntegerField(
                        blank=True, null=True, validators=[django.core.validators.MinValueValidator(0)]
                    ),
                ),
                (
                    "cached_input_nano_usd_per_million",
                    models.BigIntegerField(
                        blank=True, null=True, validators=[django.core.validators.MinValueValidator(0)]
                    ),
                ),
                (
                    "output_nano_usd_per_million",
                    models.BigIntegerField(
                        blank=True, null=True, validators=[django.core.validators.MinValueValidator(0)]
                    ),
                ),
                (
                    "nano_usd_per_minute",
                    models.BigIntegerField(
                        blank=True, null=True, validators=[django.core.validators.MinValueValidator(0)]
                    ),
                ),
                ("effective_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("model_name", "source", "effective_at"), name="one_price")
                ],
            },
        ),
        migrations.CreateModel(
            name="Upstream",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.SlugField(unique=True)),
                (
                    "dialect",
                    models.CharField(
                        choices=[("openai", "Openai"), ("demo", "Demo")], default="openai", max_length=16
                    ),
                ),
                (
                    "base_url",
                    models.CharField(
                        blank=True, help_text="Such as https://api.openai.com/v1", max_length=500
                    ),
                ),
                ("sealed_api_key", models.BinaryField(blank=True, null=True)),
                ("organization", models.CharField(blank=True, max_length=100)),
                ("project", models.CharField(blank=True, max_length=100)),
                (
                    "responses",
                    models.CharField(
                        choices=[("auto", "Auto"), ("native", "Native"), ("chat", "Chat")],
                        default="auto",
                        max_length=8,
                    ),
                ),
                (
                    "connect_timeout_seconds",
                    models.FloatField(default=5, validators=[django.core.validators.MinValueValidator(0.1)]),
                ),
                (
                    "first_byte_timeout_seconds",
                    models.FloatField(
                        default=600, validators=[django.core.validators.MinValueValidator(0.1)]
                    ),
                ),
                (
                    "idle_timeout_seconds",
                    models.FloatField(
                        default=120, validators=[django.core.validators.MinValueValidator(0.1)]
                    ),
                ),
                (
                    "total_timeout_seconds",
                    models.FloatField(
                        default=900, validators=[django.core.validators.MinValueValidator(0.1)]
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        help_text="Only for this tenant.",
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.tenant",
                    ),
                ),
            ],
            options={
                "abstract": False,
            },
        ),
        CreatePartitioned(
            name="UsageRecord",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("tenant_id", models.UUIDField()),
                ("user_id", models.BigIntegerField(null=True)),
                ("api_key_id", models.UUIDField(null=True)),
                ("security_key_id", models.UUIDField(null=True)),
                ("endpoint", models.CharField(max_length=32)),
                ("model", models.CharField(max_length=200)),
                ("stream", models.BooleanField()),
                ("started_at", models.DateTimeField()),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("completed", "Completed"),
                            ("failed", "Failed"),
                            ("truncated", "Truncated"),
                            ("cancelled", "Cancelled"),
                            ("lost", "Lost"),
                        ],
                        max_length=10,
                    ),
                ),
                ("status_code", models.PositiveSmallIntegerField(null=True)),
                ("error_code", models.CharField(blank=True, max_length=64)),
                ("upstream", models.CharField(blank=True, max_length=50)),
                ("upstream_model", models.CharField(blank=True, max_length=200)),
                ("attempts", models.JSONField(default=list)),
                ("input_tokens", models.BigIntegerField(null=True)),
                ("cached_input_tokens", models.BigIntegerField(null=True)),
                ("output_tokens", models.BigIntegerField(null=True)),
                ("reasoning_tokens", models.BigIntegerField(null=True)),
                ("audio_milliseconds", models.BigIntegerField(null=True)),
                ("estimated", models.BooleanField()),
                ("cost_nano_usd", models.BigIntegerField(null=True)),
                ("first_byte_milliseconds", models.IntegerField(null=True)),
                ("duration_milliseconds", models.IntegerField()),
                ("ended_at", models.DateTimeField()),
            ],
            options={
                "indexes": [models.Index(fields=["tenant_id", "started_at"], name="usage_tenant_started")],
            },
        ),
        migrations.CreateModel(
            name="Route",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "upstream_model",
                    models.CharField(
                        blank=True, help_text="Its name there; empty: the same.", max_length=200
                    ),
                ),
                ("priority", models.PositiveSmallIntegerField(default=1)),
                ("weight", models.PositiveIntegerField(default=1)),
                (
                    "model",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="routes", to="proxy.model"
                    ),
                ),
                (
                    "upstream",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="routes",
                        to="proxy.upstream",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("model", "upstream", "upstream_model"), name="one_route")
                ],
            },
        ),
        RowSecurity("proxy_opencall"),
        RowSecurity("proxy_usagerecord"),
        migrations.RunPython(_make_partitions, migrations.RunPython.noop),
    ]
