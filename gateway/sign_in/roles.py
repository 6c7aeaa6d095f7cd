"""What OIDC_… say: whom to believe, and what the claims of a person come to. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gateway.environment import EnvironmentMistake

_OPERATOR = "operator"
# From the one who may do most.
_ROLES = ("owner", "admin", "member", "viewer")
_MISTAKE = (
    'OIDC_ROLES must be JSON such as {"engineers": "acme:member", "platform": ["operator", "acme:owner"]}. '
    f"The roles are {', '.join(_ROLES)}."
)

Table = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Given:
    """What somebody is by their claims: a role by each tenant's slug, and whether an operator."""

    roles: Mapping[str, str]
    operator: bool

    def __bool__(self) -> bool:
        return bool(self.roles) or self.operator


def check_provider(issuer: str, client_id: str) -> None:
    """Raises EnvironmentMistake. What it says is taken on the word of TLS, but on this very machine."""
    parts = urlsplit(issuer)
    if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise EnvironmentMistake("OIDC_ISSUER must begin with https://, unless it is on this machine.")
    if not client_id:
        raise EnvironmentMistake("OIDC_ISSUER needs OIDC_CLIENT_ID, which the provider gives out.")


def read_table(text: str | None) -> Table:
    """A claim's value → "operator" or "tenant:role". Raises EnvironmentMistake."""
    try:
        document = json.loads(text or "{}")
    except ValueError:
        raise EnvironmentMistake(_MISTAKE) from None
    if not isinstance(document, dict):
        raise EnvironmentMistake(_MISTAKE)
    return {value: _grants(each) for value, each in document.items()}


def _grants(each: object) -> tuple[str, ...]:
    words = each if isinstance(each, list) else [each]
    for word in words:
        tenant, _, role = word.partition(":") if isinstance(word, str) else ("", "", "")
        if word != _OPERATOR and (not tenant or role not in _ROLES):
            raise EnvironmentMistake(_MISTAKE)
    return tuple(words)


def claimed(claims: Mapping[str, Any], name: str) -> set[str]:
    """The values of a claim, be it one or a list; of one inside of others, such as "realm_access.roles"."""
    found: Any = claims.get(name)
    if found is None and "." in name:
        found = claims
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    values = found if isinstance(found, list) else [found]
    return {value for value in values if isinstance(value, str)}


def given(values: set[str], table: Table) -> Given:
    """The most that any of the values gives, in each tenant."""
    grants = {grant for value in values for grant in table.get(value, ())}
    roles: dict[str, str] = {}
    for grant in grants - {_OPERATOR}:
        tenant, _, role = grant.partition(":")
        roles[tenant] = min(role, roles.get(tenant, role), key=_ROLES.index)
    return Given(roles, _OPERATOR in grants)
