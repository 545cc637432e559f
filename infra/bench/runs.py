"""The daily run from the schedule's event to the closed run: 100 symbols, candles in memory, everything else real.

The run's record, its messages and its journal lie in the emulated AWS, the models answer from the serving program; two
workers take the chunks. Every measured run finds an empty journal, so that it writes all of its entries.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from fusiontrade.cloud.batches import work_through
from fusiontrade.cloud.session import client, forget_clients
from infra.bench.rows import ROOT, Row
from infra.emulated import emulated
from infra.load.program import HOST, Program, free_port, serving_python
from infra.local.functions import AWS_VARIABLES
from infra.local.template import Template

__all__ = ["rows"]

SYMBOLS = 100
ROUNDS = 5
MOST_SECONDS = 15.0
WORKERS = 2
_DAY = 86_400_000


def rows() -> Iterator[Row]:
    """Measure whole runs after one that fetches the candles."""
    with (
        tempfile.TemporaryDirectory() as folder,
        emulated(Path(folder), free_port()) as url,
        Program(serving_python()) as models,
    ):
        os.environ |= {
            **AWS_VARIABLES, "AWS_ENDPOINT_URL": url,
            "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": f"http://{HOST}:{models.port}",
        }  # fmt: skip
        forget_clients()
        desk = _Desk()
        seconds = [desk.run(number) for number in range(ROUNDS + 1)][1:]
    low, middle, high = quantiles([MOST_SECONDS / each for each in seconds], n=4)
    yield Row(
        f"daily run, {SYMBOLS} symbols, candles from memory", f"{MOST_SECONDS:.0f} s", median(seconds), "s", middle,
        low, high, 1.0, f"{WORKERS} workers, {desk.entries} journal entries a run; record, queue and journal emulated",
    )  # fmt: skip


class _Desk:
    """Scheduler and workers of one process: candles stay, journals are new for every run."""

    def __init__(self) -> None:
        from fusiontrade.fusion.factory import fusion_service
        from fusiontrade.market.symbols import listed_symbols
        from fusiontrade.settings import Settings

        self._template = Template(ROOT / "template.yaml", {}, stack="fusiontrade-bench")
        sqs = client("sqs")
        self._queue = str(sqs.create_queue(QueueName="forecast")["QueueUrl"])
        named = {"SIGNALS_TABLE": self._table("SignalsTable"), "MODELS_TABLE": self._table("ModelsTable")}
        self._settings = Settings.from_environment(
            {**named, "STAGE": "local", "MARKET_DATA": "simulated", "ENDPOINT_NAME": "fusiontrade",
             "FORECAST_QUEUE_URL": self._queue}
        )  # fmt: skip
        self._service = fusion_service(self._settings)
        self._symbols = list(listed_symbols())[:SYMBOLS]
        self.entries = 0

    def _table(self, logical_id: str, suffix: str = "") -> str:
        declared = self._template.properties(logical_id)
        name = f"{logical_id}{suffix}"
        kept = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
        given: Any = {key: declared[key] for key in kept if key in declared}
        client("dynamodb").create_table(TableName=name, **given)
        return name

    def run(self, number: int) -> float:
        """Return the seconds of one run; raises RuntimeError where it does not end well."""
        from fusiontrade.clock import system_clock
        from fusiontrade.cloud.tables import Table
        from fusiontrade.forecasts.chunks import ChunkWorker
        from fusiontrade.forecasts.factory import CHUNK_SECONDS, scheduler
        from fusiontrade.forecasts.jobs import Jobs
        from fusiontrade.forecasts.runs import Runs
        from fusiontrade.forecasts.worker import Worker
        from fusiontrade.fusion.factory import journal_of_forecasts

        table = self._table("JournalTable", str(number))
        journal = journal_of_forecasts(self._settings, table, service="bench", seconds=3.0, attempts=2)
        runs = Runs(Table(self._settings.need("signals_table")), system_clock)
        chunks = ChunkWorker(self._service, journal, runs, seconds=CHUNK_SECONDS)
        worker = Worker(chunks, Jobs(Table(self._settings.need("models_table")), system_clock), {})
        begun = time.perf_counter()
        (run,) = scheduler(self._settings).start("intraday", system_clock() - number * _DAY, self._symbols)
        with ThreadPoolExecutor(WORKERS) as pool:
            for done in [pool.submit(self._work, worker, runs, run.id) for _ in range(WORKERS)]:
                done.result()
        seconds = time.perf_counter() - begun
        told = runs.get(run.id)
        if told.status != "SUCCEEDED" or told.failed:
            raise RuntimeError(f"the run ended as {told.status} with {told.failures[:3]}")
        self.entries = told.success
        return seconds

    def _work(self, worker: Any, runs: Any, identity: str) -> None:
        sqs = client("sqs", read_seconds=20.0)
        while runs.get(identity).status == "RUNNING":
            found = sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=1, AttributeNames=["All"])
            for each in found.get("Messages", []):
                record = {"messageId": each["MessageId"], "body": each["Body"], "attributes": each["Attributes"]}
                if work_through({"Records": [record]}, worker)["batchItemFailures"]:
                    raise RuntimeError("a chunk failed")
                sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=each["ReceiptHandle"])
