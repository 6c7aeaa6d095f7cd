"""Makes models that callers can ask for of what an upstream has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from proxy.discovery import is_name
from proxy.models import Model, Route, Upstream


class NotAName(ValueError):
    """The sentence says why this cannot be a model's name."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """The rows that were made; what was there already is not among them."""

    models: list[Model] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)


def adopt(upstream: Upstream, names: Iterable[str]) -> Adopted:
    """A model of each name, where there is none, with a route to the upstream. Raises NotAName."""
    adopted = Adopted()
    for name in dict.fromkeys(names):
        if not is_name(name) or "*" in name:
            raise NotAName("must be a model's name: up to 200 characters, no path and no *")
        model, new = Model.objects.get_or_create(name=name)
        if new:
            adopted.models.append(model)
        if not Route.objects.filter(model=model, upstream=upstream, upstream_model__in=("", name)).exists():
            adopted.routes.append(Route.objects.create(model=model, upstream=upstream))
    return adopted


def leading_to(upstream: Upstream) -> dict[str, list[str]]:
    """The upstream's own names for models, and the names under which each can be asked for."""
    found: dict[str, list[str]] = {}
    routes = Route.objects.filter(upstream=upstream).order_by("model__name")
    for name, theirs in routes.values_list("model__name", "upstream_model"):
        found.setdefault(theirs or name, []).append(name)
    return found
