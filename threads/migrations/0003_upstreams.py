from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("threads", "0002_words"),
    ]

    operations = [
        migrations.AddField(
            model_name="thread",
            name="upstreams",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="What upstreams call it, by their ids; no client sees that.",
            ),
        ),
    ]
