"""A chunk of a run, worked off: forecasts of its symbols, each in the journal before the chunk is counted.

Always true here: what a symbol came to is that symbol's alone, a forecast in the journal or a row among the failures;
the chunk is counted after every entry is written, so a worker that dies before has its chunk delivered again and
nothing is there twice. Where nothing of a chunk can be forecast because something does not answer, the chunk is tried
again at its next delivery; at the last one its symbols are failures, so that the run ends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Protocol

from fusiontrade.deadline import Deadline
from fusiontrade.errors import FusionTradeError, StateUnavailable, Unavailable
from fusiontrade.forecasts.runs import Chunk, Failure, Run, Runs
from fusiontrade.fusion.ports import Forecast
from fusiontrade.journal.entries import PLATFORM, Source

__all__ = ["LAST_DELIVERY", "STALE", "ChunkWorker", "Forecaster", "Writer"]

LAST_DELIVERY = 5
"""The delivery of a message that is its last: the queue's ``maxReceiveCount``."""
STALE = "the candles are stale: newer bars should exist, so the outcome may be known already"
_AT_ONCE = 8

logger = logging.getLogger(__name__)


class Forecaster(Protocol):
    """The part of `fusiontrade.fusion.service.FusionService` that is needed here."""

    def many(self, symbols: Sequence[str], *, deadline: Deadline) -> Mapping[str, Forecast | FusionTradeError]:
        """Return the forecast of each symbol, or why there is none."""
        ...


class Writer(Protocol):
    """The part of `fusiontrade.fusion.journaling.JournalOfForecasts` that is needed here."""

    def write(self, forecast: Forecast, *, owner: str = PLATFORM, source: Source) -> bool:
        """Write a forecast once; raises `InvalidInput`, `StateUnavailable`."""
        ...


class ChunkWorker:
    """Works chunks off.

    Parameters
    ----------
    forecaster, writer, runs
        Who makes forecasts, who writes them down, who counts.
    seconds
        The most that the forecasts of a chunk may take.
    counted
        Told how many symbols of a chunk have a forecast and how many have none: for metrics.
    """

    def __init__(
        self,
        forecaster: Forecaster,
        writer: Writer,
        runs: Runs,
        *,
        seconds: float,
        counted: Callable[[int, int], object] | None = None,
    ) -> None:
        self._forecaster = forecaster
        self._writer = writer
        self._runs = runs
        self._seconds = seconds
        self._counted = counted

    def work(self, chunk: Chunk, *, deliveries: int = 1) -> Run:
        """Forecast the symbols of ``chunk``, write them down, count it, and return the run after it.

        Parameters
        ----------
        deliveries
            How often the chunk was delivered, this time included.

        Raises
        ------
        Unavailable
            If the chunk has to be delivered again.
        NotFound
            If there is no such run.
        """
        if chunk.number in self._runs.get(chunk.run_id).done:
            return self._runs.count(chunk, [])
        found = self._forecaster.many(chunk.symbols, deadline=Deadline.after(self._seconds))
        outcomes = self._written(found)
        errors = [error for error in outcomes.values() if error is not None]
        self._check_journal(errors)
        passing = next((error for error in errors if isinstance(error, Unavailable)), None)
        if deliveries < LAST_DELIVERY and len(errors) == len(outcomes) and passing is not None:
            raise passing
        failures = [Failure(symbol, str(error)) for symbol, error in outcomes.items() if error is not None]
        run = self._runs.count(chunk, failures)
        if self._counted is not None:
            self._counted(len(outcomes) - len(failures), len(failures))
        return run

    def _written(self, found: Mapping[str, Forecast | FusionTradeError]) -> dict[str, FusionTradeError | None]:
        """Write the forecasts down, several at once; return why a symbol has none, None where it has."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="journal") as pool:
            futures = {name: pool.submit(copy_context().run, self._outcome, each) for name, each in found.items()}
            return {name: future.result() for name, future in futures.items()}

    def _outcome(self, found: Forecast | FusionTradeError) -> FusionTradeError | None:
        if isinstance(found, FusionTradeError):
            return found
        if found.is_stale:
            return FusionTradeError(STALE)
        try:
            self._writer.write(found, source="daily")
        except StateUnavailable as error:
            return _NotWritten(str(error), retry_after=error.retry_after)
        except FusionTradeError as error:
            return error
        return None

    def _check_journal(self, errors: Sequence[FusionTradeError]) -> None:
        """Raise where a forecast was made and could not be written: it is owed, and written by the next delivery."""
        for error in errors:
            if isinstance(error, _NotWritten):
                raise error


class _NotWritten(StateUnavailable):
    """A forecast that was made and that the journal did not take."""
