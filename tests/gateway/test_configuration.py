"""The configuration file: what it may say, and that every mistake is told by line and name."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from accounts import keys
from accounts.money import nano_dollars
from gateway.configuration import read
from gateway.rows import Kind, Mistakes, Prices, RouteTo, Row, Secret

EXAMPLE = """\
tenants:
  - slug: acme
    name: Acme
    timezone: Europe/Paris
    public: false
    system_prompt: "Today is {now:%Y-%m-%d}."
    retention_days: null
    continue_dropped: true
    security_keys: [{name: main, secret: env:ACME_SECURITY_KEY}]
    members: [{email: Alice@acme.test, role: owner}]
    api_keys:
      - {name: ci, user: alice@acme.test, secret: env:ACME_CI_KEY, models: ["gpt-*"], expires_at: null}
    limits:
      - {scope: key, name: ci, requests_per_minute: 600, tokens_per_minute: 200000, concurrent: 20}
      - {scope: ip, requests_per_second: 2, concurrent: 1, when_exceeded: queue, queue_seconds: 30}
    budgets: [{scope: tenant, amount_usd: "25.00", period: month}]
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
        "retention_days": None,
        "continue_dropped": True,
    }
    assert named(rows, Kind.MEMBER).name == ("acme", "alice@acme.test")
    assert named(rows, Kind.API_KEY).values == {
        "user": "alice@acme.test",
        "digest": keys.digest("sk-ci"),
        "prefix": keys.prefix_of("sk-ci"),
        "allowed_models": ["gpt-*"],
        "expires_at": None,
    }
    named_limit, each_ip = (row for row in rows if row.kind is Kind.LIMIT)
    assert named_limit.name == ("acme", "key", "ci")
    assert named_limit.values == {
        "requests_per_minute": 600,
        "tokens_per_minute": 200_000,
        "concurrent": 20,
    }
    assert each_ip.name == ("acme", "ip", "")
    assert each_ip.values == {
        "requests_per_second": 2,
        "concurrent": 1,
        "when_exceeded": "queue",
        "queue_seconds": 30,
    }
    assert named(rows, Kind.BUDGET).name == ("acme", "tenant", "", "month")
    assert named(rows, Kind.BUDGET).values == {"amount_nano_usd": 25 * 10**9}
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


@pytest.mark.parametrize("days", ["0", "-1", "36501", "1.5", "soon", "true"])
def test_it_refuses_a_retention_that_is_no_number_of_days(tmp_path: Path, days: str) -> None:
    (sentence,) = mistakes_of(tmp_path, f"tenants:\n  - slug: acme\n    retention_days: {days}\n")
    assert sentence.startswith("tollgate.yaml:3: tenants[0].retention_days: ")


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


def test_it_reads_the_headers_and_cookies_of_an_upstream(tmp_path: Path) -> None:
    text = (
        "upstreams:\n  - name: x\n    dialect: chatkit\n    headers: {X-House: red}\n"
        "    cookies: {session: env:SESSION, user_id: u-1}\n"
    )
    (tmp_path / "tollgate.yaml").write_text(text)
    (row,) = read(tmp_path / "tollgate.yaml", {"SESSION": "abc"})
    assert row.values["headers"] == Secret("X-House: red")
    assert row.values["cookies"] == Secret("session=abc\nuser_id=u-1")
    assert "abc" not in str(row)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("headers: {Host: example.com}", "must not set host"),
        ("headers: {'X Y': z}", "must be lines such as 'X-Name: value', in printable ASCII"),
        ('headers: {X-Y: "a\\nb"}', "must be one line"),
        ("cookies: {a: 'b;c'}", "must be lines such as 'name=value', in printable ASCII without ; and ,"),
        ("cookies: [a]", "must be a mapping of names to texts"),
    ],
)
def test_it_refuses_headers_and_cookies_that_cannot_be_sent(tmp_path: Path, line: str, sentence: str) -> None:
    (told,) = mistakes_of(tmp_path, f"upstreams:\n  - name: x\n    dialect: chatkit\n    {line}\n")
    assert told.endswith(sentence)


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


def test_it_wants_international_names_as_they_are_looked_up(tmp_path: Path) -> None:
    (sentence,) = mistakes_of(tmp_path, 'upstreams:\n  - {name: x, base_url: "https://straße.test/v1"}\n')
    assert sentence.endswith("must name its server in ASCII, an international name as xn--…")


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


def rule_mistakes(tmp_path: Path, section: str, entry: str) -> list[str]:
    """What is said of the fourth line, which has this limit or budget."""
    found = mistakes_of(tmp_path, f"tenants:\n  - slug: acme\n    {section}:\n      - {{{entry}}}\n")
    start = f"tollgate.yaml:4: tenants[0].{section}[0]"
    assert all(sentence.startswith(start) for sentence in found)
    return [sentence.removeprefix(start) for sentence in found]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("concurrent: 1", ": scope is missing"),
        ("scope: planet, concurrent: 1", ".scope: Value 'planet' is not a valid choice."),
        ("scope: key, requests_per_second: 0", ".requests_per_second: Ensure"),
        ("scope: key, requests_per_minute: -1", ".requests_per_minute: Ensure"),
        ("scope: key, tokens_per_minute: 1.5", ".tokens_per_minute: “1.5” value must be an integer."),
        ("scope: key, tokens_per_minute: 9999999999", ".tokens_per_minute: Ensure"),
        ("scope: key, concurrent: true", ".concurrent: must be a number"),
        ("scope: key, concurrent: .inf", ".concurrent: “.inf” value must be an integer."),
        ("scope: key, requests_per_hour: 1", ".requests_per_hour: unknown key"),
        ("scope: ip, when_exceeded: wait", ".when_exceeded: Value 'wait' is not a valid choice."),
        ("scope: ip, when_exceeded: queue, queue_seconds: 0", ".queue_seconds: Ensure"),
        ("scope: ip, when_exceeded: queue, queue_seconds: 601", ".queue_seconds: Ensure"),
        ("scope: ip, name: 10.0.0.0/8, concurrent: 1", ".name: One IP address is wanted"),
        ("scope: model, name: gpt-*, concurrent: 1", ".name: One model's exact name"),
        ("scope: tenant, name: acme, concurrent: 1", ".name: The tenant itself needs no name."),
        ("scope: key, name: 12, concurrent: 1", ".name: must be a text (put quotes around it)"),
        (f"scope: key, name: {'x' * 255}, concurrent: 1", ".name: Ensure"),
    ],
)
def test_it_refuses_a_limit_by_the_field_that_is_wrong(tmp_path: Path, entry: str, sentence: str) -> None:
    (found,) = rule_mistakes(tmp_path, "limits", entry)
    assert found.startswith(sentence)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ('amount_usd: "1", period: day', ": scope is missing"),
        ('scope: key, amount_usd: "1"', ": period is missing"),
        ("scope: key, period: day", ": amount_usd is missing"),
        ('scope: ip, amount_usd: "1", period: day', ".scope: Value 'ip' is not a valid choice."),
        ('scope: model, amount_usd: "1", period: day', ".scope: Value 'model' is not a valid choice."),
        ('scope: key, amount_usd: "1", period: year', ".period: Value 'year' is not a valid choice."),
        ('scope: key, amount_usd: "0", period: day', ".amount_usd: must be more than $0"),
        ('scope: key, amount_usd: "-1", period: day', ".amount_usd: must be an amount of dollars"),
        ('scope: key, amount_usd: "4000001", period: day', ".amount_usd: must be more than $0, and $4000000"),
        ('scope: key, amount_usd: "0.0000000001", period: day', ".amount_usd: has more than nine decimals"),
        ('scope: key, amount_usd: "1", period: day, allow_unpriced: 1', ".allow_unpriced: must be true"),
        ('scope: tenant, name: a, amount_usd: "1", period: day', ".name: The tenant itself needs no name."),
    ],
)
def test_it_refuses_a_budget_by_the_field_that_is_wrong(tmp_path: Path, entry: str, sentence: str) -> None:
    (found,) = rule_mistakes(tmp_path, "budgets", entry)
    assert found.startswith(sentence)


def test_it_refuses_two_limits_of_one_name_however_it_is_written(tmp_path: Path) -> None:
    text = """\
tenants:
  - slug: acme
    limits:
      - {scope: user, name: alice@acme.test, concurrent: 1}
      - {scope: user, name: Alice@acme.test, concurrent: 2}
      - {scope: user, concurrent: 3}
"""
    assert mistakes_of(tmp_path, text) == [
        "tollgate.yaml:5: tenants[0].limits[1]: the limit acme / user / alice@acme.test is named twice"
    ]


def test_it_takes_a_budget_for_each_period(tmp_path: Path) -> None:
    text = "tenants:\n  - slug: acme\n    budgets:\n"
    for period in ("day", "week", "month", "total"):
        text += f"      - {{scope: tenant, amount_usd: 5, period: {period}}}\n"
    assert [row.name[-1] for row in rows_of(tmp_path, text)[1:]] == ["day", "week", "month", "total"]


def test_it_reads_a_null_as_no_limit(tmp_path: Path) -> None:
    text = "tenants:\n  - {slug: acme, limits: [{scope: key, concurrent: null}]}\n"
    assert named(rows_of(tmp_path, text), Kind.LIMIT).values == {"concurrent": None}
