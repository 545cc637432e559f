"""Trend indicators (12)."""

from __future__ import annotations

import numpy as np
import talib

from fusiontrade.market.candles import Floats
from serving.features.bars import Bars, Columns
from serving.features.rolling import ema, highest, lag, lowest, ratio, sma, wilder

__all__ = ["trend"]

_ADX_BARS = 14
_CCI_BARS = 20
_TRIX_BARS = 15
_DPO_BARS = 20
_SIGNAL_BARS = 9


def trend(bars: Bars) -> Columns:
    """Yield sma_20/50/200, ema_12/26, macd, macd_signal, macd_histogram, adx, cci, trix, dpo."""
    for length in (20, 50, 200):
        line = sma(bars.close, length)
        yield f"sma_{length}", line, bars.distance(line, length)
    yield "ema_12", bars.ema_12, bars.distance(bars.ema_12, 12)
    yield "ema_26", bars.ema_26, bars.distance(bars.ema_26, 26)

    macd = bars.ema_12 - bars.ema_26
    signal = ema(macd, _SIGNAL_BARS)
    yield "macd", macd, macd / bars.unit
    yield "macd_signal", signal, signal / bars.unit
    yield "macd_histogram", macd - signal, (macd - signal) / bars.unit

    adx = _adx(bars)
    yield "adx", 100.0 * adx, 2.0 * adx - 1.0
    cci = _cci(bars)
    yield "cci", cci, cci / 200.0

    trix = np.asarray(talib.TRIX(bars.close, _TRIX_BARS), np.float64)
    yield "trix", trix, trix / 100.0 * bars.close / bars.unit
    dpo = lag(bars.close, _DPO_BARS // 2 + 1) - sma(bars.close, _DPO_BARS)
    yield "dpo", dpo, dpo / (bars.unit * np.sqrt(_DPO_BARS))


def _adx(bars: Bars) -> Floats:
    """Return Wilder's average directional index in [0, 1]; a bar without directional movement counts as 0.

    TA-Lib skips such bars instead and so remembers the last value through a flat market for ever.
    """
    up, down = bars.high - lag(bars.high, 1), lag(bars.low, 1) - bars.low
    plus = wilder(np.where(up > down, np.maximum(up, 0.0), 0.0)[1:], _ADX_BARS)
    minus = wilder(np.where(down > up, np.maximum(down, 0.0), 0.0)[1:], _ADX_BARS)
    index = ratio(np.abs(plus - minus), plus + minus, smallest=bars.nothing[1:], otherwise=0.0)
    out = np.full(len(bars.close), np.nan)
    out[1:] = wilder(index, _ADX_BARS)
    return out


def _cci(bars: Bars) -> Floats:
    """Return Lambert's commodity channel index; 0 where the typical price did not move in the window."""
    typical = bars.typical
    moved = highest(typical, _CCI_BARS) - lowest(typical, _CCI_BARS) > bars.nothing
    return np.where(moved, talib.CCI(bars.high, bars.low, bars.close, _CCI_BARS), 0.0)
