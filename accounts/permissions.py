"""THE permission table: who may do what with what, through the management API and on the pages. Pure.

Operators (superusers) reach every tenant, everybody else one. What `PERMISSIONS` does not list nobody may.
docs/management-api.md shows the same table; a test walks every endpoint by it.
"""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What somebody is in the tenant that they act in, or for all of them."""

    OPERATOR = "operator"
    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"


class Reach(StrEnum):
    """Which rows of a resource: of an operator all there are, else all of the tenant's; one's own; none."""

    ALL = "all"
    OWN = "own"
    NONE = "none"


ALL, OWN, NONE = Reach.ALL, Reach.OWN, Reach.NONE
_ROLES = tuple(Role)

# Resource and action, then operator, owner, admin, member, viewer.
_MANAGED = (ALL, ALL, ALL, NONE, NONE)
_MANAGED_OR_OWN = (ALL, ALL, ALL, OWN, NONE)
_SEEN = (ALL, ALL, ALL, ALL, ALL)
_SEEN_OR_OWN = (ALL, ALL, ALL, OWN, ALL)
_WATCHED = (ALL, ALL, ALL, NONE, ALL)
_OPERATED = (ALL, NONE, NONE, NONE, NONE)

PERMISSIONS: dict[tuple[str, str], tuple[Reach, ...]] = {
    ("tenants", "read"): _SEEN,
    ("tenants", "create"): _OPERATED,
    ("tenants", "update"): _MANAGED,
    ("tenants", "delete"): _OPERATED,
    ("members", "read"): _SEEN_OR_OWN,
    ("members", "create"): _MANAGED,
    ("members", "update"): _MANAGED,
    ("members", "delete"): _MANAGED,
    ("api-keys", "read"): _SEEN_OR_OWN,
    ("api-keys", "create"): _MANAGED,
    ("api-keys", "update"): _MANAGED,
    ("api-keys", "revoke"): _MANAGED,
    ("api-keys", "rotate"): _MANAGED,
    ("security-keys", "read"): _WATCHED,
    ("security-keys", "create"): _MANAGED,
    ("security-keys", "revoke"): _MANAGED,
    ("limits", "read"): _SEEN,
    ("limits", "create"): _MANAGED,
    ("limits", "update"): _MANAGED,
    ("limits", "delete"): _MANAGED,
    ("budgets", "read"): _SEEN,
    ("budgets", "create"): _MANAGED,
    ("budgets", "update"): _MANAGED,
    ("budgets", "delete"): _MANAGED,
    ("upstreams", "read"): _OPERATED,
    ("upstreams", "create"): _OPERATED,
    ("upstreams", "update"): _OPERATED,
    ("upstreams", "delete"): _OPERATED,
    ("upstreams", "test"): _OPERATED,
    ("upstreams", "discover"): _OPERATED,
    ("models", "read"): _SEEN,
    ("models", "create"): _OPERATED,
    ("models", "update"): _OPERATED,
    ("models", "delete"): _OPERATED,
    ("routes", "read"): _OPERATED,
    ("routes", "create"): _OPERATED,
    ("routes", "update"): _OPERATED,
    ("routes", "delete"): _OPERATED,
    ("prices", "read"): _SEEN,
    ("prices", "create"): _OPERATED,
    ("usage", "read"): _SEEN_OR_OWN,
    ("open-calls", "read"): _SEEN_OR_OWN,
    ("threads", "read"): _SEEN_OR_OWN,
    ("threads", "content"): _MANAGED_OR_OWN,
    ("threads", "export"): _MANAGED,
    ("threads", "branch"): _MANAGED_OR_OWN,
    ("threads", "delete"): _MANAGED_OR_OWN,
    ("threads", "erase"): _MANAGED,
    ("audit", "read"): _MANAGED,
    ("playground", "use"): (ALL, OWN, OWN, OWN, NONE),
}


def reach(role: Role, resource: str, action: str) -> Reach:
    """How far somebody's right to do that goes."""
    row = PERMISSIONS.get((resource, action))
    return NONE if row is None else row[_ROLES.index(role)]


def roles_for(resource: str, action: str) -> tuple[Role, ...]:
    """Those who have the right to do that."""
    return tuple(role for role in Role if reach(role, resource, action) is not NONE)


# Whose rights somebody may take or give: a key acts with its user's rights, so that whoever makes one for
# somebody who may do more could do as much.
_RANKS = {Role.OPERATOR: 3, Role.OWNER: 2, Role.ADMIN: 1, Role.MEMBER: 0, Role.VIEWER: 0}


def outranks(role: Role, other: Role) -> bool:
    """Whether `other` may do no more than `role` may."""
    return _RANKS[role] >= _RANKS[other]
