"""Threads, items, stored responses; on PostgreSQL with row security."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import accounts.ids
from accounts.tenancy import RowSecurity


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("accounts", "0003_retention"),
    ]

    operations = [
        migrations.CreateModel(
            name="Thread",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("conversation", models.BooleanField()),
                (
                    "end_user",
                    models.CharField(blank=True, help_text="As the caller names them.", max_length=512),
                ),
                ("title", models.CharField(blank=True, max_length=200)),
                ("metadata", models.JSONField(blank=True, default=dict)),
                (
                    "lineage",
                    models.JSONField(
                        default=list, help_text="Pairs: a thread's id in hex, the end of its part."
                    ),
                ),
                ("start", models.PositiveIntegerField(default=0)),
                ("end", models.PositiveIntegerField(default=0, help_text="The position of the next item.")),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "used_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "expires_at",
                    models.DateTimeField(editable=False, help_text="Of a conversation.", null=True),
                ),
                (
                    "parent",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="branches",
                        to="threads.thread",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.tenant",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="StoredResponse",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                (
                    "kind",
                    models.CharField(
                        choices=[("response", "Response"), ("chat.completion", "Chat Completion")],
                        max_length=16,
                    ),
                ),
                ("model", models.CharField(max_length=200)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("in_progress", "In Progress"),
                            ("completed", "Completed"),
                            ("incomplete", "Incomplete"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                        ],
                        max_length=12,
                    ),
                ),
                ("background", models.BooleanField(default=False)),
                ("in_conversation", models.BooleanField(default=False)),
                ("body", models.TextField(help_text="The JSON that the client sees.")),
                ("metadata", models.JSONField(default=dict)),
                (
                    "end_user",
                    models.CharField(blank=True, help_text="As the caller names them.", max_length=512),
                ),
                ("pending_input", models.TextField(blank=True)),
                (
                    "request",
                    models.TextField(blank=True, help_text="What a background response is made from."),
                ),
                ("input_start", models.PositiveIntegerField(default=0)),
                ("output_start", models.PositiveIntegerField(default=0)),
                ("end", models.PositiveIntegerField(default=0)),
                ("user_id", models.BigIntegerField(null=True)),
                ("api_key_id", models.UUIDField(null=True)),
                ("security_key_id", models.UUIDField(null=True)),
                ("worker_id", models.UUIDField(null=True)),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                (
                    "produced",
                    models.BooleanField(default=False, help_text="Whether any of its answer was given out."),
                ),
                ("not_before", models.DateTimeField(null=True)),
                ("cancel_requested", models.BooleanField(default=False)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                ("ended_at", models.DateTimeField(null=True)),
                ("expires_at", models.DateTimeField(null=True)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.tenant",
                    ),
                ),
                (
                    "thread",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="responses",
                        to="threads.thread",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Item",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.ids.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("position", models.PositiveIntegerField()),
                ("type", models.CharField(max_length=200)),
                ("role", models.CharField(blank=True, max_length=200)),
                ("data", models.TextField()),
                ("text", models.TextField(blank=True)),
                ("response_id", models.UUIDField(null=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.tenant"
                    ),
                ),
                (
                    "thread",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="items",
                        to="threads.thread",
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="thread",
            index=models.Index(fields=["tenant", "id"], name="thread_tenant"),
        ),
        migrations.AddIndex(
            model_name="thread",
            index=models.Index(
                condition=models.Q(("end_user", ""), _negated=True),
                fields=["tenant", "end_user"],
                name="thread_end_user",
            ),
        ),
        migrations.AddIndex(
            model_name="thread",
            index=models.Index(
                condition=models.Q(("expires_at__isnull", False)), fields=["expires_at"], name="thread_expiry"
            ),
        ),
        migrations.AddIndex(
            model_name="storedresponse",
            index=models.Index(fields=["tenant", "kind", "id"], name="response_tenant"),
        ),
        migrations.AddIndex(
            model_name="storedresponse",
            index=models.Index(
                condition=models.Q(("end_user", ""), _negated=True),
                fields=["tenant", "end_user"],
                name="response_end_user",
            ),
        ),
        migrations.AddIndex(
            model_name="storedresponse",
            index=models.Index(
                condition=models.Q(("status", "queued")), fields=["id"], name="response_queue"
            ),
        ),
        migrations.AddIndex(
            model_name="storedresponse",
            index=models.Index(
                condition=models.Q(("status", "in_progress")), fields=["worker_id"], name="response_worker"
            ),
        ),
        migrations.AddIndex(
            model_name="storedresponse",
            index=models.Index(
                condition=models.Q(("expires_at__isnull", False)),
                fields=["expires_at"],
                name="response_expiry",
            ),
        ),
        migrations.AddConstraint(
            model_name="item",
            constraint=models.UniqueConstraint(fields=("thread", "position"), name="one_item_a_position"),
        ),
        RowSecurity("threads_thread"),
        RowSecurity("threads_item"),
        RowSecurity("threads_storedresponse"),
    ]
