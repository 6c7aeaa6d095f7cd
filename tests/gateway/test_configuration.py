"""The configuration file: what it may say, and that every mistake is told by line and name."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from accounts import keys
from gateway.configuration import nano_dollars, read
from gateway.rows import Kind, Mistakes, Prices, RouteTo, Row, Secret

EXAMPLE = """\
tenants:
  - slug: acme
    name: Acme
    timezone: Europe/Paris
    public: false
    system_prompt: "Today is {now:%Y-%m-%d}."
    security_keys: [{name: main, secret: env:ACME_SECURITY_KEY}]
    members: [{email: Alice@acme.test, role: owner}]
    api_keys:
      - {name: ci, user: alice@acme.test, secret: env:ACME_CI_KEY, models: ["gpt-*"], expires_at: null}
upstreams:
  - name: openai
    dialect: openai
    base_url: "https://api.openai.com/v1/"
    api_key: env:OPENAI_API_KEY
    tenant: null
models:
  - name: gpt-4o-mini
    routes: [{upstream: openai, model: gpt-4o-mini, priority: 1, weight: 1}]
    prices: {input_per_million: "0.15", cached_input_per_million: "0.075", output_per_million: "0.60"}
  - {name: "*", routes: [{upstream: openai}]}
"""
ENVIRONMENT = {"ACME_SECURITY_KEY": "hush", "ACME_CI_KEY": "sk-ci", "OPENAI_API_KEY": "sk-upstream"}


def rows_of(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[Row]:
    file = tmp_path / "tollgate.yaml"
    file.write_text(text)
    return read(file, environ or {})


def mistakes_of(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(Mistakes) as raised:
        rows_of(tmp_path, text)
    return raised.value.sentences


def named(rows: list[Row], kind: Kind) -> Row:
    (row,) = (row for row in rows if row.kind is kind)
    return row


def test_it_reads_the_whole_schema(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, EXAMPLE, ENVIRONMENT)
    assert named(rows, Kind.TENANT).values == {
        "name": "Acme",
        "timezone": "Europe/Paris",
        "public": False,
        "system_prompt": "Today is {now:%Y-%m-%d}.",
    }
    assert named(rows, Kind.MEMBER).name == ("acme", "alice@acme.test")
    assert named(rows, Kind.API_KEY).values == {
        "user": "alice@acme.test",
        "digest": keys.digest("sk-ci"),
        "prefix": keys.prefix_of("sk-ci"),
        "allowed_models": ["gpt-*"],
        "expires_at": None,
    }
    assert named(rows, Kind.UPSTREAM).values == {
        "dialect": "openai",
        "base_url": "https://api.openai.com/v1",
        "api_key": Secret("sk-upstream"),
        "tenant": None,
    }
    priced, wildcard = (row for row in rows if row.kind is Kind.MODEL)
    assert priced.values == {
        "routes": (RouteTo("openai"),),
        "prices": Prices(150_000_000, 75_000_000, 600_000_000),
    }
    assert wildcard.values == {"routes": (RouteTo("openai"),)}


def test_it_reads_an_empty_file_as_nothing(tmp_path: Path) -> None:
    assert rows_of(tmp_path, "") == []


def test_it_names_the_line_of_every_mistake_at_once(tmp_path: Path) -> None:
    text = """\
tenants:
  - slug: acme
    limts: []
    timezone: X
  - name: nobody
    public: "yes"
upstreams:
  - {name: claude, dialect: anthropic, base_url: "ftp://x"}
modles: []
"""
    assert mistakes_of(tmp_path, text) == [
        "tollgate.yaml:9: modles: unknown key",
        "tollgate.yaml:3: tenants[0].limts: unknown key",
        "tollgate.yaml:4: tenants[0].timezone: 'X' is not an IANA time zone, such as Europe/Paris or UTC.",
        "tollgate.yaml:6: tenants[1].public: must be true or false",
        "tollgate.yaml:5: tenants[1]: slug is missing",
        "tollgate.yaml:8: upstreams[0].dialect: Value 'anthropic' is not a valid choice.",
        "tollgate.yaml:8: upstreams[0].base_url: must be a URL such as https://api.openai.com/v1",
    ]


@pytest.mark.parametrize("key", ["limits", "budgets"])
def test_it_refuses_what_comes_later_rather_than_pass_it_over(tmp_path: Path, key: str) -> None:
    text = f"tenants:\n  - slug: acme\n    {key}: []\n"
    assert mistakes_of(tmp_path, text) == [f"tollgate.yaml:3: tenants[0].{key}: unknown key"]


@pytest.mark.parametrize("dialect", ["chatkit", "ai_sdk"])
def test_it_refuses_a_dialect_that_comes_later(tmp_path: Path, dialect: str) -> None:
    (sentence,) = mistakes_of(tmp_path, f"upstreams:\n  - name: x\n    dialect: {dialect}\n")
    assert sentence.startswith("tollgate.yaml:3: upstreams[0].dialect:")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tenants: {}\n", "1: tenants: must be a list"),
        ("- tenants\n", "1: must be a mapping of keys to values"),
        ("tenants:\n  - acme\n", "2: tenants[0]: must be a mapping of keys to values"),
        ("tenants:\n  - slug: a b\n", "2: tenants[0].slug: Enter a valid “slug”"),
        (
            "tenants:\n  - {slug: acme, name: 12}\n",
            "2: tenants[0].name: must be a text (put quotes around it)",
        ),
        ("tenants:\n  - slug: a\n    slug: b\n", "3: tenants[0].slug: named twice"),
        ("tenants:\n  - slug: a\n  - slug: a\n", "3: tenants[1]: the tenant a is named twice"),
        ("tenants:\n  - slug: a\n    <<: {name: b}\n", "3: tenants[0].<<: unknown key"),
        ("tenants: [\n", "2: not YAML:"),
        ("a: !!python/object:os.system x\n", "1: a: unknown key"),
        (
            "models:\n  - {name: x, routes: [{upstream: y, weight: -1}]}\n",
            "2: models[0].routes[0].weight: Ensure",
        ),
        (
            "models:\n  - {name: x, routes: [{upstream: y, weight: many}]}\n",
            "2: models[0].routes[0].weight: “many”",
        ),
        ("models:\n  - {name: x, routes: [{model: y}]}\n", "2: models[0].routes[0]: upstream is missing"),
        (
            'upstreams:\n  - {name: x, base_url: "http://x/v1", api_key: "a\\nb"}\n',
            "2: upstreams[0].api_key: must be printable ASCII",
        ),
        (
            'upstreams:\n  - {name: x, base_url: "http://x/v1", project: "a\\nb"}\n',
            "2: upstreams[0].project: must be printable ASCII",
        ),
        ("models:\n  - {name: x, prices: {}}\n", "2: models[0].prices: names none of"),
        (
            "models:\n  - {name: x*, prices: {per_minute: 1}}\n",
            "2: models[0].prices: prices need a model's exact name",
        ),
    ],
)
def test_it_says_what_is_wrong_and_where(tmp_path: Path, text: str, sentence: str) -> None:
    assert any(found.startswith(f"tollgate.yaml:{sentence}") for found in mistakes_of(tmp_path, text))


@pytest.mark.parametrize("environ", [{}, {"ACME_KEY": ""}])
def test_it_names_a_variable_that_the_environment_lacks(tmp_path: Path, environ: dict[str, str]) -> None:
    text = "tenants:\n  - slug: acme\n    security_keys:\n      - {name: main, secret: env:ACME_KEY}\n"
    with pytest.raises(Mistakes) as raised:
        rows_of(tmp_path, text, environ)
    assert raised.value.sentences == [
        "tollgate.yaml:4: tenants[0].security_keys[0].secret: the environment has no ACME_KEY"
    ]


def test_it_never_repeats_a_secret_that_it_refuses(tmp_path: Path) -> None:
    text = 'tenants:\n  - {slug: a, security_keys: [{name: main, secret: "hush hush"}]}\n'
    text += 'upstreams:\n  - {name: b, base_url: "https://user:hush@host/v1", api_key: [hush]}\n'
    sentences = mistakes_of(tmp_path, text)
    assert len(sentences) == 3
    assert "hush" not in "".join(sentences)


@pytest.mark.parametrize(
    "address", ["http://169.254.169.254/v1", "http://[fe80::1]/v1", "http://[::ffff:169.254.169.254]/"]
)
def test_it_refuses_a_link_local_upstream(tmp_path: Path, address: str) -> None:
    (sentence,) = mistakes_of(tmp_path, f'upstreams:\n  - {{name: x, base_url: "{address}"}}\n')
    assert sentence.endswith("must not be a link-local address")


def test_it_takes_loopback_and_private_upstreams(tmp_path: Path) -> None:
    text = 'upstreams:\n  - {name: a, base_url: "http://127.0.0.1:8080"}\n  - {name: b, base_url: "http://10.0.0.1"}\n'
    assert len(rows_of(tmp_path, text)) == 2


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T12:00:00Z", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ('"2027-01-31T12:00:00+02:00"', datetime(2027, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_it_reads_moments(tmp_path: Path, text: str, moment: datetime) -> None:
    rows = rows_of(tmp_path, f"tenants:\n  - slug: a\n    api_keys: [{{name: k, expires_at: {text}}}]\n")
    assert named(rows, Kind.API_KEY).values["expires_at"] == moment


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("0.15", 150_000_000),
        ("0", 0),
        ("15", 15_000_000_000),
        ("0.000000001", 1),
        ("0.1500000000", 150_000_000),
    ],
)
def test_it_counts_dollars_exactly(text: str, nano: int) -> None:
    assert nano_dollars(text) == nano


@pytest.mark.parametrize("text", ["-1", "0.0000000001", "NaN", "Infinity", "a dollar", "1e12", ""])
def test_it_refuses_dollars_that_it_cannot_count(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be an amount|nine decimals"):
        nano_dollars(text)


def test_it_says_why_a_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Mistakes, match="No such file"):
        read(tmp_path / "absent.yaml", {})
