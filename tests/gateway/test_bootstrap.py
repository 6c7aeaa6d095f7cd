"""What a start makes of the environment, the first time and the next ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from accounts import keys
from accounts.changes import Installation
from accounts.models import ApiKey, SecurityKey, Tenant, User
from accounts.tenancy import operator_scope
from gateway.bootstrap import bootstrap
from gateway.rows import Kind, Mistakes
from proxy.models import Model, Upstream
from proxy.sealing import unseal, upstream_context


@pytest.fixture(autouse=True)
def operator(db: None) -> Iterator[None]:
    with operator_scope():
        yield


def routes_of(model: str) -> list[str]:
    return [route.upstream.name for route in Model.objects.get(name=model).routes.all()]


def api_key_of(name: str) -> str | None:
    upstream = Upstream.objects.get(name=name)
    if upstream.sealed_api_key is None:
        return None
    return unseal(bytes(upstream.sealed_api_key), upstream_context(upstream))


def test_it_makes_a_tenant_an_administrator_and_a_key() -> None:
    outcome = bootstrap()
    (made,) = outcome.made
    assert made.kind is Kind.API_KEY
    assert ApiKey.objects.get().digest == keys.digest(made.secret)
    assert ApiKey.objects.of(Tenant.objects.get(slug="default")).count() == 1
    assert outcome.password is not None
    assert User.objects.get(username="admin", is_superuser=True).check_password(outcome.password)


def test_it_writes_nothing_the_second_time() -> None:
    bootstrap()
    generation = Installation.current().generation
    outcome = bootstrap()
    assert (outcome.password, outcome.made) == (None, [])
    assert Installation.current().generation == generation
    assert (Tenant.objects.count(), ApiKey.objects.count(), User.objects.count()) == (1, 1, 1)


def test_it_answers_through_the_demo_upstream_with_no_account_anywhere() -> None:
    bootstrap()
    assert routes_of("demo") == ["demo"]
    assert not Model.objects.filter(name="*").exists()


def test_it_takes_the_keys_it_is_given_and_shows_none(settings: Settings) -> None:
    settings.BOOTSTRAP_API_KEY = "sk-given"
    settings.SECURITY_KEY = "hush"
    settings.ADMIN_USERNAME = "root"
    settings.ADMIN_PASSWORD = "correct horse"
    outcome = bootstrap()
    assert (outcome.password, outcome.made) == (None, [])
    assert ApiKey.objects.get().digest == keys.digest("sk-given")
    assert SecurityKey.objects.get().digest == keys.digest("hush")
    assert User.objects.get(username="root", is_superuser=True).check_password("correct horse")


def test_it_replaces_a_key_whose_variable_changed(settings: Settings) -> None:
    bootstrap()
    settings.BOOTSTRAP_API_KEY = "sk-given-later"
    bootstrap()
    assert ApiKey.objects.get().digest == keys.digest("sk-given-later")


def test_it_gives_the_key_to_the_administrator_there_is_when_another_is_named(settings: Settings) -> None:
    bootstrap()
    ApiKey.objects.get().delete()
    settings.ADMIN_USERNAME = "somebody"
    settings.BOOTSTRAP_API_KEY = "sk-given"
    bootstrap()
    assert ApiKey.objects.get().user.username == "admin"


def test_it_does_not_bring_back_what_an_operator_removed() -> None:
    bootstrap()
    ApiKey.objects.get().delete()
    assert bootstrap().made == []
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize(
    ("address", "key", "base_url"),
    [
        (None, "sk-one", "https://api.openai.com/v1"),
        ("http://127.0.0.1:1/v1/", None, "http://127.0.0.1:1/v1"),
        ("http://127.0.0.1:1/v1", "sk-one", "http://127.0.0.1:1/v1"),
    ],
)
def test_it_makes_an_upstream_of_either_variable_of_openai(
    settings: Settings, address: str | None, key: str | None, base_url: str
) -> None:
    settings.OPENAI_BASE_URL, settings.OPENAI_API_KEY = address, key
    settings.OPENAI_PROJECT_KEY = "proj_1"
    settings.REQUEST_TIMEOUT_SECONDS = 30.0
    bootstrap()
    openai = Upstream.objects.get(name="openai")
    assert (openai.base_url, openai.project, openai.total_timeout_seconds) == (base_url, "proj_1", 30)
    assert api_key_of("openai") == key
    assert routes_of("*") == ["openai"]


def test_it_claims_the_names_of_gpt_oss(settings: Settings) -> None:
    settings.GPT_OSS_BASE_URL = "http://127.0.0.1:11434/v1"
    bootstrap()
    assert routes_of("gpt-oss-20b") == routes_of("gpt-oss-120b") == ["gpt-oss"]
    assert api_key_of("gpt-oss") is None


def test_a_chatkit_server_has_the_names_that_no_compatible_server_has(settings: Settings) -> None:
    settings.CHATKIT_BASE_URL = "http://127.0.0.1:9002"
    settings.REASONING_EFFORT_DEFAULT = "High"
    bootstrap()
    assert routes_of("gpt-oss-20b") == routes_of("gpt-oss-120b") == ["chatkit"]
    assert Upstream.objects.get(name="chatkit").dialect == "chatkit"
    assert set(Model.objects.filter(name__startswith="gpt-oss").values_list("reasoning_effort")) == {
        ("high",)
    }


def test_a_compatible_server_keeps_the_names_from_chatkit(settings: Settings) -> None:
    settings.CHATKIT_BASE_URL = "http://127.0.0.1:9002"
    settings.GPT_OSS_BASE_URL = "http://127.0.0.1:11434/v1"
    bootstrap()
    assert routes_of("gpt-oss-120b") == ["gpt-oss"]


def test_an_ai_sdk_application_has_two_names_where_openai_is_not_there(settings: Settings) -> None:
    settings.AI_SDK_URL = "http://127.0.0.1:3000/api/chat"
    settings.VERCEL_SESSION_PREFIX = "ours"
    bootstrap()
    assert routes_of("gpt-4o") == routes_of("gpt-4o-mini") == ["ai-sdk"]
    upstream = Upstream.objects.get(name="ai-sdk")
    assert (upstream.base_url, upstream.session_prefix) == ("http://127.0.0.1:3000/api/chat", "ours")


def test_it_refuses_an_effort_that_there_is_not(settings: Settings) -> None:
    settings.CHATKIT_BASE_URL = "http://127.0.0.1:9002"
    settings.REASONING_EFFORT_DEFAULT = "much"
    with pytest.raises(Mistakes, match="REASONING_EFFORT_DEFAULT"):
        bootstrap()


def test_it_follows_the_environment_to_another_address_and_key(settings: Settings) -> None:
    settings.OPENAI_API_KEY = "sk-one"
    bootstrap()
    settings.OPENAI_BASE_URL = "http://127.0.0.1:1/v1"
    settings.OPENAI_API_KEY = None
    bootstrap()
    assert Upstream.objects.get(name="openai").base_url == "http://127.0.0.1:1/v1"
    assert api_key_of("openai") is None


def test_it_keeps_the_routes_that_an_operator_chose(settings: Settings) -> None:
    settings.OPENAI_API_KEY = "sk-one"
    bootstrap()
    Model.objects.get(name="*").routes.update(weight=9)
    bootstrap()
    assert Model.objects.get(name="*").routes.get().weight == 9


def test_it_lets_the_file_have_the_last_word(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "tollgate.yaml"
    file.write_text(
        'models:\n  - {name: "*", routes: [{upstream: demo}]}\ntenants:\n  - {slug: default, name: Us}\n'
    )
    settings.OPENAI_API_KEY = "sk-one"
    settings.CONFIG_FILE = str(file)
    bootstrap()
    assert routes_of("*") == ["demo"]
    assert Tenant.objects.get(slug="default").name == "Us"


def test_it_makes_nothing_at_all_when_the_file_is_wrong(settings: Settings, tmp_path: Path) -> None:
    settings.CONFIG_FILE = str(tmp_path / "absent.yaml")
    with pytest.raises(Mistakes, match="No such file"):
        bootstrap()
    assert not Tenant.objects.exists()
    assert not User.objects.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ADMIN_USERNAME", "with spaces"),
        ("ADMIN_USERNAME", "a" * 151),
        ("BOOTSTRAP_API_KEY", "with spaces"),
        ("OPENAI_BASE_URL", "http://169.254.169.254/v1"),
        ("OPENAI_API_KEY", "sk-1\nsk-2"),
    ],
)
def test_it_names_the_variable_that_cannot_be_meant(settings: Settings, name: str, value: str) -> None:
    setattr(settings, name, value)
    with pytest.raises(Mistakes, match=name):
        bootstrap()


def test_it_opens_the_default_tenant_to_everybody_and_closes_it_only_when_told_to(settings: Settings) -> None:
    bootstrap()
    assert not Tenant.objects.get(slug="default").public
    for asked, public in ((True, True), (None, True), (False, False), (None, False)):
        settings.PUBLIC_ACCESS = asked
        bootstrap()
        assert Tenant.objects.get(slug="default").public is public


def test_it_makes_a_public_tenant_the_first_time_too(settings: Settings) -> None:
    settings.PUBLIC_ACCESS = True
    bootstrap()
    assert Tenant.objects.get(slug="default").public
