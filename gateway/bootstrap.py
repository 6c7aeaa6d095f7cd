"""What a start makes sure of: migrations, an administrator, and the rows that the environment asks for.

The environment speaks the language of the configuration file (gateway/rows.py) and goes the same way
into the database, so that a start with nothing new in it writes nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor

from accounts.keys import InvalidCredential
from accounts.models import Tenant, User
from accounts.tenancy import operator_scope
from gateway import configuration
from gateway.apply import Made, apply
from gateway.rows import Kind, Mistakes, RouteTo, Row, Secret, Values, secret_values
from proxy.addresses import InvalidAddress, NotSendable, check_base_url, check_header
from proxy.prices import seed_prices
from proxy.reasoning import EFFORTS

_DEFAULT = "default"
_OPENAI = "https://api.openai.com/v1"
_GPT_OSS = ("gpt-oss-20b", "gpt-oss-120b")
_ONE_AT_A_TIME = 0x746F6C6C  # any number that no other program locks; "toll"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is shown once: an administrator's password and keys, where they were made just now."""

    password: str | None = field(repr=False)
    made: list[Made]


def bootstrap() -> Outcome:
    """Makes sure of everything; idempotent. Raises `Mistakes` for what was asked for and cannot be."""
    with _one_at_a_time():
        _migrate()
        with operator_scope():
            password = _administrator()
            _, made = apply(_rows())
            seed_prices()
    return Outcome(password, made)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Replicas that start together on Postgres take turns; SQLite has one process only.

    The lock is a transaction's, on a connection of its own, so that it holds through PgBouncer too.
    """
    if connection.vendor != "postgresql":
        yield
        return
    other = connections.create_connection("default")
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ONE_AT_A_TIME])
        yield
    finally:
        other.close()


def _migrate() -> None:
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        call_command("migrate", interactive=False, verbosity=0)


def _administrator() -> str | None:
    """Makes one where there is none, or none of that name and a password is given for it.

    Returns the password if it was made up here.
    """
    name = settings.ADMIN_USERNAME
    if User.objects.filter(username=name).exists():
        return None
    if settings.ADMIN_PASSWORD is None and User.objects.filter(is_superuser=True).exists():
        return None
    try:
        User._meta.get_field("username").run_validators(name)
    except ValidationError as error:
        raise Mistakes([f"ADMIN_USERNAME: {' '.join(error.messages)}"]) from None
    password = settings.ADMIN_PASSWORD or secrets.token_urlsafe(15)
    User.objects.create_superuser(name, password=password)
    return None if settings.ADMIN_PASSWORD else password


def _rows() -> list[Row]:
    """The environment's rows; where the file says something else, the file holds."""
    rows = {(row.kind, row.name): row for row in environment_rows(owner=_owner(), is_new=_is_new())}
    if settings.CONFIG_FILE is not None:
        for row in configuration.read(Path(settings.CONFIG_FILE), settings.ENVIRONMENT.values):
            below = rows.get((row.kind, row.name), row)
            rows[row.kind, row.name] = replace(
                row, values={**below.values, **row.values}, initial={**below.initial, **row.initial}
            )
    return list(rows.values())


def _is_new() -> bool:
    return not Tenant.objects.filter(slug=_DEFAULT).exists()


def _owner() -> str:
    """Whose the first key is: the administrator that was asked for, else the one that there is."""
    administrators = User.objects.filter(is_superuser=True).order_by("id").values_list("username", flat=True)
    name: str = settings.ADMIN_USERNAME
    return name if User.objects.filter(username=name).exists() else administrators[0]


def environment_rows(*, owner: str, is_new: bool) -> list[Row]:
    """What the environment asks for. A key is made up only for a tenant that `is_new`."""
    access: Values = {} if settings.PUBLIC_ACCESS is None else {"public": settings.PUBLIC_ACCESS}
    rows = [Row(Kind.TENANT, (_DEFAULT,), access, {"name": "Default"})]
    if is_new or settings.BOOTSTRAP_API_KEY:
        rows.append(Row(Kind.MEMBER, (_DEFAULT, owner), initial={"role": "owner"}))
        given = _secret("BOOTSTRAP_API_KEY", settings.BOOTSTRAP_API_KEY)
        rows.append(Row(Kind.API_KEY, (_DEFAULT, _DEFAULT), given, {"user": owner}))
    if settings.SECURITY_KEY:
        given = _secret("SECURITY_KEY", settings.SECURITY_KEY)
        rows.append(Row(Kind.SECURITY_KEY, (_DEFAULT, _DEFAULT), given))
    return rows + _demo() + _openai() + _gpt_oss() + _chatkit() + _ai_sdk()


def _secret(name: str, value: str | None) -> Values:
    try:
        return {} if value is None else secret_values(value)
    except InvalidCredential:
        raise Mistakes([f"{name} must be 1 to 512 printable ASCII characters without spaces"]) from None


def _demo() -> list[Row]:
    return [Row(Kind.UPSTREAM, ("demo",), initial={"dialect": "demo"}), *_models("demo", "demo")]


def _openai() -> list[Row]:
    """OpenAI, or the compatible server at OPENAI_BASE_URL: takes every name that nothing else claims."""
    if not settings.OPENAI_API_KEY and not settings.OPENAI_BASE_URL:
        return []
    values = _server("OPENAI", settings.OPENAI_BASE_URL or _OPENAI, settings.OPENAI_API_KEY)
    if settings.OPENAI_PROJECT_KEY:
        values["project"] = _sendable("OPENAI_PROJECT_KEY", settings.OPENAI_PROJECT_KEY)
    return [Row(Kind.UPSTREAM, ("openai",), values), *_models("openai", "*")]


def _gpt_oss() -> list[Row]:
    if not settings.GPT_OSS_BASE_URL:
        return []
    values = _server("GPT_OSS", settings.GPT_OSS_BASE_URL, settings.GPT_OSS_API_KEY)
    return [Row(Kind.UPSTREAM, ("gpt-oss",), values), *_models("gpt-oss", *_GPT_OSS, values=_effort())]


def _chatkit() -> list[Row]:
    """It takes gpt-oss's names where no compatible server does."""
    if not settings.CHATKIT_BASE_URL:
        return []
    values = _address("CHATKIT_BASE_URL", settings.CHATKIT_BASE_URL, "chatkit")
    names = () if settings.GPT_OSS_BASE_URL else _GPT_OSS
    return [Row(Kind.UPSTREAM, ("chatkit",), values), *_models("chatkit", *names, values=_effort())]


def _ai_sdk() -> list[Row]:
    """A chat application, at its whole address. It takes two names where OpenAI is not there for them."""
    if not settings.AI_SDK_URL:
        return []
    values = _address("AI_SDK_URL", settings.AI_SDK_URL, "ai_sdk")
    if settings.VERCEL_SESSION_PREFIX:
        values["session_prefix"] = _sendable("VERCEL_SESSION_PREFIX", settings.VERCEL_SESSION_PREFIX)
    names = () if settings.OPENAI_API_KEY else ("gpt-4o", "gpt-4o-mini")
    return [Row(Kind.UPSTREAM, ("ai-sdk",), values), *_models("ai-sdk", *names)]


def _effort() -> Values:
    """Of the gpt-oss models, where a caller names none."""
    effort = settings.REASONING_EFFORT_DEFAULT
    if effort is None:
        return {}
    if effort.lower() not in EFFORTS:
        raise Mistakes([f"REASONING_EFFORT_DEFAULT must be one of {', '.join(EFFORTS)}"])
    return {"reasoning_effort": effort.lower()}


def _server(prefix: str, base_url: str, api_key: str | None) -> dict[str, object]:
    """An OpenAI-compatible one. Its key is always named, so that one taken away is removed.

    `prefix` is what the names of its variables begin with.
    """
    values = _address(f"{prefix}_BASE_URL", base_url, "openai")
    values["api_key"] = None if api_key is None else Secret(_sendable(f"{prefix}_API_KEY", api_key))
    return values


def _address(name: str, address: str, dialect: str) -> dict[str, object]:
    """An upstream at the address that the variable `name` has."""
    try:
        values: dict[str, object] = {"dialect": dialect, "base_url": check_base_url(address)}
    except InvalidAddress as error:
        raise Mistakes([f"{name} {error}"]) from None
    if settings.REQUEST_TIMEOUT_SECONDS is not None:
        values["total_timeout_seconds"] = settings.REQUEST_TIMEOUT_SECONDS
    return values


def _sendable(name: str, value: str) -> str:
    try:
        return check_header(value)
    except NotSendable as error:
        raise Mistakes([f"{name} {error}"]) from None


def _models(upstream: str, *names: str, values: Values | None = None) -> Sequence[Row]:
    """Where they go is said once: an operator may send them elsewhere later. `values` hold at each start."""
    initial: Mapping[str, object] = {"routes": (RouteTo(upstream),)}
    return [Row(Kind.MODEL, (name,), values or {}, initial) for name in names]
