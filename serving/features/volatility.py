"""Volatility indicators (7)."""

from __future__ import annotations

import numpy as np
import talib

from serving.features.bars import WINDOW, Bars, Columns
from serving.features.rolling import ema, ratio, rolling_std, rolling_sum, sma

__all__ = ["volatility"]

_BAND_BARS = 20
_BAND_WIDTH = 2.0
_KELTNER_ATR_BARS = 10


def volatility(bars: Bars) -> Columns:
    """Yield bb_upper, bb_middle, bb_lower, bb_width, atr, keltner_upper, keltner_lower."""
    middle, spread = sma(bars.close, _BAND_BARS), _BAND_WIDTH * rolling_std(bars.close, _BAND_BARS)
    upper, lower = middle + spread, middle - spread
    yield "bb_upper", upper, bars.distance(upper, _BAND_BARS)
    yield "bb_middle", middle, ratio(middle - bars.close, spread, smallest=bars.nothing, otherwise=0.0)
    yield "bb_lower", lower, bars.distance(lower, _BAND_BARS)
    yield "bb_width", 200.0 * spread / middle, 2.0 * spread / (bars.unit * np.sqrt(_BAND_BARS))

    usual = bars.at_least(rolling_sum(bars.true_range, WINDOW - 1) / (WINDOW - 1))
    yield "atr", bars.atr, np.log(bars.unit / usual)
    centre = ema(bars.close, _BAND_BARS)
    width = _BAND_WIDTH * np.asarray(talib.ATR(bars.high, bars.low, bars.close, _KELTNER_ATR_BARS), np.float64)
    yield "keltner_upper", centre + width, bars.distance(centre + width, _BAND_BARS)
    yield "keltner_lower", centre - width, bars.distance(centre - width, _BAND_BARS)
