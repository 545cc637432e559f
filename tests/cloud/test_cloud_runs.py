"""Runs in a table: made once a slot, each chunk counted once whoever counts it and however often, closed once."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import pytest

from fusiontrade.cloud.tables import Table, Update
from fusiontrade.errors import NotFound
from fusiontrade.forecasts.runs import CHUNK_SIZE, MOST_SYMBOLS, Chunk, Failure, Runs
from tests.support import emulator

SLOT = 1_753_941_600_000  # 2025-07-31T06:00:00Z
ID = "intraday-20250731T060000Z"
SYMBOLS = tuple(f"S{number}" for number in range(2 * CHUNK_SIZE + 6))
T = TypeVar("T")


class Now:
    def __init__(self) -> None:
        self.at = SLOT + 1_500

    def __call__(self) -> int:
        return self.at


@pytest.fixture
def table(aws: None) -> Table:
    name = f"Signals-{uuid.uuid4().hex[:8]}"
    emulator.make_table("SignalsTable", name)
    return Table(name, read_seconds=60.0)


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def runs(table: Table, now: Now) -> Runs:
    return Runs(table, now)


def at_once(count: int, work: Callable[[int], T]) -> list[T]:
    together = Barrier(count)

    def one(number: int) -> T:
        together.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_a_run_has_all_its_symbols_in_chunks_of_at_most_thirty_two(runs: Runs) -> None:
    run = runs.open("intraday", SLOT, SYMBOLS)
    assert (run.id, run.status, run.total, run.sent, run.started_at) == (ID, "RUNNING", 70, False, SLOT + 1_500)
    assert [len(chunk.symbols) for chunk in run.chunks] == [32, 32, 6]
    assert tuple(symbol for chunk in run.chunks for symbol in chunk.symbols) == SYMBOLS
    assert runs.get(ID) == run


def test_a_schedule_that_fires_twice_finds_the_first_run_whatever_is_subscribed_by_then(runs: Runs, now: Now) -> None:
    first = runs.open("intraday", SLOT, SYMBOLS)
    now.at += 60_000
    assert runs.open("intraday", SLOT, ("OTHER",)) == first


def test_eight_schedules_at_once_make_one_run(runs: Runs) -> None:
    assert len(set(at_once(8, lambda number: runs.open("intraday", SLOT, (f"S{number}",)).symbols))) == 1


def test_counters_add_up_and_the_last_chunk_closes_the_run(runs: Runs, now: Now) -> None:
    first, second, third = runs.open("intraday", SLOT, SYMBOLS).chunks
    run = runs.count(third, [])
    assert (run.success, run.failed, run.status, run.finished_at) == (6, 0, "RUNNING", None)
    assert [chunk.number for chunk in run.waiting] == [0, 1]
    runs.count(first, [Failure("S3", "no data " * 100)])
    now.at += 9_000
    run = runs.count(second, [Failure("S40", "late")])
    assert (run.success, run.failed, run.status, run.finished_at) == (68, 2, "SUCCEEDED", SLOT + 10_500)
    assert [failure.symbol for failure in run.failures] == ["S3", "S40"]
    assert len(run.failures[0].reason) == 200
    assert runs.get(ID) == run


def test_a_chunk_delivered_again_counts_once_and_the_first_account_stands(runs: Runs) -> None:
    chunk = runs.open("intraday", SLOT, SYMBOLS).chunks[0]
    runs.count(chunk, [Failure("S0", "late")])
    again = runs.count(chunk, [])
    assert (again.success, again.failed, [failure.symbol for failure in again.failures]) == (31, 1, ["S0"])


def test_eight_workers_with_the_same_chunks_count_each_once_and_close_once(runs: Runs, now: Now) -> None:
    chunks = runs.open("intraday", SLOT, SYMBOLS).chunks

    def work(number: int) -> set[int | None]:
        return {runs.count(chunk, []).finished_at for chunk in chunks[number % 3 :] + chunks[: number % 3]}

    at_once(8, work)
    run = runs.get(ID)
    assert (run.success, run.failed, run.status, run.done) == (70, 0, "SUCCEEDED", frozenset({0, 1, 2}))


def test_a_run_whose_last_worker_died_before_closing_it_is_closed_by_the_redelivery(runs: Runs, table: Table) -> None:
    chunk = runs.open("intraday", SLOT, ("EURUSD=X",)).chunks[0]
    key = {"pk": f"RUN#{ID}", "sk": "RUN"}
    counted = frozenset({"0"})
    table.update(Update(key, add={"success": 1, "done": counted}))  # as far as the worker that died got
    assert runs.get(ID).status == "RUNNING"
    run = runs.count(chunk, [])
    assert (run.status, run.success) == ("SUCCEEDED", 1)


def test_a_run_without_any_forecast_failed(runs: Runs) -> None:
    chunk = runs.open("intraday", SLOT, ("EURUSD=X",)).chunks[0]
    assert runs.count(chunk, [Failure("EURUSD=X", "late")]).status == "FAILED"


def test_a_run_over_nothing_is_finished_at_once(runs: Runs) -> None:
    run = runs.open("subscribed", SLOT, ())
    assert (run.status, run.chunks, run.finished_at) == ("SUCCEEDED", [], SLOT + 1_500)


def test_what_was_sent_is_noted(runs: Runs) -> None:
    runs.open("intraday", SLOT, SYMBOLS)
    runs.mark_sent(ID)
    assert runs.open("intraday", SLOT, SYMBOLS).sent


def test_a_chunk_of_no_run_is_not_counted(runs: Runs, table: Table) -> None:
    with pytest.raises(NotFound):
        runs.count(Chunk("intraday-20000101T000000Z", 0, ("EURUSD=X",)), [])
    assert table.get({"pk": "RUN#intraday-20000101T000000Z", "sk": "RUN"}) is None
    with pytest.raises(NotFound):
        runs.get("intraday-20000101T000000Z")


def test_the_largest_run_with_every_symbol_failed_fits_the_table(runs: Runs) -> None:
    symbols = tuple(f"{number:020}" for number in range(MOST_SYMBOLS))
    run = runs.open("intraday", SLOT, symbols)
    for chunk in run.chunks:
        run = runs.count(chunk, [Failure(symbol, "x" * 300) for symbol in chunk.symbols])
    assert (run.failed, run.status, len(run.failures)) == (MOST_SYMBOLS, "FAILED", MOST_SYMBOLS)
    with pytest.raises(ValueError, match="at most 1000"):
        runs.open("intraday", SLOT + 1, (*symbols, "ONE-MORE"))


def test_a_chunk_survives_the_queue(runs: Runs) -> None:
    chunk = runs.open("intraday", SLOT, SYMBOLS).chunks[2]
    assert Chunk.of(chunk.message()) == chunk


@pytest.mark.parametrize("symbols", [[], ["S"] * 33])
def test_a_message_with_too_few_or_too_many_symbols_is_refused(symbols: list[str]) -> None:
    with pytest.raises(ValueError, match="1 to 32"):
        Chunk.of({"run_id": ID, "number": 0, "symbols": symbols})
