"""The forecast worker's function as it is configured: from the schedule's message to the journal, and a user's jobs."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from fusiontrade.cloud.tables import Table
from fusiontrade.forecasts.jobs import Jobs
from fusiontrade.forecasts.runs import Runs
from fusiontrade.forecasts.scheduling import Scheduler
from fusiontrade.journal.entries import PLATFORM
from fusiontrade.journal.store import Asked, Journal
from tests.support.forecast_desk import *  # noqa: F403 - pytest finds fixtures by name in this module
from tests.support.forecast_desk import SYMBOLS, Tables, event_of
from tests.support.http_api import Context
from tests.support.serving_program import Program, served

ROOT = Path(__file__).resolve().parents[2]
AT = 1_753_941_600_000
TAKEN = {"batchItemFailures": []}


@pytest.fixture
def program(aws: None) -> Iterator[Program]:
    with served() as playing:
        yield playing


@pytest.fixture
def function(tables: Tables, program: Program, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    environment = {
        "STAGE": "local",
        "MARKET_DATA": "simulated",
        "ENDPOINT_NAME": "fusiontrade",
        "SIGNALS_TABLE": tables.signals,
        "JOURNAL_TABLE": tables.journal,
        "MODELS_TABLE": tables.models,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    module = importlib.reload(importlib.import_module("functions.forecast_worker.app"))
    yield module
    module.worker.cache_clear()


class Kept:
    """Messages that a scheduler sent."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, object]] = []

    def send_many(self, bodies: object, **_: object) -> None:
        self.bodies += bodies  # type: ignore[operator]


def test_a_run_that_the_schedule_started_ends_in_the_journal(
    function: ModuleType, tables: Tables, program: Program
) -> None:
    runs, queue = Runs(Table(tables.signals), lambda: AT), Kept()
    (run,) = Scheduler(runs, queue).start("intraday", AT, SYMBOLS)
    assert function.handler(event_of(*queue.bodies), Context(180_000)) == TAKEN
    run = runs.get(run.id)
    assert (run.status, run.success, run.failures) == ("SUCCEEDED", 4, ())
    assert program.paths == ["/endpoints/fusiontrade/invocations"]
    entries = Journal(Table(tables.journal), lambda: AT).page(PLATFORM, Asked(), limit=10).entries
    assert {(entry.symbol, entry.source, entry.data_source) for entry in entries} == {
        (symbol, "daily", "simulated") for symbol in SYMBOLS
    }


def test_a_user_may_have_the_journal_verified_now(function: ModuleType, tables: Tables) -> None:
    jobs = Jobs(Table(tables.models), lambda: AT)
    predict = jobs.order("u1", "predict", {"symbol": "BTC-USD", "interval": "15m", "journal": True})
    verify = jobs.order("u1", "verify-now", {})
    assert function.handler(event_of(predict.message(), verify.message()), Context(180_000)) == TAKEN
    assert jobs.of(predict.id, "u1").status == "SUCCEEDED"
    job = jobs.of(verify.id, "u1")
    assert (job.status, job.kind) == ("SUCCEEDED", "verify-now")
    assert job.result is not None
    assert (job.result["checked"], job.result["pending"], job.result["failures"]) == (1, 1, [])


def test_a_message_is_not_begun_where_it_could_not_be_finished(function: ModuleType, tables: Tables) -> None:
    runs = Runs(Table(tables.signals), lambda: AT)
    (chunk,) = runs.open("intraday", AT, SYMBOLS).chunks
    told = function.handler(event_of(chunk.message()), Context(30_000))
    assert told == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}
    assert runs.get(chunk.run_id).done == frozenset()


@pytest.mark.parametrize("name", ["forecast_worker", "schedule"])
def test_a_start_loads_nothing_that_only_work_needs(name: str) -> None:
    heavy = {"numpy", "pandas", "yfinance", "fastapi", "botocore.session", "joserfc", "exchange_calendars"}
    code = f"import sys, json, functions.{name}.app; print(json.dumps(sorted({heavy!r} & set(sys.modules))))"
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"STAGE": "local", "PYTHONPATH": f"{ROOT}:{ROOT / 'shared'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(told.stdout.splitlines()[-1]) == []
