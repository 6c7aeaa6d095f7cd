"""What every page of our own shows around its content."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.http import HttpRequest

from accounts.actors import called
from accounts.models import User
from gateway.sign_in.requirement import is_wanting


@dataclass(frozen=True, slots=True)
class Place:
    """An entry of the menu."""

    path: str
    title: str


PLACES = (
    Place("/dashboard/", "Dashboard"),
    Place("/playground/", "Playground"),
    Place("/admin/", "Admin"),
    Place("/api/docs/", "API"),
)


def places(request: HttpRequest) -> dict[str, object]:
    """Context of every template: the menu, and what there is to know of who looks at it, asked for when it is
    shown."""
    return {
        "places": PLACES,
        "who": lambda: called(request.user) if isinstance(request.user, User) else "",
        "single_sign_on": settings.OIDC_NAME if settings.OIDC_ISSUER else "",
        "second_factor_wanting": lambda: is_wanting(request.user, request.session),
    }
