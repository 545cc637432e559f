"""Price (5) and momentum (7) indicators."""

from __future__ import annotations

import math

import numpy as np

from fusiontrade.market.candles import Floats
from serving.features.bars import Bars, Columns
from serving.features.rolling import mean_of, ratio, sums_of, wilder

__all__ = ["momentum", "price"]

_RANGE_BARS = 14
_SMOOTH_BARS = 3
_RSI_BARS = 14
_ROC_BARS = 12
_MOMENTUM_BARS = 10
_ULTIMATE = {7: 4.0, 14: 2.0, 28: 1.0}  # weights by bars


def price(bars: Bars) -> Columns:
    """Yield returns, log_returns, price_change, high_low_range, body_ratio."""
    yield "returns", bars.change / bars.previous, bars.change * bars.per_unit
    log_return = bars.newest(bars.log_returns)
    yield "log_returns", log_return, log_return / bars.volatility
    body = bars.close - bars.open
    yield "price_change", body, None
    yield "high_low_range", bars.span, None
    filled = ratio(np.abs(body), bars.span, smallest=bars.nothing, otherwise=0.0)
    yield "body_ratio", filled, 2.0 * filled - 1.0


def momentum(bars: Bars) -> Columns:
    """Yield rsi, stoch_k, stoch_d, williams_r, roc, momentum, ultimate_oscillator."""
    travelled = bars.newest(wilder(np.abs(bars.changes), _RSI_BARS))
    moved = bars.newest(wilder(bars.changes, _RSI_BARS))
    strength = ratio(moved, travelled, smallest=bars.nothing, otherwise=0.0)
    yield "rsi", 50.0 + 50.0 * strength, strength

    places = _places(bars)
    place, smooth = bars.newest(places), mean_of(places, _SMOOTH_BARS, rows=bars.rows)
    percent, both_sides = 100.0 * place, 2.0 * place - 1.0
    yield "stoch_k", percent, both_sides
    yield "stoch_d", 100.0 * smooth, 2.0 * smooth - 1.0
    yield "williams_r", percent - 100.0, both_sides

    rate = bars.close / bars.newest(bars.closes, _ROC_BARS) - 1.0
    yield "roc", 100.0 * rate, rate / (bars.volatility * math.sqrt(_ROC_BARS))
    move = bars.close - bars.newest(bars.closes, _MOMENTUM_BARS)
    yield "momentum", move, None

    ultimate = _ultimate(bars)
    yield "ultimate_oscillator", 100.0 * ultimate, 2.0 * ultimate - 1.0


def _places(bars: Bars) -> Floats:
    """Return (..., rows + 2) where in the range of 14 bars the close lies, 0 to 1."""
    top, bottom = bars.extremes[_RANGE_BARS]
    close = bars.past(bars.closes, _SMOOTH_BARS - 1)
    return ratio(close - bottom, top - bottom, smallest=bars.least(close), otherwise=0.5)


def _ultimate(bars: Bars) -> Floats:
    longest = max(_ULTIMATE)
    closes = bars.past(bars.closes, longest)
    pressure = closes[..., 1:] - np.minimum(bars.past(bars.lows, longest - 1), closes[..., :-1])
    both = np.array((pressure, bars.past(bars.true_ranges, longest - 1)))
    total = np.zeros(bars.close.shape)
    for (pressed, travelled), weight in zip(sums_of(both, *_ULTIMATE, rows=bars.rows), _ULTIMATE.values(), strict=True):
        total += weight * ratio(pressed, travelled, smallest=bars.nothing, otherwise=0.5)
    return total / sum(_ULTIMATE.values())
