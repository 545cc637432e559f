"""Price (5) and momentum (7) indicators."""

from __future__ import annotations

import numpy as np

from fusiontrade.market.candles import Floats
from serving.features.bars import Bars, Columns
from serving.features.rolling import highest, lag, lowest, ratio, rolling_sum, wilder

__all__ = ["momentum", "price"]

_RANGE_BARS = 14
_RSI_BARS = 14
_ROC_BARS = 12
_MOMENTUM_BARS = 10
_ULTIMATE = ((7, 4.0), (14, 2.0), (28, 1.0))  # bars, weight


def price(bars: Bars) -> Columns:
    """Yield returns, log_returns, price_change, high_low_range, body_ratio."""
    change = bars.close - bars.previous
    yield "returns", change / bars.previous, change / bars.unit
    log_returns = np.log(bars.close / bars.previous)
    yield "log_returns", log_returns, log_returns / bars.volatility
    body = bars.close - bars.open
    yield "price_change", body, body / bars.unit
    span = bars.high - bars.low
    yield "high_low_range", span, span / bars.unit
    filled = ratio(np.abs(body), span, smallest=bars.nothing, otherwise=0.0)
    yield "body_ratio", filled, 2.0 * filled - 1.0


def momentum(bars: Bars) -> Columns:
    """Yield rsi, stoch_k, stoch_d, williams_r, roc, momentum, ultimate_oscillator."""
    change = bars.close - bars.previous
    travelled = wilder(np.abs(change), _RSI_BARS)
    strength = ratio(wilder(change, _RSI_BARS), travelled, smallest=bars.nothing, otherwise=0.0)
    yield "rsi", 50.0 + 50.0 * strength, strength

    top, bottom = highest(bars.high, _RANGE_BARS), lowest(bars.low, _RANGE_BARS)
    place = ratio(bars.close - bottom, top - bottom, smallest=bars.nothing, otherwise=0.5)
    smooth = rolling_sum(place, 3) / 3.0
    yield "stoch_k", 100.0 * place, 2.0 * place - 1.0
    yield "stoch_d", 100.0 * smooth, 2.0 * smooth - 1.0
    yield "williams_r", 100.0 * (place - 1.0), 2.0 * place - 1.0

    earlier = lag(bars.close, _ROC_BARS)
    rate = bars.close / earlier - 1.0
    yield "roc", 100.0 * rate, rate / (bars.volatility * np.sqrt(_ROC_BARS))
    move = bars.close - lag(bars.close, _MOMENTUM_BARS)
    yield "momentum", move, move / (bars.unit * np.sqrt(_MOMENTUM_BARS))

    ultimate = _ultimate(bars)
    yield "ultimate_oscillator", 100.0 * ultimate, 2.0 * ultimate - 1.0


def _ultimate(bars: Bars) -> Floats:
    pressure = bars.close - np.fmin(bars.low, bars.previous)
    total = np.zeros(len(bars.close))
    for length, weight in _ULTIMATE:
        travelled = rolling_sum(bars.true_range, length)
        total += weight * ratio(rolling_sum(pressure, length), travelled, smallest=bars.nothing, otherwise=0.5)
    return total / sum(weight for _, weight in _ULTIMATE)
