"""The client of the serving container: candles go out, checked forecasts come back.

`Endpoint` is the port; `fusiontrade.cloud` implements it with the SageMaker runtime, tests with a loopback program.
Requests go out in the binary form of `fusiontrade.inference.wire` and in no other: a container that does not take it
is an error, never a reason to send something else. Answers are JSON.
An answer that does not fit its request (other length, other order, another bar than the newest one sent, no JSON, a
number that is not finite) is `InferenceUnavailable`: nothing of it is used.
"""

from __future__ import annotations

from typing import Protocol

from pydantic import ValidationError

from fusiontrade.errors import InferenceUnavailable, InvalidInput
from fusiontrade.inference import wire
from fusiontrade.inference.contract import ForecastItem, ForecastRequest, ForecastResponse, ItemForecast

__all__ = ["Endpoint", "InferenceClient"]

MOST_BYTES = 6 * 1024 * 1024
"""Greatest body that SageMaker passes on to a real-time endpoint, and the container takes."""


class Endpoint(Protocol):
    """Whatever answers invocations: a SageMaker endpoint, or the serving program on a laptop."""

    def invoke(self, body: bytes, *, content_type: str, timeout: float) -> bytes:
        """Return the body of the answer, which is JSON.

        Parameters
        ----------
        body
            The request, as ``content_type`` says.
        timeout
            Seconds until the caller stops waiting; positive.

        Raises
        ------
        InferenceUnavailable
            If there is no answer in time, or it is an error.
        """
        ...


class InferenceClient:
    """Asks the container for forecasts."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def forecast(self, request: ForecastRequest, *, timeout: float) -> ForecastResponse:
        """Return the container's answer, item by item in the order of ``request``.

        Parameters
        ----------
        timeout
            Seconds left; nothing is sent when there are none.

        Raises
        ------
        InvalidInput
            If the request is larger than SageMaker takes.
        InferenceUnavailable
            If no time is left, the container does not answer, or its answer does not fit the request.
        """
        if timeout <= 0:
            raise InferenceUnavailable("no time is left to ask the models; try again", retry_after=5)
        body = wire.encode(request)
        if len(body) > MOST_BYTES:
            fitting = len(request.items) * MOST_BYTES // len(body)
            told = f"{len(request.items)} items make {len(body)} bytes, a request may have {MOST_BYTES}"
            raise InvalidInput("items", f"{told}: ask for about {fitting} at a time, or send fewer bars")
        answer = self._endpoint.invoke(body, content_type=wire.NPY, timeout=timeout)
        try:
            response = ForecastResponse.model_validate_json(answer)
        except ValidationError as error:
            raise InferenceUnavailable("the models' answer could not be read") from error
        asked, answered = request.items, response.items
        if len(answered) != len(asked) or not all(map(_fits, asked, answered)):
            raise InferenceUnavailable("the models answered something other than what was asked")
        return response


def _fits(asked: ForecastItem, answered: ItemForecast) -> bool:
    """Whether the answer is about what was asked: the symbol, the timeframe and the newest bar that was sent."""
    if (answered.symbol, answered.timeframe) != (asked.symbol, asked.timeframe):
        return False
    if answered.error is not None:
        return True
    newest = asked.candles.time[-1] + asked.timeframe.milliseconds
    return answered.bar_close == newest and answered.current_price == asked.candles.close[-1] and bool(answered.atr)
