from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_retention"),
    ]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="retention_applied",
            field=models.PositiveIntegerField(
                default=30, editable=False, help_text="What holds for what is stored already.", null=True
            ),
        ),
    ]
