"""Pages that are not allauth's: what leads elsewhere, and the admin's own form that leads here."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme


def admin_login(request: HttpRequest) -> HttpResponse:
    """The one form for all, so that nobody gets past their second factor."""
    there = request.GET.get(REDIRECT_FIELD_NAME, "")
    if not url_has_allowed_host_and_scheme(there, allowed_hosts={request.get_host()}):
        there = "/admin/"
    if not request.user.is_authenticated:
        return redirect_to_login(there)
    if not admin.site.has_permission(request):
        raise PermissionDenied
    return redirect(there)


@login_required
def no_password(request: HttpRequest) -> HttpResponse:
    """Where allauth sends those who have none and want to change it."""
    raise PermissionDenied
