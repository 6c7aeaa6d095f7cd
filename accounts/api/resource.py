"""The shape of every resource of the management API: who may, which rows, what is asked for, what is noted.

A request is one transaction, in the scope of whoever asks: of their tenant, or of operators. A refusal undoes
it. Rows are reached through `.of(tenant)` beside that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar, cast
from uuid import UUID

from django.core.cache import caches
from django.db import models, transaction
from django.db.models import Q, QuerySet
from django.http import HttpResponseBase
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from accounts import audit
from accounts.actors import Actor
from accounts.api.authentication import AUTHENTICATION, no_such
from accounts.api.bodies import JsonBody
from accounts.api.fields import Asked, Written, named_alone
from accounts.api.parts import Numbered, by_id
from accounts.api.schema import Described
from accounts.errors import ApiError
from accounts.ids import uuid7
from accounts.models import Tenant
from accounts.permissions import Reach, reach
from accounts.tenancy import operator_scope

REQUESTS_PER_MINUTE = 600

_NO_ACTIONS = (None, "metadata")  # what REST framework calls those that are not there
_RIGHTS = {"list": "read", "retrieve": "read", "partial_update": "update", "destroy": "delete"}


class MayDo(BasePermission):
    """What the permission table says. A method that is not there is refused as such."""

    message = "You may not do this."

    def has_permission(self, request: Request, view: APIView) -> bool:
        resource = cast("Resource", view)
        if request.auth is None:  # nobody: REST framework says that a credential is missing
            return False
        return resource.action in _NO_ACTIONS or resource.reach() is not Reach.NONE


class EachActor(SimpleRateThrottle):
    """So many requests a minute of each key, and of each user who signed in; counted in each process."""

    rate = f"{REQUESTS_PER_MINUTE}/min"
    cache = caches["process"]

    def get_cache_key(self, request: Request, view: APIView) -> str:
        actor = cast(Actor, request.auth)
        return f"management:{actor.key_id or actor.user_id}"


class Resource(GenericViewSet[Any]):
    """Rows of one kind, to look at. `resource` is its name in the path and in the permission table."""

    resource: ClassVar[str]
    noun: ClassVar[str]
    asked: ClassVar[type[Asked]] = Asked
    orderings: ClassVar[tuple[str, ...]] = ()
    own: ClassVar[str] = "user_id"  # the column that says whose a row is
    common: ClassVar[bool] = False  # the rows are no tenant's: row security does not divide them
    rights: ClassVar[Mapping[str, str]] = {}  # what the permission table calls an action of its own
    unscoped: ClassVar[tuple[str, ...]] = ()  # actions that open transactions themselves

    authentication_classes = tuple(AUTHENTICATION)
    permission_classes = (MayDo,)
    throttle_classes = (EachActor,)
    renderer_classes = (JSONRenderer,)
    parser_classes = (JsonBody,)
    pagination_class: Any = Numbered
    metadata_class = None
    http_method_names = ["get", "head", "post", "patch", "delete"]  # REST framework's type
    lookup_url_kwarg = "id"
    lookup_value_regex = "[^/]+"
    schema = Described()

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        self.request_id = uuid7()
        with ExitStack() as self._scopes:
            self._scoped = False
            response = super().dispatch(request, *args, **kwargs)
            if self._scoped and response.status_code >= 400:
                transaction.set_rollback(True)
        response["x-request-id"] = str(self.request_id)
        return response

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if self.action not in self.unscoped:
            self._scopes.enter_context(operator_scope() if self.common else self.actor.scope())
            self._scoped = True

    @property
    def actor(self) -> Actor:
        return cast(Actor, self.request.auth)

    @classmethod
    def right(cls, action: str) -> str:
        """What the permission table calls an action of this resource."""
        return cls.rights.get(action, _RIGHTS.get(action, action))

    def reach(self) -> Reach:
        """How far the actor's right to do this goes."""
        return reach(self.actor.role, self.resource, self.right(self.action or ""))

    def may(self, action: str) -> bool:
        """Whether the actor may do that too."""
        return reach(self.actor.role, self.resource, action) is not Reach.NONE

    # Which rows

    def rows(self) -> QuerySet[Any]:
        """All that there are, with what is shown of them."""
        raise NotImplementedError

    def of(self, rows: QuerySet[Any], tenant_id: UUID) -> QuerySet[Any]:
        """Those of a tenant."""
        return cast(Any, rows).of(tenant_id)  # type: ignore[no-any-return]

    def reached(self) -> QuerySet[Any]:
        """Those of the tenant that is asked for, or of all that the actor reaches. Raises ApiError (404)."""
        rows = self.rows()
        tenant_id = self.actor.tenant_id
        named = self.request.query_params.get("tenant")
        if named is not None:
            tenant_id = self.tenant_called(named).id
        return rows if tenant_id is None else self.of(rows, tenant_id)

    def get_queryset(self) -> QuerySet[Any]:
        rows = self.reached()
        return rows.filter(**{self.own: self.actor.user_id}) if self.reach() is Reach.OWN else rows

    def tenant_called(self, name: str) -> Tenant:
        """The tenant with this slug or id, among those that the actor reaches. Raises ApiError (404)."""
        found = Tenant.objects.all()
        if self.actor.tenant_id is not None:
            found = found.filter(id=self.actor.tenant_id)
        tenant = found.filter(slug=name).first() or by_id(found, name)
        if tenant is None:
            raise no_such("tenant")
        return cast(Tenant, tenant)

    def home(self) -> Tenant:
        """The tenant that what is made belongs to, where its maker names none. Raises ApiError."""
        named = self.request.query_params.get("tenant")
        if named is not None:
            return self.tenant_called(named)
        if self.actor.home_id is None:
            raise ApiError(400, "tenant: Say whose it is to be.", param="tenant")
        return self.tenant_called(str(self.actor.home_id))

    def get_object(self) -> Any:
        row = by_id(self.get_queryset(), self.kwargs["id"])
        if row is None:
            raise no_such(self.noun)
        return row

    def one_tenant(self) -> bool:
        """Whether all rows that are asked for are one tenant's."""
        return self.actor.tenant_id is not None or "tenant" in self.request.query_params

    # What is shown

    def context_of(self, rows: Sequence[Any]) -> dict[str, Any]:
        """What else has to be known to show these rows, asked for once for all of them."""
        return {}

    def shown(self, row: Any) -> dict[str, Any]:
        return dict(self.get_serializer(row, context=self._context([row])).data)

    def _context(self, rows: Sequence[Any]) -> dict[str, Any]:
        return {**self.get_serializer_context(), **self.context_of(rows)}

    def list(self, request: Request) -> Response:
        values = self.asked.read(request, self.orderings)
        page = self.paginate_queryset(self.listed(request, values)) or ()
        shown = self.get_serializer(page, many=True, context=self._context(page)).data
        return self.get_paginated_response(shown)

    def listed(self, request: Request, values: dict[str, Any]) -> Any:
        """What the pages are made of: the rows that were asked for, in the order that was."""
        rows = self.filtered(self.get_queryset(), values)
        ordering = request.query_params.get("ordering")
        return rows.order_by(ordering or self.orderings[0], "id") if self.orderings else rows

    def filtered(self, rows: QuerySet[Any], values: dict[str, Any]) -> QuerySet[Any]:
        """Those that were asked for; the fields of `asked` have the columns as their sources."""
        return rows.filter(Q(**values))

    def retrieve(self, request: Request, id: str) -> Response:
        named_alone(request)
        return Response(self.shown(self.get_object()))

    # What is noted

    def note(self, action: str, row: Any, fields: Iterable[str] = (), reason: str = "") -> None:
        """In the audit log."""
        what = audit.What(
            action=action,
            resource=self.resource,
            object_id=str(row.pk),
            name=self.name_of(row),
            tenant_id=self.tenant_of(row),
            fields=tuple(fields),
            reason=reason,
        )
        self.note_that(what)

    def note_that(self, what: audit.What) -> None:
        actor = self.actor
        via = "session" if actor.key_id is None else "key"
        audit.record(audit.Who(actor.user_id, actor.name, via, actor.key_id), what, self.request_id)

    def name_of(self, row: Any) -> str:
        """What people know it by."""
        return str(row)

    def tenant_of(self, row: Any) -> UUID | None:
        """Whose audit log says what happened to it."""
        return cast(UUID | None, row.tenant_id)


class Made(Resource):
    """…, and to make."""

    def create(self, request: Request) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        row = self.make(serializer)
        self.note("create", row, given(serializer))
        return Response(self.shown(row), status=201)

    def make(self, serializer: BaseSerializer[Any]) -> Any:
        """Raises ApiError."""
        return serializer.save()


class Altered(Resource):
    """…, and to alter."""

    def partial_update(self, request: Request, id: str) -> Response:
        row = self.get_object()
        serializer = self.get_serializer(row, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        self.check_alteration(row, serializer.validated_data)
        assert isinstance(serializer, Written)
        changed = serializer.changed()
        if changed:
            row = serializer.save()
            self.note("update", row, changed)
        return Response(self.shown(row))

    def check_alteration(self, row: Any, values: dict[str, Any]) -> None:
        """Raises ApiError where this actor may not, or nobody may."""


class Removed(Resource):
    """…, and to delete."""

    def destroy(self, request: Request, id: str) -> Response:
        row = self.get_object()
        self.check_removal(row)
        self.note("delete", row)
        self.remove(row)
        return Response(status=204)

    def check_removal(self, row: Any) -> None:
        """Raises ApiError where this actor may not, or nobody may."""

    def remove(self, row: models.Model) -> None:
        row.delete()


def given(serializer: BaseSerializer[Any]) -> list[str]:
    """The fields that the caller gave."""
    return [name for name in serializer.fields if name in serializer.initial_data]  # type: ignore[attr-defined]
