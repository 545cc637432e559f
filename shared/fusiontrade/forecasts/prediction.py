"""The job ``predict``: a forecast of one symbol that a user asked for without waiting; journaled like any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusiontrade.deadline import Deadline
from fusiontrade.errors import FusionTradeError
from fusiontrade.forecasts.chunks import STALE, Forecaster, Writer
from fusiontrade.forecasts.jobs import JobOrder
from fusiontrade.fusion.ports import Forecast
from fusiontrade.journal.entries import PLATFORM

__all__ = ["KIND", "Prediction"]

KIND = "predict"


class Prediction:
    """Does jobs of this kind: their request is ``symbol``, ``interval``, and ``journal``.

    Parameters
    ----------
    forecaster, writer
        Who makes forecasts, who writes them down.
    seconds
        The most that a forecast may take.
    """

    def __init__(self, forecaster: Forecaster, writer: Writer, *, seconds: float) -> None:
        self._forecaster = forecaster
        self._writer = writer
        self._seconds = seconds

    def __call__(self, order: JobOrder) -> Mapping[str, Any]:
        """Return the job's result.

        Raises
        ------
        FusionTradeError
            What keeps the symbol from being forecast or written down.
        """
        symbol = str(order.request["symbol"])
        found = self._forecaster.many([symbol], deadline=Deadline.after(self._seconds))[symbol]
        if isinstance(found, FusionTradeError):
            raise found
        notes = self._written(found, order)
        return _result(found, str(order.request["interval"]), notes)

    def _written(self, forecast: Forecast, order: JobOrder) -> list[str]:
        if forecast.is_stale:
            return [f"not journaled: {STALE}"]
        self._writer.write(forecast, owner=PLATFORM, source="manual")
        if order.request.get("journal"):
            self._writer.write(forecast, owner=order.owner, source="manual")
        return []


def _result(forecast: Forecast, interval: str, notes: list[str]) -> dict[str, Any]:
    """Return the part of the forecast that was asked about, as the fusion's answer has it."""
    response = forecast.response.model_dump(mode="json", by_alias=True)
    kept = ("symbol", "verdict", "master_fusion_score", "targets", "as_of", "market_open", "data_source", "models")
    return {
        "interval": interval,
        **{name: response[name] for name in kept},
        "forecast": response["timeframes"][interval],
        "warnings": [*response["warnings"], *notes],
    }
