"""Warm-up: every loaded model answers invented candles once, so that the first real request waits for nothing."""

from __future__ import annotations

import logging

import numpy as np

from fusiontrade.inference.contract import BARS_NEEDED, CandleColumns, ForecastItem, ForecastRequest
from fusiontrade.market.timeframes import Timeframe
from serving.engine import Engine

__all__ = ["warm_up"]

_log = logging.getLogger(__name__)

_START = 1_704_067_200_000  # a Monday, 2024-01-01


def warm_up(engine: Engine) -> None:
    """Ask every timeframe of ``engine`` once; what fails is logged, for requests will say so item by item."""
    timeframes = dict.fromkeys(timeframe for _, timeframe in engine.bundles)
    request = ForecastRequest(items=[_item(timeframe) for timeframe in timeframes])
    for item in engine.answer(request).items:
        if item.error is not None:
            _log.warning("warm-up failed", extra={"timeframe": item.timeframe, "reason": item.error.detail})


def _item(timeframe: Timeframe) -> ForecastItem:
    """Return a gentle wave of candles, the same every time."""
    steps = np.arange(BARS_NEEDED)
    close = 100.0 + 5.0 * np.sin(steps / 17.0) + np.cos(steps / 3.0)
    open_ = np.concatenate([close[:1], close[:-1]])
    return ForecastItem(
        symbol="WARM-UP",
        timeframe=timeframe,
        candles=CandleColumns(
            time=(_START + steps * timeframe.milliseconds).tolist(),
            open=open_.tolist(),
            high=(np.maximum(open_, close) + 0.2).tolist(),
            low=(np.minimum(open_, close) - 0.2).tolist(),
            close=close.tolist(),
            volume=(1000.0 + steps % 7).tolist(),
        ),
    )
