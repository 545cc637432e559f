"""The registry's worker over the emulated cloud and a loopback SageMaker: for tests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from fusiontrade.cloud.batches import Record
from fusiontrade.cloud.sagemaker import SageMaker
from fusiontrade.cloud.session import forget_clients
from fusiontrade.cloud.tables import Table
from fusiontrade.errors import UnknownSymbol
from fusiontrade.forecasts.jobs import Job, JobOrder, Jobs
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from fusiontrade.registry import rollout
from fusiontrade.registry.bundles import Bundles
from fusiontrade.registry.rollout import Rollout
from fusiontrade.registry.training import FINETUNE, TRAIN, Place, Training
from fusiontrade.registry.turns import Turns, TurnWorker
from fusiontrade.registry.versions import Registry
from tests.support import emulator
from tests.support.sagemaker_server import SageMakerStub, sagemaker_stub

OWNER, MODEL = "user-1", "lstm-1h"
NOW = 1_750_000_000_000
TRAINING = {"symbol": "EURUSD=X", "symbols": [], "interval": "1h", "model_type": "lstm", "bars": 2000, "epochs": 2}


def bundle_files(
    version: str,
    *,
    symbols: tuple[str, ...] = ("EURUSD=X",),
    weights: bool = True,
    model_id: str = MODEL,
    kind: str = "lstm",
) -> dict[str, bytes]:
    """A bundle as far as the registry looks into one."""
    report = {
        "model_id": MODEL,
        "data_fingerprint": "f",
        "slices": {"test": {"from": "a", "to": "b", "rows": 9}},
        "figures": {"pooled": {"touch_skill_over_climatology": {"value": 0.05, "low": 0.04, "high": 0.06, "n": 9}}},
    }
    card = {
        "model_id": model_id,
        "version": version,
        "kind": kind,
        "timeframe": "1h",
        "universe": list(symbols),
        "windows": {"train": [NOW - 10_000, NOW - 5_000]},
        "metrics": {"pinball_ratio": {"value": 0.95}},
    }
    files = {"model.json": json.dumps(card).encode(), "report.json": json.dumps(report).encode(), "model.onnx": b"g"}
    if weights:
        files["weights.safetensors"] = b"w"
    named = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return {**files, "manifest.json": json.dumps({"files": named}).encode()}


class MemoryObjects:
    """A bucket in memory; `tests.deploy.test_deploy_least_privilege` walks the same ways over S3."""

    def __init__(self, bucket: str = "artifacts") -> None:
        self.bucket = bucket
        self.kept: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    def put(self, key: str, body: bytes) -> None:
        self.kept[key] = body

    def keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self.kept if key.startswith(prefix))

    def copy(self, source: str, target: str) -> None:
        self.kept[target] = self.kept[source]

    def uri(self, prefix: str) -> str:
        return f"s3://{self.bucket}/{prefix}"


class Messages:
    """The queue of turns, in memory: what waits, and with which delay it was sent."""

    def __init__(self) -> None:
        self.waiting: list[dict[str, Any]] = []
        self.delays: list[int] = []

    def send(self, body: Mapping[str, Any], *, request_id: str | None = None, delay_seconds: int = 0) -> None:
        self.waiting.append(json.loads(json.dumps(body)))
        self.delays.append(delay_seconds)


@dataclass
class RegistryDesk:
    """Everything of one test."""

    table: Table
    storage: MemoryObjects
    sagemaker: SageMakerStub
    outcome: dict[str, Any] = field(default_factory=lambda: {"bundle": MODEL, "comparison": None})
    files: dict[str, bytes] = field(default_factory=lambda: bundle_files("bbbbbbbbbbbb"))
    now: int = NOW
    image: str = "image"

    def __post_init__(self) -> None:
        self.messages = Messages()
        self.registry, self.bundles = Registry(self.table, lambda: self.now), Bundles(self.storage)
        self.jobs, self.turns = Jobs(self.table, lambda: self.now), Turns(self.table)
        self.sagemaker.train = self.leave

    @property
    def worker(self) -> TurnWorker:
        training = Training(
            self.registry,
            self.bundles,
            self.storage,
            sagemaker=SageMaker(),
            place=Place(self.image, "arn:aws:iam::000000000000:role/training", "ml.c7i.xlarge", 3600, 0),
            candles=candles,
            clock=lambda: self.now,
            promote=self.promote,
        )
        exchange = Rollout(
            self.registry, self.bundles, self.table,
            sagemaker=SageMaker(), endpoint="fusiontrade", seconds=0, clock=lambda: self.now,
        )  # fmt: skip
        kinds = {TRAIN: training, FINETUNE: training, rollout.KIND: exchange}
        return TurnWorker(self.jobs, self.turns, self.messages, kinds, lambda: self.now)

    def promote(self, order: JobOrder, model_id: str, version: str) -> str:
        following = self.jobs.order(order.owner, rollout.KIND, {"model_id": model_id, "version": version})
        self.messages.send(following.message())
        return following.id

    def leave(self, request: Mapping[str, Any]) -> None:
        """Leave what a training job leaves."""
        prefix = request["OutputDataConfig"]["S3OutputPath"].partition("//")[2].partition("/")[2]
        prefix = f"{prefix}/{request['TrainingJobName']}/output/model/"
        for name, content in self.files.items():
            self.storage.put(f"{prefix}{MODEL}/{name}", content)
        self.storage.put(f"{prefix}outcome.json", json.dumps(self.outcome).encode())

    def serving(self, version: str, **more: Any) -> None:
        """Have a version archived, registered and ACTIVE."""
        self.archived(version, **more)
        self.registry.promote(MODEL, version)

    def archived(self, version: str, *, comparison: dict[str, Any] | None = None, **more: Any) -> None:
        """Have a version archived and registered."""
        prefix = self.bundles.prefix(MODEL, version)
        for name, content in bundle_files(version, **more).items():
            self.storage.put(prefix + name, content)
        self.registry.register(self.bundles.take_in(prefix, created_at=self.now, comparison=comparison))

    def ask(self, kind: str, request: Mapping[str, Any]) -> JobOrder:
        order = self.jobs.order(OWNER, kind, request)
        self.messages.send(order.message())
        return order

    def step(self) -> None:
        """Work one message off."""
        self.deliver(self.messages.waiting.pop(0))

    def deliver(self, message: Mapping[str, Any]) -> None:
        self.worker(Record("m", message, "r", 1, self.now))

    def work(self, order: JobOrder, most: int = 30) -> Job:
        """Work messages off until nothing waits; return the job."""
        for _ in range(most):
            if not self.messages.waiting:
                break
            self.step()
        return self.jobs.of(order.id, OWNER)

    def statuses(self) -> dict[str, str]:
        return {one.version: one.status for one in self.registry.page(1000)[0] if one.model_id == MODEL}


def candles(symbol: str, interval: str, bars: int) -> CandleFrame:
    """Flat bars of every symbol but one."""
    if symbol == "XXXYYY=X":
        raise UnknownSymbol(symbol)
    timeframe = Timeframe.parse(interval)
    time = np.arange(bars, dtype=np.int64) * timeframe.milliseconds
    price = np.full(bars, 1.5)
    return CandleFrame(symbol, timeframe, time, price, price, price, price)


@pytest.fixture(scope="module")
def aws(emulator_port: int) -> Iterator[SageMakerStub]:
    """The emulated cloud and the loopback SageMaker, with clients that live as long as the module: they cost most."""
    with sagemaker_stub() as stub, pytest.MonkeyPatch.context() as patch:
        for name, value in emulator.aws_environment(emulator_port).items():
            patch.setenv(name, value)
        patch.delenv("AWS_PROFILE", raising=False)
        patch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", stub.url)
        forget_clients()
        yield stub
    forget_clients()


@pytest.fixture
def desk(aws: SageMakerStub, models_table_name: str) -> RegistryDesk:
    aws.forget()
    return RegistryDesk(Table(models_table_name), MemoryObjects(), aws)
