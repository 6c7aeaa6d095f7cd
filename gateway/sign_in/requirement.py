"""REQUIRE_MFA: who has to have a second factor, and where those who have none are led.

Whoever came through the identity provider has shown there what it asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from allauth.account.authentication import AUTHENTICATION_METHODS_SESSION_KEY
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from accounts.models import User
from gateway.pages import forbidden_to, is_browser

_OPEN = ("/accounts/", "/static/")
SENTENCE = "Set up a second factor first, at /accounts/."


def is_wanting(user: User | AnonymousUser, session: Mapping[str, Any]) -> bool:
    """Whether somebody who signed in needs a second factor and has none."""
    if settings.REQUIRE_MFA == "nobody" or isinstance(user, AnonymousUser):
        return False
    if settings.REQUIRE_MFA == "operators" and not user.is_superuser:
        return False
    ways = session.get(AUTHENTICATION_METHODS_SESSION_KEY) or ()
    return not any(way["method"] == "socialaccount" for way in ways) and not is_mfa_enabled(user)


class SecondFactorMiddleware:
    """Nothing of Django's but the pages to set one up is for who is wanting."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if settings.REQUIRE_MFA == "nobody" or request.path_info.startswith(_OPEN):
            return self._get_response(request)
        if not is_wanting(request.user, request.session):
            return self._get_response(request)
        if is_browser(request):
            return HttpResponseRedirect(reverse("mfa_index"))
        return forbidden_to(request, SENTENCE)
