"""The nine other indicators: ichimoku, parabolic sar, kst, ulcer index, pgo, ppo."""

from __future__ import annotations

import numpy as np
import talib

from fusiontrade.market.candles import Floats
from serving.features.bars import WINDOW, Bars, Columns
from serving.features.rolling import ema, highest, lag, lowest, rolling_sum, sma

__all__ = ["other"]

_ULCER_BARS = 14
_PGO_BARS = 14
_SIGNAL_BARS = 9
_SAR_BARS = 20  # of the order of a trend between two reversals: only the unit of its model input
_SAR_STEP, _SAR_MOST = 0.02, 0.2
_KST = ((10, 10, 1.0), (15, 10, 2.0), (20, 10, 3.0), (30, 15, 4.0))  # rate-of-change bars, averaged bars, weight


def other(bars: Bars) -> Columns:
    """Yield ichimoku_a, ichimoku_b, parabolic_sar, kst, kst_signal, ulcer_index, pgo, ppo, ppo_signal."""
    leading = (_midpoint(bars, 9) + _midpoint(bars, 26)) / 2.0
    yield "ichimoku_a", leading, bars.distance(leading, 26)
    slow = _midpoint(bars, 52)
    yield "ichimoku_b", slow, bars.distance(slow, 52)
    stop = parabolic_sar(bars.high, bars.low)
    yield "parabolic_sar", stop, bars.distance(stop, _SAR_BARS)

    kst = _know_sure_thing(bars.close)
    signal = sma(kst, _SIGNAL_BARS)
    weights = sum(weight for _, _, weight in _KST)
    to_unit = bars.close / (100.0 * weights * np.sqrt(20.0) * bars.unit)
    yield "kst", kst, kst * to_unit
    yield "kst_signal", signal, signal * to_unit

    ulcer = _ulcer_index(bars.close)
    yield "ulcer_index", ulcer, ulcer / 100.0 * bars.close / bars.unit
    above = bars.close - sma(bars.close, _PGO_BARS)
    pgo = above / bars.at_least(ema(bars.true_range, _PGO_BARS))
    yield "pgo", pgo, pgo / np.sqrt(_PGO_BARS)

    ppo = 100.0 * (bars.ema_12 - bars.ema_26) / bars.ema_26
    ppo_signal = ema(ppo, _SIGNAL_BARS)
    yield "ppo", ppo, ppo / (100.0 * bars.volatility)
    yield "ppo_signal", ppo_signal, ppo_signal / (100.0 * bars.volatility)


def parabolic_sar(high: Floats, low: Floats) -> Floats:
    """Return Wilder's parabolic stop and reverse, started anew at the left edge of every row's own window.

    Its path depends on where it is started and nothing bounds its memory, so each row is a run of its own:
    `talib.SAR` over 600 bars takes a few microseconds.
    """
    out = np.full(len(high), np.nan)
    for end in range(WINDOW, len(high) + 1):
        start = end - WINDOW
        out[end - 1] = talib.SAR(high[start:end], low[start:end], _SAR_STEP, _SAR_MOST)[-1]
    return out


def _midpoint(bars: Bars, length: int) -> Floats:
    return (highest(bars.high, length) + lowest(bars.low, length)) / 2.0


def _know_sure_thing(close: Floats) -> Floats:
    total = np.zeros(len(close))
    for change_bars, average_bars, weight in _KST:
        rate = 100.0 * (close / lag(close, change_bars) - 1.0)
        total += weight * sma(rate, average_bars)
    return total


def _ulcer_index(close: Floats) -> Floats:
    top = highest(close, _ULCER_BARS)
    drawdown = 100.0 * (close / top - 1.0)
    return np.asarray(np.sqrt(rolling_sum(drawdown * drawdown, _ULCER_BARS) / _ULCER_BARS), np.float64)
