"""The page that shows live calls and nothing else. Its panel is a template that other pages have too."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.models import Membership, Tenant, User
from accounts.tenancy import operator_scope
from gateway import first_steps

MOST_TENANTS = 200


@require_safe
@never_cache
@login_required
def page(request: HttpRequest) -> HttpResponse:
    """`?tenant=` says of which, by its slug; what may be seen is decided where it is shown."""
    user = request.user
    assert isinstance(user, User)
    first_steps.saw_live(request)
    slugs = _tenants_of(user)
    named = request.GET.get("tenant", "")
    if not named and not user.is_superuser and slugs:
        named = slugs[0]
    context = {
        "live_tenant": named,
        "live_of_all": user.is_superuser and not named,
        "tenants": slugs if user.is_superuser or len(slugs) > 1 else (),
        "may_see_all": user.is_superuser,
    }
    return render(request, "gateway/live_page.html", context)


def _tenants_of(user: User) -> list[str]:
    """The slugs of those that somebody may name, the oldest membership first."""
    with operator_scope():
        if user.is_superuser:
            return list(Tenant.objects.order_by("slug").values_list("slug", flat=True)[:MOST_TENANTS])
        found = Membership.objects.filter(user=user, tenant__active=True).order_by("id")
        return list(found.values_list("tenant__slug", flat=True)[:MOST_TENANTS])
