"""`/dashboard/`: what calls came to; `/dashboard/calls/`: the calls; `/dashboard/live/`: as they are made."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.actors import NotManaging
from accounts.errors import ApiError
from accounts.models import User
from gateway import first_steps
from gateway.dashboard.asked import Asked
from gateway.dashboard.listing import calls_of
from gateway.dashboard.page import numbers_of
from gateway.dashboard.period import BadPeriod
from gateway.dashboard.viewer import Viewer, viewer_of

Page = Callable[[HttpRequest, Viewer], HttpResponse]


def _seen(page: Page) -> Callable[[HttpRequest], HttpResponse]:
    """For those who are signed in and may see usage: of the tenant that they name, else of their first."""

    @require_safe
    @login_required
    @wraps(page)
    def view(request: HttpRequest) -> HttpResponse:
        user = request.user
        assert isinstance(user, User)
        try:
            return page(request, viewer_of(user, request.GET.get("tenant", "")))
        except NotManaging:
            return _refusal(request, 403, "You are a member of no tenant: ask an owner or an operator.")
        except BadPeriod as error:
            return _refusal(request, 400, str(error))
        except ApiError as error:
            return _refusal(request, error.status, error.message)

    return view


def _refusal(request: HttpRequest, status: int, message: str) -> HttpResponse:
    return render(request, "gateway/refusal.html", {"status": status, "message": message}, status=status)


@_seen
def dashboard(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    now = datetime.now(UTC)
    context = numbers_of(Asked.of(viewer, request.GET, now), now)
    around = {
        "base_url": request.build_absolute_uri("/v1"),
        "first_steps": first_steps.open_steps(request),
    }
    return render(request, "gateway/dashboard.html", {**context, **around})


@_seen
def live(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    first_steps.saw_live(viewer.actor.user_id)
    return render(request, "gateway/live_page.html", {"viewer": viewer})


@_seen
def calls(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    asked = Asked.of(viewer, request.GET, datetime.now(UTC))
    return render(request, "gateway/calls.html", calls_of(asked, request.GET))
