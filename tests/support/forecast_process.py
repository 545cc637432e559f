"""Forecast workers of their own processes that say how far they are and wait there, to be killed."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from fusiontrade.deadline import Deadline
from fusiontrade.forecasts.chunks import ChunkWorker
from fusiontrade.forecasts.runs import Chunk, Failure, Run
from tests.support.forecast_desk import Desk, Tables

WRITTEN_BEFORE_STOPPING = 2


class Stopping:
    """Stands before forecaster, journal and counter of a worker, and stops at one of them."""

    def __init__(self, desk: Desk, stops_at: str) -> None:
        self._desk = desk
        self._stops_at = stops_at
        self._lock = Lock()
        self._written = 0

    def many(self, symbols: Sequence[str], *, deadline: Deadline) -> Any:
        self._stop("fetching")
        return self._desk.service.many(symbols, deadline=deadline)

    def write(self, forecast: Any, **more: Any) -> bool:
        with self._lock:
            if self._written == WRITTEN_BEFORE_STOPPING:
                self._stop("writing")
            self._written += 1
            return self._desk.writer.write(forecast, **more)

    def get(self, identity: str) -> Run:
        return self._desk.runs.get(identity)

    def count(self, chunk: Chunk, failures: Sequence[Failure]) -> Run:
        self._stop("counting")
        run = self._desk.runs.count(chunk, failures)
        self._stop("counted")
        return run

    def _stop(self, place: str) -> None:
        if place == self._stops_at:
            print(f"{os.getpid()} {place}", flush=True)
            time.sleep(120)


def work(told: dict[str, Any]) -> None:
    desk = Desk(Tables(**told["tables"]), told["yahoo"], Path(told["cache"]))
    stopping = Stopping(desk, told["stops_at"])
    ChunkWorker(stopping, stopping, stopping, seconds=30.0).work(Chunk.of(told["message"]))  # type: ignore[arg-type]


def main() -> None:
    """Import what is heavy once; then give each line of the input a process of its own, and say how that ended."""
    import yfinance  # noqa: F401

    from fusiontrade.cloud.session import read_ahead

    read_ahead("dynamodb")

    for line in sys.stdin:
        child = os.fork()
        if not child:
            work(json.loads(line))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
