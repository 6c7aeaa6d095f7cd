from django.db import migrations

from accounts.tenancy import RowSecurityAnew

TABLES = (
    *("accounts_membership", "accounts_securitykey", "accounts_apikey", "accounts_limit", "accounts_budget"),
    *("accounts_spend", "accounts_auditentry", "threads_thread", "threads_item", "threads_storedresponse"),
    *("proxy_opencall", "proxy_usagerecord", "proxy_idempotencykey", "proxy_usagetail", "proxy_usageseries"),
    *("proxy_usagequarter", "proxy_usagespan", "proxy_usagezone"),
)


class Migration(migrations.Migration):
    """The policies of row security, which are now asked once for each statement."""

    dependencies = [
        ("accounts", "0005_audit"),
        ("proxy", "0006_rollups"),
        ("threads", "0001_initial"),
    ]

    operations = [
        RowSecurityAnew("accounts_tenant", column="id"),
        *(RowSecurityAnew(table) for table in TABLES),
    ]
