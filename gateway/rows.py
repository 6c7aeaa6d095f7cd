"""What is wanted of the database, said in names that people use: the one language of the
configuration file and of the environment. `gateway/plan.py` compares it with what there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum

from accounts import keys


class Kind(StrEnum):
    """In the order in which they are written: each names only what comes before it."""

    TENANT = "tenant"
    SECURITY_KEY = "security key"
    USER = "user"
    MEMBER = "member"
    API_KEY = "api key"
    LIMIT = "limit"
    BUDGET = "budget"
    UPSTREAM = "upstream"
    MODEL = "model"


# What an upstream's row has sealed, each in the column `sealed_…`.
SEALED = ("api_key", "headers", "cookies")
LIMIT_COUNTS = ("requests_per_second", "requests_per_minute", "tokens_per_minute", "concurrent")

Name = tuple[str, ...]
Values = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that shows itself nowhere."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, order=True)
class RouteTo:
    """One of a model's routes; an empty `upstream_model` means the model's own name."""

    upstream: str
    upstream_model: str = ""
    priority: int = 1
    weight: int = 1

    def __str__(self) -> str:
        model = f"/{self.upstream_model}" if self.upstream_model else ""
        return f"{self.upstream}{model} (priority {self.priority}, weight {self.weight})"


@dataclass(frozen=True, slots=True)
class Prices:
    """What a model costs, in nano-dollars per million tokens or per audio minute; None is unknown."""

    input_nano_usd_per_million: int | None = None
    cached_input_nano_usd_per_million: int | None = None
    output_nano_usd_per_million: int | None = None
    nano_usd_per_minute: int | None = None

    def __str__(self) -> str:
        parts = ((item.name.removesuffix("_per_million"), getattr(self, item.name)) for item in fields(self))
        return ", ".join(f"{name} {value}" for name, value in parts if value is not None)


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is to be there. `name` is (slug,), (tenant, name), (tenant, user), (email,), (name,),
    and (tenant, scope, name) of a limit, (tenant, scope, name, period) of a budget, with "" for each one.

    `values` hold from now on; `initial` ones only when it is made. What neither names is left alone.
    `place` says where it was asked for, for the mistakes that only the database shows.
    """

    kind: Kind
    name: Name
    values: Values = field(default_factory=dict)
    initial: Values = field(default_factory=dict)
    place: str = "environment"


def called(name: Name) -> str:
    """A row's name for people."""
    return " / ".join(part for part in name if part)


class Mistakes(ValueError):
    """Everything that is wrong with what was asked for, one sentence each."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


def secret_values(secret: str) -> dict[str, object]:
    """What is kept of a credential that was given. Raises `keys.InvalidCredential`."""
    keys.check_syntax(secret)
    return {"digest": keys.digest(secret), "prefix": keys.prefix_of(secret)}
