"""The scheduler and the worker of a process, wired from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusiontrade.forecasts.jobs import JobOrder
    from fusiontrade.forecasts.scheduling import Scheduler
    from fusiontrade.forecasts.worker import JobWork, Worker
    from fusiontrade.settings import Settings

__all__ = ["CHUNK_SECONDS", "scheduler", "symbols_of", "worker"]

CHUNK_SECONDS = 60.0
"""The most that the forecasts of one message may take; writing them down takes a few seconds more."""


def scheduler(settings: Settings) -> Scheduler:
    """Return what starts runs; raises `SettingsError` where a variable it needs is not set."""
    from fusiontrade.clock import system_clock
    from fusiontrade.cloud.queues import Queue
    from fusiontrade.cloud.tables import Table
    from fusiontrade.forecasts.runs import Runs
    from fusiontrade.forecasts.scheduling import Scheduler

    runs = Runs(Table(settings.need("signals_table")), system_clock)
    return Scheduler(runs, Queue(settings.need("forecast_queue_url")))


def symbols_of(settings: Settings, kind: str, now: int) -> list[str]:
    """Return what a run of ``kind`` forecasts: the configured symbols, or those that are subscribed to at ``now`` (ms).

    Raises
    ------
    StateUnavailable
        If the table of connections does not answer.
    """
    if kind == "intraday":
        from fusiontrade.market.symbols import DEFAULT_SYMBOLS

        return list(settings.intraday_symbols or DEFAULT_SYMBOLS)
    from fusiontrade.cloud.tables import Table
    from fusiontrade.forecasts.subscribed import subscribed_symbols

    return subscribed_symbols(Table(settings.need("connections_table")), now)


def worker(settings: Settings) -> Worker:
    """Return what works messages off; imports what is heavy only now.

    Raises
    ------
    SettingsError
        If a variable that the worker needs is not set.
    """
    from fusiontrade.clock import system_clock
    from fusiontrade.cloud.tables import Table
    from fusiontrade.figures import Figures
    from fusiontrade.forecasts import fusing
    from fusiontrade.forecasts.chunks import ChunkWorker
    from fusiontrade.forecasts.jobs import Jobs
    from fusiontrade.forecasts.prediction import KIND, Prediction
    from fusiontrade.forecasts.runs import Runs
    from fusiontrade.forecasts.worker import Worker
    from fusiontrade.fusion.factory import fusion_service, journal_of_forecasts

    table = settings.need("journal_table")
    journal = journal_of_forecasts(settings, table, service="forecast_worker", seconds=3.0, attempts=2)
    service = fusion_service(settings, journal=journal)
    figures = Figures("forecast_worker", settings.stage)
    chunks = ChunkWorker(
        service,
        journal,
        Runs(Table(settings.need("signals_table")), system_clock),
        seconds=CHUNK_SECONDS,
        counted=lambda made, failed: figures.count(ForecastsMade=made, ForecastsFailed=failed),
    )
    kinds: dict[str, JobWork] = {
        KIND: Prediction(service, journal, seconds=CHUNK_SECONDS / 2),
        fusing.KIND: fusing.Fusing(service, seconds=CHUNK_SECONDS / 2),
        "verify-now": _verification(settings),
    }
    return Worker(chunks, Jobs(Table(settings.need("models_table")), system_clock), kinds)


def _verification(settings: Settings) -> JobWork:
    def verify(order: JobOrder) -> Mapping[str, Any]:
        from fusiontrade.journal.verification import verify_owner

        return verify_owner(settings, order.owner, CHUNK_SECONDS)

    return verify
