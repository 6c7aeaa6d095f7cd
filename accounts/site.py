"""The admin panel as a place: who may enter, in which tenant, and what of the database a request reaches.

Everybody may who is somebody: operators, and the active members of active tenants, each in their role.
Django's `is_staff` decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, resolve, reverse
from unfold.sites import UnfoldAdminSite

from accounts.actors import CHOSEN, Actor, actor_of_session, memberships_of
from accounts.models import User
from accounts.permissions import Reach, reach
from accounts.tenancy import operator_scope

ROOT = "/admin/"
# Sessions are no tenant's: in the scope of one, none can be ended.
SIGN_OUT = f"{ROOT}logout/"


class ActorMiddleware:
    """Knows who asks the panel for something, and makes the request one transaction in their scope: what a
    tenant's people do there the database itself keeps to their tenant."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not request.path_info.startswith(ROOT):
            return self._get_response(request)
        actor = _actor(request)
        request.actor = actor  # type: ignore[attr-defined]  # beside Django's own `user`; see `actor_of`
        if actor is None or request.path_info == SIGN_OUT:
            return self._get_response(request)
        with _scope(request, actor):
            response = self._get_response(request)
            if response.status_code >= 500:  # by now the exception is a page
                transaction.set_rollback(True)
            return response


def _scope(request: HttpRequest, actor: Actor) -> AbstractContextManager[None]:
    """That of the actor; of operators where rows are no tenant's, and the permission table alone decides."""
    pages = getattr(resolve(request.path_info).func, "model_admin", None)
    return operator_scope() if getattr(pages, "common", False) else actor.scope()


def _actor(request: HttpRequest) -> Actor | None:
    user: User | AnonymousUser = request.user
    if isinstance(user, AnonymousUser) or not user.is_active:
        return None
    return actor_of_session(user, request.session.get(CHOSEN))


def is_known(request: HttpRequest) -> bool:
    """Whether whoever asks is somebody whom the panel is for."""
    return getattr(request, "actor", None) is not None


def actor_of(request: HttpRequest) -> Actor:
    """Who asks. Raises PermissionDenied where that is nobody whom the panel is for."""
    actor: Actor | None = request.actor  # type: ignore[attr-defined]
    if actor is None:
        raise PermissionDenied
    return actor


class Panel(UnfoldAdminSite):
    """The site of every admin page."""

    index_template = "admin/panel.html"

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Puts up pages of the shape of accounts/panel.py, and no others: those that libraries bring know
        neither tenants nor the permission table."""
        if hasattr(admin_class, "resource"):
            super().register(model_or_iterable, admin_class, **options)

    def has_permission(self, request: HttpRequest) -> bool:
        return is_known(request)

    def get_urls(self) -> list[Any]:
        return [path("tenant/", self.admin_view(self.choose), name="tenant"), *super().get_urls()]

    def autocomplete_view(self, request: HttpRequest) -> HttpResponse:
        """Looks among the rows of every tenant, for operators: nobody else's pages ask for it."""
        if actor_of(request).tenant_id is not None:
            raise PermissionDenied
        return super().autocomplete_view(request)  # type: ignore[no-any-return]

    def choose(self, request: HttpRequest) -> HttpResponse:
        """Another one of the tenants that the user is a member of."""
        chosen = request.POST.get("tenant", "")
        if chosen not in {each["id"] for each in self._tenants(request)}:
            raise PermissionDenied
        request.session[CHOSEN] = chosen
        return HttpResponseRedirect(reverse(f"{self.name}:index"))

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        context: dict[str, Any] = super().each_context(request)
        if is_known(request):
            may_read = reach(actor_of(request).role, "audit", "read") is not Reach.NONE
            context |= {"tenants_to_choose": self._tenants(request), "show_history": may_read}
        return context

    def _tenants(self, request: HttpRequest) -> list[dict[str, Any]]:
        """Those to choose from, where there is a choice: operators reach all at once."""
        actor = actor_of(request)
        if actor.tenant_id is None:
            return []
        assert isinstance(request.user, User)
        found = [
            {"id": str(each.tenant_id), "name": each.tenant.name, "here": each.tenant_id == actor.tenant_id}
            for each in memberships_of(request.user)
        ]
        return found if len(found) > 1 else []
