"""Trend indicators (12)."""

from __future__ import annotations

import numpy as np
import talib

from fusiontrade.market.candles import Floats
from serving.features.bars import Bars, Columns
from serving.features.rolling import by_series, ema, highest, lowest, ratio, wilder

__all__ = ["trend"]

_ADX_BARS = 14
_CCI_BARS = 20
_TRIX_BARS = 15
_AVERAGES = (20, 50, 200)
_DPO_BARS = 20
_SIGNAL_BARS = 9


def trend(bars: Bars) -> Columns:
    """Yield sma_20/50/200, ema_12/26, macd, macd_signal, macd_histogram, adx, cci, trix, dpo."""
    for length in _AVERAGES:
        yield f"sma_{length}", bars.averages[length], None
    for length, line in ((12, bars.newest(bars.emas_12)), (26, bars.newest(bars.emas_26))):
        yield f"ema_{length}", line, None

    macd, signal = bars.newest(bars.macds), bars.newest(ema(bars.macds, _SIGNAL_BARS))
    yield "macd", macd, None
    yield "macd_signal", signal, None
    yield "macd_histogram", macd - signal, None

    adx = _adx(bars)
    yield "adx", 100.0 * adx, 2.0 * adx - 1.0
    cci = _cci(bars)
    yield "cci", cci, cci / 200.0

    trix = bars.newest(by_series(talib.TRIX, bars.closes, timeperiod=_TRIX_BARS))
    yield "trix", trix, trix * bars.close * bars.per_unit / 100.0
    dpo = bars.newest(bars.closes, _DPO_BARS // 2 + 1) - bars.averages[_DPO_BARS]
    yield "dpo", dpo, None


def _adx(bars: Bars) -> Floats:
    """Return Wilder's average directional index in [0, 1]; a bar without directional movement counts as 0.

    TA-Lib skips such bars instead and so remembers the last value through a flat market for ever.
    """
    up, down = bars.highs[..., 1:] - bars.highs[..., :-1], bars.lows[..., :-1] - bars.lows[..., 1:]
    plus = wilder(np.maximum(up, 0.0) * (up > down), _ADX_BARS)
    minus = wilder(np.maximum(down, 0.0) * (down > up), _ADX_BARS)
    index = ratio(np.abs(plus - minus), plus + minus, smallest=bars.least(bars.closes[..., 1:]), otherwise=0.0)
    return bars.newest(wilder(index, _ADX_BARS))


def _cci(bars: Bars) -> Floats:
    """Return Lambert's commodity channel index; 0 where the typical price did not move in the window."""
    high, low, close = (bars.past(column, _CCI_BARS - 1) for column in (bars.highs, bars.lows, bars.closes))
    typical = high + low + close
    (top,), (bottom,) = highest(typical, _CCI_BARS, rows=bars.rows), lowest(typical, _CCI_BARS, rows=bars.rows)
    cci = bars.newest(by_series(talib.CCI, high, low, close, timeperiod=_CCI_BARS))
    return np.where(top - bottom > 3.0 * bars.nothing, cci, 0.0)
