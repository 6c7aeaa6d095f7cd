import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_limits_budgets"),
    ]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="continue_dropped",
            field=models.BooleanField(
                default=False, help_text="A stored response goes on when its client hangs up."
            ),
        ),
        migrations.AddField(
            model_name="tenant",
            name="retention_days",
            field=models.PositiveIntegerField(
                blank=True,
                default=30,
                help_text="How long stored responses and idle conversations are kept; empty: for ever.",
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(1),
                    django.core.validators.MaxValueValidator(36500),
                ],
            ),
        ),
    ]
