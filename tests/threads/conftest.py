"""Two tenants, acme and globex; SQLite in a file, as people have it."""

from __future__ import annotations

from tests.accounts.conftest import acme, database_threads, django_db_modify_db_settings, globex

__all__ = ["acme", "database_threads", "django_db_modify_db_settings", "globex"]
