"""Figures of requests in CloudWatch's embedded metric format: one JSON line a request, read by the log service.

Always true here: nothing is sent from the function; a line goes out whatever the level of the log; a laptop writes
none. Dimensions are few and known: the function, and the route as declared, never the path as asked for.
"""

from __future__ import annotations

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

__all__ = ["UNKNOWN_ROUTE", "RequestMetrics"]

UNKNOWN_ROUTE = "none"
"""The route of a request that no route took."""


class RequestMetrics:
    """Counts the requests of one function.

    Parameters
    ----------
    service : str
        The function's name; the dimension ``service``.
    stage : str
        Ends the namespace, so that two stages of one account are not added up.
    """

    def __init__(self, service: str, stage: str) -> None:
        self._metrics = EphemeralMetrics(namespace=f"FusionTrade/{stage}", service=service)
        self._is_cold = True

    def start_cold(self) -> None:
        """Take the next request for the first one of this process: it is, in a copy that was just restored."""
        self._is_cold = True

    def request(self, route: str, status: int, milliseconds: float) -> None:
        """Write down one request; an error is a status of 500 and more, or none at all (0)."""
        if self._is_cold:
            self._is_cold = False
            self._write(ColdStarts=(MetricUnit.Count, 1))
        self._metrics.add_dimension(name="route", value=route)
        self._write(
            Requests=(MetricUnit.Count, 1),
            Errors=(MetricUnit.Count, int(status == 0 or status >= 500)),
            Latency=(MetricUnit.Milliseconds, milliseconds),
        )

    def _write(self, **figures: tuple[MetricUnit, float]) -> None:
        for name, (unit, value) in figures.items():
            self._metrics.add_metric(name=name, unit=unit, value=value)
        self._metrics.flush_metrics()
