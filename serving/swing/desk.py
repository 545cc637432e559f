"""Requests of daily stocks answered: read, forecast in one batch, told item by item.

Always true here: what is wrong with a stock stays with it. No I/O, no clock.
"""

from __future__ import annotations

import dataclasses

from fusiontrade.errors import BadCandles
from fusiontrade.inference.contract import ForecastItem, ItemError
from fusiontrade.inference.swing import StockForecast, SwingRequest, SwingResponse
from fusiontrade.market.candles import CandleFrame
from fusiontrade.market.timeframes import Timeframe
from serving.asked import Asked
from serving.swing.bundle import Encoding, SwingBundle

__all__ = ["answered"]


def answered(request: SwingRequest, bundle: SwingBundle, encoder: Encoding | None) -> SwingResponse:
    """Return the answers to a request, in its order.

    Parameters
    ----------
    encoder
        The one that serves; it is used only if it is the one that the bundle's card names.

    Raises
    ------
    BundleRefused
        If the bundle learned from an encoder that does not serve.
    """
    chosen = encoder if bundle.card.encoder is not None else None
    bundle.check(chosen)
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
    answers = bundle.answer(frames, chosen)
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


def _failed(symbol: str, code: str, detail: str) -> StockForecast:
    return StockForecast(symbol=symbol, error=ItemError.model_validate({"code": code, "detail": detail}))
