"""The shape of every page of the admin panel: who may, which rows, what there is to choose from, what is
noted.

Rights are the permission table's (accounts/permissions.py), and beside it those of accounts/rights.py, which
the management API goes by too. What is another tenant's is not there: the same 404 as for what never was.
Rows are reached through `.of(tenant)`, and a request runs in the scope of whoever asks (accounts/site.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, ClassVar, cast
from uuid import UUID

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import CASCADE, ForeignObjectRel, Model, QuerySet, UUIDField
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.http import urlencode
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from accounts import audit
from accounts.actors import Actor
from accounts.errors import ApiError
from accounts.models import Tenant, User
from accounts.money import NANO, dollars
from accounts.permissions import Reach, Role, reach
from accounts.reading import Question
from accounts.recent import RecentList, RowList
from accounts.site import actor_of, is_known
from accounts.tenancy import operator_scope

_LARGEST_COUNT = 10_000
_MOST_TENANTS = 200
_ACTIONS = {"view": "read", "add": "create", "change": "update", "delete": "delete"}


def is_id(text: str) -> bool:
    """Whether it is a UUID."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


class RecentPaginator(Paginator):  # type: ignore[type-arg]
    """Goes back to the newest 10,000 rows and no further: counting a whole ledger takes minutes."""

    @cached_property
    def count(self) -> int:
        rows = self.object_list
        assert isinstance(rows, QuerySet)
        return rows.values("pk")[:_LARGEST_COUNT].count()


class TenantFilter(admin.SimpleListFilter):
    """One tenant's rows. For operators: everybody else sees one tenant's anyway."""

    title = "tenant"
    parameter_name = "tenant"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        slugs = Tenant.objects.order_by("slug").values_list("slug", flat=True)[:_MOST_TENANTS]
        return [(slug, slug) for slug in slugs]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        tenant = Tenant.objects.filter(slug=self.value()).first()
        return queryset.none() if tenant is None else cast(Any, queryset).of(tenant.id)


class OwnChoices(admin.RelatedFieldListFilter):
    """A filter by another table's rows, of which it offers no other tenant's."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[tuple[Any, Any]]:
        rows = model_admin.choices(request, field.remote_field.model)
        return [(row.pk, str(row)) for row in rows]


class DollarsField(forms.DecimalField):
    """Typed in dollars, kept in nano-dollars."""

    def __init__(self, *, min_value: Decimal = Decimal(0), **options: Any) -> None:
        options = {"max_digits": 18, "decimal_places": 9, "widget": UnfoldAdminDecimalFieldWidget, **options}
        super().__init__(min_value=min_value, **options)

    def clean(self, value: Any) -> Any:
        amount = super().clean(value)
        return None if amount is None else int(amount * NANO)

    def prepare_value(self, value: Any) -> Any:
        return dollars(value).removeprefix("$") if isinstance(value, int) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(None if initial is None else Decimal(initial) / NANO, data)


class RowForm(forms.ModelForm):  # type: ignore[type-arg]
    """A row as its fields are typed. `actor` is whoever types them; a new row is their tenant's."""

    actor: ClassVar[Actor]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        tenant_id = self.actor.tenant_id
        if tenant_id is not None and self.instance._state.adding and hasattr(self.instance, "tenant_id"):
            self.instance.tenant_id = tenant_id
        if self.is_bound:
            self.data = self._without_odd_ids()

    def _without_odd_ids(self) -> Any:
        """What is no id points at nothing. The widgets look up whatever is chosen, and stumble over that."""
        data = cast(Any, self.data).copy()
        for name, field in self.fields.items():
            rows, key = getattr(field, "queryset", None), self.add_prefix(name)
            points_at_ids = rows is not None and isinstance(rows.model._meta.pk, UUIDField)
            if points_at_ids and data.get(key) and not is_id(str(data[key])):
                data[key] = ""
        return data

    def held_to(self, rule: Callable[..., object], *args: object) -> None:
        """By a rule of accounts/rights.py, to which `actor` and these are given. Raises ValidationError."""
        try:
            rule(self.actor, *args)
        except ApiError as error:
            raise forms.ValidationError(error.message) from None

    def _get_validation_exclusions(self) -> set[str]:
        """Without it, two rows of a name would only be noticed by the database."""
        return super()._get_validation_exclusions() - {"tenant"}  # type: ignore[misc,no-any-return]

    def _post_clean(self) -> None:
        """By the model's own rules. It steps up, since they ask for more than a tenant may read."""
        with operator_scope():
            super()._post_clean()  # type: ignore[misc]


class RowAdmin(ModelAdmin):
    """Rows to look at. `resource` is what the permission table calls them."""

    resource: ClassVar[str]
    own: ClassVar[str] = "user_id"  # the column that says whose a row is
    common: ClassVar[bool] = False  # the rows are no tenant's: row security does not divide them
    findable: ClassVar[tuple[str, ...]] = ()  # columns that a link may filter by, beside the filters
    form = RowForm
    actions_on_top = True

    # Who may

    def reach(self, request: HttpRequest, action: str) -> Reach:
        """How far the right to do this goes of whoever asks."""
        return reach(actor_of(request).role, self.resource, action)

    def check_row(self, actor: Actor, action: str, row: Any) -> None:
        """Raises ApiError where a rule beside the table refuses this."""

    def may(self, request: HttpRequest, action: str, row: Model | None = None) -> bool:
        """Whether whoever asks may do this: at all, or to this row."""
        if not is_known(request):
            return False
        actor, far = actor_of(request), self.reach(request, action)
        if row is None or far is Reach.NONE:
            return far is not Reach.NONE
        if far is Reach.OWN and getattr(row, self.own) != actor.user_id:
            return False
        try:
            self.check_row(actor, action, row)
        except ApiError:
            return False
        return True

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "read")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may(request, "read", obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.may(request, "create")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may(request, "update", obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may(request, "delete", obj)

    # Which rows

    def of(self, rows: QuerySet[Any], tenant_id: UUID) -> QuerySet[Any]:
        """Those of a tenant."""
        return rows if self.common else cast(Any, rows).of(tenant_id)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        actor, far = actor_of(request), self.reach(request, "read")
        if far is Reach.NONE:
            return rows.none()
        if actor.tenant_id is not None:
            rows = self.of(rows, actor.tenant_id)
        return rows.filter(**{self.own: actor.user_id}) if far is Reach.OWN else rows

    def choices(self, request: HttpRequest, table: type[Model]) -> QuerySet[Any]:
        """The rows of another table that one of these may point at."""
        rows, tenant_id = table._default_manager.all(), actor_of(request).tenant_id
        if tenant_id is None:
            return rows
        if table is Tenant:
            return rows.filter(pk=tenant_id)
        if table is User:
            return rows.filter(memberships__tenant=tenant_id).defer("password").order_by("username")
        return cast(Any, rows).of(tenant_id)  # type: ignore[no-any-return]

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        options.setdefault("queryset", self.choices(request, db_field.remote_field.model))
        return super().formfield_for_foreignkey(db_field, request, **options)

    def get_autocomplete_fields(self, request: HttpRequest) -> Sequence[str]:
        """Operators look among everybody; one tenant's people are few enough to list."""
        whole: Sequence[str] = super().get_autocomplete_fields(request)
        return whole if actor_of(request).tenant_id is None else ()

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """By the filters, and not by any column: what is not shown is not found out by searching either."""
        columns = set(self.findable)
        for each in self.get_list_filter(request):
            if isinstance(each, type) and issubclass(each, admin.SimpleListFilter):
                columns.add(each.parameter_name or "")
            else:
                columns.add(each[0] if isinstance(each, tuple) else str(each))
        known = any(lookup == column or lookup.startswith(f"{column}__") for column in columns)
        fit = "\0" not in str(value)  # which PostgreSQL takes for a mistake of ours
        return known and fit and bool(super().lookup_allowed(lookup, value, request))

    # What is shown

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[RowList]:
        return RowList

    def prepare(self, rows: Sequence[Any]) -> None:
        """With what else is shown of them in a list, asked for once for all of them."""

    def get_list_display(self, request: HttpRequest) -> Sequence[Any]:
        return self.shown_to(request, super().get_list_display(request))

    def get_list_filter(self, request: HttpRequest) -> Sequence[Any]:
        whole: Sequence[Any] = super().get_list_filter(request)
        return whole if actor_of(request).tenant_id is None else [x for x in whole if x is not TenantFilter]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[Any]:
        return self.shown_to(request, super().get_fields(request, obj))

    def shown_to(self, request: HttpRequest, names: Sequence[Any]) -> Sequence[Any]:
        """Whose a row is goes without saying where all are one tenant's."""
        return names if actor_of(request).tenant_id is None else [name for name in names if name != "tenant"]

    def get_form(self, request: HttpRequest, obj: Any = None, **options: Any) -> Any:
        made = super().get_form(request, obj, **options)
        made.actor = actor_of(request)
        return made

    def get_deleted_objects(self, objs: Iterable[Model], request: HttpRequest) -> Any:
        """The rows, and how many others go with them, for which the right to delete these is enough."""
        rows = list(objs)
        refused = {
            str(self.opts.verbose_name) for row in rows if not self.has_delete_permission(request, row)
        }
        counts = {str(self.opts.verbose_name_plural): len(rows), **going_along(self.model, rows)}
        return [str(row) for row in rows], counts, refused, []

    def _get_obj_does_not_exist_redirect(
        self, request: HttpRequest, opts: Any, object_id: str
    ) -> HttpResponse:
        raise Http404

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """What the audit log says of the row."""
        if not self.may(request, "read"):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        found = urlencode({"resource": self.resource, "object_id": row.pk})
        return HttpResponseRedirect(f"{reverse('admin:accounts_auditentry_changelist')}?{found}")


def going_along(table: type[Model], rows: Sequence[Model]) -> dict[str, int | str]:
    """How many rows of which other tables are deleted with these."""
    found: dict[str, int | str] = {}
    for relation in table._meta.get_fields(include_hidden=True):
        if not isinstance(relation, ForeignObjectRel) or relation.on_delete is not CASCADE:
            continue
        others = relation.related_model
        theirs = others._default_manager.filter(**{f"{relation.field.name}__in": rows})
        number = theirs.values("pk")[: _LARGEST_COUNT + 1].count()
        if number:
            told = f"more than {_LARGEST_COUNT:,}" if number > _LARGEST_COUNT else number
            found[str(others._meta.verbose_name_plural)] = told
    return found


class WatchedAdmin(RowAdmin):
    """Rows that grow without end, newest first, and that nobody alters here. A list looks through a part of
    them, however rare what it is to show."""

    ordering = ("-id",)  # by time: the identifiers are UUIDv7
    sortable_by = ()
    paginator = RecentPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # which would count all rows for each choice of each filter
    list_after_template = "admin/older.html"

    def get_changelist(self, request: HttpRequest, **options: Any) -> type[RecentList]:
        return RecentList

    def looked_at(self, request: HttpRequest) -> Question:
        """The rows that an index finds: those of one tenant, where one is chosen."""
        rows, tenant_id = self.model._default_manager.all(), actor_of(request).tenant_id
        chosen = request.GET.get(TenantFilter.parameter_name)
        if tenant_id is None and chosen is not None:
            tenant_id = Tenant.objects.filter(slug=chosen).values_list("id", flat=True).first()
        return Question(rows if tenant_id is None else self.of(rows, tenant_id), {})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class AuditedAdmin(RowAdmin):
    """…, and to change, which the audit log tells of. Django's own log is not written."""

    def construct_change_message(
        self, request: HttpRequest, form: Any, formsets: Any, add: bool = False
    ) -> list[str]:
        """The fields that changed, and the kinds of rows within."""
        inner = [str(each.model._meta.verbose_name) for each in formsets or () if each.has_changed()]
        return [*form.changed_data, *inner]

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> None:
        self.note(request, "create", obj)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> None:
        self.note(request, "update", obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Iterable[Model]) -> None:
        for row in queryset:
            self.note(request, "delete", row)

    def note(self, request: HttpRequest, action: str, row: Model, fields: Iterable[str] = ()) -> None:
        """In the audit log."""
        actor = actor_of(request)
        tenant_id = row.pk if isinstance(row, Tenant) else getattr(row, "tenant_id", None)
        audit.record(
            audit.Who(actor.user_id, actor.name, "admin"),
            audit.change(action, self.resource, row, tenant_id, fields),
        )


class OperatorsAlone(RowAdmin):
    """Rows that the permission table does not know, since nobody but operators has to do with them."""

    common = True

    def reach(self, request: HttpRequest, action: str) -> Reach:
        return Reach.ALL if actor_of(request).role is Role.OPERATOR else Reach.NONE
