"""The fusion service of a process, wired from its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusiontrade.fusion.journaling import JournalOfForecasts
    from fusiontrade.fusion.service import FusionService
    from fusiontrade.settings import Settings

__all__ = ["fusion_service", "journal_of_forecasts"]


def fusion_service(settings: Settings, *, journal: JournalOfForecasts | None = None) -> FusionService:
    """Return the service over the configured market data and endpoint; imports what is heavy only now.

    Parameters
    ----------
    journal
        Where `FusionService.fused` writes forecasts of the present.

    Raises
    ------
    SettingsError
        If a variable that the fusion needs is not set.
    """
    from fusiontrade.cloud.endpoint import SageMakerEndpoint
    from fusiontrade.cloud.storage import Storage
    from fusiontrade.cloud.tables import Table
    from fusiontrade.fusion.calibration_store import TableCalibrationStates
    from fusiontrade.fusion.service import FusionService
    from fusiontrade.inference.client import InferenceClient
    from fusiontrade.market.factory import candle_source
    from fusiontrade.registry.degraded import Degraded

    storage = Storage(settings.artifacts_bucket) if settings.artifacts_bucket else None
    models = Table(settings.models_table, read_seconds=1.0, attempts=1) if settings.models_table else None
    return FusionService(
        candle_source(settings, storage),
        InferenceClient(SageMakerEndpoint(settings.need("endpoint_name"))),
        calibration=TableCalibrationStates(models) if models else None,
        journal=journal,
        degraded=Degraded(models) if models else None,
        budget_seconds=settings.request_budget_seconds,
    )


def journal_of_forecasts(
    settings: Settings, table: str, *, service: str, seconds: float = 1.0, attempts: int = 1
) -> JournalOfForecasts:
    """Return what writes forecasts to the journal in ``table`` for the function ``service``.

    Parameters
    ----------
    seconds, attempts
        What one try to write may take, and how many there are.
    """
    from fusiontrade.clock import system_clock
    from fusiontrade.cloud.tables import Table
    from fusiontrade.figures import Figures
    from fusiontrade.fusion.journaling import JournalOfForecasts
    from fusiontrade.journal.store import Journal

    figures = Figures(service, settings.stage)
    journal = Journal(Table(table, read_seconds=seconds, attempts=attempts), system_clock)
    return JournalOfForecasts(journal, missed=lambda: figures.count(ForecastsNotJournaled=1))
