"""The nine other indicators: ichimoku, parabolic sar, kst, ulcer index, pgo, ppo."""

from __future__ import annotations

import math

import numpy as np

from fusiontrade.market.candles import Floats
from serving.features.bars import Bars, Columns
from serving.features.rolling import ema, highest, mean_of
from serving.features.stops import parabolic_sar

__all__ = ["other"]

_ULCER_BARS = 14
_PGO_BARS = 14
_SIGNAL_BARS = 9
_KST = {10: ((10, 1.0), (15, 2.0), (20, 3.0)), 15: ((30, 4.0),)}  # by averaged bars: rate-of-change bars, weight
_KST_WEIGHTS = 10.0
_ICHIMOKU = (9, 26, 52)


def other(bars: Bars) -> Columns:
    """Yield ichimoku_a, ichimoku_b, parabolic_sar, kst, kst_signal, ulcer_index, pgo, ppo, ppo_signal."""
    ranges = (bars.extremes[length] for length in _ICHIMOKU)
    fast, middle, slow = (bars.newest(top + bottom) / 2.0 for top, bottom in ranges)
    leading = (fast + middle) / 2.0
    yield "ichimoku_a", leading, None
    yield "ichimoku_b", slow, None
    stop = parabolic_sar(bars.highs, bars.lows, rows=bars.rows)
    yield "parabolic_sar", stop, None

    relative = bars.close * bars.per_unit
    kst = _know_sure_thing(bars)
    signal, kst = mean_of(kst, _SIGNAL_BARS, rows=bars.rows), bars.newest(kst)
    to_unit = relative * (1.0 / (100.0 * _KST_WEIGHTS * math.sqrt(20.0)))
    yield "kst", kst, kst * to_unit
    yield "kst_signal", signal, signal * to_unit

    ulcer = _ulcer_index(bars)
    yield "ulcer_index", ulcer, ulcer * relative / 100.0
    above = bars.close - bars.averages[_PGO_BARS]
    pgo = above / bars.at_least(bars.newest(ema(bars.true_ranges, _PGO_BARS)))
    yield "pgo", pgo, pgo * (1.0 / math.sqrt(_PGO_BARS))

    ppos = 100.0 * bars.macds / bars.emas_26
    ppo, ppo_signal = bars.newest(ppos), bars.newest(ema(ppos, _SIGNAL_BARS))
    per_volatility = 0.01 / bars.volatility
    yield "ppo", ppo, ppo * per_volatility
    yield "ppo_signal", ppo_signal, ppo_signal * per_volatility


def _know_sure_thing(bars: Bars) -> Floats:
    """Return (..., rows + 8) the sum of smoothed rates of change; those averaged over as many bars are added before."""
    rows = bars.rows + _SIGNAL_BARS - 1
    total: Floats | float = 0.0
    for average_bars, rates in _KST.items():
        past, rate = rows + average_bars - 1, np.zeros(())
        newest = bars.closes[..., bars.closes.shape[-1] - past :]
        for change_bars, weight in rates:
            end = bars.closes.shape[-1] - change_bars
            rate = rate + 100.0 * weight * (newest / bars.closes[..., end - past : end] - 1.0)
        total = total + mean_of(rate, average_bars, rows=rows)
    return np.asarray(total)


def _ulcer_index(bars: Bars) -> Floats:
    (top,) = highest(bars.closes, _ULCER_BARS, rows=bars.rows + _ULCER_BARS - 1)
    drawdown = 100.0 * (bars.past(bars.closes, _ULCER_BARS - 1) / top - 1.0)
    return np.sqrt(mean_of(drawdown * drawdown, _ULCER_BARS, rows=bars.rows))
