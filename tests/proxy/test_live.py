"""What a process remembers of its calls, and what it tells of them, by a clock of the tests."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec
import pytest

from accounts.ids import uuid7
from accounts.keys import Caller
from proxy.admission import Status, Ticket
from proxy.call import Call, InvalidBody
from proxy.http import ClientLeft, Request
from proxy.live import EVERYTHING, KEPT, REFUSED, Live, Sight
from proxy.live_reports import ENDED_TOLD, RUNNING_TOLD, Report, Reporter
from proxy.passage import ChatPassage
from proxy.usage import Usage

ACME, GLOBEX = uuid4(), uuid4()
NOBODYS: Any = None  # what a ticket needs to be settled, which none is here
EVENT = b'data: {"id":"x","model":"m","choices":[{"delta":{"content":"word"}}]}\n\n'


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def live(clock: Clock) -> Live:
    made = Live()
    made.now = clock
    return made


def caller(tenant_id: UUID = ACME, user_id: int | None = 1) -> Caller:
    slug = "acme" if tenant_id == ACME else "globex"
    return Caller(tenant_id, slug, user_id, uuid4(), None, (), "", "UTC", None, False)


def call(model: str = "gpt-test") -> Call:
    return Call("chat.completions", "/chat/completions", model, True, {}, 7)


def ticket(clock: Clock, who: Caller | None = None) -> Ticket:
    opened = {"id": uuid7().hex, "worker_id": uuid4().hex}
    made = Ticket(
        call(),
        who or caller(),
        opened,
        price=None,
        ledger=NOBODYS,
        limits=NOBODYS,
        reservation=None,
        claim=None,
    )
    made.started = clock.seconds
    return made


def answer(under_way: Ticket, events: int) -> None:
    """So many more events have come."""
    under_way.first_byte()
    passage = under_way.passage = under_way.passage or ChatPassage("chatcmpl-1", "m", shows_usage=True)
    passage.feed(EVENT * events)


def end(live: Live, under_way: Ticket, tokens: int = 5) -> None:
    under_way.ending.status, under_way.ending.status_code = Status.COMPLETED, 200
    under_way.record = {
        "error_code": "",
        "duration_milliseconds": 30,
        "input_tokens": 7,
        "output_tokens": tokens,
        "cost_nano_usd": 1_500,
    }
    live.end(under_way)


def request(path: str = "/v1/chat/completions") -> Request:
    return Request({"method": "POST", "path": path, "headers": []}, cast(Any, None))


def refuse(live: Live, error: BaseException, who: Caller | None, what: Call | None) -> None:
    """A call that did not get further, as far as it is known."""
    with suppress(type(error)), live.arrival(request()) as arrival:
        arrival.caller, arrival.call = who, what
        raise error


def reported(live: Live, tickets: Sequence[Ticket] = (), sight: Sight = EVERYTHING) -> Report:
    """A first report, with what was before."""
    reporter = Reporter(live)
    reporter.look(tickets, {sight})
    return reporter.report(sight, with_history=True)


@pytest.mark.parametrize(
    ("sight", "seen"),
    [
        (EVERYTHING, {"acme 1", "acme 2", "acme", "globex 1", "nobody"}),
        (Sight(ACME), {"acme 1", "acme 2", "acme"}),
        (Sight(ACME, 1), {"acme 1"}),
        (Sight(GLOBEX), {"globex 1"}),
        (Sight(GLOBEX, 2), set()),
    ],
)
def test_a_sight_is_whose_calls_it_says(live: Live, clock: Clock, sight: Sight, seen: set[str]) -> None:
    people = [caller(), caller(user_id=2), caller(user_id=None), caller(GLOBEX)]
    tickets = [ticket(clock, who) for who in people]
    for who in people:
        end(live, ticket(clock, who))
        refuse(live, InvalidBody("No."), who, None)
    refuse(live, InvalidBody("No."), None, None)
    report = reported(live, tickets, sight)
    running = [f"{each.tenant} {each.user_id or ''}".strip() for each in report.running]
    assert (set(running), len(running)) == (seen - {"nobody"}, report.running_count)
    ended = [each for each in report.ended if each.status != REFUSED]
    assert {(each.tenant, each.user_id) for each in ended} == {
        (each.tenant, each.user_id) for each in report.running
    }
    refused = [f"{each.tenant or 'nobody'} {each.user_id or ''}".strip() for each in report.ended]
    assert set(refused) == seen
    assert (report.ended_last_minute, report.refused_last_minute) == (len(running), len(seen))
    assert Sight.called(sight.name) == sight


def test_it_tells_what_is_known_of_a_call_that_ended(live: Live, clock: Clock) -> None:
    under_way = ticket(clock)
    end(live, under_way)
    (told,) = reported(live).ended
    assert told.id == under_way.id
    assert told.key_id == under_way.caller.api_key_id
    assert (told.endpoint, told.model, told.stream) == ("chat.completions", "gpt-test", True)
    assert (told.status, told.status_code, told.at) == ("completed", 200, clock.seconds)
    assert (told.input_tokens, told.output_tokens, told.cost_nano_usd) == (7, 5, 1_500)


def test_it_tells_of_a_refusal_what_is_known_by_then(live: Live) -> None:
    refuse(live, InvalidBody("No."), None, None)
    refuse(live, InvalidBody("No."), caller(), call("gpt-other"))
    known, unknown = reported(live).ended
    assert (known.tenant, known.endpoint, known.model) == ("acme", "chat.completions", "gpt-other")
    assert (unknown.tenant, unknown.endpoint, unknown.model) == ("", "/v1/chat/completions", "")
    assert (unknown.status, unknown.status_code, unknown.error_code) == (
        REFUSED,
        400,
        "invalid_request_error",
    )


def test_a_mistake_of_ours_is_a_refusal_too(live: Live) -> None:
    refuse(live, ZeroDivisionError(), caller(), call())
    assert reported(live).ended[0].error_code == "internal_error"


@pytest.mark.parametrize("error", [ClientLeft(), KeyboardInterrupt()])
def test_who_leaves_was_not_refused(live: Live, error: BaseException) -> None:
    refuse(live, error, caller(), call())
    assert reported(live).ended == []


def test_it_remembers_so_many_and_no_more(live: Live, clock: Clock) -> None:
    for _ in range(KEPT + 5):
        end(live, ticket(clock))
    assert len(list(live.since(0))) == KEPT
    assert reported(live).ended_last_minute == KEPT + 5


def test_the_last_minute_is_a_minute(live: Live, clock: Clock) -> None:
    end(live, ticket(clock))
    clock.seconds += 30
    end(live, ticket(clock))
    assert reported(live).ended_last_minute == 2
    clock.seconds += 30
    assert reported(live).ended_last_minute == 1
    clock.seconds += 30
    assert reported(live).ended_last_minute == 0


def test_what_ended_is_told_once_but_to_who_is_new(live: Live, clock: Clock) -> None:
    end(live, ticket(clock))
    reporter = Reporter(live)
    end(live, ticket(clock))
    counts = []
    for _ in range(2):
        reporter.look([], {EVERYTHING})
        counts.append([len(reporter.report(EVERYTHING, with_history=anew).ended) for anew in (True, False)])
    assert counts == [[2, 1], [2, 0]]


def test_what_is_too_much_is_counted(live: Live, clock: Clock) -> None:
    reporter = Reporter(live)
    for _ in range(ENDED_TOLD + 7):
        end(live, ticket(clock))
    tickets = []
    for _ in range(RUNNING_TOLD + 3):
        clock.seconds += 0.001
        tickets.append(ticket(clock))
    reporter.look(tickets, {EVERYTHING})
    report = reporter.report(EVERYTHING, with_history=False)
    assert (len(report.ended), report.left_out) == (ENDED_TOLD, 7)
    assert [each.id for each in report.running] == [each.id for each in tickets[3:]]
    assert report.running_count == RUNNING_TOLD + 3


def test_it_tells_how_fast_a_stream_comes(live: Live, clock: Clock) -> None:
    reporter, under_way = Reporter(live), ticket(clock)

    def look() -> Report:
        reporter.look([under_way], {EVERYTHING, Sight(GLOBEX)})
        return reporter.report(EVERYTHING, with_history=False)

    waiting = look()
    assert [(each.answering, each.tokens, each.rate) for each in waiting.running] == [(False, None, 0.0)]
    for _ in range(12):
        clock.seconds += 0.25
        answer(under_way, 10)
        report = look()
    assert [(each.answering, each.tokens, each.rate) for each in report.running] == [(True, 120, 40.0)]
    assert report.rate == 40.0
    assert reporter.report(Sight(GLOBEX), with_history=False).rate == 0.0
    for _ in range(12):  # it stalls
        clock.seconds += 0.25
        report = look()
    assert (report.running[0].rate, report.rate) == (0.0, 0.0)


def test_an_answer_in_one_piece_counts_when_it_ends(live: Live, clock: Clock) -> None:
    reporter, under_way = Reporter(live), ticket(clock)
    reporter.look([under_way], {EVERYTHING})
    clock.seconds += 1
    end(live, under_way, tokens=30)
    reporter.look([], {EVERYTHING})
    assert reporter.report(EVERYTHING, with_history=False).rate == 30.0


def test_what_was_said_before_anybody_watched_is_not_said_now(live: Live, clock: Clock) -> None:
    under_way = ticket(clock)
    answer(under_way, 1000)
    clock.seconds += 1
    reporter = Reporter(live)
    for _ in range(3):
        reporter.look([under_way], {EVERYTHING})
        clock.seconds += 0.25
    assert reporter.report(EVERYTHING, with_history=False).rate == 0.0


def test_a_report_goes_through_the_wire_whole(live: Live, clock: Clock) -> None:
    end(live, ticket(clock))
    refuse(live, InvalidBody("No."), None, None)
    report = reported(live, [ticket(clock)])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(report), type=Report) == report


def test_an_estimate_of_a_stream_is_no_more_than_it_was(live: Live, clock: Clock) -> None:
    """A stream has more events than tokens: its end takes nothing away."""
    reporter, under_way = Reporter(live), ticket(clock)
    reporter.look([under_way], {EVERYTHING})
    clock.seconds += 1
    answer(under_way, 10)
    under_way.ending.usage = Usage(7, output_tokens=8)
    reporter.look([under_way], {EVERYTHING})
    end(live, under_way, tokens=8)
    clock.seconds += 1
    reporter.look([], {EVERYTHING})
    assert reporter.report(EVERYTHING, with_history=False).rate == 5.0
