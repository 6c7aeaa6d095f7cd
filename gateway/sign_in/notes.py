"""What people do to their own way in, and what an identity provider gives them, in the audit log."""

from __future__ import annotations

from typing import Any

from allauth.mfa import signals
from allauth.mfa.models import Authenticator

from accounts import audit
from accounts.actors import called
from accounts.models import Membership, User
from accounts.tenancy import operator_scope


def note(user: User, action: str, *fields: str, via: str = "session") -> None:
    """Something that concerns the user alone; operators see it, and no tenant."""
    what = audit.What(action, "users", str(user.pk), called(user), None, fields)
    with operator_scope():
        audit.record(audit.Who(user.pk, called(user), via), what)


def note_membership(user: User, action: str, membership: Membership, *fields: str) -> None:
    """What the identity provider gave or took, in the scope of the change."""
    name = f"{called(user)} ({membership.role})"
    what = audit.What(action, "members", str(membership.pk), name, membership.tenant_id, fields)
    audit.record(audit.Who(user.pk, called(user), "sso"), what)


def _added(user: User, authenticator: Authenticator, **_: Any) -> None:
    note(user, "second-factor-add", authenticator.type)


def _removed(user: User, authenticator: Authenticator, **_: Any) -> None:
    note(user, "second-factor-remove", authenticator.type)


def _renewed(user: User, authenticator: Authenticator, **_: Any) -> None:
    note(user, "second-factor-renew", authenticator.type)


def watch() -> None:
    """Allauth tells of its second factors by signals alone."""
    signals.authenticator_added.connect(_added)
    signals.authenticator_removed.connect(_removed)
    signals.authenticator_reset.connect(_renewed)
