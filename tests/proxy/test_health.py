"""How upstreams have been doing: what one process counts, and what several make together."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from proxy.health import MINUTES, Counts, Health, State

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
SEEN, OTHER = uuid4(), uuid4()


def added(*reports: dict[str, dict[str, object]]) -> Health:
    health = Health(len(reports))
    for report in reports:
        health.add(report.get(str(SEEN), {}), NOON)
    return health


def test_it_adds_up_what_processes_saw() -> None:
    one, another = Counts(), Counts()
    for _ in range(3):
        one.answered(SEEN, 1000.0)
    one.failed(SEEN, "503", 1001.0)
    another.failed(SEEN, "Unreachable", 5001.0)
    another.answered(OTHER, 5001.0)
    health = added(one.report({}, 1010.0, NOON), another.report({}, 5005.0, NOON))
    assert (health.processes, health.answered, health.failed) == (2, 3, 2)
    assert (health.last_failure, health.last_failure_at) == ("Unreachable", NOON - timedelta(seconds=4))
    assert health.state is State.WELL


def test_it_forgets_what_is_older_than_some_minutes() -> None:
    counts = Counts()
    counts.failed(SEEN, "503", 600.0)
    assert added(counts.report({}, 600.0, NOON)).state is State.FAILING
    assert counts.report({}, 600.0 + MINUTES * 60, NOON) == {}
    counts.answered(SEEN, 1300.0)
    health = added(counts.report({}, 1310.0, NOON))
    assert (health.state, health.failed, health.last_failure_at) == (State.WELL, 0, None)


def test_it_adds_up_the_control_tokens_that_leaked() -> None:
    one, another = Counts(), Counts()
    one.answered(SEEN, 600.0)
    one.leaked(SEEN, 3, 600.0)
    another.leaked(SEEN, 4, 600.0)
    another.leaked(SEEN, 1, 660.0)
    health = added(one.report({}, 670.0, NOON), another.report({}, 670.0, NOON))
    assert (health.control_tokens, health.state) == (8, State.WELL)
    assert added(another.report({}, 600.0 + MINUTES * 60, NOON)).control_tokens == 1
    assert another.report({}, 660.0 + MINUTES * 60, NOON) == {}


def test_it_is_idle_where_nobody_asked() -> None:
    assert added({}, {}).state is State.IDLE


def test_it_says_what_cools_down_until_the_last_process_has_done() -> None:
    counts, cooling = Counts(), {(SEEN, "gpt"): 130.0, (SEEN, "old"): 90.0, (OTHER, "gpt"): 200.0}
    late = counts.report(cooling, 100.0, NOON)
    early = counts.report({(SEEN, "gpt"): 110.0}, 100.0, NOON)
    health = added(early, late)
    assert health.state is State.COOLING
    assert health.cooling == {"gpt": NOON + timedelta(seconds=30)}
    # What a process that has just died said may be over by the time it is read.
    assert added(counts.report({(SEEN, "gpt"): 110.0}, 100.0, NOON - timedelta(seconds=10))).cooling == {}


def test_it_keeps_names_that_callers_wrote_harmless_and_few() -> None:
    odd = ["a\0b", "line\nbreak", "\u2028", "\u202eevil", "\ud800", "x" * 300]
    cooling = {(SEEN, name): 200.0 for name in [*odd, *(f"m{number}" for number in range(100))]}
    report = Counts().report(cooling, 100.0, NOON)
    names = list(report[str(SEEN)]["cooling"])
    assert len(names) == 20
    assert all(name.isprintable() and len(name) <= 200 for name in names)
    assert r"\u0000" not in json.dumps(report)  # PostgreSQL takes no such character
