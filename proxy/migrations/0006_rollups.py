from django.db import migrations, models
from django.db.migrations.operations.base import Operation

import proxy.models
from accounts.tenancy import PostgresOperation, RowSecurity, operator_scope

_ENQUEUE = "INSERT INTO proxy_usagetail (id, tenant_id) SELECT id, tenant_id FROM proxy_usagerecord"


def _enqueue(apps, schema_editor):
    """What is in the ledger already is added up by the housekeeping, bit by bit."""
    with operator_scope(), schema_editor.connection.cursor() as cursor:
        cursor.execute(_ENQUEUE)


class Storage(PostgresOperation):
    """Room on each page for sums that grow in place, and a short tail."""

    def forwards(self):
        vacuumed = "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000"
        return [
            "ALTER TABLE proxy_usagequarter SET (fillfactor = 80)",
            "ALTER TABLE proxy_usagespan SET (fillfactor = 70)",
            f"ALTER TABLE proxy_usagetail SET ({vacuumed})",
        ]

    def backwards(self):
        return []

    def describe(self):
        return "Store rollups to be updated in place"


class TailTrigger(Operation):
    """Has the database note each record that is inserted, by whomever, in the tail."""

    reversible = True

    def state_forwards(self, app_label, state):
        pass

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        for statement in _NOTED[schema_editor.connection.vendor]:
            schema_editor.execute(statement, params=None)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute("DROP TRIGGER to_tail ON proxy_usagerecord", params=None)
            schema_editor.execute("DROP FUNCTION proxy_usagerecord_to_tail()", params=None)
        else:
            schema_editor.execute("DROP TRIGGER proxy_usagerecord_to_tail", params=None)

    def describe(self):
        return "Note each usage record in the rollups' tail"


_NOTED = {
    "postgresql": (
        """
        CREATE FUNCTION proxy_usagerecord_to_tail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO proxy_usagetail (id, tenant_id) SELECT id, tenant_id FROM added;
            RETURN NULL;
        END $$""",
        """
        CREATE TRIGGER to_tail AFTER INSERT ON proxy_usagerecord
        REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION proxy_usagerecord_to_tail()""",
    ),
    "sqlite": (
        """
        CREATE TRIGGER proxy_usagerecord_to_tail AFTER INSERT ON proxy_usagerecord
        BEGIN INSERT INTO proxy_usagetail (id, tenant_id) VALUES (NEW.id, NEW.tenant_id); END""",
    ),
}


class Migration(migrations.Migration):
    dependencies = [
        ("proxy", "0005_worker_health"),
    ]

    operations = [
        migrations.CreateModel(
            name="UsageSeries",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("tenant_id", models.UUIDField(db_index=True)),
                ("user_id", models.BigIntegerField(null=True)),
                ("api_key_id", models.UUIDField(null=True)),
                ("security_key_id", models.UUIDField(null=True)),
                ("endpoint", models.CharField(max_length=32)),
                ("model", models.CharField(max_length=200)),
                ("upstream", models.CharField(max_length=50)),
                ("status", models.CharField(max_length=10)),
                ("error_code", models.CharField(max_length=64)),
            ],
        ),
        migrations.CreateModel(
            name="UsageTail",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("tenant_id", models.UUIDField()),
            ],
        ),
        migrations.CreateModel(
            name="UsageZone",
            fields=[
                ("tenant_id", models.UUIDField(primary_key=True, serialize=False)),
                ("zone", models.CharField(max_length=64)),
            ],
        ),
        migrations.CreateModel(
            name="UsageSpan",
            fields=[
                ("tenant_id", models.UUIDField()),
                ("series_id", models.UUIDField()),
                ("start_at", models.DateTimeField()),
                ("calls", models.BigIntegerField()),
                ("failed", models.BigIntegerField()),
                ("cancelled", models.BigIntegerField()),
                ("input_tokens", models.BigIntegerField()),
                ("cached_input_tokens", models.BigIntegerField()),
                ("output_tokens", models.BigIntegerField()),
                ("reasoning_tokens", models.BigIntegerField()),
                ("audio_milliseconds", models.BigIntegerField()),
                ("cost_nano_usd", models.BigIntegerField()),
                ("unpriced", models.BigIntegerField()),
                ("estimated", models.BigIntegerField()),
                ("durations", proxy.models.HistogramField()),
                ("first_bytes", proxy.models.HistogramField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tenant_id",
                        "unit",
                        "zone",
                        "start_at",
                        "series_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "unit",
                    models.CharField(
                        choices=[("day", "Day"), ("month", "Month"), ("total", "Total")], max_length=5
                    ),
                ),
                ("zone", models.CharField(max_length=64)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["unit", "zone", "start_at"], name="usage_span_start"),
                    models.Index(fields=["series_id", "unit", "zone", "start_at"], name="usage_span_series"),
                ],
            },
        ),
        migrations.CreateModel(
            name="UsageQuarter",
            fields=[
                ("tenant_id", models.UUIDField()),
                ("series_id", models.UUIDField()),
                ("start_at", models.DateTimeField()),
                ("calls", models.BigIntegerField()),
                ("failed", models.BigIntegerField()),
                ("cancelled", models.BigIntegerField()),
                ("input_tokens", models.BigIntegerField()),
                ("cached_input_tokens", models.BigIntegerField()),
                ("output_tokens", models.BigIntegerField()),
                ("reasoning_tokens", models.BigIntegerField()),
                ("audio_milliseconds", models.BigIntegerField()),
                ("cost_nano_usd", models.BigIntegerField()),
                ("unpriced", models.BigIntegerField()),
                ("estimated", models.BigIntegerField()),
                ("durations", proxy.models.HistogramField()),
                ("first_bytes", proxy.models.HistogramField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tenant_id",
                        "start_at",
                        "series_id",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["start_at"], name="usage_quarter_start"),
                    models.Index(fields=["series_id", "start_at"], name="usage_quarter_series"),
                ],
            },
        ),
        migrations.AddIndex(
            model_name="usagerecord",
            index=models.Index(fields=["started_at"], name="usage_started"),
        ),
        RowSecurity("proxy_usagetail"),
        RowSecurity("proxy_usageseries"),
        RowSecurity("proxy_usagequarter"),
        RowSecurity("proxy_usagespan"),
        RowSecurity("proxy_usagezone"),
        Storage(),
        TailTrigger(),
        migrations.RunPython(_enqueue, migrations.RunPython.noop),
    ]
