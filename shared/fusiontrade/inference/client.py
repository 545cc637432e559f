"""The client of the serving container: candles go out, checked forecasts come back; headlines, and their moods.

`Endpoint` is the port; `fusiontrade.cloud` implements it with the SageMaker runtime, tests with a loopback program.
Requests go out in the binary form of `fusiontrade.inference.wire` and in no other: a container that does not take it
is an error, never a reason to send something else. Answers are JSON.
An answer that does not fit its request (other length, other order, another bar than the newest one sent, no JSON, a
number that is not finite) is `InferenceUnavailable`: nothing of it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pydantic import ValidationError

from fusiontrade.errors import InferenceUnavailable, InvalidInput
from fusiontrade.inference import wire
from fusiontrade.inference.contract import ForecastItem, ForecastRequest, ForecastResponse, ItemForecast

if TYPE_CHECKING:
    from fusiontrade.inference.texts import TextResponse, TextScore

__all__ = ["Endpoint", "InferenceClient"]

MOST_BYTES = 6 * 1024 * 1024
"""Greatest body that SageMaker passes on to a real-time endpoint, and the container takes."""


_ROUNDED = 1e-3


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
    """Asks the container for forecasts and moods."""

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
        _check_time(timeout)
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

    def moods(self, texts: Sequence[str], *, timeout: float) -> TextResponse:
        """Return the mood of each text, in order, and the scorer that was asked: a classifier or the lexicon.

        A text without a mood has its error, which is never to be taken for neutral.

        Parameters
        ----------
        texts
            1 to 512 headlines.
        timeout
            Seconds left; nothing is sent when there are none.

        Raises
        ------
        InvalidInput
            If there is none, or more than a request takes.
        InferenceUnavailable
            If no time is left, the container does not answer, or its answer does not fit the request.
        """
        from fusiontrade.inference.texts import MOST_TEXTS, TEXTS, TextRequest, TextResponse

        _check_time(timeout)
        if not 1 <= len(texts) <= MOST_TEXTS:
            raise InvalidInput("texts", f"{len(texts)} texts: a request has 1 to {MOST_TEXTS}")
        sound = [text.encode(errors="replace").decode() for text in texts]  # half a pair of UTF-16 is no text
        body = TextRequest(texts=sound).model_dump_json().encode()
        if len(body) > MOST_BYTES:
            fitting = len(texts) * MOST_BYTES // len(body)
            told = f"{len(texts)} texts make {len(body)} bytes, a request may have {MOST_BYTES}"
            raise InvalidInput("texts", f"{told}: ask for about {fitting} at a time, or send headlines alone")
        answer = self._endpoint.invoke(body, content_type=TEXTS, timeout=timeout)
        try:
            response = TextResponse.model_validate_json(answer)
        except ValidationError as error:
            raise InferenceUnavailable("the scorer's answer could not be read") from error
        if len(response.items) != len(texts) or not all(map(_adds_up, response.items)):
            raise InferenceUnavailable("the scorer answered something other than what was asked")
        return response


def _check_time(timeout: float) -> None:
    if timeout <= 0:
        raise InferenceUnavailable("no time is left to ask the models; try again", retry_after=5)


def _adds_up(item: TextScore) -> bool:
    """Whether an item is an error, or its probabilities are of one text and its score is theirs."""
    if item.positive is None or item.negative is None or item.neutral is None or item.score is None:
        return item.error is not None
    whole, lean = item.positive + item.negative + item.neutral, item.positive - item.negative
    return abs(whole - 1.0) <= _ROUNDED and abs(item.score - lean) <= _ROUNDED


def _fits(asked: ForecastItem, answered: ItemForecast) -> bool:
    """Whether the answer is about what was asked: the symbol, the timeframe and the newest bar that was sent."""
    if (answered.symbol, answered.timeframe) != (asked.symbol, asked.timeframe):
        return False
    if answered.error is not None:
        return True
    newest = asked.candles.time[-1] + asked.timeframe.milliseconds
    return answered.bar_close == newest and answered.current_price == asked.candles.close[-1] and bool(answered.atr)
