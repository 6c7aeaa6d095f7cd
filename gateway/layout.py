"""What every page of our own shows around its content."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest


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
    """Context of every template: the menu."""
    return {"places": PLACES}
