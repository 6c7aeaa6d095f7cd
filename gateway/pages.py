"""The home page, and what is said when a URL leads nowhere: a page to browsers, OpenAI's JSON to programs."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render, resolve_url
from django.views.decorators.csrf import csrf_exempt

from accounts.actors import memberships_of
from accounts.errors import ApiError
from accounts.models import User
from gateway import first_steps
from proxy.asgi import MODELS, POSTS, STORED
from proxy.endpoints import older_paths

_NOTHING_HERE = "There is nothing here. The API begins at /v1/."

_ENDPOINTS = [*sorted({f"/v1{path}" for path in (*POSTS, MODELS, *STORED.table)}), *older_paths.POSTS]


@csrf_exempt  # it takes no form, and says so by a 405
def home(request: HttpRequest) -> HttpResponse:
    if request.method not in ("GET", "HEAD"):
        refusal = ApiError(405, f"{request.method} is not allowed here.", headers=((b"allow", b"GET, HEAD"),))
        return _refuse(request, refusal)
    if is_browser(request):
        context = {
            "base_url": request.build_absolute_uri("/v1"),
            "first_steps": first_steps.open_steps(request),
            "nobody": is_nobody(request.user),
            "sign_in": f"{resolve_url(settings.LOGIN_URL)}?next=/",
        }
        return render(request, "gateway/home.html", context)
    return JsonResponse(
        {
            "success": True,
            "status": "ok",
            "name": "Tollgate",
            "message": "Tollgate is running. It speaks the OpenAI API.",
            "api": "/v1",
            "endpoints": _ENDPOINTS,
            "admin": "/admin/",
            "ready": "/readyz",
            "website": request.build_absolute_uri("/"),
            "repo": "https://github.com/tollgate/tollgate",
        }
    )


def is_nobody(user: User | AnonymousUser) -> bool:
    """Whether somebody signed in who is a member of no tenant."""
    return isinstance(user, User) and not user.is_superuser and not memberships_of(user)


@csrf_exempt  # a call to a path that is not there is a 404 and no form gone wrong
def nowhere(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _refuse(request, ApiError(404, _NOTHING_HERE, code="not_found"))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return _refuse(request, ApiError(400, "The request cannot be read."))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return forbidden_to(request, "You may not see this.")


def forbidden_to(request: HttpRequest, message: str) -> HttpResponse:
    return _refuse(request, ApiError(403, message))


def forged(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form without the token that the page which shows it has."""
    return forbidden_to(
        request, "The form is too old, or not from here. Load the page again, and send it from there."
    )


def too_many(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """What allauth answers to who asks too often."""
    message = "That was too often. Wait a few minutes."
    refusal = ApiError(429, message, code="rate_limit_exceeded", headers=((b"retry-after", b"300"),))
    return _refuse(request, refusal)


def server_error(request: HttpRequest) -> HttpResponse:
    return _refuse(request, ApiError(500, "Something went wrong on our side.", code="internal_error"))


def _refuse(request: HttpRequest, refusal: ApiError) -> HttpResponse:
    response = _page(request, refusal) if is_browser(request) else _document(refusal)
    for name, value in refusal.headers:
        response[name.decode()] = value.decode()
    return response


def _page(request: HttpRequest, refusal: ApiError) -> HttpResponse:
    context: dict[str, Any] = {"status": refusal.status, "message": refusal.message}
    return render(request, "gateway/refusal.html", context, status=refusal.status)


def _document(refusal: ApiError) -> HttpResponse:
    response = HttpResponse(refusal.body(), status=refusal.status, content_type="application/json")
    response["access-control-allow-origin"] = settings.CORS_ORIGIN
    return response


def is_browser(request: HttpRequest) -> bool:
    """A program that takes anything gets JSON; below /v1 and /api everyone does."""
    preferred = request.get_preferred_type(["application/json", "text/html"])
    return preferred == "text/html" and not request.path.startswith(("/v1/", "/api/"))
