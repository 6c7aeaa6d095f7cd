"""Opens every page and list over millions of usage records, and tells how long each took.

Then calls are made with and without somebody who opens those pages one after the other: what a call costs,
and how late the latest come. What the pages use when nobody calls is measured first, and taken off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import httpx
import uvloop

from benchmarks import servers, stores
from benchmarks.client import Client, JsonConnection
from benchmarks.processes import cpu_seconds
from benchmarks.servers import PROJECT, Server
from benchmarks.stores import PostgresStore

RECORDS = 5_000_000
TIMES = 5
TARGET_MILLISECONDS = 300
CALLS, AT_ONCE, ROUNDS = 4000, 8, 5
PAUSE_SECONDS = 0.25  # between two pages that are opened beside the calls
CPU_TARGET, LATE_TARGET = 1.1, 2.0
DAY = 86_400

# Sessions of an operator, of an owner and of a member, and an owner's key.
_WHO = """
import json
from django.test import Client
from accounts import keys
from accounts.models import Membership, Tenant, User
from accounts.tenancy import operator_scope

def session(user):
    client = Client()
    client.force_login(user)
    return client.cookies["sessionid"].value

with operator_scope():
    tenant = Tenant.objects.get(slug="seeded-01")
    operator, _ = User.objects.get_or_create(
        username="bench", defaults={"is_superuser": True, "is_staff": True}
    )
    owner = Membership.objects.of(tenant).filter(role="owner").first().user
    member = Membership.objects.of(tenant).filter(role="member").first().user
    found = {name: session(user) for name, user in
             (("operator", operator), ("owner", owner), ("member", member))}
    found["member_id"] = str(member.pk)
    found["member_key"] = str(keys.ApiKey.objects.of(tenant).filter(user=member).first().pk)
    found["member_name"] = member.email
    keys.ApiKey.objects.of(tenant).filter(name="bench").delete()
    found["key"] = str(keys.make_api_key(tenant, owner, "bench")[1])
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Page:
    """An address, and as whom it is opened: `operator`, `owner`, `member`, by session, or by `key`."""

    who: str
    path: str


def pages(who: Mapping[str, str], now: int) -> list[Page]:
    """Every page of usage, every list, plain and with filters that few calls pass, and the whole panel."""
    rare = ("failure=failed+upstream_timeout", "status=lost", f"key={who['member_key']}&status=truncated")
    filters = ("", "model=gpt-oss-120b", f"user={who['member_id']}", *rare)
    names = ("operator", "owner", "member")
    found = [
        Page(name, f"/dashboard/?period={period}") for name in names for period in ("today", "7", "30", "90")
    ]
    found += [Page("operator", "/dashboard/?tenant=seeded-01&period=90")]
    found += [Page("owner", f"/dashboard/?period=90&{each}") for each in filters[1:]]
    found += [Page(name, f"/dashboard/calls/?period=90&{each}") for name in names for each in filters]
    found += [Page("key", path) for path in lists(who, now)]
    found += [Page("operator", path) for path in lists(who, now) if path.startswith("/api/")]
    found += [Page(name, f"/admin/{path}") for name in ("operator", "owner") for path in panel(who, now)]
    found += [Page("operator", f"/admin/{path}") for path in OPERATORS_ALONE]
    return found + [Page("member", f"/admin/{path}/") for path in OF_MEMBERS]


OF_MEMBERS = ("proxy/usagerecord", "proxy/opencall", "accounts/apikey", "threads/thread")
OPERATORS_ALONE = (
    *("accounts/tenant/", "accounts/user/", "proxy/upstream/", "proxy/usagerecord/?upstream=openai"),
    "proxy/usagerecord/?tenant=seeded-01&status=lost",
)


def panel(who: Mapping[str, str], now: int) -> Iterator[str]:
    """Its pages that operators and owners see."""
    yield ""
    calls = "proxy/usagerecord/"
    yield calls
    for each in ("model=gpt-oss-120b", "status=lost", "when=30d", "q=upstream_timeout", "q=gpt-4o", "p=2"):
        yield f"{calls}?{each}"
    yield f"{calls}?user={who['member_name']}"
    yield f"{calls}?api_key={who['member_key']}&status=truncated"
    yield f"{calls}?started_before={time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(now - 60 * DAY))}"
    for name in ("apikey", "securitykey", "membership", "limit", "budget", "auditentry"):
        yield f"accounts/{name}/"
    yield f"accounts/apikey/{who['member_key']}/change/"
    for name in ("proxy/opencall", "proxy/model", "proxy/price", "threads/thread", "threads/storedresponse"):
        yield f"{name}/"


def lists(who: Mapping[str, str], now: int) -> Iterator[str]:
    """Those of the APIs."""
    for kind in ("completions", "embeddings"):
        yield f"/v1/organization/usage/{kind}?start_time={now - 31 * DAY}&limit=31&group_by=model"
    usage = "/v1/organization/usage/completions"
    yield f"{usage}?start_time={now - 6 * 3600}&bucket_width=1m&limit=360&group_by=api_key_id"
    yield f"{usage}?start_time={now - 7 * DAY}&bucket_width=1h&limit=168&group_by=model"
    yield f"/v1/organization/costs?start_time={now - 90 * DAY}&limit=90&group_by=line_item"
    yield "/api/usage/"
    for each in ("model=gpt-oss-120b", "status=lost", "error_code=upstream_timeout", "stream=true"):
        yield f"/api/usage/?{each}"
    yield f"/api/usage/?api_key={who['member_key']}&status=truncated"
    yield f"/api/usage/?started_before={time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(now - 60 * DAY))}"
    yield "/metrics"
    for name in ("open-calls", "threads", "audit", "api-keys", "members", "budgets", "limits", "models"):
        yield f"/api/{name}/"


class Visitor:
    """Opens pages, as whoever they are to be opened as."""

    def __init__(self, port: int, who: Mapping[str, str]) -> None:
        self._who = who
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60)

    def open(self, page: Page) -> float:
        """How many milliseconds it took. Raises httpx.HTTPStatusError for a page that is refused."""
        secret = self._who[page.who]
        header = (
            {"authorization": f"Bearer {secret}"} if page.who == "key" else {"cookie": f"sessionid={secret}"}
        )
        began = time.perf_counter()
        answer = self._client.get(page.path, headers=header)
        answer.raise_for_status()
        return 1000 * (time.perf_counter() - began)

    def close(self) -> None:
        self._client.close()


def print_pages(visitor: Visitor, found: Sequence[Page]) -> int:
    """Each with its median and slowest time; how many missed the target."""
    missed = 0
    for page in found:
        visitor.open(page)
        times = [visitor.open(page) for _ in range(TIMES)]
        late = median(times) > TARGET_MILLISECONDS
        missed += late
        mark = "  MISSED" if late else ""
        print(
            f"{median(times):7.0f} ms  (slowest {max(times):5.0f})  {page.who:9}{page.path}{mark}", flush=True
        )
    return missed


@contextmanager
def opening(visitor: Visitor, found: Sequence[Page]) -> Iterator[list[int]]:
    """Somebody opens the pages, one after the other, while the block runs; how many were opened."""
    done = threading.Event()
    opened = [0]

    def open_all() -> None:
        while not done.is_set():
            for page in found:
                visitor.open(page)
                opened[0] += 1
                if done.wait(PAUSE_SECONDS):
                    return

    thread = threading.Thread(target=open_all)
    thread.start()
    try:
        yield opened
    finally:
        done.set()
        thread.join()


async def timed_calls(client: Client) -> list[float]:
    """How many milliseconds each of CALLS calls took."""
    times: list[float] = []

    async def in_turn() -> None:
        request = client.request('"max_tokens":64')
        transport, connection = await client.connect(JsonConnection)
        for _ in range(CALLS // AT_ONCE):
            began = time.perf_counter()
            await connection.call(request)
            times.append(1000 * (time.perf_counter() - began))
        transport.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(in_turn())
    return times


@dataclass(frozen=True, slots=True)
class Measured:
    """Processor seconds that the server used, pages that were opened, and what calls took."""

    cpu_seconds: float
    opened: int
    milliseconds: list[float]

    @property
    def latest(self) -> float:
        return quantiles(self.milliseconds, n=100)[98]


def measure(server: Server, beside: Callable[[], list[float]], opened: list[int]) -> Measured:
    before = cpu_seconds(server.pid)
    times = beside()
    return Measured(cpu_seconds(server.pid) - before, opened[0], times)


def print_calls(server: Server, visitor: Visitor, found: Sequence[Page]) -> None:
    """Calls alone, and with somebody who opens pages meanwhile, by turns; the medians of the rounds."""

    def call() -> list[float]:
        return uvloop.run(timed_calls(server.client))

    call()
    costs, costs_beside, late, late_beside = [], [], [], []
    for number in range(ROUNDS):
        alone = measure(server, call, [0])
        pages_of_round = [*found[number::ROUNDS], *found]
        with opening(visitor, pages_of_round) as opened:
            beside = measure(server, call, opened)
        of_pages = cost_of(
            server, visitor, [pages_of_round[n % len(pages_of_round)] for n in range(beside.opened)]
        )
        costs.append(1000 * alone.cpu_seconds / CALLS)
        costs_beside.append(1000 * (beside.cpu_seconds - of_pages) / CALLS)
        late.append(alone.latest)
        late_beside.append(beside.latest)
    cost, cost_beside = median(costs), median(costs_beside)
    print(f"\n{ROUNDS} rounds of {CALLS} calls, {AT_ONCE} at once, and once more while pages were opened")
    print(f"  a call: {cost:.3f} ms of the processor alone, {cost_beside:.3f} ms beside pages", end=" ")
    print(f"({cost_beside / cost:.2f} ×, target ≤ {CPU_TARGET:g})")
    print(f"  p99: {median(late):.1f} ms alone, {median(late_beside):.1f} ms beside pages", end=" ")
    print(f"({median(late_beside) / median(late):.2f} ×, target ≤ {LATE_TARGET:g})")


def cost_of(server: Server, visitor: Visitor, opened: Sequence[Page]) -> float:
    """Processor seconds that these pages take when nobody calls."""
    before = cpu_seconds(server.pid)
    for page in opened:
        visitor.open(page)
    return cpu_seconds(server.pid) - before


def manage(store: PostgresStore, *arguments: str) -> str:
    """What a management command on that database prints."""
    command = [sys.executable, str(PROJECT / "manage.py"), *arguments]
    environment = {**servers.plain_environment(), **store.environment}
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def seeded_store(folder: Path, records: int, url: str | None) -> Iterator[PostgresStore]:
    """That of the URL, which has made-up usage already; else a new one, which is dropped afterwards."""
    if url:
        yield PostgresStore(folder, url, os.environ.get("REDIS_URL") or stores.LOCAL_REDIS)
        return
    with stores.postgres_store(folder) as store:
        assert isinstance(store, PostgresStore)
        print(f"making up {records:,} calls; this takes some minutes …", flush=True)
        manage(store, "migrate", "-v", "0")
        manage(store, "seed_usage", "--records", str(records))
        yield store


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--database", help="URL of one that `manage.py seed_usage` has filled")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-") as name, ExitStack() as running:
        folder = Path(name)
        store = running.enter_context(seeded_store(folder, options.records, options.database))
        upstream_port = running.enter_context(servers.upstream(folder))
        server = running.enter_context(servers.gateway(store, folder, upstream_port))
        who = json.loads(manage(store, "shell", "--no-imports", "-c", _WHO).splitlines()[-1])
        visitor = Visitor(server.client.port, who)
        found = pages(who, int(time.time()))
        missed = print_pages(visitor, found)
        print(f"{len(found) - missed} of {len(found)} within {TARGET_MILLISECONDS} ms")
        print_calls(server, visitor, found)
        visitor.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
