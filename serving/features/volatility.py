"""Volatility indicators (7)."""

from __future__ import annotations

import math

import numpy as np
import talib

from serving.features.bars import BAND_BARS, WINDOW, Bars, Columns
from serving.features.rolling import by_series, ema, mean_of, ratio

__all__ = ["volatility"]

_BAND_WIDTH = 2.0
_KELTNER_ATR_BARS = 10


def volatility(bars: Bars) -> Columns:
    """Yield bb_upper, bb_middle, bb_lower, bb_width, atr, keltner_upper, keltner_lower."""
    means, deviations = bars.bands
    middle, spread = means[0], _BAND_WIDTH * deviations[0]
    upper, lower = middle + spread, middle - spread
    yield "bb_upper", upper, None
    yield "bb_middle", middle, ratio(middle - bars.close, spread, smallest=bars.nothing, otherwise=0.0)
    yield "bb_lower", lower, None
    yield "bb_width", 200.0 * spread / middle, spread * bars.per_unit * (2.0 / math.sqrt(BAND_BARS))

    usual = bars.at_least(mean_of(bars.true_ranges, WINDOW - 1, rows=bars.rows))
    yield "atr", bars.atr, np.log(bars.unit / usual)
    centre = bars.newest(ema(bars.closes, BAND_BARS))
    reach = by_series(talib.ATR, bars.highs, bars.lows, bars.closes, timeperiod=_KELTNER_ATR_BARS)
    width = _BAND_WIDTH * bars.newest(reach)
    upper, lower = centre + width, centre - width
    yield "keltner_upper", upper, None
    yield "keltner_lower", lower, None
