"""The paths of a resource: /api/limits/ and /api/limits/{id}/, with or without the slash at the end."""

from __future__ import annotations

from rest_framework.routers import SimpleRouter


class Paths(SimpleRouter):
    """Answers either way, since nothing is redirected here."""

    def __init__(self) -> None:
        super().__init__()
        self.trailing_slash = "/?"
