"""What a dialect makes of a call: one request to an upstream. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Outbound:
    """A POST. `path` follows the upstream's base URL. Headers may tell who somebody is: never printed."""

    path: str
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def url(self, base_url: str) -> str:
        """Where it goes. Operators may write the base URL with or without the path."""
        base_url = base_url.rstrip("/")
        return base_url if self.path and base_url.endswith(self.path) else base_url + self.path
