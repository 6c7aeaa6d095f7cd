"""Budgets as a caller meets them, over real sockets."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest

from accounts.windows import window
from tests.conftest import StartGateway
from tests.deadline import until
from tests.proxy.test_endings import open_stream
from tests.server import Gateway, Person
from tests.upstreams.scripted import ScriptedUpstream

CHAT = "/v1/chat/completions"
MODEL = "gpt-budgeted"
# A call of the scripted upstream uses 11 tokens of input, of which 3 cached, and 5 of output.
PRICES = {"input_per_million": "100", "cached_input_per_million": "100", "output_per_million": "1000"}
COST_NANO_USD = 11 * 100_000 + 5 * 1_000_000

Budgeted = Callable[..., Person]


@pytest.fixture
def budgeted(gateway: Gateway, request: pytest.FixtureRequest) -> Budgeted:
    """Makes a tenant with these budgets, and returns its owner; the model MODEL has a price."""

    def make(*budgets: dict[str, object]) -> Person:
        slug = f"budgeted-{abs(hash(request.node.name)) % 10**8}"
        (owner,) = gateway.tenant(slug)
        routes = [{"upstream": "openai", "model": "gpt-test"}]
        gateway.configure(
            {
                "tenants": [{"slug": slug, "name": slug, "budgets": list(budgets)}],
                "models": [{"name": MODEL, "routes": routes, "prices": PRICES}],
            }
        )
        return owner

    return make


def chat(person: Person, model: str = MODEL, **more: object) -> httpx.Response:
    return person.http.post(CHAT, json={"model": model, "messages": []} | more)


def spent(gateway: Gateway, owner: Person) -> int:
    rows = gateway.query(
        "SELECT sum(s.amount_nano_usd) AS nano FROM accounts_spend s "
        "JOIN accounts_tenant t ON t.id = s.tenant_id WHERE t.slug = %s",
        owner.tenant,
    )
    return int(rows[0]["nano"] or 0)


def test_what_is_spent_is_what_the_records_say(gateway: Gateway, budgeted: Budgeted) -> None:
    owner = budgeted({"scope": "tenant", "amount_usd": "5.00", "period": "day"})
    for stream in (False, True):
        record = gateway.usage_of(chat(owner, stream=stream).headers["x-request-id"])
        assert record["cost_nano_usd"] == COST_NANO_USD
    assert spent(gateway, owner) == 2 * COST_NANO_USD


def test_a_spent_budget_is_insufficient_quota_and_not_worth_a_retry(
    budgeted: Budgeted, upstream: ScriptedUpstream
) -> None:
    owner = budgeted({"scope": "key", "amount_usd": "0.03", "period": "total"})
    answers = [chat(owner, max_tokens=5) for _ in range(8)]
    codes = [answer.status_code for answer in answers]
    assert codes == sorted(codes)
    assert codes[0] == 200
    refused = answers[-1]
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
    assert refused.headers["x-should-retry"] == "false"
    assert refused.headers["retry-after"] == "86400"
    assert len(upstream.calls()) * COST_NANO_USD <= 30_000_000


@pytest.mark.parametrize(("period", "seconds"), [("day", 86_400), ("month", 31 * 86_400)])
def test_a_spent_budget_says_when_its_window_ends(budgeted: Budgeted, period: str, seconds: int) -> None:
    budgets = [{"scope": "key", "amount_usd": "0.0001", "period": period}]
    refused = chat(budgeted(*budgets, {"scope": "tenant", "amount_usd": "9.00", "period": "total"}))
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
    now = datetime.now(UTC)
    _, end = window(period, now, "UTC")
    assert abs(int(refused.headers["retry-after"]) - (end - now).total_seconds()) < 30
    assert int(refused.headers["retry-after"]) <= seconds


def test_the_upstream_gets_a_cap_that_the_hold_pays_for(
    budgeted: Budgeted, upstream: ScriptedUpstream
) -> None:
    owner = budgeted({"scope": "tenant", "amount_usd": "1.00", "period": "month"})
    free = chat(owner, max_tokens=64_000)
    cap = int(free.headers["x-tollgate-output-cap"])
    assert upstream.calls()[-1].document["max_tokens"] == cap
    assert 100 <= cap <= 125  # an eighth of a dollar, at a thousand dollars a million
    unbounded = chat(owner)
    sent = upstream.calls()[-1].document
    assert sent["max_completion_tokens"] == int(unbounded.headers["x-tollgate-output-cap"])
    modest = chat(owner, max_tokens=20)
    assert "x-tollgate-output-cap" not in modest.headers
    assert upstream.calls()[-1].document["max_tokens"] == 20


@pytest.mark.parametrize("digits", [18, 25, 4000])
def test_a_number_that_no_model_reaches_holds_up_nobody(
    gateway: Gateway, budgeted: Budgeted, upstream: ScriptedUpstream, digits: int
) -> None:
    endless = 10**digits
    owner = budgeted({"scope": "tenant", "amount_usd": "1.00", "period": "month"})
    capped = chat(owner, max_tokens=endless)
    assert capped.status_code == 200
    assert upstream.calls()[-1].document["max_tokens"] == int(capped.headers["x-tollgate-output-cap"]) <= 125
    assert [chat(owner, **{name: endless}).status_code for name in ("n", "best_of")] == [429, 429]
    assert chat(owner, n=endless, max_tokens=endless).status_code == 429
    assert chat(owner, max_tokens=20).status_code == 200
    until(lambda: spent(gateway, owner) == 2 * COST_NANO_USD, seconds=5, what="the calls' costs")


def test_each_choice_gets_a_cap_that_says_something_or_the_call_is_refused(
    budgeted: Budgeted, upstream: ScriptedUpstream
) -> None:
    owner = budgeted({"scope": "tenant", "amount_usd": "1.00", "period": "month"})
    for choices, least, most in ((4, 25, 31), (20, 16, 16)):
        cap = int(chat(owner, n=choices).headers["x-tollgate-output-cap"])
        assert upstream.calls()[-1].document["max_completion_tokens"] == cap
        assert least <= cap <= most
    refused = chat(owner, n=100)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n", "best_of"])
def test_a_number_that_no_program_can_hold_is_told_by_its_member(budgeted: Budgeted, name: str) -> None:
    owner = budgeted({"scope": "tenant", "amount_usd": "1.00", "period": "month"})
    for number in ("1e999", "1" * 5000):
        refused = owner.http.post(CHAT, content=f'{{"model":"{MODEL}","messages":[],"{name}":{number}}}')
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, name)


def test_a_model_without_a_price_is_refused_by_name(budgeted: Budgeted, upstream: ScriptedUpstream) -> None:
    owner = budgeted({"scope": "tenant", "amount_usd": "1.00", "period": "month"})
    refused = chat(owner, "gpt-unpriced")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_unpriced")
    assert "gpt-unpriced" in refused.json()["error"]["message"]
    assert upstream.calls() == []


def test_an_operator_may_let_unpriced_models_through(budgeted: Budgeted) -> None:
    budget = {"scope": "tenant", "amount_usd": "1.00", "period": "month", "allow_unpriced": True}
    assert chat(budgeted(budget), "gpt-unpriced").status_code == 200


def test_a_call_that_failed_costs_nothing_and_frees_its_hold(gateway: Gateway, budgeted: Budgeted) -> None:
    owner = budgeted({"scope": "tenant", "amount_usd": "0.02", "period": "day"})
    gateway.configure(
        {
            "models": [
                {
                    "name": "gpt-fails",
                    "routes": [{"upstream": "openai", "model": "gpt-test+status=400"}],
                    "prices": PRICES,
                }
            ]
        }
    )
    assert [chat(owner, "gpt-fails", max_tokens=5).status_code for _ in range(5)] == [400] * 5
    assert spent(gateway, owner) == 0
    assert chat(owner, max_tokens=5).status_code == 200


def test_a_call_waits_for_money_that_others_hold(
    gateway: Gateway, budgeted: Budgeted, upstream: ScriptedUpstream
) -> None:
    owner = budgeted({"scope": "tenant", "amount_usd": "0.20", "period": "day"})
    routes = [{"upstream": "openai", "model": "gpt-test+pace=100+words=10"}]
    gateway.configure({"models": [{"name": "gpt-slow", "routes": routes, "prices": PRICES}]})
    # Each holds at least what sixteen tokens of output cost: there is money for ten or eleven at a time.
    connections = [open_stream(gateway, owner, "gpt-slow") for _ in range(12)]
    until(lambda: len(upstream.calls()) >= 9, what="calls under way")
    assert chat(owner, max_tokens=30).status_code == 200
    assert spent(gateway, owner) < 200_000_000
    for connection in connections:
        connection.close()


def test_one_budget_of_each_key_is_its_own(gateway: Gateway, budgeted: Budgeted) -> None:
    owner = budgeted({"scope": "key", "amount_usd": "0.02", "period": "total"})
    while chat(owner, max_tokens=5).status_code == 200:
        pass
    with httpx.Client(base_url=gateway.url, headers={"x-security-key": owner.security_key}) as other:
        body = {"model": MODEL, "messages": [], "max_tokens": 5}
        assert other.post(CHAT, json=body).status_code == 200


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_a_killed_server_left_is_spent(start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    gateway = start_gateway()
    (owner,) = gateway.tenant("killed")
    budget = {"scope": "tenant", "amount_usd": "0.50", "period": "total"}
    routes = [{"upstream": "openai", "model": "gpt-test+pace=100+words=600"}]
    gateway.configure(
        {
            "tenants": [{"slug": "killed", "name": "Killed", "budgets": [budget]}],
            "models": [
                {"name": MODEL, "routes": [{"upstream": "openai", "model": "gpt-test"}], "prices": PRICES},
                {"name": "gpt-slow", "routes": routes, "prices": PRICES},
            ],
        }
    )
    question = [{"role": "user", "content": "?" * 4_200}]  # a thousand tokens: a dime
    until(lambda: chat(owner, max_tokens=5).status_code == 200, what="the budget")
    stream = open_stream(gateway, owner, "gpt-slow", messages=question)
    until(lambda: len(upstream.calls("gpt-test+pace=100+words=600")) == 1, what="the call under way")
    gateway.kill9()
    stream.close()
    gateway.start()
    until(lambda: chat(owner, max_tokens=5).status_code == 200, what="the budget, which knows of no dime")
    until(lambda: gateway.usage("status = %s", "lost"), seconds=60, what="the dime to be written down")
    time.sleep(1.5)  # each process hears of it within a second
    assert chat(owner, max_tokens=16, messages=question).status_code == 429


def test_one_call_explains_how_every_budget_stands(budgeted: Budgeted) -> None:
    owner = budgeted({"scope": "tenant", "amount_usd": "5.00", "period": "day"})
    chat(owner)
    (told,) = owner.http.get("/v1/limits").json()["data"]
    assert (told["amount_usd"], told["spent_usd"]) == ("5.000000000", "0.006100000")
    assert (told["held_usd"], told["calls_under_way"]) == ("0.000000000", 0)
