"""What every answer of Django's lets a browser do with it, and the id that every answer bears.

Invariant: no script runs that is not a file of this server, on any page. A browser holds the redirects after
a form to `form-action` too.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from accounts.ids import uuid7

_OWN = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "font-src": "'self'",
    "connect-src": "'self'",  # its WebSockets too (Content Security Policy 3, "does url match source list")
    "manifest-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "object-src": "'none'",
    "frame-ancestors": "'none'",
}
# Alpine, which the theme of the admin is made with, evaluates the expressions of its attributes.
_ADMIN = {**_OWN, "script-src": "'self' 'unsafe-eval'", "style-src": "'self' 'unsafe-inline'"}


def _policy(directives: dict[str, str]) -> str:
    return "; ".join(f"{name} {sources}" for name, sources in directives.items())


_OWN_POLICY, _ADMIN_POLICY = _policy(_OWN), _policy(_ADMIN)

_NEVER_ASKED_FOR = (
    *("accelerometer", "browsing-topics", "camera", "display-capture", "geolocation", "gyroscope"),
    *("magnetometer", "microphone", "midi", "payment", "serial", "usb", "xr-spatial-tracking"),
)
_PERMISSIONS = ", ".join(f"{name}=()" for name in _NEVER_ASKED_FOR)


class SecurityHeadersMiddleware:
    """Beside what Django's own SecurityMiddleware says."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._get_response(request)
        policy = _ADMIN_POLICY if request.path_info.startswith("/admin/") else _OWN_POLICY
        response.headers.setdefault("Content-Security-Policy", policy)
        response.headers.setdefault("Permissions-Policy", _PERMISSIONS)
        response.headers.setdefault("X-Request-Id", str(uuid7()))
        if request.path_info.startswith("/accounts/"):  # secrets are shown there
            response.headers["Cache-Control"] = "no-store"
        return response
