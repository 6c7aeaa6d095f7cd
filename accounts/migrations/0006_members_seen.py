from django.db import migrations

from accounts.tenancy import MembersAlone, TenantGrant


class Migration(migrations.Migration):
    """What the pages of a tenant's people read beside the tenant's own rows."""

    dependencies = [
        ("accounts", "0005_audit"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        MembersAlone(  # all but the password
            *("id", "username", "email", "first_name", "last_name", "is_active", "is_staff", "is_superuser"),
            *("last_login", "date_joined"),
        ),
        TenantGrant("django_content_type", "SELECT"),
        migrations.AlterModelOptions(name="apikey", options={"verbose_name": "API key"}),
        migrations.AlterModelOptions(name="membership", options={"verbose_name": "member"}),
    ]
