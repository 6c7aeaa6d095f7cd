"""Secrets: how they look, what is kept of them, and what a key lets its owner use."""

from __future__ import annotations

import re
import zlib
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from accounts import keys
from accounts.ids import uuid7
from accounts.keys import Caller, InvalidCredential, matches
from accounts.models import ApiKey, SecurityKey, Tenant, User
from accounts.tenancy import operator_scope

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def number(digits: str) -> int:
    value = 0
    for digit in digits:
        value = value * 62 + DIGITS.index(digit)
    return value


def test_it_makes_secrets_of_256_random_bits_with_a_checksum() -> None:
    secret = keys.new_secret()
    assert re.fullmatch("sk-[0-9A-Za-z]{58}", secret)
    assert number(secret[-6:]) == zlib.crc32(secret[:-6].encode())
    assert number(secret[12:-6]) < 2**256
    keys.check_syntax(secret)


def test_it_never_makes_the_same_secret_twice() -> None:
    assert len({keys.new_secret()[12:] for _ in range(200)}) == 200


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("sk-123456789" + "x" * 49, "sk-123456789"),
        ("a" * 12, "a" * 4),
        ("hunter2", "hu"),
        ("ab", ""),
        ("", ""),
    ],
)
def test_it_shows_at_most_a_third_and_twelve_characters(secret: str, shown: str) -> None:
    assert keys.prefix_of(secret) == shown


@pytest.mark.parametrize("secret", ["!", "~", "sk-abc", "x" * 512])
def test_it_takes_printable_ascii(secret: str) -> None:
    keys.check_syntax(secret)


@pytest.mark.parametrize(
    "secret", ["", "x" * 513, "a b", "a\n", "a\tb", "caf\u00e9", "\x7f", "\x00", "\ud800", "\u212a"]
)
def test_it_refuses_every_other_syntax(secret: str) -> None:
    with pytest.raises(InvalidCredential):
        keys.check_syntax(secret)


def test_it_digests_under_the_pepper(settings: Settings) -> None:
    digest = keys.digest("sk-one")
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert digest == keys.digest("sk-one") != keys.digest("sk-two")
    settings.KEY_PEPPER = b"another"
    assert digest != keys.digest("sk-one")


@pytest.mark.parametrize(
    ("pattern", "name", "matching"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-*", "gpt-4o", True),
        ("gpt-*", "gpt-", True),
        ("gpt-*", "GPT-4o", False),
        ("*", "", True),
        ("*-mini", "gpt-4o-mini", True),
        ("ab*ba", "aba", False),
        ("a*b*c", "a-b-b-c", True),
        ("a?c", "abc", False),
        ("[ab]", "a", False),
        ("gpt.4", "gpt-4", False),
    ],
)
def test_it_takes_only_the_asterisk_for_a_pattern(pattern: str, name: str, matching: bool) -> None:
    assert matches(pattern, name) is matching


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_it_matches_as_the_regular_expression_does(pattern: str, name: str) -> None:
    expression = ".*".join(re.escape(part) for part in pattern.split("*"))
    assert matches(pattern, name) is (re.fullmatch(expression, name) is not None)


def test_it_does_not_stall_on_a_hostile_name() -> None:
    assert not matches("a*" * 50 + "b", "a" * 1_000_000)


def test_it_lets_a_caller_use_the_models_of_the_key() -> None:
    caller = Caller(uuid7(), "acme", 1, uuid7(), None, ("gpt-*", "o3"), "", "UTC", 30, False)
    assert caller.may_use("gpt-4o")
    assert caller.may_use("o3")
    assert not caller.may_use("o3-mini")


def test_it_lets_a_caller_without_patterns_use_every_model() -> None:
    assert Caller(uuid7(), "acme", None, None, uuid7(), (), "", "UTC", 30, False).may_use("anything")


def test_it_keeps_no_secret_of_an_api_key(acme: Tenant, alice: User) -> None:
    with operator_scope():
        key, secret = keys.make_api_key(acme, alice, "ci")
        row = ApiKey.objects.filter(id=key.id).values().get()
    assert row["digest"] == keys.digest(secret)
    assert row["prefix"] == secret[:12]
    assert secret[12:] not in repr(row)


def test_it_keeps_no_secret_of_a_security_key(acme: Tenant) -> None:
    with operator_scope():
        _, secret = keys.make_security_key(acme, "main", "a-shared-secret")
        row = SecurityKey.objects.filter(name="main").values().get()
    assert secret == "a-shared-secret"
    assert secret not in repr(row)
    assert row["prefix"] == "a-sha"


def test_it_prints_nothing_of_a_secret_but_its_prefix(acme: Tenant, alice: User) -> None:
    with operator_scope():
        key, secret = keys.make_api_key(acme, alice, "ci")
    for text in (str(key), repr(key), repr(keys.KeyCache()), repr(InvalidCredential())):
        assert secret[12:] not in text
        assert key.digest not in text


def test_it_refuses_a_secret_that_no_header_could_carry(acme: Tenant) -> None:
    with operator_scope(), pytest.raises(InvalidCredential):
        keys.make_security_key(acme, "main", "two words")


def test_it_refuses_a_key_for_somebody_of_another_tenant(acme: Tenant, charlie: User) -> None:
    with operator_scope(), pytest.raises(ValidationError, match="not a member"):
        keys.make_api_key(acme, charlie, "ci")


def test_it_refuses_a_name_that_is_taken(acme: Tenant, alice: User) -> None:
    with operator_scope():
        keys.make_api_key(acme, alice, "ci")
        with pytest.raises(ValidationError):
            keys.make_api_key(acme, alice, "ci")


def test_it_refuses_a_secret_that_another_tenant_uses(acme: Tenant, globex: Tenant) -> None:
    with operator_scope():
        keys.make_security_key(acme, "main", "shared-by-chance")
        with pytest.raises(ValidationError):
            keys.make_security_key(globex, "main", "shared-by-chance")


@pytest.mark.parametrize("patterns", [[""], [1], [None], "gpt-*", {"gpt": 1}])
def test_it_refuses_what_is_no_list_of_names(acme: Tenant, alice: User, patterns: object) -> None:
    key = ApiKey(tenant=acme, user=alice, name="ci", allowed_models=patterns)
    keys.set_secret(key, None)
    with operator_scope(), pytest.raises(ValidationError, match="list of model names"):
        key.full_clean()


def test_it_keeps_what_a_key_was_made_with(acme: Tenant, alice: User) -> None:
    expires_at = timezone.now() + timedelta(days=1)
    with operator_scope():
        key, _ = keys.make_api_key(acme, alice, "ci", allowed_models=["gpt-*"], expires_at=expires_at)
        row = ApiKey.objects.select_related("tenant", "user").get(id=key.id)
    assert (row.tenant, row.user, row.allowed_models) == (acme, alice, ["gpt-*"])
    assert row.expires_at == expires_at


def test_it_revokes_a_key_once(acme: Tenant, alice: User) -> None:
    with operator_scope():
        key, _ = keys.make_api_key(acme, alice, "ci")
        key.revoke()
        first = key.revoked_at
        key.revoke()
        assert ApiKey.objects.get(id=key.id).revoked_at == first is not None
