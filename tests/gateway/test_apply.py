"""Applying a configuration file: once, again, changed, and when it is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts import keys
from accounts.models import ApiKey, Budget, Limit, Membership, SecurityKey, Tenant, User
from accounts.tenancy import operator_scope
from proxy.models import Model, Price, Upstream
from proxy.sealing import unseal, upstream_context

Apply = Callable[..., str]

ACME: dict[str, Any] = {
    "slug": "acme",
    "name": "Acme",
    "security_keys": [{"name": "main", "secret": "first-security-key"}],
    "members": [{"email": "alice@acme.test", "role": "owner"}],
    "api_keys": [{"name": "ci", "user": "alice@acme.test", "secret": "sk-first-api-key"}],
    "limits": [
        {"scope": "key", "name": "ci", "requests_per_minute": 600, "concurrent": 20},
        {"scope": "ip", "requests_per_second": 2, "when_exceeded": "queue", "queue_seconds": 60},
        {"scope": "user", "name": "Alice@acme.test", "tokens_per_minute": 1000},
    ],
    "budgets": [
        {"scope": "tenant", "amount_usd": "25.00", "period": "month"},
        {"scope": "key", "name": "main", "amount_usd": "0.5", "period": "total", "allow_unpriced": True},
    ],
}
OPENAI: dict[str, Any] = {"name": "openai", "base_url": "https://api.openai.com/v1", "api_key": "sk-upstream"}
EVERYTHING: dict[str, Any] = {
    "tenants": [ACME],
    "upstreams": [OPENAI, {"name": "spare", "base_url": "http://127.0.0.1:1/v1"}],
    "models": [
        {
            "name": "gpt-4o-mini",
            "routes": [{"upstream": "openai"}, {"upstream": "spare", "model": "mini", "priority": 2}],
            "prices": {"input_per_million": "0.15"},
        }
    ],
}
SECRETS = ("first-security-key", "sk-first-api-key", "sk-upstream")


@pytest.fixture(autouse=True)
def operator(db: None) -> Iterator[None]:
    """What these tests look at spans tenants."""
    with operator_scope():
        yield


@pytest.fixture
def apply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Apply:
    """Applies a document as a file, and returns what was printed."""

    def run(document: dict[str, Any], *options: str) -> str:
        file = tmp_path / "tollgate.yaml"
        file.write_text(json.dumps(document, indent=1))
        call_command("apply", str(file), *options)
        return capsys.readouterr().out

    return run


def with_tenant(**changed: Any) -> dict[str, Any]:
    return {"tenants": [ACME | changed]}


def test_it_makes_everything_that_the_file_names(apply: Apply) -> None:
    apply(EVERYTHING)
    acme = Tenant.objects.get(slug="acme")
    alice = User.objects.get(username="alice@acme.test")
    assert Membership.objects.of(acme).get().role == "owner"
    assert not alice.has_usable_password()
    assert ApiKey.objects.of(acme).get().digest == keys.digest("sk-first-api-key")
    assert ApiKey.objects.of(acme).get().user == alice
    assert SecurityKey.objects.of(acme).get().digest == keys.digest("first-security-key")
    columns = ("scope", "name", "requests_per_minute", "when_exceeded", "queue_seconds")
    assert set(Limit.objects.of(acme).values_list(*columns)) == {
        ("key", "ci", 600, "reject", 30),
        ("ip", "", None, "queue", 60),
        ("user", "alice@acme.test", None, "reject", 30),
    }
    columns = ("scope", "name", "amount_nano_usd", "period", "allow_unpriced")
    assert set(Budget.objects.of(acme).values_list(*columns)) == {
        ("tenant", "", 25 * 10**9, "month", False),
        ("key", "main", 5 * 10**8, "total", True),
    }
    openai = Upstream.objects.get(name="openai")
    assert openai.sealed_api_key is not None
    assert unseal(bytes(openai.sealed_api_key), upstream_context(openai)) == "sk-upstream"
    routes = Model.objects.get(name="gpt-4o-mini").routes.order_by("priority")
    assert [(route.upstream.name, route.upstream_model) for route in routes] == [
        ("openai", ""),
        ("spare", "mini"),
    ]
    assert Price.objects.get(model_name="gpt-4o-mini").input_nano_usd_per_million == 150_000_000


def test_it_changes_nothing_the_second_time(apply: Apply) -> None:
    apply(EVERYTHING)
    assert apply(EVERYTHING) == "Nothing to change.\n"


def test_it_shows_the_difference_and_no_secret(apply: Apply) -> None:
    shown = apply(EVERYTHING, "--dry-run")
    assert '+ tenant acme (name: "Acme")' in shown
    assert "+ upstream openai (" in shown
    assert "api_key: set" in shown
    assert not any(secret in shown for secret in SECRETS)


def test_it_changes_nothing_in_a_dry_run(apply: Apply) -> None:
    apply(EVERYTHING, "--dry-run")
    assert not Tenant.objects.exists()
    assert not Upstream.objects.exists()


def test_it_shows_what_was_and_what_becomes(apply: Apply) -> None:
    apply(EVERYTHING)
    assert apply(with_tenant(name="Acme & Co"), "--dry-run") == '~ tenant acme (name: "Acme" → "Acme & Co")\n'


def test_it_changes_how_long_a_tenants_things_are_kept(apply: Apply) -> None:
    apply(EVERYTHING)
    assert Tenant.objects.get(slug="acme").retention_days == 30
    assert apply(with_tenant(retention_days=None)) == "~ tenant acme (retention_days: 30 → none)\n"
    assert apply(with_tenant(retention_days=7)) == "~ tenant acme (retention_days: none → 7)\n"
    assert Tenant.objects.get(slug="acme").retention_days == 7


def test_it_leaves_alone_what_the_file_does_not_name(apply: Apply) -> None:
    apply(EVERYTHING)
    Tenant.objects.filter(slug="acme").update(public=True, system_prompt="Be kind.")
    Upstream.objects.filter(name="openai").update(total_timeout_seconds=7, organization="org")
    apply(with_tenant(name="Other"))
    apply({"models": [{"name": "gpt-4o-mini"}]})
    acme = Tenant.objects.get(slug="acme")
    assert (acme.name, acme.public, acme.system_prompt) == ("Other", True, "Be kind.")
    assert Upstream.objects.get(name="openai").total_timeout_seconds == 7
    assert Model.objects.get(name="gpt-4o-mini").routes.count() == 2


def test_it_shows_limits_and_budgets_by_what_they_hold_for(apply: Apply) -> None:
    shown = apply(EVERYTHING)
    assert "+ limit acme / key / ci (requests_per_minute: 600; concurrent: 20)\n" in shown
    assert "+ budget acme / tenant / month (amount: $25)\n" in shown
    more = [{"scope": "tenant", "amount_usd": "30.50", "period": "month"}]
    assert apply(with_tenant(budgets=more)) == "~ budget acme / tenant / month (amount: $25 → $30.5)\n"


def test_it_leaves_alone_the_limits_and_columns_that_the_file_does_not_name(apply: Apply) -> None:
    apply(EVERYTHING)
    apply(with_tenant(limits=[{"scope": "key", "name": "ci", "concurrent": 5}], budgets=[]))
    ci = Limit.objects.get(scope="key")
    assert (ci.requests_per_minute, ci.concurrent) == (600, 5)
    assert (Limit.objects.count(), Budget.objects.count()) == (3, 2)


def test_it_takes_a_number_away_from_a_limit(apply: Apply) -> None:
    apply(EVERYTHING)
    apply(with_tenant(limits=[{"scope": "key", "name": "ci", "concurrent": None}]))
    ci = Limit.objects.get(scope="key")
    assert (ci.requests_per_minute, ci.concurrent) == (600, None)


def test_it_keeps_the_seconds_of_a_queue_that_becomes_none(apply: Apply) -> None:
    apply(EVERYTHING)
    apply(with_tenant(limits=[{"scope": "ip", "when_exceeded": "reject"}]))
    assert Limit.objects.get(scope="ip").queue_seconds == 60


def test_it_limits_a_user_that_an_operator_made_by_either_name(apply: Apply) -> None:
    boss = User.objects.create(username="Boss", email="boss@acme.test")
    apply(EVERYTHING)
    Membership.objects.create(tenant=Tenant.objects.get(slug="acme"), user=boss)
    for name in ("Boss", "boss@acme.test"):
        apply(with_tenant(limits=[{"scope": "user", "name": name, "concurrent": 1}]))
    assert Limit.objects.filter(scope="user").count() == 3


def test_it_limits_a_key_that_the_file_does_not_name(apply: Apply) -> None:
    apply(EVERYTHING)
    shown = apply(
        {"tenants": [{"slug": "acme", "limits": [{"scope": "key", "name": "main", "concurrent": 1}]}]}
    )
    assert shown == "+ limit acme / key / main (concurrent: 1)\n"


def test_it_replaces_the_value_of_a_key(apply: Apply) -> None:
    apply(EVERYTHING)
    changed = [{"name": "ci", "secret": "sk-second-api-key"}]
    shown = apply(with_tenant(api_keys=changed))
    assert shown == "~ api key acme / ci (secret: set)\n"
    assert ApiKey.objects.get().digest == keys.digest("sk-second-api-key")


def test_it_keeps_a_revoked_key_revoked_until_its_value_changes(apply: Apply) -> None:
    apply(EVERYTHING)
    ApiKey.objects.get().revoke()
    apply(EVERYTHING)
    assert ApiKey.objects.get().revoked_at is not None
    apply(with_tenant(api_keys=[{"name": "ci", "secret": "sk-second-api-key"}]))
    assert ApiKey.objects.get().revoked_at is None


def test_it_makes_a_key_where_none_is_given_and_shows_it_once(apply: Apply) -> None:
    document = with_tenant(api_keys=[{"name": "made", "user": "alice@acme.test"}], limits=[])
    shown = apply(document)
    secret = shown.rpartition("shown this once: ")[2].strip()
    assert ApiKey.objects.get().digest == keys.digest(secret)
    assert apply(document) == "Nothing to change.\n"


def test_it_replaces_the_routes_of_a_model_that_lists_them(apply: Apply) -> None:
    apply(EVERYTHING)
    kept = Model.objects.get(name="gpt-4o-mini").routes.get(upstream__name="openai").pk
    apply({"models": [{"name": "gpt-4o-mini", "routes": [{"upstream": "openai", "weight": 3}]}]})
    (route,) = Model.objects.get(name="gpt-4o-mini").routes.all()
    assert (route.pk, route.weight) == (kept, 3)


def test_it_adds_a_price_only_when_it_is_another_one(apply: Apply) -> None:
    apply(EVERYTHING)
    apply(EVERYTHING)
    assert Price.objects.count() == 1
    apply({"models": [{"name": "gpt-4o-mini", "prices": {"input_per_million": "0.2"}}]})
    assert Price.objects.count() == 2


def test_it_finds_the_user_that_an_operator_made_by_their_address(apply: Apply) -> None:
    User.objects.create(username="alice", email="Alice@acme.test")
    apply(EVERYTHING)
    assert ApiKey.objects.get().user.username == "alice"
    assert apply(EVERYTHING) == "Nothing to change.\n"


def test_it_takes_a_key_away_from_an_upstream(apply: Apply) -> None:
    apply(EVERYTHING)
    apply({"upstreams": [{"name": "openai", "api_key": None}]})
    assert Upstream.objects.get(name="openai").sealed_api_key is None


def test_it_seals_a_key_to_the_address_that_it_is_given_for(apply: Apply) -> None:
    apply(EVERYTHING)
    apply({"upstreams": [OPENAI | {"base_url": "https://elsewhere.test/v1"}]})
    openai = Upstream.objects.get(name="openai")
    assert openai.base_url == "https://elsewhere.test/v1"
    assert openai.sealed_api_key is not None
    assert unseal(bytes(openai.sealed_api_key), upstream_context(openai)) == "sk-upstream"


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (
            {"upstreams": [{"name": "openai", "base_url": "https://elsewhere.test"}]},
            "upstreams[0]: base_url changes: name its api_key too",
        ),
        (
            {"models": [{"name": "x", "routes": [{"upstream": "absent"}]}]},
            "models[0]: routes: there is no upstream absent",
        ),
        ({"upstreams": [{"name": "x"}]}, "upstreams[0]: base_url is missing"),
        (
            {"upstreams": [{"name": "x", "base_url": "http://x", "tenant": "globex"}]},
            "upstreams[0]: tenant: there is no tenant globex",
        ),
        (
            with_tenant(api_keys=[{"name": "new", "user": "bob@acme.test"}]),
            "tenants[0].api_keys[0]: user: bob@acme.test is not among the members of acme",
        ),
        (with_tenant(api_keys=[{"name": "new"}]), "tenants[0].api_keys[0]: user is missing"),
        (
            with_tenant(limits=[{"scope": "tenant"}]),
            "tenants[0].limits[0]: limits nothing: name one of requests_per_second",
        ),
        (
            with_tenant(limits=[{"scope": "user", "name": "alice@acme.test", "tokens_per_minute": None}]),
            "tenants[0].limits[0]: limits nothing",
        ),
        (
            with_tenant(limits=[{"scope": "key", "concurrent": 1, "queue_seconds": 5}]),
            "tenants[0].limits[0]: queue_seconds: only a limit with when_exceeded: queue has it",
        ),
        (
            with_tenant(limits=[{"scope": "key", "name": "absent", "concurrent": 1}]),
            "tenants[0].limits[0]: name: acme has no key absent",
        ),
        (
            with_tenant(
                budgets=[{"scope": "user", "name": "bob@acme.test", "amount_usd": "1", "period": "day"}]
            ),
            "tenants[0].budgets[0]: name: bob@acme.test is not among the members of acme",
        ),
        (
            {
                "tenants": [
                    {"slug": "globex", "security_keys": [{"name": "m", "secret": "first-security-key"}]}
                ]
            },
            "its secret is already that of the security key acme / main",
        ),
    ],
)
def test_it_refuses_what_does_not_fit_and_changes_nothing(
    apply: Apply, document: dict[str, Any], sentence: str
) -> None:
    apply(EVERYTHING)
    with pytest.raises(CommandError) as raised:
        apply({"models": [{"name": "another"}]} | document)
    assert sentence in str(raised.value)
    assert "tollgate.yaml:" in str(raised.value)
    assert not Model.objects.filter(name="another").exists()
    assert not any(secret in str(raised.value) for secret in SECRETS)
