"""The forecast worker under faults: messages twice, two workers at once, failing symbols, outages, killed processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from fusiontrade.cloud.batches import UnreadableMessage, record_of, work_through
from fusiontrade.cloud.tables import Table
from fusiontrade.errors import ProviderUnavailable, StateUnavailable
from fusiontrade.forecasts.chunks import LAST_DELIVERY, STALE, ChunkWorker
from fusiontrade.forecasts.jobs import JobOrder
from fusiontrade.forecasts.runs import Chunk
from fusiontrade.forecasts.worker import UNEXPECTED
from fusiontrade.fusion.journaling import JournalOfForecasts
from fusiontrade.inference.contract import ItemError
from fusiontrade.journal.store import Journal
from fusiontrade.market.timeframes import INTRADAY
from tests.support import emulator
from tests.support.forecast_desk import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.support.forecast_desk import SYMBOLS, Desk, Tables, event_of
from tests.support.markets import NOW
from tests.support.yahoo_server import Act, YahooServer

SLOT = NOW - 9 * 3_600_000
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def chunk(desk: Desk) -> Chunk:
    (only,) = desk.runs.open("intraday", SLOT, SYMBOLS).chunks
    return only


def test_a_chunk_is_one_invocation_one_entry_a_symbol_and_a_finished_run(desk: Desk, chunk: Chunk) -> None:
    assert work_through(event_of(chunk.message()), desk.worker) == {"batchItemFailures": []}
    (request,) = desk.endpoint.requests
    assert {(item.symbol, item.timeframe) for item in request.items} == {
        (symbol, timeframe) for symbol in SYMBOLS for timeframe in INTRADAY
    }
    run = desk.runs.get(chunk.run_id)
    assert (run.status, run.success, run.failed, run.failures) == ("SUCCEEDED", 4, 0, ())
    entries = {entry.symbol: entry for entry in desk.entries()}
    assert sorted(entries) == sorted(SYMBOLS)
    euro = entries["EURUSD=X"]
    assert (euro.source, euro.signal, euro.interval, euro.status) == ("daily", "BUY", "4h", "PENDING")
    assert (euro.data_source, float(euro.probability or 0), len(euro.models)) == ("yahoo", 0.42, 8)


def test_the_same_message_twice_changes_nothing_and_asks_nobody(desk: Desk, chunk: Chunk, yahoo: YahooServer) -> None:
    event = event_of(chunk.message(), chunk.message())
    assert work_through(event, desk.worker) == {"batchItemFailures": []}
    asked, run = len(yahoo.charts), desk.runs.get(chunk.run_id)
    desk.worker(record_of(event["Records"][0]))
    assert desk.runs.get(chunk.run_id) == run
    assert (run.success, len(desk.entries()), len(desk.endpoint.requests), len(yahoo.charts)) == (4, 4, 1, asked)


def test_two_workers_with_one_chunk_at_once_count_it_once(
    desk: Desk, chunk: Chunk, tables: Tables, yahoo: YahooServer, tmp_path: Path
) -> None:
    other = Desk(tables, yahoo.url, tmp_path / "other")
    together = Barrier(2)

    def work(worker: ChunkWorker) -> None:
        together.wait()
        worker.work(chunk)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, (desk.chunks, other.chunks)))
    other.source.close()
    run = desk.runs.get(chunk.run_id)
    assert (run.success, run.failed, run.status, len(desk.entries())) == (4, 0, "SUCCEEDED", 4)


@pytest.mark.parametrize(
    ("act", "told"), [(Act(500, b""), "500"), (Act.html(), "HTML"), (Act(429, b"", {"Retry-After": "60"}), "429")]
)
def test_a_symbol_that_the_provider_fails_for_is_a_row_and_the_others_are_forecast(
    desk: Desk, chunk: Chunk, yahoo: YahooServer, act: Act, told: str
) -> None:
    yahoo.of["GC=F"] = act
    run = desk.chunks.work(chunk)
    assert (run.status, run.success, run.failed) == ("SUCCEEDED", 3, 1)
    (failure,) = run.failures
    assert failure.symbol == "GC=F"
    assert told.lower() in failure.reason.lower()
    assert len(desk.entries()) == 3


def test_a_provider_that_hangs_for_one_symbol_costs_that_symbol(
    tables: Tables, yahoo: YahooServer, tmp_path: Path
) -> None:
    desk = Desk(tables, yahoo.url, tmp_path, seconds=4.0)
    yahoo.of["BTC-USD"] = Act(hang=True)
    run = desk.chunks.work(desk.runs.open("intraday", SLOT, SYMBOLS).chunks[0])
    desk.source.close()
    assert [failure.symbol for failure in run.failures] == ["BTC-USD"]
    assert (run.success, len(desk.entries())) == (3, 3)


def test_a_symbol_nobody_knows_and_one_that_is_none_are_rows(desk: Desk) -> None:
    (chunk,) = desk.runs.open("intraday", SLOT, ("EURUSD=X", "NZDUSD=X", "not a symbol")).chunks
    run = desk.chunks.work(chunk)
    assert [failure.symbol for failure in run.failures] == ["NZDUSD=X", "not a symbol"]
    assert (run.success, len(desk.entries())) == (1, 1)


def test_stale_candles_are_a_row_and_never_an_entry(desk: Desk, chunk: Chunk, yahoo: YahooServer) -> None:
    yahoo.now -= 3 * 3_600  # the feed stands still since three hours
    run = desk.chunks.work(chunk)
    assert (run.status, {failure.reason for failure in run.failures}) == ("FAILED", {STALE})
    assert desk.entries() == []


def test_an_outage_of_the_provider_is_tried_again_and_then_the_run_ends(
    desk: Desk, chunk: Chunk, yahoo: YahooServer
) -> None:
    yahoo.always = Act(503, b"")
    with pytest.raises(ProviderUnavailable):
        desk.chunks.work(chunk, deliveries=1)
    assert desk.runs.get(chunk.run_id).status == "RUNNING"
    run = desk.chunks.work(chunk, deliveries=LAST_DELIVERY)
    assert (run.status, run.failed) == ("FAILED", 4)


def test_an_outage_is_tried_again_whichever_symbol_stands_first(desk: Desk, yahoo: YahooServer) -> None:
    (chunk,) = desk.runs.open("intraday", SLOT, ("not a symbol", "EURUSD=X")).chunks
    yahoo.always = Act(503, b"")
    with pytest.raises(ProviderUnavailable):
        desk.chunks.work(chunk, deliveries=1)


def test_models_that_are_back_at_the_next_delivery_cost_nothing(desk: Desk, chunk: Chunk) -> None:
    desk.endpoint.change = lambda body: b"<html>"
    event = event_of(chunk.message())
    assert work_through(event, desk.worker) == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}
    desk.endpoint.change = bytes
    assert work_through(event_of(chunk.message(), deliveries=2), desk.worker) == {"batchItemFailures": []}
    assert desk.runs.get(chunk.run_id).success == 4


def test_models_that_refuse_one_symbol_cost_that_symbol(desk: Desk, chunk: Chunk) -> None:
    refused = ItemError(code="model_failed", detail="lstm raised")
    answered = desk.endpoint._item
    desk.endpoint._item = lambda item: (  # type: ignore[method-assign]
        answered(item).model_copy(update={"error": refused}) if item.symbol == "USDJPY=X" else answered(item)
    )
    run = desk.chunks.work(chunk)
    assert [failure.symbol for failure in run.failures] == ["USDJPY=X"]
    assert "lstm raised" in run.failures[0].reason


def test_a_journal_that_does_not_answer_leaves_the_chunk_uncounted(desk: Desk, chunk: Chunk) -> None:
    lost = JournalOfForecasts(Journal(Table("no-such-table"), lambda: NOW))
    with pytest.raises(StateUnavailable):
        ChunkWorker(desk.service, lost, desk.runs, seconds=30.0).work(chunk, deliveries=LAST_DELIVERY)
    assert desk.runs.get(chunk.run_id).done == frozenset()
    assert desk.chunks.work(chunk).success == 4


@pytest.fixture(scope="module")
def workers(emulator_port: int) -> Iterator[subprocess.Popen[str]]:
    """What starts a worker for each line it is given."""
    environment = {**emulator.aws_environment(emulator_port), "PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}"}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.forecast_process"],
        cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    ) as process:  # fmt: skip
        yield process
        process.kill()


@pytest.mark.parametrize("stops_at", ["fetching", "writing", "counting", "counted"])
def test_a_worker_that_is_killed_leaves_exact_counters_after_the_redelivery(
    desk: Desk,
    chunk: Chunk,
    tables: Tables,
    yahoo: YahooServer,
    workers: subprocess.Popen[str],
    tmp_path: Path,
    stops_at: str,
) -> None:
    told = {
        "tables": vars(tables), "yahoo": yahoo.url, "cache": str(tmp_path / "child"), "stops_at": stops_at,
        "message": chunk.message(),
    }  # fmt: skip
    assert workers.stdin is not None
    assert workers.stdout is not None
    workers.stdin.write(json.dumps(told) + "\n")
    pid, place = workers.stdout.readline().split()
    assert place == stops_at
    os.kill(int(pid), signal.SIGKILL)
    assert workers.stdout.readline().strip() == str(-signal.SIGKILL)
    before = desk.runs.get(chunk.run_id)
    assert before.success == (4 if stops_at == "counted" else 0)
    assert len(desk.entries()) == {"fetching": 0, "writing": 2, "counting": 4, "counted": 4}[stops_at]
    assert work_through(event_of(chunk.message(), deliveries=2), desk.worker) == {"batchItemFailures": []}
    run = desk.runs.get(chunk.run_id)
    assert (run.status, run.success, run.failed, len(desk.entries())) == ("SUCCEEDED", 4, 0, 4)


def predict(desk: Desk, **asked: object) -> JobOrder:
    return desk.jobs.order("u1", "predict", {"symbol": "EURUSD=X", "interval": "1h", "journal": False, **asked})


def test_a_prediction_that_was_asked_for_is_the_jobs_result_and_in_the_journal(desk: Desk) -> None:
    order = predict(desk)
    assert work_through(event_of(order.message()), desk.worker) == {"batchItemFailures": []}
    job = desk.jobs.of(order.id, "u1")
    assert (job.status, job.progress, job.error) == ("SUCCEEDED", 1.0, None)
    assert job.result is not None
    assert (job.result["symbol"], job.result["interval"], job.result["verdict"]) == ("EURUSD=X", "1h", "STRONG BUY")
    assert job.result["forecast"]["bar_close"] == "2025-07-23T15:00:00Z"
    assert (len(desk.entries()), desk.entries("u1")) == (1, [])


def test_a_prediction_is_in_the_askers_journal_where_they_want_it_however_often_it_arrives(desk: Desk) -> None:
    order = predict(desk, journal=True)
    work_through(event_of(order.message(), order.message()), desk.worker)
    (platform,), (own,) = desk.entries(), desk.entries("u1")
    assert (platform.source, own.source, own.id) == ("manual", "manual", platform.id)
    assert len(desk.endpoint.requests) == 1


def test_a_prediction_of_a_symbol_nobody_knows_fails_in_words(desk: Desk) -> None:
    order = predict(desk, symbol="NZDUSD=X")
    desk.worker(record_of(event_of(order.message())["Records"][0]))
    job = desk.jobs.of(order.id, "u1")
    assert (job.status, "no market data source knows" in (job.error or "")) == ("FAILED", True)


def test_a_prediction_is_tried_again_where_the_provider_is_down_and_then_says_so(
    desk: Desk, yahoo: YahooServer
) -> None:
    yahoo.always = Act(503, b"")
    order = predict(desk)
    first = work_through(event_of(order.message()), desk.worker)
    assert (len(first["batchItemFailures"]), desk.jobs.of(order.id, "u1").status) == (1, "RUNNING")
    assert work_through(event_of(order.message(), deliveries=2), desk.worker) == {"batchItemFailures": []}
    assert desk.jobs.of(order.id, "u1").status == "FAILED"


def test_a_fault_of_ours_ends_the_job_without_telling_of_our_insides(desk: Desk) -> None:
    order = predict(desk, interval="nine hours")  # past the door, which would refuse it
    desk.worker(record_of(event_of(order.message())["Records"][0]))
    assert desk.jobs.of(order.id, "u1").error == UNEXPECTED


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": "order"},
        {"type": "chunk", "run_id": "x"},
        {"type": "chunk", "run_id": "x", "number": 0, "symbols": []},
        {"type": "job", "id": "1", "owner": "u1", "kind": "dance", "request": {}, "created_at": 0},
        {"type": "job", "id": "1"},
    ],
)
def test_a_message_that_nobody_can_read_goes_to_the_dead_letters(desk: Desk, body: dict[str, object]) -> None:
    event = event_of(body)
    with pytest.raises(UnreadableMessage):
        desk.worker(record_of(event["Records"][0]))
    assert len(work_through(event, desk.worker)["batchItemFailures"]) == 1


def test_one_bad_message_of_a_batch_is_delivered_again_alone(desk: Desk, chunk: Chunk) -> None:
    told = work_through(event_of({"type": "?"}, chunk.message()), desk.worker)
    assert told == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}
    assert desk.runs.get(chunk.run_id).status == "SUCCEEDED"
