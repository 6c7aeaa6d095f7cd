"""What the permission table cannot say: who may do what to whom. For the management API and the pages alike.

A key acts with its user's rights, and whoever has a role can use it; so nobody gives or takes more than they
have. Each function raises ApiError, whose message is a sentence for whoever asked.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from accounts.actors import Actor, role_of
from accounts.errors import ApiError
from accounts.models import Membership, User
from accounts.permissions import Role, outranks
from accounts.tenancy import operator_scope

NO_MEMBER = "The tenant has no such member."

# What only those who run the gateway decide: names are theirs to give out, an open door is theirs to open.
OPERATORS_ALONE = frozenset({"slug", "public", "active"})


def check_tenant_change(actor: Actor, fields: Iterable[str]) -> None:
    """Refuses what operators alone change of a tenant."""
    kept = sorted(OPERATORS_ALONE.intersection(fields))
    if kept and actor.role is not Role.OPERATOR:
        raise ApiError(403, f"Only operators change {', '.join(kept)}.", param=kept[0])


def check_role(actor: Actor, role: str) -> None:
    """Refuses to give or to take a role above the actor's own."""
    if not outranks(actor.role, Role(role)):
        raise ApiError(403, f"Only an owner gives or takes the role {role}.")


def check_owner_stays(actor: Actor, membership: Membership) -> None:
    """Refuses to take the last owner from a tenant; operators may."""
    if actor.role is Role.OPERATOR or membership.role != Membership.Role.OWNER:
        return
    owners = Membership.objects.of(membership.tenant_id).filter(role=Membership.Role.OWNER)
    if not owners.exclude(id=membership.id).exists():
        raise ApiError(409, "The tenant's last owner stays one. Make another first.")


def check_role_change(actor: Actor, membership: Membership, role: str) -> None:
    """Refuses to give this member that role; `membership` is the row as it stands."""
    check_role(actor, membership.role)
    check_role(actor, role)
    if role != Membership.Role.OWNER:
        check_owner_stays(actor, membership)


def check_removal(actor: Actor, membership: Membership) -> None:
    """Refuses to take this member out."""
    check_role(actor, membership.role)
    check_owner_stays(actor, membership)


def key_owner(actor: Actor, tenant_id: uuid.UUID, user_id: int) -> User:
    """Whom a key is made for, or made anew. Refuses somebody who may do more than the actor, or no member."""
    with operator_scope():
        user: User = User.objects.get(id=user_id)
    role = role_of(user, tenant_id)
    if role is None:
        raise ApiError(400, f"user: {NO_MEMBER}", param="user")
    if not outranks(actor.role, role):
        raise ApiError(403, "You may not make a key for somebody who may do more than you.")
    return user


def user_of_address(email: str) -> User:
    """Whoever has that address; one who is new gets no password, so that they cannot sign in with one."""
    with operator_scope():
        found = User.objects.named([email]).get(email)
        if found is None:
            found = User(username=email, email=email)
            found.set_unusable_password()
            found.save()
    return found
