"""Counts that no request and no queue has of itself, in CloudWatch's embedded metric format: one JSON line each.

Always true here: nothing is sent from the function; a laptop writes none. The only dimension is the function.
"""

from __future__ import annotations

__all__ = ["Figures"]


class Figures:
    """Counts of one function.

    Parameters
    ----------
    service
        The function's name; the dimension ``service``.
    stage
        Ends the namespace, so that two stages of one account are not added up; ``local`` writes nothing.
    """

    def __init__(self, service: str, stage: str) -> None:
        self._service = service
        self._stage = stage

    def count(self, **numbers: int) -> None:
        """Write one line with these counts: ``count(ForecastsNotJournaled=1)``."""
        if self._stage == "local":
            return
        from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

        metrics = EphemeralMetrics(namespace=f"FusionTrade/{self._stage}", service=self._service)
        for name, number in numbers.items():
            metrics.add_metric(name=name, unit=MetricUnit.Count, value=number)
        metrics.flush_metrics()
