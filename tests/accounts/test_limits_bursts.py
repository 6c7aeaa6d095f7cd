"""What four processes with 64 callers each take together: never more than the limit, and not less."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable
from itertools import accumulate

import msgspec
import pytest
import redis

from tests.accounts.limits_process import PAUSE_SECONDS, Event
from tests.deadline import until

pytestmark = [pytest.mark.redis, pytest.mark.slow, pytest.mark.alone]

PROCESSES = 4
SECONDS = 3.0


def take(
    url: str, scenario: str, seconds: float = SECONDS, meanwhile: Callable[[str], None] | None = None
) -> list[Event]:
    """Everything that the processes were granted in that time; `meanwhile` is told the installation."""
    installation = f"bursts-{uuid.uuid4()}"
    command = [sys.executable, "-m", "tests.accounts.limits_process", url, installation]
    processes = [
        subprocess.Popen(
            [*command, scenario, str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(PROCESSES)
    ]
    try:
        _start_together(processes)
        events: list[Event] = []
        if meanwhile is not None:
            meanwhile(installation)
        for process in processes:
            output, _ = process.communicate(timeout=seconds + 30)
            assert process.returncode == 0
            events += msgspec.json.decode(output, type=list[Event])
        return events
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _start_together(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def most_over(events: list[Event], limit: float, period: float) -> float:
    """By how many calls the worst stretch of time passes limit × (1 + t/period).

    A call was admitted somewhere between asking and hearing of it, so a stretch has all those in it that
    asked after it began and heard before it ended.
    """
    by_hearing = sorted(events, key=lambda event: event[1])
    worst = float("-inf")
    for begin in sorted({event[0] for event in events}):
        count = 0
        for asked, granted, *_ in by_hearing:
            if asked >= begin:
                count += 1
                worst = max(worst, count - limit * (1 + (granted - begin) / period))
    return worst


def perfect(capacity: int, limit: int, period: float) -> float:
    """How many calls one perfect bucket would let in, from the first burst to the last."""
    return capacity + limit * (SECONDS - PAUSE_SECONDS) / period


@pytest.mark.parametrize(
    ("scenario", "limit", "period"),
    [("requests per second", 200, 1), ("requests per minute", 300, 60), ("tokens per minute", 400, 60)],
)
def test_it_admits_exactly_what_the_limit_says(
    scenario: str, limit: int, period: int, redis_url: str
) -> None:
    events = take(redis_url, scenario)
    assert most_over(events, limit, period) <= 0
    assert len(events) >= 0.99 * perfect(limit, limit, period)


def test_it_spaces_the_starts_of_a_queue_evenly(redis_url: str) -> None:
    events = take(redis_url, "a queue")
    assert most_over(events, 1, 1 / 20) <= 0.015 * 20  # the slack that it has
    assert len(events) >= 0.99 * perfect(1, 20, 1)


def peak(spans: list[tuple[float, float, int]]) -> int:
    """The most that was surely in use at one time."""
    changes = [(begin, weight) for begin, _, weight in spans] + [(end, -weight) for _, end, weight in spans]
    return max(accumulate(weight for _, weight in sorted(changes)))


def test_it_never_lets_in_more_calls_at_a_time_than_the_limit(redis_url: str) -> None:
    events = take(redis_url, "concurrent calls")
    assert peak([(granted, back, 1) for _, granted, back, *_ in events]) == 10


def test_it_spends_a_budget_to_its_end_and_never_over(redis_url: str) -> None:
    events = take(redis_url, "a budget", seconds=8.0)
    assert 0.95 * 10**9 <= sum(spent for *_, spent in events) <= 10**9
    assert peak([(granted, back, held) for _, granted, back, _, held, _ in events]) <= 10**9


def test_it_gives_no_free_money_when_redis_loses_everything(redis_url: str) -> None:
    lost = []

    def lose(installation: str) -> None:
        with redis.Redis.from_url(redis_url) as client:
            spent = f"spent:{installation}"
            until(lambda: int(client.get(spent) or 0) > 10**8, what="some of the budget to be spent")
            lost.append(client.delete(*client.scan_iter(f"tollgate:{installation}:*", count=1000)))
            assert int(client.get(spent) or 0) < 9 * 10**8

    events = take(redis_url, "a budget of long calls", seconds=8.0, meanwhile=lose)
    assert lost[0] >= 2
    assert 0.95 * 10**9 <= sum(spent for *_, spent in events) <= 10**9


def test_it_keeps_every_limit_when_all_of_them_apply(redis_url: str) -> None:
    events = take(redis_url, "everything at once")
    assert most_over(events, 200, 1) <= 0
    assert peak([(granted, back, 1) for _, granted, back, *_ in events]) <= 10
    # What lets in the least decides: the bucket, or ten places, of which each is taken as long as a call.
    places = sum(had_given_back - asked for asked, _, _, had_given_back, *_ in events) / SECONDS
    assert len(events) >= 0.99 * perfect(200, 200, 1) or places >= 0.9 * 10
