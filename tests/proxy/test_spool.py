"""Records that wait on disk for the database: brought in once, whoever does it, and never in the way."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from accounts.ids import uuid7
from proxy import ledger
from tests.conftest import StartGateway
from tests.deadline import until


def row() -> ledger.Row:
    return {"id": uuid7().hex, "ended_at": ledger.timestamp(datetime.now(UTC))}


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[ledger.Row]:
    """What would have gone into the database, which takes its time."""
    rows: list[ledger.Row] = []

    def write(given: list[ledger.Row]) -> None:
        time.sleep(0.05)
        rows.extend(given)

    monkeypatch.setattr(ledger, "write_settled", write)
    return rows


def run_at_once(*jobs: Callable[[], object]) -> None:
    """Raises what any of them raises."""
    with ThreadPoolExecutor(len(jobs)) as threads:
        for running in [threads.submit(job) for job in jobs]:
            running.result(10)


def test_it_is_brought_in_once_by_processes_that_find_it_together(
    tmp_path: Path, written: list[ledger.Row]
) -> None:
    spool = ledger.spool_file(tmp_path, uuid4())
    ledger._append(spool, [row(), row()])
    run_at_once(*[lambda: ledger.drain(spool)] * 3)
    assert len(written) == 2
    assert not spool.exists()


def test_it_loses_nothing_that_comes_while_it_is_brought_in(
    tmp_path: Path, written: list[ledger.Row]
) -> None:
    spool = ledger.spool_file(tmp_path, uuid4())
    ledger._append(spool, [row()])
    late = row()

    def append_meanwhile() -> None:
        time.sleep(0.02)
        ledger._append(spool, [late])

    run_at_once(lambda: ledger.drain(spool), append_meanwhile)
    if spool.exists():
        ledger.drain(spool)
    assert late in written


def test_a_line_cut_short_by_a_full_disk_costs_no_other(tmp_path: Path, written: list[ledger.Row]) -> None:
    spool = ledger.spool_file(tmp_path, uuid4())
    first, second = row(), row()
    ledger._append(spool, [first])
    with spool.open("ab") as file:
        file.write(b'{"id":"0199')
    ledger._append(spool, [second])
    ledger.drain(spool)
    assert written == [first, second]


@pytest.mark.timeout(60)
def test_a_spool_that_cannot_be_read_does_not_stop_the_heart(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    (gateway.folder / "data" / "spool" / f"{uuid4()}.jsonl").mkdir(parents=True)
    beats: set[object] = set()

    def beaten() -> bool:
        rows = gateway.query("SELECT seen_at FROM proxy_worker WHERE kind = 'web'")
        beats.update(found["seen_at"] for found in rows)
        return len(beats) > 2

    until(beaten, seconds=30, what="two more beats")
