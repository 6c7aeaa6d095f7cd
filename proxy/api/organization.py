"""Usage and costs in the shape of OpenAI's own API: what was made to watch an organization there works
here.

A project is a tenant. The numbers are those that the dashboard tells. Buckets are the minutes, hours and
days of UTC; the first begins at `start_time` and the last ends at `end_time`, also where that cuts a
bucket. Source: OpenAI's published schema 2.3.0 and its Python SDK 3.52, read 2026-11.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, cast
from uuid import UUID

from django.conf import settings
from django.http import HttpResponse, HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.actors import Actor, names_of
from accounts.api.authentication import KeyAuthentication
from accounts.api.resource import EachActor
from accounts.ids import uuid7
from accounts.models import Tenant, User
from accounts.money import NANO
from accounts.tenancy import operator_scope
from proxy.api.organization_query import Allowed, Asked, at
from proxy.usage_query import Question, Scope, Value
from proxy.usage_report import COUNTS, Line, Sums, one_moment, over_time

_COMPLETIONS = ("chat.completions", "completions", "responses", "responses.compact", "responses.input_tokens")
_AUDIO = ("audio.transcriptions", "audio.translations")
_USUAL = ("project_id", "user_id", "api_key_id", "model")
_USUAL_FILTERS = ("project_ids", "user_ids", "api_key_ids", "models")
_BUCKETS = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}
# How the report calls what is grouped by; and what is the same for every call here, or known of none.
_GROUPS = {
    "project_id": "tenant",
    "user_id": "user",
    "api_key_id": "key",
    "model": "model",
    "line_item": "model",
}
_CONSTANTS = {"batch": False, "service_tier": None, "api_source": "unlabeled", "size": None, "source": None}
_PREFLIGHT = {
    "access-control-allow-methods": "GET, OPTIONS",
    "access-control-allow-headers": "authorization, content-type, openai-organization, openai-project",
    "access-control-max-age": "86400",
}


def _of_completions(sums: Sums) -> dict[str, Any]:
    return {
        "input_tokens": sums.input_tokens,
        "input_cached_tokens": sums.cached_input_tokens,
        "input_uncached_tokens": sums.input_tokens - sums.cached_input_tokens,
        "output_tokens": sums.output_tokens,
        "num_model_requests": sums.calls,
    }


def _of_embeddings(sums: Sums) -> dict[str, Any]:
    return {"input_tokens": sums.input_tokens, "num_model_requests": sums.calls}


def _of_audio(sums: Sums) -> dict[str, Any]:
    return {"seconds": round(sums.audio_milliseconds / 1000), "num_model_requests": sums.calls}


def _of_costs(sums: Sums) -> dict[str, Any]:
    amount = {"value": sums.cost_nano_usd / NANO, "currency": "usd"}
    return {"amount": amount, "quantity": None, "quantity_unit": None}


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the paths: which endpoints' calls it tells of, and what. No endpoints: the gateway takes no such
    calls, so that there are buckets and nothing in them."""

    result: str
    told: Callable[[Sums], dict[str, Any]]
    endpoints: tuple[str, ...]
    allowed: Allowed = Allowed(_USUAL, _USUAL_FILTERS, _BUCKETS)  # noqa: RUF009


_OF_COMPLETIONS = Allowed(
    (*_USUAL, "batch", "service_tier", "api_source"), (*_USUAL_FILTERS, "batch"), _BUCKETS
)
_OF_IMAGES = Allowed((*_USUAL, "size", "source"), (*_USUAL_FILTERS, "sizes", "sources"), _BUCKETS)
_OF_COSTS = Allowed(
    ("project_id", "user_id", "line_item", "api_key_id", "api_source"), _USUAL_FILTERS[:3], {"1d": (7, 180)}
)
KINDS = {
    "completions": Kind("usage.completions", _of_completions, _COMPLETIONS, _OF_COMPLETIONS),
    "embeddings": Kind("usage.embeddings", _of_embeddings, ("embeddings",)),
    "audio_transcriptions": Kind("usage.audio_transcriptions", _of_audio, _AUDIO),
    "audio_speeches": Kind("usage.audio_speeches", _of_embeddings, ()),
    "images": Kind("usage.images", _of_embeddings, (), _OF_IMAGES),
    "moderations": Kind("usage.moderations", _of_embeddings, ()),
}
COSTS = Kind("costs", _of_costs, (*_COMPLETIONS, "embeddings", *_AUDIO), _OF_COSTS)


class MaySeeUsage(BasePermission):
    """What the permission table says of `usage`: all of a tenant's, or one's own."""

    message = "You may not do this."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.auth is not None and Scope.of(cast(Actor, request.auth)) is not None


@extend_schema(exclude=True)  # it is OpenAI's schema that says what these are
class Buckets(APIView):
    """`{"object": "page", "data": [{"object": "bucket", …}], "has_more", "next_page"}`."""

    kind: ClassVar[Kind] = COSTS
    authentication_classes = (KeyAuthentication,)
    permission_classes = (MaySeeUsage,)
    throttle_classes = (EachActor,)
    renderer_classes = (JSONRenderer,)
    http_method_names = ["get"]

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        preflight = request.method == "OPTIONS"
        response = HttpResponse(status=204) if preflight else super().dispatch(request, *args, **kwargs)
        for name, value in _PREFLIGHT.items() if preflight else ():
            response[name] = value
        response["access-control-allow-origin"] = settings.CORS_ORIGIN
        response["x-request-id"] = str(uuid7())
        return response

    def get(self, request: Request) -> Response:
        actor = cast(Actor, request.auth)
        asked = Asked.of(request.query_params, self.kind.allowed, int(time.time()) + 1)
        lines = self._lines(actor, asked)
        names = names_of(_users(lines) if "user_id" in asked.groups else set())
        by_bucket: dict[int, list[dict[str, Any]]] = {}
        for line in lines:
            by_bucket.setdefault(line.bucket, []).append(self._result(line, asked.groups, names))
        buckets = [
            {"object": "bucket", "start_time": start, "end_time": end, "results": by_bucket.get(number, [])}
            for number, (start, end) in enumerate(pairwise(asked.bounds))
        ]
        more = asked.next_page is not None
        return Response({"object": "page", "data": buckets, "has_more": more, "next_page": asked.next_page})

    def _lines(self, actor: Actor, asked: Asked) -> list[Line]:
        scope = Scope.of(actor)
        assert scope is not None
        of_batches = (asked.filters.get("batch") or ("false",))[0].lower() == "true"
        if not self.kind.endpoints or of_batches or len(asked.bounds) < 2:
            return []
        filters = _filters(asked)
        if self.kind is not COSTS:
            filters["endpoint"] = self.kind.endpoints
        bounds = [at(seconds) for seconds in asked.bounds]
        question = Question(scope, bounds[0], bounds[-1], filters=filters)
        with one_moment(actor.scope()):
            lines = over_time(question, bounds, *_reported(asked.groups), wanted=COUNTS)
        # What has no price is in no bill, which is not to say that it cost nothing.
        return [line for line in lines if line.sums.cost is not None] if self.kind is COSTS else lines

    def _result(self, line: Line, groups: tuple[str, ...], names: Mapping[int, str]) -> dict[str, Any]:
        values = dict(zip(_reported(groups), line.group, strict=True))
        told = dict.fromkeys(self.kind.allowed.groups)
        for group in groups:
            told[group] = _CONSTANTS[group] if group in _CONSTANTS else _shown(values[_GROUPS[group]], names)
        return {"object": f"organization.{self.kind.result}.result", **self.kind.told(line.sums), **told}


def _reported(groups: tuple[str, ...]) -> list[str]:
    """The groups of the report that these come out of."""
    return list(dict.fromkeys(_GROUPS[group] for group in groups if group in _GROUPS))


def _users(lines: list[Line]) -> set[int]:
    return {value for line in lines for value in line.group if isinstance(value, int)}


def _shown(value: Value, names: Mapping[int, str]) -> str | None:
    """A user by what people know them by, as in /api/usage/; tenants and keys by id."""
    if isinstance(value, int):
        return names.get(value, f"user-{value}")
    return None if value is None else str(value)


def _filters(asked: Asked) -> dict[str, tuple[Value, ...]]:
    """Those of the report. What nobody is called is nobody's: it leaves nothing over."""
    filters: dict[str, tuple[Value, ...]] = {}
    if (projects := asked.filters.get("project_ids")) is not None:
        filters["tenant"] = _tenants(projects)
    if (users := asked.filters.get("user_ids")) is not None:
        filters["user"] = _user_ids(users)
    if (keys := asked.filters.get("api_key_ids")) is not None:
        filters["key"] = _uuids(keys)
    if (models := asked.filters.get("models")) is not None:
        filters["model"] = models
    return filters


def _tenants(names: tuple[str, ...]) -> tuple[Value, ...]:
    """By id or by slug."""
    with operator_scope():
        return (*_uuids(names), *Tenant.objects.filter(slug__in=names).values_list("id", flat=True))


def _user_ids(names: tuple[str, ...]) -> tuple[Value, ...]:
    with operator_scope():
        known = [user.pk for user in User.objects.named(names).values()]
    gone = [int(name[5:]) for name in names if name.startswith("user-") and name[5:].isdecimal()]
    return (*known, *(id_ for id_ in gone if id_ < 2**63))


def _uuids(names: tuple[str, ...]) -> tuple[Value, ...]:
    found = []
    for name in names:
        try:
            found.append(UUID(name))
        except ValueError:
            continue
    return tuple(found)
