"""The fusion service of a process, wired from its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusiontrade.fusion.service import FusionService
    from fusiontrade.settings import Settings

__all__ = ["fusion_service"]


def fusion_service(settings: Settings) -> FusionService:
    """Return the service over the configured market data and endpoint; imports what is heavy only now.

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

    storage = Storage(settings.artifacts_bucket) if settings.artifacts_bucket else None
    models = Table(settings.models_table, read_seconds=1.0, attempts=1) if settings.models_table else None
    return FusionService(
        candle_source(settings, storage),
        InferenceClient(SageMakerEndpoint(settings.need("endpoint_name"))),
        calibration=TableCalibrationStates(models) if models else None,
        budget_seconds=settings.request_budget_seconds,
    )
