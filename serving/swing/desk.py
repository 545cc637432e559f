"""Requests of daily stocks answered: read, forecast in one batch, told item by item.

Always true here: what is wrong with a stock stays with it. No I/O, no clock.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fusiontrade.errors import BadCandles
from fusiontrade.inference.contract import ForecastItem, ItemError
from fusiontrade.inference.swing import StockForecast, SwingRequest, SwingResponse
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.asked import Asked
from serving.swing.bundle import Encoding, SwingBundle
from serving.swing.ranking import rank_scores

__all__ = ["answered", "ranked"]


def ranked(request: SwingRequest, bundle: SwingBundle) -> list[float | None]:
    """Return the score of each item among all of the request, None where it has none; for answering it in parts."""
    frames, _ = _frames(request)
    scores = rank_scores(bundle.card, frames)
    return [scores.get(str(place)) for place in range(len(request.items))]


def answered(
    request: SwingRequest,
    bundle: SwingBundle,
    encoder: Encoding | None,
    scores: Sequence[float | None] | None = None,
) -> SwingResponse:
    """Return the answers to a request, in its order.

    Parameters
    ----------
    encoder
        The one that serves; it is used only if it is the one that the bundle's card names.
    scores
        Those of the items as `ranked` told them of the whole that they are a part of; None: they are the whole.

    Raises
    ------
    BundleRefused
        If the bundle learned from an encoder that does not serve.
    """
    chosen = encoder if bundle.card.encoder is not None else None
    bundle.check(chosen)
    frames, found = _frames(request)
    known = None if scores is None else {str(place): one for place, one in enumerate(scores) if one is not None}
    answers = bundle.answer(frames, chosen, known)
    for key, detail in answers.failures.items():
        code = "too_few_bars" if len(frames[key]) < bundle.bars_needed else "bad_candles"
        found[int(key)] = _failed(request.items[int(key)].symbol, code, detail)
    for key, forecast in answers.forecasts.items():
        found[int(key)] = StockForecast(**dataclasses.asdict(forecast))
    return SwingResponse(
        model=bundle.card.reference,
        encoder=None if chosen is None else chosen.card.reference,
        items=[one for one in found if one is not None],
    )


def _frames(request: SwingRequest) -> tuple[dict[str, CandleFrame], list[StockForecast | None]]:
    """Return the items' bars by their places, and for each item what is wrong with it, None where nothing is."""
    frames: dict[str, CandleFrame] = {}
    found: list[StockForecast | None] = []
    for place, item in enumerate(request.items):
        asked = Asked.of(ForecastItem(symbol=item.symbol, timeframe=Timeframe.D1, candles=item.candles))
        try:
            if isinstance(asked.frame, ItemError):
                raise BadCandles([asked.frame.detail])
            frames[str(place)] = asked.frame.checked()
            found.append(None)
        except BadCandles as error:
            found.append(_failed(item.symbol, "bad_candles", str(error)))
    return frames, found


def _failed(symbol: str, code: str, detail: str) -> StockForecast:
    return StockForecast(symbol=symbol, error=ItemError.model_validate({"code": code, "detail": detail}))
