"""The configuration file: from YAML to the rows that it asks for (docs/configuration.md has the schema)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from accounts.keys import InvalidCredential
from accounts.models import ApiKey, Membership, SecurityKey, Tenant
from gateway.nodes import Read, Reader, Spot, Wrong, or_null
from gateway.rows import Kind, Mistakes, Prices, RouteTo, Row, Secret, secret_values
from proxy.addresses import InvalidAddress, NotSendable, check_base_url, check_header
from proxy.models import Model, Route, Upstream

_NANO = 10**9
_LARGEST_PRICE = 2**63 - 1
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


def nano_dollars(text: str) -> int:
    """Dollars as people write them ("0.15") in nano-dollars, exactly. Raises ValueError."""
    try:
        nano = Decimal(text.strip()) * _NANO
    except InvalidOperation:
        raise ValueError('must be an amount of dollars, such as "0.15"') from None
    if not nano.is_finite() or nano < 0 or nano > _LARGEST_PRICE:
        raise ValueError("must be an amount of dollars, from 0 to nine thousand million")
    if nano != nano.to_integral_value():
        raise ValueError("has more than nine decimals, which cannot be counted exactly")
    return int(nano)


def _named_twice(rows: list[Row]) -> list[str]:
    """A user may be a member of several tenants; anything else is named once."""
    seen = set()
    sentences = []
    for row in rows:
        if (row.kind, row.name) in seen and row.kind is not Kind.USER:
            sentences.append(f"{row.place}: the {row.kind} {' / '.join(row.name)} is named twice")
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
        columns = ("slug", "name", "timezone", "public", "system_prompt")
        known = {name: self.reader.column(Tenant, name) for name in columns}
        nested = dict.fromkeys(("security_keys", "members", "api_keys"), self.reader.items)
        values = self.reader.fields(spot, {**known, **nested}, required=("slug",))
        slug = str(values.pop("slug", ""))
        security_keys, members, api_keys = (values.pop(name, []) for name in nested)
        row = Row(Kind.TENANT, (slug,), values, {"name": slug}, self.reader.place(spot))
        return [
            row,
            *(self.security_key(slug, item) for item in security_keys),
            *(made for item in members for made in self.member(slug, item)),
            *(self.api_key(slug, item) for item in api_keys),
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

    def upstream(self, spot: Spot) -> Row:
        columns = ["name", "dialect", "responses", "enabled"]
        columns += [f"{phase}_timeout_seconds" for phase in _TIMEOUTS]
        known = {name: self.reader.column(Upstream, name) for name in columns} | {
            "base_url": self.base_url,
            "api_key": or_null(lambda at: Secret(_sendable(at, self.reader.text(at)))),
            "organization": self.account("organization"),
            "project": self.account("project"),
            "tenant": or_null(self.reader.text),
        }
        values = self.reader.fields(spot, known, required=("name",))
        return Row(Kind.UPSTREAM, (values.pop("name", ""),), values, {}, self.reader.place(spot))

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

    def dollars(self, spot: Spot) -> int:
        amount = self.reader.scalar(spot)
        try:
            return nano_dollars(amount)
        except ValueError as error:
            raise Wrong(spot, str(error)) from None
