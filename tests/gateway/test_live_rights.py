"""Who may watch which calls, as their session says it."""

from __future__ import annotations

import pytest
from django.test import Client
from pytest_django import Settings

from accounts.errors import ApiError
from accounts.models import Membership, Tenant, User
from accounts.tenancy import operator_scope
from gateway.live_rights import Pass, sight_of
from proxy.live import EVERYTHING, Sight


@pytest.fixture
def tenant(db: None) -> Tenant:
    with operator_scope():
        return Tenant.objects.create(slug="acme", name="Acme")


def session_of(client: Client, user: User) -> Pass:
    client.force_login(user)
    return Pass(client.session.session_key or "", "")


@pytest.mark.parametrize(
    ("role", "own"), [("owner", False), ("admin", False), ("member", True), ("viewer", False)]
)
def test_it_is_what_their_role_lets_them_see(client: Client, tenant: Tenant, role: str, own: bool) -> None:
    user: User = User.objects.create_user(role)
    with operator_scope():
        Membership.objects.create(tenant=tenant, user=user, role=role)
    held = session_of(client, user)
    assert sight_of(held) == Sight(tenant.pk, user.pk if own else None)


def test_operators_see_everything_or_the_tenant_that_they_name(
    client: Client, tenant: Tenant, admin_user: User
) -> None:
    held = session_of(client, admin_user)
    assert sight_of(held) == EVERYTHING
    for name in (tenant.slug, str(tenant.pk)):
        assert sight_of(held._replace(tenant=name)) == Sight(tenant.pk)


def test_who_needs_a_second_factor_sees_nothing_without(
    client: Client, tenant: Tenant, admin_user: User, settings: Settings
) -> None:
    held = session_of(client, admin_user)
    settings.REQUIRE_MFA = "operators"
    with pytest.raises(ApiError) as refusal:
        sight_of(held)
    assert refusal.value.status == 403


def test_a_session_ends_with_its_password(client: Client, tenant: Tenant, admin_user: User) -> None:
    held = session_of(client, admin_user)
    admin_user.set_password("another one")
    admin_user.save()
    with pytest.raises(ApiError) as refusal:
        sight_of(held)
    assert refusal.value.status == 401
