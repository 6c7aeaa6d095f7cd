"""The configuration file: from YAML to the rows that it asks for (docs/configuration.md has the schema)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from accounts.keys import InvalidCredential
from accounts.models import (
    LARGEST_BUDGET_NANO_USD,
    ApiKey,
    Budget,
    Limit,
    Membership,
    SecurityKey,
    Tenant,
    kept_name,
)
from accounts.money import dollars, nano_dollars
from gateway.nodes import Read, Reader, Spot, Wrong, or_null
from gateway.rows import LIMIT_COUNTS, Kind, Mistakes, Prices, RouteTo, Row, Secret, called, secret_values
from proxy.addresses import (
    InvalidAddress,
    NotSendable,
    check_base_url,
    check_header,
    cookies_in,
    headers_in,
)
from proxy.models import Model, Route, Upstream

_PRICE_COLUMNS = {
    "input_per_million": "input_nano_usd_per_million",
    "cached_input_per_million": "cached_input_nano_usd_per_million",
    "output_per_million": "output_nano_usd_per_million",
    "per_minute": "nano_usd_per_minute",
}
_TIMEOUTS = ("connect", "first_byte", "idle", "total")


def read(path: Path, environ: Mapping[str, str]) -> list[Row]:
    """What the file asks for; `environ` is what its env:NAME strings mean. Raises `Mistakes`."""
    file = _File(Reader(path.name, environ))
    root = file.reader.root(path)
    rows = file.rows(root) if root else []
    if not file.reader.mistakes:
        file.reader.mistakes.extend(_named_twice(rows))
    if file.reader.mistakes:
        raise Mistakes(file.reader.mistakes)
    return rows


def _named_twice(rows: list[Row]) -> list[str]:
    """A user may be a member of several tenants; anything else is named once."""
    seen = set()
    sentences = []
    for row in rows:
        if (row.kind, row.name) in seen and row.kind is not Kind.USER:
            sentences.append(f"{row.place}: the {row.kind} {called(row.name)} is named twice")
        seen.add((row.kind, row.name))
    return sentences


def _sendable(spot: Spot, text: str) -> str:
    try:
        return check_header(text)
    except NotSendable as error:
        raise Wrong(spot, str(error)) from None


class _File:
    """The schema, from the outside in: each method reads one kind of entry."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def rows(self, root: Spot) -> list[Row]:
        sections = self.reader.fields(
            root, {"tenants": self.reader.items, "upstreams": self.reader.items, "models": self.reader.items}
        )
        rows = [row for spot in sections.get("tenants", []) for row in self.tenant(spot)]
        rows += [self.upstream(spot) for spot in sections.get("upstreams", [])]
        rows += [self.model(spot) for spot in sections.get("models", [])]
        return rows

    def tenant(self, spot: Spot) -> list[Row]:
        columns = ("slug", "name", "timezone", "public", "system_prompt", "continue_dropped")
        known = {name: self.reader.column(Tenant, name) for name in columns}
        known["retention_days"] = or_null(self.reader.column(Tenant, "retention_days"))
        lists = ("security_keys", "members", "api_keys", "limits", "budgets")
        nested = dict.fromkeys(lists, self.reader.items)
        values = self.reader.fields(spot, {**known, **nested}, required=("slug",))
        slug = str(values.pop("slug", ""))
        security_keys, members, api_keys, limits, budgets = (values.pop(name, []) for name in lists)
        row = Row(Kind.TENANT, (slug,), values, {"name": slug}, self.reader.place(spot))
        return [
            row,
            *(self.security_key(slug, item) for item in security_keys),
            *(made for item in members for made in self.member(slug, item)),
            *(self.api_key(slug, item) for item in api_keys),
            *(self.limit(slug, item) for item in limits),
            *(self.budget(slug, item) for item in budgets),
        ]

    def security_key(self, slug: str, spot: Spot) -> Row:
        known = {"name": self.reader.column(SecurityKey, "name"), "secret": self.secret}
        values = self.reader.fields(spot, known, required=("name",))
        values.update(values.pop("secret", {}))
        return Row(Kind.SECURITY_KEY, (slug, values.pop("name", "")), values, {}, self.reader.place(spot))

    def member(self, slug: str, spot: Spot) -> list[Row]:
        known = {"email": self.email, "role": self.reader.column(Membership, "role")}
        values = self.reader.fields(spot, known, required=("email",))
        email, place = values.pop("email", ""), self.reader.place(spot)
        return [Row(Kind.USER, (email,), place=place), Row(Kind.MEMBER, (slug, email), values, {}, place)]

    def api_key(self, slug: str, spot: Spot) -> Row:
        known = {
            "name": self.reader.column(ApiKey, "name"),
            "user": self.email,
            "secret": self.secret,
            "models": self.reader.texts,
            "expires_at": or_null(self.moment),
        }
        values = self.reader.fields(spot, known, required=("name",))
        values.update(values.pop("secret", {}))
        if "models" in values:
            values["allowed_models"] = values.pop("models")
        return Row(Kind.API_KEY, (slug, values.pop("name", "")), values, {}, self.reader.place(spot))

    def limit(self, slug: str, spot: Spot) -> Row:
        columns = ("scope", "when_exceeded", "queue_seconds")
        known: dict[str, Read] = {name: self.reader.column(Limit, name) for name in columns}
        known |= {name: or_null(self.reader.column(Limit, name)) for name in LIMIT_COUNTS}
        values = self.reader.fields(spot, {**known, "name": lambda at: at}, required=("scope",))
        scope = values.pop("scope", "")
        name = self.subject(scope, values.pop("name", None))
        return Row(Kind.LIMIT, (slug, scope, name), values, {}, self.reader.place(spot))

    def budget(self, slug: str, spot: Spot) -> Row:
        columns = ("scope", "period", "allow_unpriced")
        known: dict[str, Read] = {name: self.reader.column(Budget, name) for name in columns}
        known |= {"amount_usd": self.amount, "name": lambda at: at}
        values = self.reader.fields(spot, known, required=("scope", "amount_usd", "period"))
        scope, period = values.pop("scope", ""), values.pop("period", "")
        name = self.subject(scope, values.pop("name", None))
        values["amount_nano_usd"] = values.pop("amount_usd", 0)
        return Row(Kind.BUDGET, (slug, scope, name, period), values, {}, self.reader.place(spot))

    def subject(self, scope: str, spot: Spot | None) -> str:
        """Whom a limit or budget names; "" is each one. What may be a name depends on the scope."""
        if spot is None:
            return ""
        try:
            return kept_name(scope, str(self.reader.column(Limit, "name")(spot)))
        except Wrong as wrong:
            self.reader.note(wrong)
        except ValidationError as error:
            self.reader.note(Wrong(spot, " ".join(error.messages)))
        return ""

    def upstream(self, spot: Spot) -> Row:
        columns = ["name", "dialect", "responses", "enabled", "takes_caller_keys", "repeats_reasoning"]
        columns += [f"{phase}_timeout_seconds" for phase in _TIMEOUTS]
        known = {name: self.reader.column(Upstream, name) for name in columns} | {
            "base_url": self.base_url,
            "api_key": or_null(lambda at: Secret(_sendable(at, self.reader.text(at)))),
            "headers": or_null(lambda at: self.pairs(at, ": ", headers_in)),
            "cookies": or_null(lambda at: self.pairs(at, "=", cookies_in)),
            "session_prefix": self.account("session_prefix"),
            "organization": self.account("organization"),
            "project": self.account("project"),
            "tenant": or_null(self.reader.text),
        }
        values = self.reader.fields(spot, known, required=("name",))
        return Row(Kind.UPSTREAM, (values.pop("name", ""),), values, {}, self.reader.place(spot))

    def pairs(self, spot: Spot, between: str, check: Callable[[str], object]) -> Secret:
        """A mapping of names to texts, as the lines that an upstream's row has sealed."""
        text = "\n".join(f"{name}{between}{value}" for name, value in self.reader.mapping(spot))
        try:
            check(text)
        except NotSendable as error:
            raise Wrong(spot, str(error)) from None
        return Secret(text)

    def account(self, name: str) -> Read:
        """Reads that column of an upstream, which goes into a header; it may be empty."""
        read = self.reader.column(Upstream, name)

        def value_of(spot: Spot) -> str:
            text = str(read(spot))
            return _sendable(spot, text) if text else ""

        return value_of

    def model(self, spot: Spot) -> Row:
        known = {
            "name": self.reader.column(Model, "name"),
            "reasoning_effort": self.reader.column(Model, "reasoning_effort"),
            "routes": self.reader.items,
            "prices": lambda at: at,
        }
        values = self.reader.fields(spot, known, required=("name",))
        name = values.pop("name", "")
        if "routes" in values:
            values["routes"] = tuple(sorted(self.route(name, at) for at in values["routes"]))
        if "prices" in values:
            values["prices"] = self.prices(name, values["prices"])
        return Row(Kind.MODEL, (name,), values, {}, self.reader.place(spot))

    def route(self, model: str, spot: Spot) -> RouteTo:
        known = {
            "upstream": self.reader.text,
            "model": self.reader.column(Route, "upstream_model"),
            "priority": self.reader.column(Route, "priority"),
            "weight": self.reader.column(Route, "weight"),
        }
        values = self.reader.fields(spot, known, required=("upstream",))
        there = values.get("model", "")
        return RouteTo(
            upstream=values.get("upstream", ""),
            upstream_model="" if there == model else there,
            priority=values.get("priority", 1),
            weight=values.get("weight", 1),
        )

    def prices(self, model: str, spot: Spot) -> Prices:
        """They are one value: the parts that the file leaves out are unknown."""
        values = self.reader.fields(spot, dict.fromkeys(_PRICE_COLUMNS, or_null(self.dollars)))
        if "*" in model:
            self.reader.note(Wrong(spot, "prices need a model's exact name"))
        elif not spot.node.value:
            self.reader.note(Wrong(spot, f"names none of {', '.join(_PRICE_COLUMNS)}"))
        return Prices(**{_PRICE_COLUMNS[name]: value for name, value in values.items()})

    def secret(self, spot: Spot) -> dict[str, object]:
        try:
            return secret_values(self.reader.text(spot))
        except InvalidCredential:
            raise Wrong(spot, "must be 1 to 512 printable ASCII characters without spaces") from None

    def email(self, spot: Spot) -> str:
        value = self.reader.text(spot)
        try:
            validate_email(value)
        except ValidationError as error:
            raise Wrong(spot, " ".join(error.messages)) from None
        return value.lower()

    def moment(self, spot: Spot) -> datetime:
        """ISO 8601; without an offset, or without a time, it is meant in UTC."""
        if spot.tag not in ("str", "timestamp"):
            raise Wrong(spot, "must be a date or a time")
        text = self.reader.text(spot) if spot.tag == "str" else str(spot.node.value)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise Wrong(spot, "must be a date or a time, such as 2027-01-31T12:00:00Z") from None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def base_url(self, spot: Spot) -> str:
        try:
            return check_base_url(self.reader.text(spot))
        except InvalidAddress as error:
            raise Wrong(spot, str(error)) from None

    def amount(self, spot: Spot) -> int:
        nano = self.dollars(spot)
        if not 0 < nano <= LARGEST_BUDGET_NANO_USD:
            raise Wrong(spot, f"must be more than $0, and {dollars(LARGEST_BUDGET_NANO_USD)} at most")
        return nano

    def dollars(self, spot: Spot) -> int:
        amount = self.reader.scalar(spot)
        try:
            return nano_dollars(amount)
        except ValueError as error:
            raise Wrong(spot, str(error)) from None
