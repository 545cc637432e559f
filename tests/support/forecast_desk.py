"""The forecast worker over the emulated cloud, a Yahoo on the loopback and models that say BUY of everything."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fusiontrade.cloud.queues import text_of
from fusiontrade.cloud.session import client
from fusiontrade.cloud.tables import Table
from fusiontrade.forecasts.chunks import ChunkWorker
from fusiontrade.forecasts.fusing import Fusing
from fusiontrade.forecasts.jobs import Jobs
from fusiontrade.forecasts.prediction import Prediction
from fusiontrade.forecasts.runs import Runs
from fusiontrade.forecasts.worker import Worker
from fusiontrade.fusion.calibration_store import TableCalibrationStates
from fusiontrade.fusion.journaling import JournalOfForecasts
from fusiontrade.fusion.service import FusionService
from fusiontrade.inference.client import InferenceClient
from fusiontrade.journal.entries import PLATFORM, Entry
from fusiontrade.journal.store import Asked, Journal
from fusiontrade.market.providers.yahoo import YahooProvider
from fusiontrade.market.retry import RetryPolicy
from fusiontrade.market.source import CandleSource
from tests.support import emulator
from tests.support.fusion_fakes import FakeEndpoint
from tests.support.markets import NOW
from tests.support.yahoo_server import YahooServer

__all__ = ["SYMBOLS", "Desk", "Tables", "desk", "event_of", "forecast_queue", "tables", "yahoo"]

PATIENCE = 60.0  # s; the emulator on a busy machine
SYMBOLS = ("EURUSD=X", "USDJPY=X", "GC=F", "BTC-USD")


@dataclass(frozen=True)
class Tables:
    """Names of the tables that the forecasts need."""

    signals: str
    journal: str
    models: str
    connections: str

    @classmethod
    def make(cls) -> Tables:
        """Create them in the emulator."""
        named = {}
        for name in ("signals", "journal", "models", "connections"):
            named[name] = f"{name}-{uuid.uuid4().hex[:8]}"
            emulator.make_table(f"{name.capitalize()}Table", named[name])
        return cls(**named)


class Desk:
    """A worker as the function makes it, and what it leaves.

    Parameters
    ----------
    yahoo
        The address of a Yahoo.
    writer
        What stands in front of the journal; by default nothing.
    """

    def __init__(self, tables: Tables, yahoo: str, cache: Path, *, now: int = NOW, seconds: float = 30.0) -> None:
        self.endpoint = FakeEndpoint()
        self.journal = Journal(Table(tables.journal, read_seconds=PATIENCE), lambda: now)
        self.writer = JournalOfForecasts(self.journal)
        self.runs = Runs(Table(tables.signals, read_seconds=PATIENCE), lambda: now)
        self.jobs = Jobs(Table(tables.models, read_seconds=PATIENCE), lambda: now)
        self.source = CandleSource(
            YahooProvider(base_url=yahoo, cache_folder=cache, clock=lambda: now),
            clock=lambda: now,
            retry=RetryPolicy(attempts=1),
        )
        self.service = FusionService(
            self.source,
            InferenceClient(self.endpoint),
            calibration=TableCalibrationStates(Table(tables.models, read_seconds=PATIENCE)),
            journal=self.writer,
            clock=lambda: now,
        )
        self.chunks = ChunkWorker(self.service, self.writer, self.runs, seconds=seconds)
        predict = Prediction(self.service, self.writer, seconds=seconds)
        fuse = Fusing(self.service, seconds=seconds)
        self.worker = Worker(self.chunks, self.jobs, {"predict": predict, "fusion": fuse})

    def entries(self, owner: str = PLATFORM) -> list[Entry]:
        """Everything in the journal of ``owner``."""
        return self.journal.page(owner, Asked(), limit=200).entries


def event_of(*bodies: dict[str, Any], deliveries: int = 1) -> dict[str, Any]:
    """What Lambda hands to the function of a queue that has these messages."""
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "body": text_of(body, "the-request"),
                "attributes": {"ApproximateReceiveCount": str(deliveries), "SentTimestamp": str(NOW)},
            }
            for number, body in enumerate(bodies)
        ]
    }


@pytest.fixture
def tables(aws: None) -> Tables:
    return Tables.make()


@pytest.fixture
def yahoo() -> Iterator[YahooServer]:
    import yfinance  # noqa: F401 - heavy: not on the clock of any test

    with YahooServer(NOW // 1000) as server:
        yield server


@pytest.fixture
def desk(tables: Tables, yahoo: YahooServer, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tables, yahoo.url, tmp_path / "yahoo")
    yield made
    made.source.close()


@pytest.fixture
def forecast_queue(aws: None) -> str:
    return str(client("sqs").create_queue(QueueName=f"forecast-{uuid.uuid4().hex[:8]}")["QueueUrl"])
