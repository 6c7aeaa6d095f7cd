from django.db import migrations, models

from accounts.tenancy import RowSecurity


class Migration(migrations.Migration):
    dependencies = [
        ("proxy", "0002_budgets"),
    ]

    operations = [
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                (
                    "digest",
                    models.CharField(
                        help_text="Of tenant, owner and name.",
                        max_length=64,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("tenant_id", models.UUIDField()),
                ("call_id", models.UUIDField(unique=True)),
                ("body_digest", models.CharField(max_length=64)),
                (
                    "state",
                    models.CharField(
                        choices=[("running", "Running"), ("kept", "Kept"), ("too_large", "Too Large")],
                        default="running",
                        max_length=10,
                    ),
                ),
                ("sealed_answer", models.BinaryField(null=True)),
                ("expires_at", models.DateTimeField(db_index=True)),
            ],
        ),
        RowSecurity("proxy_idempotencykey"),
    ]
