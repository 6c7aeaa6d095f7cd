"""Measures the gateway beside nginx and prints the table: `python -m benchmarks --help`.

Ends with 1 when a ledger does not hold exactly one usage record for each call; missing a target is told
in the table, not by the exit code: it is a measurement, not a test.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop

from benchmarks import report, servers, stores
from benchmarks.measure import Round, measure_round, warm_up
from benchmarks.report import Result
from benchmarks.servers import Server
from benchmarks.stores import Ledger, Store

MEASURING_TIMEOUT_SECONDS = 200
NGINX_JSON_CALLS = 16_000  # so short that fewer would be lost in the ticks of its clock
GATEWAY_JSON_CALLS = 2_000
QUIET_LOAD = 0.7
STORES = {"sqlite": stores.sqlite_store, "postgres": stores.postgres_store}


@dataclass(frozen=True, slots=True)
class Options:
    rounds: int
    engines: list[str]
    gateway_only: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """A gateway, the store it writes to, and its rounds so far."""

    server: Server
    store: Store
    rounds: list[Round]


@dataclass(frozen=True, slots=True)
class Floor:
    """nginx and its rounds so far; no server where there is no nginx to be had or wanted."""

    server: Server | None
    rounds: list[Round]


def read_options(arguments: list[str]) -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, 8), metavar="1–7")
    parser.add_argument("--engine", choices=sorted(STORES), help="only this one; else each there is")
    parser.add_argument("--gateway-only", action="store_true", help="without nginx: absolute figures")
    found = parser.parse_args(arguments)
    return Options(found.rounds, [found.engine] if found.engine else list(STORES), found.gateway_only)


def start_gateways(options: Options, folder: Path, upstream_port: int, running: ExitStack) -> list[Measured]:
    """One gateway for each engine this machine has; the others are named with what is missing."""
    gateways = []
    for engine in options.engines:
        try:
            store = running.enter_context(STORES[engine](folder))
        except stores.Unavailable as missing:
            print(f"{engine} left out: {missing}")
            continue
        server = running.enter_context(servers.gateway(store, folder, upstream_port))
        gateways.append(Measured(server, store, []))
    return gateways


def start_floor(options: Options, folder: Path, upstream_port: int, running: ExitStack) -> Floor:
    program = servers.nginx_program()
    if options.gateway_only:
        return Floor(None, [])
    if program is None:
        print(servers.NGINX_MISSING)
        return Floor(None, [])
    return Floor(running.enter_context(servers.nginx(program, folder, upstream_port)), [])


async def measure(rounds: int, floor: Floor, gateways: list[Measured]) -> None:
    """The servers take turns, so that what slows the machine for a while falls on all of them."""
    for server in [*([floor.server] if floor.server else []), *(gateway.server for gateway in gateways)]:
        await warm_up(server)
    for number in range(1, rounds + 1):
        print(f"round {number} of {rounds} …", flush=True)
        if floor.server:
            floor.rounds.append(await measure_round(floor.server, NGINX_JSON_CALLS))
        for gateway in gateways:
            gateway.rounds.append(await measure_round(gateway.server, GATEWAY_JSON_CALLS))


async def measure_in_time(rounds: int, floor: Floor, gateways: list[Measured]) -> None:
    async with asyncio.timeout(MEASURING_TIMEOUT_SECONDS):
        await measure(rounds, floor, gateways)


def print_figures(rounds: int, floor: Floor, gateways: list[Measured]) -> None:
    results = [Result(gateway.server.title, gateway.rounds, floor.rounds) for gateway in gateways]
    nginx = [Result(floor.server.title, floor.rounds, floor.rounds)] if floor.server else []
    print(report.explanation(rounds))
    print(report.table([*nginx, *results]), end="\n\n")
    for result in results:
        print(report.verdict(result))
        print(report.limits_line(result))


def print_ledgers(gateways: list[Measured]) -> bool:
    """Whether every ledger holds exactly one usage record for each call, and no open call."""
    exact = True
    for gateway in gateways:
        calls_made, ledger = gateway.server.calls_made, gateway.store.read_ledger()
        print(report.ledger_line(gateway.store.title, calls_made, ledger))
        exact = exact and ledger == Ledger(calls_made, 0)
    return exact


def warn_of_company() -> None:
    """What else runs here delays events and shares caches: the figures are those of a machine in use."""
    load = os.getloadavg()[0]
    if load > QUIET_LOAD:
        print(f"This machine is busy (load average {load:.1f}); measure again when it is quiet.")


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended like ^C: everything is put away
    options = read_options(sys.argv[1:])
    warn_of_company()
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-") as name, ExitStack() as running:
        folder = Path(name)
        upstream_port = running.enter_context(servers.upstream(folder))
        floor = start_floor(options, folder, upstream_port, running)
        gateways = start_gateways(options, folder, upstream_port, running)
        uvloop.run(measure_in_time(options.rounds, floor, gateways))
        print_figures(options.rounds, floor, gateways)
        return 0 if print_ledgers(gateways) else 1


if __name__ == "__main__":
    sys.exit(main())
