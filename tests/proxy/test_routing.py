"""From a model's name to where it may go, and what is remembered of where it went."""

from __future__ import annotations

import time
from functools import partial

from accounts.ids import uuid7
from proxy.call import Call
from proxy.dialects import openai
from proxy.findings import ENCRYPTED, FOUND_FOR_SECONDS, MOST_FOUND, Findings, Tried, Wire
from proxy.reported import UpstreamReported
from proxy.routing import (
    FAILURES_TO_COOL,
    MAX_COOLDOWN_SECONDS,
    Pattern,
    Routing,
    Table,
    Target,
    Timeouts,
)

UPSTREAM = uuid7()


def test_a_name_that_almost_fits_a_pattern_takes_no_time() -> None:
    pattern = Pattern("a*" * 12 + "b", ())
    table = Table({}, (pattern,), {})
    began = time.monotonic()
    for length in range(100, 200):
        assert table.candidates("a" * length, uuid7()) == []
    assert time.monotonic() - began < 1
    assert pattern.fits("a" * 12 + "b")


class Clock:
    """Seconds, as a test has them."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def target(model: str) -> Target:
    timeouts = Timeouts(1.0, 1.0, 1.0, 1.0)
    return Target(UPSTREAM, "a", "openai", "", model, "native", False, timeouts, (), ())


def test_failures_long_ago_are_none_in_a_row() -> None:
    clock = Clock()
    routing = Routing(clock)
    for _ in range(FAILURES_TO_COOL - 1):
        routing.failed(target("written-by-a-caller"), "Silent")
    clock.now += MAX_COOLDOWN_SECONDS
    routing.report()
    routing.failed(target("written-by-a-caller"), "Silent")
    assert "cooling" not in routing.report()[str(UPSTREAM)]
    for _ in range(FAILURES_TO_COOL - 1):
        routing.failed(target("written-by-a-caller"), "Silent")
    assert "cooling" in routing.report()[str(UPSTREAM)]


def test_of_many_findings_the_last_are_believed() -> None:
    clock = Clock()
    findings = Findings(clock)
    call = Call("responses", "/responses", "any", False, {}, 1)
    wire = Wire(call, partial(openai.passage, call, ""), None, asks_encrypted=True)
    refusal = UpstreamReported({"message": "There is no such value of 'include'."}, 400)
    findings.learn(wire, target("early"), refusal, Tried())
    clock.now += 1
    findings.learn(wire, target("first"), refusal, Tried())
    for number in range(MOST_FOUND - 2):
        findings.learn(wire, target(f"{number}"), refusal, Tried())
    findings.learn(wire, target("early"), refusal, Tried())  # again, so that it is not the oldest any more
    assert findings.lacks(target("first"), ENCRYPTED)
    findings.learn(wire, target("last"), refusal, Tried())
    assert not findings.lacks(target("first"), ENCRYPTED)
    assert all(findings.lacks(target(model), ENCRYPTED) for model in ("0", "early", "last"))
    clock.now += FOUND_FOR_SECONDS
    assert not findings.lacks(target("last"), ENCRYPTED)
