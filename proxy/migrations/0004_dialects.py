from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("proxy", "0003_idempotencykey"),
    ]

    operations = [
        migrations.AddField(
            model_name="model",
            name="reasoning_effort",
            field=models.CharField(
                blank=True,
                choices=[
                    ("none", "none"),
                    ("minimal", "minimal"),
                    ("low", "low"),
                    ("medium", "medium"),
                    ("high", "high"),
                    ("xhigh", "xhigh"),
                    ("max", "max"),
                    ("ultra", "ultra"),
                ],
                help_text="Where a caller names none. A model that has one is treated as gpt-oss is.",
                max_length=8,
            ),
        ),
        migrations.AddField(
            model_name="upstream",
            name="repeats_reasoning",
            field=models.BooleanField(
                default=False, help_text="gpt-oss: give `reasoning_content` once more as `reasoning`."
            ),
        ),
        migrations.AddField(
            model_name="upstream",
            name="sealed_cookies",
            field=models.BinaryField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="upstream",
            name="sealed_headers",
            field=models.BinaryField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="upstream",
            name="session_prefix",
            field=models.CharField(
                blank=True, help_text="ai_sdk: what the ids of its chats begin with.", max_length=64
            ),
        ),
        migrations.AddField(
            model_name="upstream",
            name="takes_caller_keys",
            field=models.BooleanField(
                default=True, help_text="Whether a caller may bring an OpenAI key of their own (older paths)."
            ),
        ),
        migrations.AlterField(
            model_name="upstream",
            name="dialect",
            field=models.CharField(
                choices=[
                    ("openai", "Openai"),
                    ("chatkit", "Chatkit"),
                    ("ai_sdk", "Ai Sdk"),
                    ("demo", "Demo"),
                ],
                default="openai",
                max_length=16,
            ),
        ),
    ]
