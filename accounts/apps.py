from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class AccountsConfig(AppConfig):
    name = "accounts"


class PanelConfig(AdminConfig):
    """Django's admin, on a site of our own."""

    default_site = "accounts.site.Panel"
