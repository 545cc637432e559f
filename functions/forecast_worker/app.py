"""The forecast worker: chunks of runs and jobs from the queues, each message on its own."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

from fusiontrade.cloud.batches import Record
from fusiontrade.forecasts.factory import CHUNK_SECONDS
from fusiontrade.settings import Settings
from fusiontrade.snapshots import after_restore
from fusiontrade.workers import queue_handler

if TYPE_CHECKING:
    from fusiontrade.forecasts.worker import Worker

SECONDS_FOR_ONE = CHUNK_SECONDS + 20.0
"""The most that one message takes, with a margin: none is begun with less time left."""

settings = Settings.from_environment(os.environ)


@cache
def worker() -> Worker:
    """Return the process's one worker; what is heavy is imported at the first message."""
    from fusiontrade.forecasts import factory

    return factory.worker(settings)


def work(record: Record) -> None:
    """Work one message off; raises where it has to be delivered again."""
    worker()(record)


after_restore(worker.cache_clear)
handler = queue_handler("forecast_worker", settings, work, seconds_for_one=SECONDS_FOR_ONE)
