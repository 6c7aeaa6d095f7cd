"""The pages of keys, limits and budgets, with what only higher apps than accounts know of them."""

from __future__ import annotations

from django.contrib import admin

from accounts.key_pages import ApiKeyAdmin, SecurityKeyAdmin
from accounts.limit_pages import BudgetAdmin, LimitAdmin
from accounts.models import ApiKey, Budget, Limit, SecurityKey

admin.site.register(ApiKey, ApiKeyAdmin)
admin.site.register(SecurityKey, SecurityKeyAdmin)
admin.site.register(Limit, LimitAdmin)
admin.site.register(Budget, BudgetAdmin)
