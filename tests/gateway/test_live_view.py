"""What several processes tell, put together for each viewer."""

from __future__ import annotations

from uuid import UUID, uuid4

import msgspec

from accounts.ids import uuid7
from gateway.live_view import ENDED_KEPT, ENDED_SHOWN, SILENT_SECONDS, Batch, View, Viewer
from proxy.live import EVERYTHING, Ended
from proxy.live_reports import Report, UnderWay

TENANT, KEY = uuid4(), uuid4()
NOW = 500.0


class Names:
    """Users and keys that are called by their ids."""

    def user(self, id: int | None) -> str:
        return f"user {id}"

    def key(self, id: UUID | None) -> str:
        return "" if id is None else "the key"


def running(started: float, model: str = "gpt-test") -> UnderWay:
    return UnderWay(uuid7(), TENANT, "acme", 1, KEY, "chat.completions", model, True, started, True, 3, 1.5)


def ended(at: float) -> Ended:
    return Ended(uuid7(), TENANT, "acme", 1, KEY, "chat.completions", "m", True, at, "completed", 200, "")


def report(*calls: UnderWay | Ended, told_at: float = NOW, left_out: int = 0) -> Report:
    under_way = [call for call in calls if isinstance(call, UnderWay)]
    over = [call for call in calls if isinstance(call, Ended)]
    return Report(told_at, under_way, len(under_way), over[::-1], left_out, len(over), 1, 2.5)


def batch(viewer: Viewer, now: float = NOW) -> Batch:
    return viewer.batch(Names(), now, everywhere=True)


def viewer_of(view: View) -> Viewer:
    return Viewer(EVERYTHING, view)


def test_it_adds_processes_up_whatever_their_clocks_say() -> None:
    view = View()
    old, new = running(NOW - 9), running(70_000 - 4)
    view.hear("one", report(old, ended(NOW - 2)), NOW)
    view.hear("two", report(new, ended(70_000 - 1), told_at=70_000), NOW)
    made = batch(viewer_of(view))
    assert [(call.id, call.age_ms) for call in made.begun] == [(new.id, 4000), (old.id, 9000)]
    assert [call[0] for call in made.running] == [new.id, old.id]
    assert [each.ago_ms for each in made.ended] == [1000, 2000]
    assert (made.running_count, made.ended_last_minute, made.refused_last_minute) == (2, 2, 2)
    assert made.tokens_per_second == 5.0
    assert (made.begun[0].user, made.begun[0].key) == ("user 1", "the key")


def test_it_tells_each_viewer_what_they_do_not_know() -> None:
    view, call, done = View(), running(NOW), ended(NOW)
    early = viewer_of(view)
    view.hear("one", report(call), NOW)
    assert [row.id for row in batch(early).begun] == [call.id]
    view.hear("one", report(call, done), NOW)
    late = viewer_of(view)
    again, first = batch(early), batch(late)
    assert (again.begun, [row.id for row in again.ended]) == ([], [done.id])
    assert ([row.id for row in first.begun], [row.id for row in first.ended]) == ([call.id], [done.id])
    assert (batch(early).ended, batch(late).ended) == ([], [])


def test_what_is_told_twice_is_shown_once() -> None:
    view, done = View(), ended(NOW)
    view.hear("one", report(done), NOW)
    view.hear("one", report(done), NOW)
    assert len(batch(viewer_of(view)).ended) == 1


def test_it_says_how_much_is_not_shown() -> None:
    view = View()
    viewer = viewer_of(view)
    view.hear("one", report(), NOW)
    batch(viewer)
    view.hear("one", report(*[ended(NOW + number) for number in range(ENDED_SHOWN + 9)], left_out=4), NOW)
    made = batch(viewer)
    assert (len(made.ended), made.left_out) == (ENDED_SHOWN, 13)
    assert made.ended[0].ago_ms == 0
    for _ in range(ENDED_KEPT + 1):
        view.hear("one", report(ended(NOW)), NOW)
    assert batch(viewer).left_out == ENDED_KEPT + 1 - ENDED_SHOWN
    assert batch(viewer).left_out == 0


def test_what_was_before_is_not_missed_by_who_comes() -> None:
    view = View()
    viewer = viewer_of(view)
    for name in ("one", "two"):
        view.hear(name, report(*[ended(NOW - number) for number in range(ENDED_SHOWN)]), NOW)
        made = batch(viewer)
        assert (len(made.ended), made.left_out) == (ENDED_SHOWN, 0)
    assert batch(viewer_of(view)).left_out == 0


def test_it_forgets_a_process_that_says_nothing_more() -> None:
    view = View()
    view.hear("one", report(running(NOW)), NOW)
    view.hear("two", report(running(NOW)), NOW + SILENT_SECONDS)
    assert not view.forget_silent(NOW + SILENT_SECONDS)
    assert view.forget_silent(NOW + SILENT_SECONDS + 1)
    assert batch(viewer_of(view)).running_count == 1


def test_a_cost_is_in_dollars_and_a_count_that_is_not_known_null() -> None:
    view = View()
    priced = msgspec.structs.replace(ended(NOW), cost_nano_usd=1_500_000)
    view.hear("one", report(ended(NOW), priced), NOW)
    shown = {row.id: (row.cost_usd, row.output_tokens) for row in batch(viewer_of(view)).ended}
    assert sorted(shown.values(), key=str) == [("$0.0015", None), (None, None)]
