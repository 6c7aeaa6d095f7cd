"""Limits, budgets and what was spent of them; on PostgreSQL with row security."""

import django.core.validators
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import accounts.ids
from accounts.tenancy import RowSecurity


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Budget",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        blank=True,
                        help_text="A user's e-mail address, a key's or model's name, an IP; empty: each.",
                        max_length=254,
                    ),
                ),
                (
                    "scope",
                    models.CharField(
                        choices=[("tenant", "Tenant"), ("user", "User"), ("key", "Key")], max_length=8
                    ),
                ),
                (
                    "amount_nano_usd",
                    models.BigIntegerField(
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(4000000000000000),
                        ]
                    ),
                ),
                (
                    "period",
                    models.CharField(
                        choices=[("day", "Day"), ("week", "Week"), ("month", "Month"), ("total", "Total")],
                        max_length=8,
                    ),
                ),
                (
                    "allow_unpriced",
                    models.BooleanField(
                        default=False,
                        help_text="Let calls through whose cost nobody can tell: models without a price.",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.tenant"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Limit",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        blank=True,
                        help_text="A user's e-mail address, a key's or model's name, an IP; empty: each.",
                        max_length=254,
                    ),
                ),
                (
                    "scope",
                    models.CharField(
                        choices=[
                            ("tenant", "Tenant"),
                            ("user", "User"),
                            ("key", "Key"),
                            ("ip", "IP address"),
                            ("model", "Model"),
                        ],
                        max_length=8,
                    ),
                ),
                (
                    "requests_per_second",
                    models.PositiveIntegerField(
                        blank=True,
                        null=True,
                        validators=(
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1000000000),
                        ),
                    ),
                ),
                (
                    "requests_per_minute",
                    models.PositiveIntegerField(
                        blank=True,
                        null=True,
                        validators=(
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1000000000),
                        ),
                    ),
                ),
                (
                    "tokens_per_minute",
                    models.PositiveIntegerField(
                        blank=True,
                        null=True,
                        validators=(
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1000000000),
                        ),
                    ),
                ),
                (
                    "concurrent",
                    models.PositiveIntegerField(
                        blank=True,
                        null=True,
                        validators=(
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1000000000),
                        ),
                    ),
                ),
                (
                    "when_exceeded",
                    models.CharField(
                        choices=[("reject", "Reject"), ("queue", "Queue")], default="reject", max_length=8
                    ),
                ),
                (
                    "queue_seconds",
                    models.PositiveSmallIntegerField(
                        default=30,
                        help_text="How long a call waits for its turn at most, where it queues.",
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(600),
                        ],
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.tenant"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Spend",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("subject", models.CharField(max_length=255)),
                ("window_start", models.DateTimeField()),
                ("amount_nano_usd", models.BigIntegerField(default=0)),
                (
                    "budget",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="spends",
                        to="accounts.budget",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.tenant",
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.UniqueConstraint(
                fields=("tenant", "scope", "name", "period"), name="one_budget"
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount_nano_usd__range", (1, 4000000000000000))),
                name="budget_is_positive",
            ),
        ),
        migrations.AddConstraint(
            model_name="limit",
            constraint=models.UniqueConstraint(fields=("tenant", "scope", "name"), name="one_limit"),
        ),
        migrations.AddConstraint(
            model_name="limit",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("requests_per_second__isnull", False),
                    ("requests_per_minute__isnull", False),
                    ("tokens_per_minute__isnull", False),
                    ("concurrent__isnull", False),
                    _connector="OR",
                ),
                name="limit_of_something",
                violation_error_message="Give at least one number: a limit of nothing limits nothing.",
            ),
        ),
        migrations.AddConstraint(
            model_name="limit",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("concurrent__range", (1, 1000000000)),
                    ("queue_seconds__range", (1, 600)),
                    ("requests_per_minute__range", (1, 1000000000)),
                    ("requests_per_second__range", (1, 1000000000)),
                    ("tokens_per_minute__range", (1, 1000000000)),
                ),
                name="limit_is_positive",
            ),
        ),
        migrations.AddConstraint(
            model_name="spend",
            constraint=models.UniqueConstraint(
                fields=("budget", "subject", "window_start"), name="one_spend"
            ),
        ),
        RowSecurity("accounts_limit"),
        RowSecurity("accounts_budget"),
        RowSecurity("accounts_spend"),
    ]
