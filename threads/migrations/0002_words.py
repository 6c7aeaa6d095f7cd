from django.db import migrations, models

from threads.words import KeepWords


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0004_retention_applied"),
        ("threads", "0001_initial"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="item",
            index=models.Index(
                condition=models.Q(("response_id__isnull", False)),
                fields=["response_id"],
                name="item_response",
            ),
        ),
        KeepWords(),
    ]
