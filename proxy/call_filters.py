"""What the panel's lists of calls are filtered by, in the management API's words, so that links may use them.

Whatever is chosen is shown as chosen, though it be none of the choices. No choice takes reading the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from accounts.models import ApiKey, Membership, Tenant, User
from accounts.panel import TenantFilter
from accounts.permissions import Role
from accounts.reading import BY_ARRIVAL
from accounts.site import actor_of
from accounts.tenancy import operator_scope
from proxy.models import Model, Upstream, UsageRecord
from proxy.spans import between

MOST_CHOICES = 100
SINCE, BEFORE = "started_from", "started_before"
_AGES = {"1h": ("The last hour", 1), "24h": ("24 hours", 24), "7d": ("7 days", 168), "30d": ("30 days", 720)}


class Known(admin.SimpleListFilter):
    """A filter that holds whatever its choices are."""

    def has_output(self) -> bool:
        return True

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        found = list(self.offered(request))[:MOST_CHOICES]
        value = self.value()
        return found if value is None or value in dict(found) else [(value, value), *found]

    def offered(self, request: HttpRequest) -> Iterator[tuple[str, str]]:
        """Pairs of a value and its name."""
        raise NotImplementedError


def chosen_tenant(request: HttpRequest) -> UUID | None:
    """The one tenant whose calls are looked at; None: all of them are."""
    actor, slug = actor_of(request), request.GET.get(TenantFilter.parameter_name)
    if actor.tenant_id is not None or slug is None:
        return actor.tenant_id
    return Tenant.objects.filter(slug=slug).values_list("id", flat=True).first()


class StatusFilter(Known):
    title, parameter_name = "how it ended", "status"

    def offered(self, request: HttpRequest) -> Iterator[tuple[str, str]]:
        yield from UsageRecord.Status.choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset if self.value() is None else queryset.filter(status=self.value())


class ModelFilter(Known):
    title, parameter_name = "model", "model"

    def offered(self, request: HttpRequest) -> Iterator[tuple[str, str]]:
        tenant_id = chosen_tenant(request)
        with operator_scope():  # no tenant may read the table, but some of its rows
            models = Model.objects.exclude(name__contains="*").order_by("name")
            usable = models if tenant_id is None else models.of(tenant_id)
            names = list(usable.values_list("name", flat=True)[:MOST_CHOICES])
        yield from ((name, name) for name in names)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset if self.value() is None else queryset.filter(model=self.value())


class UpstreamFilter(Known):
    """For those who may know of upstreams."""

    title, parameter_name = "upstream", "upstream"

    def offered(self, request: HttpRequest) -> Iterator[tuple[str, str]]:
        for name in Upstream.objects.order_by("name").values_list("name", flat=True)[:MOST_CHOICES]:
            yield name, name

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset if self.value() is None else queryset.filter(upstream=self.value())


class UserFilter(Known):
    """The members of the tenant whose calls are looked at."""

    title, parameter_name = "user", "user"

    def offered(self, request: HttpRequest) -> Iterator[tuple[str, str]]:
        tenant_id = chosen_tenant(request)
        if tenant_id is None:
            return
        members = Membership.objects.of(tenant_id).select_related("user").defer("user__password")
        for member in members.order_by("user__email")[:MOST_CHOICES]:
            name = member.user.email or member.user.username
            yield name, name

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        name = self.value()
        if name is None:
            return queryset
        with operator_scope():
            user = User.objects.named([name]).get(name)
        return queryset.filter(user_id=user.pk) if user else queryset.none()


class KeyFilter(Known):
    """The keys of the tenant whose calls are looked at."""

    title, parameter_name = "API key", "api_key"

    def offered(self, request: HttpRequest) -> Iterator[tuple[str, str]]:
        tenant_id = chosen_tenant(request)
        if tenant_id is not None:
            for key in ApiKey.objects.of(tenant_id).order_by("name")[:MOST_CHOICES]:
                yield str(key.pk), key.name

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        try:
            return queryset.filter(api_key_id=UUID(self.value()))
        except ValueError:
            return queryset.none()


class TimeFilter(admin.ListFilter):
    """When calls began: lately, or between two moments that a link gives."""

    title = "when"
    names: ClassVar = ("when", SINCE, BEFORE)

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        for name in self.names:
            if name in params:
                self.used_parameters[name] = params.pop(name)[-1]

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return [*self.names]

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        used = self.used_parameters
        link: Callable[..., str] = changelist.get_query_string
        yield {"selected": not used, "query_string": link({}, self.names), "display": "All"}
        if SINCE in used or BEFORE in used:
            told = " – ".join(str(used.get(name, ""))[:16] for name in (SINCE, BEFORE))
            yield {"selected": True, "query_string": link({}), "display": told}
        for age, (told, _) in _AGES.items():
            yield {
                "selected": used.get("when") == age,
                "query_string": link({"when": age}, [SINCE, BEFORE]),
                "display": told,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(between(BY_ARRIVAL, *span(request)))


def span(request: HttpRequest) -> tuple[datetime | None, datetime | None]:
    """From when on calls are looked at, and until when. Raises IncorrectLookupParameters."""
    age = _AGES.get(request.GET.get("when", ""))
    since = None if age is None else timezone.now() - timedelta(hours=age[1])
    return _moment(request, SINCE) or since, _moment(request, BEFORE)


def _moment(request: HttpRequest, name: str) -> datetime | None:
    text = request.GET.get(name)
    if not text:
        return None
    try:
        moment = parse_datetime(text)
        if moment is None:
            raise ValueError
        # The databases take no other years, and a time without a zone is UTC's.
        moment = (
            moment if timezone.is_aware(moment) else moment.replace(tzinfo=timezone.get_default_timezone())
        )
        return moment if 1970 < moment.year < 9000 else None
    except ValueError as error:
        raise IncorrectLookupParameters(error) from None


def filters_for(request: HttpRequest, whole: tuple[Any, ...]) -> list[Any]:
    """Those of them that whoever asks has a use for."""
    role = actor_of(request).role
    unfit = set() if role is Role.OPERATOR else {UpstreamFilter}
    return [
        each
        for each in whole
        if each not in unfit | ({UserFilter, KeyFilter} if role is Role.MEMBER else set())
    ]
