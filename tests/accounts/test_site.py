"""Who may enter the admin panel, and what a request there reaches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory

from accounts import keys
from accounts.actors import CHOSEN
from accounts.models import Membership, SecurityKey, Tenant, User
from accounts.site import ActorMiddleware
from accounts.tenancy import operator_scope

TENANTS = "/admin/accounts/tenant/"
View = Callable[[HttpRequest], HttpResponse]


def served(rf: RequestFactory, path: str, user: User, view: View, chosen: str = "") -> HttpResponse:
    request = rf.post(path)
    request.user = user
    request.session = {CHOSEN: chosen}  # type: ignore[assignment]
    return ActorMiddleware(view)(request)


def slugs(seen: list[set[str]]) -> View:
    """A view that notes which tenants it sees in the database."""

    def view(request: HttpRequest) -> HttpResponse:
        with connection.cursor() as cursor:
            cursor.execute("SELECT slug FROM accounts_tenant")
            seen.append({row[0] for row in cursor.fetchall()})
        return HttpResponse()

    return view


@pytest.fixture
def root(db: None) -> User:
    user: User = User.objects.create_superuser("root")
    return user


def test_it_shows_an_operator_every_tenant(acme: Tenant, globex: Tenant, root: User, client: Client) -> None:
    client.force_login(root)
    page = client.get(TENANTS).content.decode()
    assert "acme" in page
    assert "globex" in page


def test_it_lets_a_member_in_who_is_no_staff_and_shows_their_tenant_alone(
    alice: User, globex: Tenant, client: Client
) -> None:
    assert not alice.is_staff
    client.force_login(alice)
    page = client.get(TENANTS).content.decode()
    assert "acme" in page
    assert "globex" not in page


@pytest.mark.parametrize("taken", ["active", "tenant", "membership"])
def test_it_lets_nobody_in_who_is_no_active_member_of_an_active_tenant(
    acme: Tenant, bob: User, client: Client, taken: str
) -> None:
    client.force_login(bob)
    assert client.get("/admin/").status_code == 200
    bob.is_staff = True
    bob.is_active = taken != "active"
    bob.save()
    with operator_scope():
        if taken == "tenant":
            Tenant.objects.update(active=False)
        if taken == "membership":
            Membership.objects.of(acme).filter(user=bob).delete()
    assert client.get("/admin/").status_code == 302
    assert client.get(TENANTS).status_code == 302


def test_it_is_not_for_somebody_who_is_no_tenants_member(db: None, client: Client) -> None:
    client.force_login(User.objects.create_user("stranger"))
    assert client.get("/admin/", follow=True).status_code == 403


@pytest.mark.postgres
def test_it_has_the_database_keep_a_member_to_the_tenant(
    acme: Tenant, globex: Tenant, alice: User, root: User, rf: RequestFactory
) -> None:
    seen: list[set[str]] = []
    with operator_scope():
        Membership.objects.create(tenant=globex, user=alice, role="viewer")
    for user, chosen in ((alice, ""), (alice, str(globex.id)), (alice, "nonsense"), (root, "")):
        served(rf, TENANTS, user, slugs(seen), chosen)
    assert seen == [{"acme"}, {"globex"}, {"acme"}, {"acme", "globex"}]


@pytest.mark.postgres
@pytest.mark.parametrize(("path", "superuser"), [("/", True), ("/admin/", False)])
def test_it_gives_no_scope_outside_of_the_panel_nor_to_others(
    acme: Tenant, rf: RequestFactory, path: str, superuser: bool
) -> None:
    seen: list[set[str]] = []
    user = User.objects.create(username="somebody", is_staff=True, is_superuser=superuser)
    served(rf, path, user, slugs(seen))
    assert seen == [set()]


@pytest.mark.parametrize(("status", "kept"), [(302, True), (500, False)])
def test_it_keeps_the_work_of_a_request_unless_it_failed(
    acme: Tenant, alice: User, root: User, rf: RequestFactory, status: int, kept: bool
) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        keys.make_security_key(acme, "main")
        return HttpResponse(status=status)

    for user in (alice, root):
        with operator_scope():
            SecurityKey.objects.of(acme).delete()
        served(rf, TENANTS, user, view)
        with operator_scope():
            assert SecurityKey.objects.of(acme).exists() is kept


def test_it_lets_a_member_of_several_tenants_choose(
    acme: Tenant, globex: Tenant, alice: User, bob: User, client: Client
) -> None:
    with operator_scope():
        Membership.objects.create(tenant=globex, user=alice, role="viewer")
    client.force_login(alice)
    page = client.get("/admin/").content.decode()
    assert "Acme, as owner" in page
    assert 'action="/admin/tenant/"' in page
    assert client.post("/admin/tenant/", {"tenant": str(globex.id)}).status_code == 302
    assert "Globex, as viewer" in client.get("/admin/").content.decode()
    client.force_login(bob)
    assert 'action="/admin/tenant/"' not in client.get("/admin/").content.decode()
    for other in (str(globex.id), "", "nonsense"):
        assert client.post("/admin/tenant/", {"tenant": other}).status_code == 403


def test_it_lets_a_member_sign_out(alice: User, client: Client) -> None:
    client.force_login(alice)
    assert client.post("/admin/logout/").status_code == 302
    assert client.get("/admin/").status_code == 302
