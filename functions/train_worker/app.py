"""The train worker: trainings, and the exchanges of what serves, each in turns of a few seconds."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

from fusiontrade.cloud.batches import Record
from fusiontrade.settings import Settings
from fusiontrade.snapshots import after_restore
from fusiontrade.workers import queue_handler

if TYPE_CHECKING:
    from fusiontrade.registry.turns import TurnWorker

SECONDS_FOR_ONE = 90.0
"""The most that one turn takes, with a margin: gathering the candles of all symbols of a training."""

settings = Settings.from_environment(os.environ)


@cache
def worker() -> TurnWorker:
    """Return the process's one worker; what is heavy is imported at the first message."""
    from fusiontrade.registry import factory

    return factory.worker(settings)


def work(record: Record) -> None:
    """Do one turn of a job; raises where it has to be delivered again."""
    worker()(record)


after_restore(worker.cache_clear)
handler = queue_handler(
    "train_worker", settings, work, seconds_for_one=SECONDS_FOR_ONE, again=settings.training_queue_url or ""
)
