from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("threads", "0003_upstreams"),
    ]

    operations = [
        migrations.AddField(
            model_name="thread",
            name="user_id",
            field=models.BigIntegerField(editable=False, null=True),
        ),
        migrations.AddIndex(
            model_name="thread",
            index=models.Index(
                condition=models.Q(user_id__isnull=False),
                fields=["tenant", "user_id", "id"],
                name="thread_user",
            ),
        ),
    ]
