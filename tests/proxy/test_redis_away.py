"""Redis is cut off, silent, slow, emptied or restored under load: nobody waits, and nobody overspends."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from tests.cable import Cable
from tests.conftest import StartGateway
from tests.deadline import until
from tests.proxy.test_endings import open_stream
from tests.proxy.test_many_processes import children
from tests.server import Gateway, Person
from tests.services import private_folder, private_redis, redis_binary
from tests.upstreams.scripted import ScriptedUpstream

CHAT = "/v1/chat/completions"
LONGEST_WAIT_SECONDS = 0.3
BACK_SECONDS = 5.0
LEASE_SECONDS = 20.0
RATE = 20  # calls a second of each of acme's keys
PLACES = 4  # calls at a time, of all of crowded's
BUDGET_NANO_USD = 300_000_000
PRICES = {"input_per_million": "10", "cached_input_per_million": "10", "output_per_million": "100"}
SPENDS = "gpt-test+words=8+delay=50"  # what the upstream hears of a call for gpt-priced
COST_NANO_USD = 11 * 10_000 + 8 * 100_000
WORKERS = 2

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.redis,
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(120),
]

Breakage = Callable[[Cable], None]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the test's own Redis keeps what it is told to."""
    with private_folder() as folder:
        yield folder


@pytest.fixture
def servers(folder: Path) -> Iterator[ExitStack]:
    """What runs until the test is over, or ends it."""
    with ExitStack() as servers:
        yield servers


@pytest.fixture
def own_redis(folder: Path, servers: ExitStack) -> str:
    """A Redis of the test's own: it will be emptied, or ended with `servers`."""
    return servers.enter_context(private_redis(redis_binary(), folder))


@pytest.fixture
def cable(own_redis: str) -> Iterator[Cable]:
    with Cable(own_redis) as made:
        yield made


@pytest.fixture
def cabled(start_gateway: StartGateway, cable: Cable, own_redis: str) -> Gateway:
    """Two processes whose only way to Redis is the cable: acme's calls have a rate, thrifty's a budget,
    crowded's a number at a time, and globex' nothing of the kind."""
    gateway = start_gateway(WORKERS=str(WORKERS), REDIS_URL=cable.through(own_redis))
    for slug in ("thrifty", "crowded"):
        (gateway.people[slug],) = gateway.tenant(slug)
    budget = {"scope": "tenant", "amount_usd": f"{BUDGET_NANO_USD / 10**9}", "period": "total"}
    tenants: dict[str, dict[str, object]] = {
        "acme": {"limits": [{"scope": "key", "requests_per_second": RATE}]},
        "thrifty": {"budgets": [budget]},
        "crowded": {"limits": [{"scope": "tenant", "concurrent": PLACES}]},
    }
    routes = [{"upstream": "openai", "model": SPENDS}]
    gateway.configure(
        {
            "tenants": [{"slug": slug, "name": slug, **rules} for slug, rules in tenants.items()],
            "models": [{"name": "gpt-priced", "routes": routes, "prices": PRICES}],
        }
    )
    everybody_counts(gateway.people["alice"])
    # Nobody is told what is left of a budget before everybody could say what they hold of it.
    until(lambda: pay(gateway.people["thrifty"]).status == 200, what="the budget")
    return gateway


def everybody_counts(person: Person) -> None:
    """Waits until both processes go by the rules."""
    until(lambda: all(limit_told(call(person)) == RATE for _ in range(8)), what="the rules")


@dataclass(frozen=True, slots=True)
class Answer:
    """How one call ended, and when (time.monotonic())."""

    status: int
    code: str | None
    headers: dict[str, str]
    began: float
    seconds: float


def call(person: Person, model: str = "gpt-test", **more: object) -> Answer:
    """One call on a connection of its own, so that any of the processes may get it."""
    connection = http.client.HTTPConnection("127.0.0.1", person.gateway.port, timeout=30)
    body = json.dumps({"model": model, "messages": [], **more})
    began = time.monotonic()
    try:
        connection.request("POST", CHAT, body, {"authorization": f"Bearer {person.api_key}"})
        response = connection.getresponse()
        document = json.loads(response.read())
        seconds = time.monotonic() - began
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, document.get("error", {}).get("code"), headers, began, seconds)
    finally:
        connection.close()


def pay(person: Person) -> Answer:
    return call(person, "gpt-priced", max_tokens=16)


def limit_told(answer: Answer) -> int:
    """The limit that the process went by, as its answer tells it."""
    return int(answer.headers.get("x-ratelimit-limit-requests", 0))


class Load:
    """Calls, one after the other on each of some threads, until it is left."""

    def __init__(self, make: Callable[[], Answer], clients: int, pause_seconds: float = 0.05) -> None:
        self.answers: list[Answer] = []
        self._make = make
        self._pause_seconds = pause_seconds
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._clients = clients

    def __enter__(self) -> "Load":
        self._calling = [self._pool.submit(self._call) for _ in range(self._clients)]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()
        for calling in self._calling:
            calling.result()

    def _call(self) -> None:
        while not self._over.wait(self._pause_seconds):
            self.answers.append(self._make())

    def between(self, start: float, end: float) -> list[Answer]:
        return [answer for answer in list(self.answers) if start <= answer.began < end]


BREAKAGES: dict[str, tuple[Breakage, Breakage]] = {
    "cut": (Cable.cut, Cable.plug),
    "silent": (Cable.mute, Cable.unmute),
}


@pytest.fixture(params=BREAKAGES)
def breakage(request: pytest.FixtureRequest) -> tuple[Breakage, Breakage]:
    """How Redis goes away, and how it comes back."""
    return BREAKAGES[request.param]


def warnings_of(gateway: Gateway) -> list[str]:
    lines = [json.loads(line) for line in gateway.log().splitlines() if line.startswith("{")]
    return [line["message"] for line in lines if line["level"] in ("warning", "error")]


def test_nobody_waits_for_a_redis_that_is_away(
    cabled: Gateway, cable: Cable, breakage: tuple[Breakage, Breakage]
) -> None:
    people, (breaks, mends) = cabled.people, breakage
    with (
        Load(lambda: call(people["charlie"]), 2) as usual,
        Load(lambda: call(people["alice"]), 4) as limited,
        Load(lambda: pay(people["thrifty"]), 2, pause_seconds=0.1) as paying,
    ):
        until(lambda: len(paying.answers) > 5, what="calls")
        broken = time.monotonic()
        breaks(cable)
        time.sleep(4)  # of load
        mended = time.monotonic()
        mends(cable)
        time.sleep(1)
    longest = max(answer.seconds for answer in usual.answers)
    assert {answer.status for answer in usual.answers} == {200}
    assert max(answer.seconds for answer in limited.answers) < longest + LONGEST_WAIT_SECONDS
    assert max(answer.seconds for answer in paying.answers) < longest + 0.05 + LONGEST_WAIT_SECONDS
    assert {answer.status for answer in limited.answers} == {200, 429}
    refused = paying.between(broken + 0.3, mended)
    assert {(answer.status, answer.code) for answer in refused} == {(503, "budget_unavailable")}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)


def test_it_is_as_before_within_seconds_of_its_return(
    cabled: Gateway, cable: Cable, breakage: tuple[Breakage, Breakage]
) -> None:
    alice, thrifty, (breaks, mends) = cabled.people["alice"], cabled.people["thrifty"], breakage
    assert pay(thrifty).status == 200
    breaks(cable)
    until(lambda: all(limit_told(call(alice)) == RATE // WORKERS for _ in range(6)), what="the shares")
    assert pay(thrifty).status == 503
    mends(cable)
    mended = time.monotonic()
    until(lambda: all(limit_told(call(alice)) == RATE for _ in range(6)), what="the whole rate")
    until(lambda: all(pay(thrifty).status == 200 for _ in range(4)), what="the budget")
    assert time.monotonic() - mended < BACK_SECONDS


def test_it_says_once_that_redis_is_away(
    cabled: Gateway, cable: Cable, breakage: tuple[Breakage, Breakage], upstream: ScriptedUpstream
) -> None:
    breaks, mends = breakage
    crowded = cabled.people["crowded"]
    said = len(warnings_of(cabled))
    model = "gpt-test+pace=100+words=60"
    streams = [open_stream(cabled, crowded, model) for _ in range(PLACES)]
    until(lambda: len(upstream.calls(model)) == PLACES, what="the calls under way")
    breaks(cable)
    with Load(lambda: call(cabled.people["alice"]), 4):
        time.sleep(5)  # of load
    mends(cable)
    until(lambda: limit_told(call(cabled.people["alice"])) == RATE, what="Redis")
    for stream in streams:
        stream.close()
    most = Counter(warnings_of(cabled)[said:])
    assert most
    assert max(most.values()) <= WORKERS, most


def test_a_process_on_its_own_gives_its_share(
    cabled: Gateway, cable: Cable, breakage: tuple[Breakage, Breakage], upstream: ScriptedUpstream
) -> None:
    alice, (breaks, _) = cabled.people["alice"], breakage
    breaks(cable)
    until(lambda: all(limit_told(call(alice)) == RATE // WORKERS for _ in range(6)), what="the shares")
    upstream.clear()
    began = time.monotonic()
    with Load(lambda: call(alice), 4, pause_seconds=0.01):
        time.sleep(3)  # of load
    took = time.monotonic() - began
    let_in = len(upstream.calls())
    assert 0.5 * RATE * took < let_in <= RATE * (1 + took)


def test_it_starts_and_serves_while_redis_is_silent(
    start_gateway: StartGateway, cable: Cable, own_redis: str
) -> None:
    cable.mute()
    gateway = start_gateway(WORKERS=str(WORKERS), REDIS_URL=cable.through(own_redis))
    rules = [{"scope": "key", "requests_per_second": RATE}]
    gateway.configure({"tenants": [{"slug": "acme", "name": "Acme", "limits": rules}]})
    alice = gateway.people["alice"]
    until(lambda: all(limit_told(call(alice)) == RATE // WORKERS for _ in range(6)), what="the shares")
    cable.unmute()
    until(
        lambda: all(limit_told(call(alice)) == RATE for _ in range(6)), seconds=BACK_SECONDS, what="the rate"
    )


def test_a_silent_redis_costs_no_connections(cabled: Gateway, cable: Cable) -> None:
    def sockets() -> int:
        folders = [Path(f"/proc/{child}/fd") for child in children(cabled.pid)]
        assert len(folders) == WORKERS
        return sum(1 for folder in folders for _ in folder.iterdir())

    cable.mute()
    until(lambda: limit_told(call(cabled.people["alice"])) == RATE // WORKERS, what="the shares")
    before = sockets()
    time.sleep(6)  # a dozen tries to reach it
    assert sockets() <= before + 2 * WORKERS


def test_a_revoked_key_is_out_within_seconds_while_redis_is_away(
    cabled: Gateway, cable: Cable, breakage: tuple[Breakage, Breakage]
) -> None:
    breaks, _ = breakage
    charlie = cabled.people["charlie"]
    breaks(cable)
    assert {call(charlie).status for _ in range(6)} == {200}
    key = {
        "name": "charlie",
        "user": "charlie@globex.test",
        "secret": charlie.api_key,
        "expires_at": "2020-01-01T00:00:00Z",
    }
    cabled.apply({"tenants": [{"slug": "globex", "name": "Globex", "api_keys": [key]}]})
    applied = time.monotonic()
    until(lambda: {call(charlie).status for _ in range(8)} == {401}, seconds=3, what="the end of the key")
    assert time.monotonic() - applied < 2


# What Redis counts


def empty(url: str) -> Breakage:
    def flush(cable: Cable) -> None:
        with redis.Redis.from_url(url) as client:
            client.flushall()

    return flush


def spend_it_all(load: Load) -> None:
    def spent() -> bool:
        return any(answer.code == "insufficient_quota" for answer in load.answers[-4:])

    until(spent, seconds=60, what="the end of the budget")


@pytest.mark.parametrize("how", ["cut", "silent", "emptied"])
def test_no_trouble_with_redis_gives_free_money(
    cabled: Gateway, cable: Cable, own_redis: str, upstream: ScriptedUpstream, how: str
) -> None:
    flush = empty(own_redis)
    breaks, mends = {**BREAKAGES, "emptied": (flush, flush)}[how]
    thrifty = cabled.people["thrifty"]
    with Load(lambda: pay(thrifty), 8, pause_seconds=0.01) as load:
        for _ in range(4):
            time.sleep(0.6)  # of load
            breaks(cable)
            time.sleep(0.4)
            mends(cable)
        spend_it_all(load)
    spent = len(upstream.calls(SPENDS)) * COST_NANO_USD
    assert 0.95 * BUDGET_NANO_USD <= spent <= BUDGET_NANO_USD
    assert {answer.status for answer in load.answers} <= {200, 429, 503}
    rows = cabled.query("SELECT sum(amount_nano_usd) AS nano FROM accounts_spend")
    assert int(rows[0]["nano"]) == spent


def test_an_emptied_redis_asks_the_database_what_was_spent(cabled: Gateway, own_redis: str) -> None:
    thrifty = cabled.people["thrifty"]
    assert pay(thrifty).status == 200
    cabled.query("UPDATE accounts_spend SET amount_nano_usd = %s", BUDGET_NANO_USD)
    assert pay(thrifty).status == 200  # for Redis knows better, or believes so
    with redis.Redis.from_url(own_redis) as client:
        client.flushdb()
    answers = [pay(thrifty)]
    flushed = time.monotonic()
    while answers[-1].status == 503 and time.monotonic() < flushed + BACK_SECONDS:
        answers.append(pay(thrifty))
    assert {(answer.status, answer.code) for answer in answers} == {
        (503, "budget_unavailable"),
        (429, "insufficient_quota"),
    }
    assert max(answer.seconds for answer in answers) < LONGEST_WAIT_SECONDS


def test_a_redis_that_was_restored_from_a_snapshot_asks_the_database_what_was_spent(
    cabled: Gateway, cable: Cable, own_redis: str, servers: ExitStack, folder: Path
) -> None:
    thrifty = cabled.people["thrifty"]
    assert pay(thrifty).status == 200
    with redis.Redis.from_url(own_redis) as client:
        client.save()
    cabled.query("UPDATE accounts_spend SET amount_nano_usd = %s", BUDGET_NANO_USD)
    servers.close()
    with private_redis(redis_binary(), folder) as restored:
        with redis.Redis.from_url(restored) as client:
            assert client.keys("*:hold:*")
        cable.lead_to(restored)
        began = time.monotonic()
        answers = [pay(thrifty)]
        while answers[-1].status == 503 and time.monotonic() < began + BACK_SECONDS:
            answers.append(pay(thrifty))
        cable.cut()
    assert {answer.code for answer in answers} == {"budget_unavailable", "insufficient_quota"}


def test_calls_under_way_keep_their_places_when_redis_is_emptied(
    cabled: Gateway, own_redis: str, upstream: ScriptedUpstream
) -> None:
    crowded, model = cabled.people["crowded"], "gpt-test+pace=100+words=100"
    streams = [open_stream(cabled, crowded, model) for _ in range(PLACES)]
    until(lambda: len(upstream.calls(model)) == PLACES, what="the calls under way")
    with redis.Redis.from_url(own_redis) as client:
        client.flushall()
    time.sleep(1.5)  # each call tells Redis once a second that it is there
    assert {call(crowded).status for _ in range(6)} == {429}
    for stream in streams:
        stream.close()
    until(lambda: call(crowded).status == 200, seconds=BACK_SECONDS, what="the places of those that left")


def test_calls_under_way_keep_their_places_when_redis_was_away_for_long(
    cabled: Gateway, cable: Cable, upstream: ScriptedUpstream
) -> None:
    crowded, model = cabled.people["crowded"], "gpt-test+pace=100+words=400"
    streams = [open_stream(cabled, crowded, model) for _ in range(PLACES)]
    until(lambda: len(upstream.calls(model)) == PLACES, what="the calls under way")
    cable.cut()
    time.sleep(LEASE_SECONDS + 2)  # so that Redis took them for dead
    with ThreadPoolExecutor(PLACES * 2) as pool:
        more = list(pool.map(lambda _: call(crowded, "gpt-test+delay=1000").status, range(PLACES * 2)))
    # Each process counts its own, so that none of those gave it a share to give again.
    assert more.count(200) <= PLACES // WORKERS
    cable.plug()
    alice = cabled.people["alice"]
    until(lambda: all(limit_told(call(alice)) == RATE for _ in range(6)), what="Redis")
    time.sleep(1.5)  # each call tells Redis once a second that it is there
    assert {call(crowded).status for _ in range(6)} == {429}
    for stream in streams:
        stream.close()
    until(lambda: call(crowded).status == 200, seconds=BACK_SECONDS, what="the places of those that left")


def test_nobody_waits_for_a_redis_that_is_slow(cabled: Gateway, cable: Cable) -> None:
    people = cabled.people
    with (
        Load(lambda: call(people["charlie"]), 2) as usual,
        Load(lambda: call(people["alice"]), 4) as limited,
        Load(lambda: pay(people["thrifty"]), 2, pause_seconds=0.1) as paying,
    ):
        until(lambda: len(paying.answers) > 5, what="calls")
        cable.slow(0.2)
        time.sleep(4)  # of load
        cable.slow(0.0)
        mended = time.monotonic()
        until(lambda: pay(people["thrifty"]).status == 200, seconds=BACK_SECONDS, what="the budget")
        until(lambda: all(limit_told(call(people["alice"])) == RATE for _ in range(6)), what="the whole rate")
        assert time.monotonic() - mended < BACK_SECONDS
    longest = max(answer.seconds for answer in usual.answers)
    assert {answer.status for answer in usual.answers} == {200}
    assert max(answer.seconds for answer in limited.answers) < longest + LONGEST_WAIT_SECONDS
    assert max(answer.seconds for answer in paying.answers) < longest + 0.05 + LONGEST_WAIT_SECONDS
    assert {answer.status for answer in limited.answers} == {200, 429}
    assert {limit_told(answer) for answer in limited.answers} <= {RATE, RATE // WORKERS}
    assert {answer.code for answer in paying.answers} <= {None, "budget_unavailable"}
    refused = [answer for answer in paying.answers if answer.status == 503]
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
